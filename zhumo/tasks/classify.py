"""classify: which label a text carries, or which labels, each with a probability that can be trusted.

Beside the Transformer stands a linear model of words or characters, which knows by heart what published weights never
saw. The answer is the product of the two (Hinton 2002); the weight is learned on validation rows.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cached_property
from typing import ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zhumo.baselines.classify import Linear, majority, tfidf
from zhumo.errors import DataError
from zhumo.metrics import calibration
from zhumo.metrics.classify import accuracy, auc, exact_match, log_loss, macro_f1, micro_f1, unseen, unseen_auc
from zhumo.metrics.measure import Measure
from zhumo.tasks import Answer, Baseline, Field, Loss, Row, Task
from zhumo.tasks.examples import Batch, Example, batches, collate
from zhumo.tasks.pooling import pool
from zhumo.tasks.taught import taught, taught_each
from zhumo.transformer import Transformer

ANSWERED_AT_ONCE = 64  # texts in one pass of the model
COUNTED_ON = 100_000  # texts are plenty for the linear model
WEIGHTS = np.arange(11) / 10
LEVELS = np.arange(101) / 100  # of how familiar validation rows are
LINEAR = ("buckets", "rarity", "weights", "bias")


class Classify(Task):
    """Text in, label out. Labels that are lists in the training rows make it multi-label.

    state: `labels` sorted, `multi`; from calibration `weight`, `temperature`, `threshold`, `alone`, the temperature of
    the Transformer by itself, and `familiar`, the quantiles of its energies; from the start weights `pooling` and the
    `prefix` their texts were trained with.
    arrays: `linear.*`, the linear model.
    """

    name: ClassVar[str] = "classify"
    fields: ClassVar[Mapping[str, Field]] = {
        "text": Field(str, guess=("text", "review", "content", "sentence", "message", "question", "title",
                                  "文本", "内容", "评论", "评价", "问题", "正文", "描述", "标题")),
        "label": Field(str, guess=("label", "class", "category", "intent", "sentiment", "target", "tag",
                                   "标签", "类别", "分类", "意图", "情感", "类型")),
    }  # fmt: skip
    metric: ClassVar[str] = "accuracy"
    protocol: ClassVar[str] = "report.protocol.classify"
    baselines: ClassVar[Mapping[str, Baseline]] = {"majority": majority, "tfidf": tfidf}
    reads: ClassVar[bool] = True

    def learn(self, rows: Iterable[Row]) -> None:
        """Collect the labels; learn the linear model.

        Raises:
            DataError: fewer than two labels, which leaves nothing to tell apart.
        """
        known: set[str] = set()
        multi, some, step = False, list[Row](), 1
        for index, row in enumerate(rows):
            known |= label_set(row["label"])
            multi |= isinstance(row["label"], list)
            if index % step == 0:
                some.append(row)
            if len(some) > COUNTED_ON:
                some, step = some[::2], 2 * step
        labels = sorted(known)
        if len(labels) < 2:
            raise DataError("classify.one_label", labels=", ".join(labels) or "-")
        self.state |= {"labels": labels, "multi": multi}
        linear = Linear.fit(
            [row["text"] for row in some], np.stack([self._hits(row["label"]) > 0 for row in some]), multi
        )
        self.state["chinese"] = linear.chinese
        self.arrays |= {f"linear.{name}": getattr(linear, name) for name in LINEAR}

    def encode(self, row: Row) -> list[Example]:
        """One example; none for a label that training has never seen."""
        index = {label: place for place, label in enumerate(self.labels)}
        wanted = [index[label] for label in label_set(row["label"]) if label in index]
        if self.multi:
            return [{"ids": self._ids(row), "labels": [int(place in wanted) for place in range(len(index))]}]
        return [{"ids": self._ids(row), "labels": wanted}] if wanted else []

    @property
    def vocabulary(self) -> int:
        """Ids of the tokenizer."""
        assert self.tokenizer is not None
        return self.tokenizer.size

    @property
    def legend(self) -> Mapping[str, Sequence[str | None]]:
        """Each label has a row of the head."""
        return {"head.weight": self.labels, "head.bias": self.labels}

    def head(self, width: int) -> nn.Module:
        """One score a label."""
        return LabelHead(width, len(self.labels))

    def loss(self, model: Transformer, batch: Batch) -> Loss:
        """Cross-entropy; of each label by itself where a text may carry several."""
        return self._right(self._logits(model, batch), batch["labels"])

    def _right(self, logits: Tensor, labels: Tensor) -> Loss:
        if self.multi:
            losses = F.binary_cross_entropy_with_logits(logits, labels.to(logits.dtype), reduction="none")
            return Loss(losses.mean(1).sum(), len(labels))
        return Loss(F.cross_entropy(logits, labels[:, 0], reduction="sum"), len(labels))

    def loss_beside(self, model: Transformer, elder: Transformer, batch: Batch) -> Loss:
        """Half the loss above, half how far the labels' chances are from the teacher's."""
        with torch.no_grad():
            wanted = self._logits(elder, batch)
        logits = self._logits(model, batch)
        right, count = self._right(logits, batch["labels"])
        return Loss((taught_each if self.multi else taught)(right, logits, wanted), count)

    def calibrate(self, model: Transformer, rows: Sequence[Row]) -> None:
        """The weight of the Transformer with the least log-loss; temperature scaling (Guo et al. 2017) of it alone and
        of both; the threshold of best micro-F1 where a text may carry several labels, and where it carries one how
        familiar known texts are."""
        known = [row for row in rows if self.encode(row)]
        if not known:
            return
        truth = np.stack([self._hits(row["label"]) for row in known])
        ours, theirs = self._scores(model, known), self._linear.logits([row["text"] for row in known])
        self.state["alone"] = temperature(ours, truth, self._probabilities)
        losses = []
        for weight in WEIGHTS:
            logits = _blend(ours / self.state["alone"], theirs, weight)
            chances = self._probabilities(logits / temperature(logits, truth, self._probabilities))
            right = np.where(truth > 0, chances, 1 - chances if self.multi else 1)
            losses.append(-np.log(np.maximum(right, 1e-12)).sum(axis=1).mean())
        self.state["weight"] = float(WEIGHTS[int(np.argmin(losses))])
        logits = _blend(ours / self.state["alone"], theirs, self.state["weight"])
        self.state["temperature"] = temperature(logits, truth, self._probabilities)
        if self.multi:
            self.state["threshold"] = best_threshold(self._probabilities(logits / self.state["temperature"]), truth)
        else:
            self.state["familiar"] = np.quantile(energy(ours), LEVELS).tolist()

    def variants(self, model: Transformer, rows: Sequence[Row]) -> dict[str, list[Answer]]:
        """The Transformer alone; the linear model alone stands among the baselines."""
        scores = self._probabilities(self._scores(model, rows) / self.state.get("alone", 1.0))
        return {"transformer": [self._say(row) for row in scores]}

    def answer(self, model: Transformer, rows: Sequence[Row]) -> list[Answer]:
        """The label, or the labels above the threshold, and the probability of every label, most likely first.

        Of a text with one label also how `familiar` it is: the share of validation rows that are less so. Of texts that
        belong to one of the labels, five in a hundred lie below .05; most that belong to none do.
        """
        if not rows:
            return []
        scores, weight = self._scores(model, rows), self.state.get("weight", 1.0)
        logits = scores / self.state.get("alone", 1.0)
        if weight < 1:
            logits = _blend(logits, self._linear.logits([row["text"] for row in rows]), weight)
        said = [self._say(row) for row in self._probabilities(logits / self.state.get("temperature", 1.0))]
        if "familiar" not in self.state:
            return said
        familiar = np.interp(energy(scores), self.state["familiar"], LEVELS).tolist()
        return [{**answer, "familiar": share} for answer, share in zip(said, familiar, strict=True)]

    def score(self, answers: Sequence[Answer], rows: Sequence[Row]) -> list[Measure]:
        """Accuracy, F1, log-loss, calibration and what abstention buys; a label never trained on counts as wrong."""
        scores = np.array([[answer["scores"].get(label, 0.0) for label in self.labels] for answer in answers])
        if self.multi:
            wanted = [label_set(row["label"]) for row in rows]
            said = [set(answer["labels"]) for answer in answers]
            return [exact_match(said, wanted), micro_f1(said, wanted), *unseen(wanted, self.labels)]
        truth = [str(row["label"]) for row in rows]
        said_one = [str(answer["label"]) for answer in answers]
        right = np.array([said == wanted for said, wanted in zip(said_one, truth, strict=True)])
        return [
            accuracy(said_one, truth),
            macro_f1(said_one, truth),
            *auc(scores, truth, self.labels),
            log_loss(scores, truth, self.labels),
            calibration.expected_error(scores.max(1), right),
            calibration.error_at(scores.max(1), right, 0.8),
            *unseen([{label} for label in truth], self.labels),
            *unseen_auc([answer.get("familiar") for answer in answers], [label in self.labels for label in truth]),
        ]

    @property
    def labels(self) -> list[str]:
        """All labels, sorted."""
        labels: list[str] = self.state["labels"]
        return labels

    @property
    def multi(self) -> bool:
        """Whether a text may carry several labels, or none."""
        return bool(self.state["multi"])

    @cached_property
    def _linear(self) -> Linear:
        return Linear(self.state["chinese"], *(self.arrays[f"linear.{name}"] for name in LINEAR))

    def _ids(self, row: Row) -> list[int]:
        assert self.tokenizer is not None
        # An empty text still needs one position to be asked at.
        return self.tokenizer.encode(self.state.get("prefix", "") + row["text"], length=self.length) or [0]

    def _logits(self, model: Transformer, batch: Batch) -> Tensor:
        assert model.head is not None
        logits: Tensor = model.head(pool(model, batch["ids"], batch["segments"], self.state.get("pooling")))
        return logits.float()

    def _scores(self, model: Transformer, rows: Sequence[Row]) -> np.ndarray:
        """What the head says before it is made a probability, (rows, labels)."""
        examples: list[Example] = [{"ids": self._ids(row)} for row in rows]
        scores = np.empty((len(rows), len(self.labels)))
        device = next(model.parameters()).device
        with torch.no_grad():
            for indices, part in batches(examples, ANSWERED_AT_ONCE):
                scores[indices] = self._logits(model, collate(part, device)).cpu().numpy()
        return scores

    def _probabilities(self, logits: np.ndarray) -> np.ndarray:
        if self.multi:
            certain: np.ndarray = np.exp(-np.logaddexp(0, -logits))
            return certain
        powers = np.exp(logits - logits.max(1, keepdims=True))
        result: np.ndarray = powers / powers.sum(1, keepdims=True)
        return result

    def _say(self, scores: np.ndarray) -> Answer:
        order = np.argsort(-scores, kind="stable")
        named = {self.labels[place]: float(scores[place]) for place in order}
        if not self.multi:
            return {"label": self.labels[order[0]], "scores": named}
        threshold = self.state.get("threshold", 0.5)
        return {"labels": [label for label, score in named.items() if score >= threshold], "scores": named}

    def _hits(self, entry: str | list[str]) -> np.ndarray:
        wanted = label_set(entry)
        return np.array([label in wanted for label in self.labels], dtype=float)


class LabelHead(nn.Module):
    """A linear layer from a pooled text to its labels that starts at zero and learns `GAIN` times as fast as the body.

    AdamW moves every weight by about the learning rate, so a rate that is gentle to published weights leaves a head
    that starts from nothing behind. From zero, the body is not first bent to the whims of a random head (Kumar et al.
    2022).
    """

    GAIN = 16.0

    def __init__(self, width: int, labels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(labels, width))
        self.bias = nn.Parameter(torch.zeros(labels))

    def forward(self, x: Tensor) -> Tensor:
        """(batch, width) -> (batch, labels)."""
        return F.linear(x * self.GAIN, self.weight, self.bias * self.GAIN)


def energy(logits: np.ndarray) -> np.ndarray:
    """How much speaks for any label at all, (rows, labels) to (rows,): the logarithm of the sum of exponentials, from
    which softmax takes what is the same for all labels away (Liu et al. 2020)."""
    most = logits.max(axis=1)
    summed: np.ndarray = most + np.log(np.exp(logits - most[:, None]).sum(axis=1))
    return summed


def _blend(ours: np.ndarray, theirs: np.ndarray, weight: float) -> np.ndarray:
    blended: np.ndarray = weight * ours + (1 - weight) * theirs
    return blended


def label_set(entry: str | list[str]) -> set[str]:
    """The labels of a row, one or several."""
    return set(entry) if isinstance(entry, list) else {entry}


def temperature(logits: np.ndarray, truth: np.ndarray, link: Callable[[np.ndarray], np.ndarray]) -> float:
    """What to divide logits by so that `link` of them gives the least log-loss of `truth`; both (rows, labels).

    The log-loss is convex in 1/temperature, and its slope is the sum of (probability - truth) * logit, so the root is
    found by halving. Few rows, or rows all answered right, would drive it to an end: it stays within [1/10, 10].
    """
    low, high = math.log(0.1), math.log(10.0)
    for _ in range(50):
        middle = (low + high) / 2
        slope = ((link(logits * math.exp(middle)) - truth) * logits).sum()
        low, high = (low, middle) if slope > 0 else (middle, high)
    return math.exp(-(low + high) / 2)


def best_threshold(scores: np.ndarray, truth: np.ndarray) -> float:
    """The threshold on scores with the best micro-F1 of `truth`; both (rows, labels). Halfway between two scores."""
    order = np.argsort(-scores, axis=None)
    ranked, hits = scores.ravel()[order], truth.ravel()[order].cumsum()
    said = np.arange(1, len(ranked) + 1)
    ends = np.append(ranked[1:] < ranked[:-1], True)  # a threshold cannot part equal scores
    f1 = np.where(ends, 2 * hits / (said + truth.sum()), -1.0)
    best = int(f1.argmax())
    below = ranked[best + 1] if best + 1 < len(ranked) else 0.0
    return float((ranked[best] + below) / 2)
