"""tag: which stretches of a text are what: names of people and places, parts of an order, personal data.

A text is cut into units (a word, a sign, a Chinese character); the piece a unit begins with says its label. Beside the
Transformer stands a conditional random field, which knows by heart what published weights never saw. The answer is the
likeliest series of labels by the product of the two; the weight is learned on validation rows.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import ClassVar, NamedTuple

import numpy as np
import torch.nn.functional as F
from torch import Tensor, nn

from zhumo.baselines.tag import Crf, Texts, likeliest
from zhumo.errors import DataError
from zhumo.metrics.measure import Measure
from zhumo.metrics.spans import ALONE, OUTSIDE, entity_f1, from_bio, spans_of, to_bio, units
from zhumo.tasks import Answer, Baseline, Field, Loss, Row, Task
from zhumo.tasks.classify import LabelHead
from zhumo.tasks.examples import IGNORE, Batch, Example, batches, collate
from zhumo.transformer import Transformer

ANSWERED_AT_ONCE = 32  # windows in one pass of the model
READ_BY_HEART = 20_000  # texts are plenty for the random field
WEIGHTS = np.arange(11) / 10
FIELD = ("buckets", "weights", "moves")


def crf(task: Task, _train: Sequence[Row], test: Sequence[Row]) -> list[Answer]:
    """The task's random field alone, learned from the training rows."""
    assert isinstance(task, Tag)
    return task.by_heart(test)


class Tag(Task):
    """Text in, spans out.

    A row is {"text", "spans": [{"start", "end", "label"}]}, in characters of the text.
    state: `labels`, the kinds of spans, sorted; from calibration the `weight` of the Transformer; from the start
    weights the `prefix` their texts were trained with. arrays: `crf.*`, the random field.
    """

    name: ClassVar[str] = "tag"
    fields: ClassVar[Mapping[str, Field]] = {
        "text": Field(str, needed=False, guess=("text", "sentence", "content", "文本", "句子", "内容", "正文")),
        "spans": Field(list, needed=False, guess=("spans", "entities", "label", "实体", "标注")),
        "tokens": Field(list, needed=False, guess=("tokens", "words", "chars", "字", "词")),
        "tags": Field(list, needed=False, guess=("tags", "ner_tags", "labels", "标签")),
    }
    metric: ClassVar[str] = "f1"
    protocol: ClassVar[str] = "report.protocol.tag"
    baselines: ClassVar[Mapping[str, Baseline]] = {"crf": crf}
    reads: ClassVar[bool] = True
    packed: ClassVar[bool] = True

    def learn(self, rows: Iterable[Row]) -> None:
        """Collect the kinds of spans; learn the random field.

        Raises:
            DataError: no row has a span.
        """
        taken = list(rows)
        self.state["labels"] = sorted({span.label for row in taken for span in spans_of(row)})
        if not self.labels:
            raise DataError("tag.no_spans")
        field = Crf.fit(taken[:: 1 + len(taken) // READ_BY_HEART], self._classes)
        self.arrays |= {f"crf.{name}": getattr(field, name) for name in FIELD}

    def encode(self, row: Row) -> list[Example]:
        """One example, or several windows of a long text; each piece is asked for in one of them."""
        read = self._read(row["text"])
        targets = np.full(len(read.ids), IGNORE)
        for place, label in reversed([*zip(read.first, to_bio(spans_of(row), read.units), strict=True)]):
            targets[place] = self._classes.get(label, IGNORE)
        return [window.example(read.ids, targets, self._frame) for window in windows(len(read.ids), self._room)]

    @property
    def vocabulary(self) -> int:
        """Ids of the tokenizer."""
        assert self.tokenizer is not None
        return self.tokenizer.size

    @property
    def legend(self) -> Mapping[str, Sequence[str | None]]:
        """Each label of a unit has a row of the head."""
        return {"head.weight": list(self._classes), "head.bias": list(self._classes)}

    def head(self, width: int) -> nn.Module:
        """A score for O, and for the begin and the inside of each kind of span."""
        return LabelHead(width, len(self._classes))

    def loss(self, model: Transformer, batch: Batch) -> Loss:
        """Cross-entropy of the labels of all units."""
        logits, targets = self._logits(model, batch), batch["targets"]
        total = F.cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=IGNORE, reduction="sum")
        return Loss(total, int((targets != IGNORE).sum()))

    def calibrate(self, model: Transformer, rows: Sequence[Row]) -> None:
        """The weight of the Transformer with the best F1. The likelihood of the labels would be no guide: the
        Transformer is surer than it is right, so it would be given too little and many spans be left out."""
        if not rows:
            return
        read = [self._read(row["text"]) for row in rows]
        both = list(zip(rows, read, self._scores(model, read), strict=True))
        found = [
            entity_f1(
                [spans_of(self._say(row["text"], one.units, ours, weight)) for row, one, ours in both],
                [spans_of(row) for row in rows],
            )[0].value
            for weight in WEIGHTS
        ]
        self.state["weight"] = float(WEIGHTS[int(np.argmax(found))])

    def variants(self, model: Transformer, rows: Sequence[Row]) -> dict[str, list[Answer]]:
        """The Transformer alone; the random field alone stands among the baselines."""
        return {"transformer": self._answers(model, rows, 1.0)}

    def answer(self, model: Transformer, rows: Sequence[Row]) -> list[Answer]:
        """The spans of each text, each with the probability of its least sure unit as `score`."""
        return self._answers(model, rows, self.state.get("weight", 1.0))

    def by_heart(self, rows: Sequence[Row]) -> list[Answer]:
        """What the random field alone finds."""
        return [self._say(row["text"], units(row["text"]), np.zeros(len(self._classes)), 0.0) for row in rows]

    def score(self, answers: Sequence[Answer], rows: Sequence[Row]) -> list[Measure]:
        """Micro-F1, precision and recall of whole spans."""
        return entity_f1([spans_of(answer) for answer in answers], [spans_of(row) for row in rows])

    @property
    def labels(self) -> list[str]:
        """The kinds of spans, sorted."""
        labels: list[str] = self.state["labels"]
        return labels

    @cached_property
    def _classes(self) -> dict[str, int]:
        """The labels of a unit and their places: O, then B and I of each kind."""
        names = [OUTSIDE, *(f"{part}-{label}" for label in self.labels for part in "BI")]
        return {name: place for place, name in enumerate(names)}

    @cached_property
    def _barred(self) -> np.ndarray:
        """Zero where a label may follow another, (labels, labels), minus infinity for an I after another kind."""
        names = list(self._classes)
        return np.array([[0 if b[:2] != "I-" or a[2:] == b[2:] else -np.inf for b in names] for a in names])

    @cached_property
    def _frame(self) -> tuple[list[int], list[int]]:
        """What the tokenizer and the weights want before and behind a text."""
        assert self.tokenizer is not None
        prefix = self.state.get("prefix", "")
        inner, whole = self.tokenizer.encode("a", special=False), self.tokenizer.encode("a")
        begin = next(place for place in range(len(whole)) if whole[place : place + len(inner)] == inner)
        before = self.tokenizer.encode(prefix, special=False) if prefix else []
        return whole[:begin] + before, whole[begin + len(inner) :]

    @property
    def _room(self) -> int:
        """Pieces of a text that fit into one window."""
        return max(2, self.length - sum(map(len, self._frame)))

    def _read(self, text: str) -> "Read":
        """The pieces of a text; one of several Chinese characters is spelled out, or no span could end inside it."""
        assert self.tokenizer is not None
        backend = self.tokenizer.backend
        backend.encode_special_tokens = True
        found = backend.encode(text, add_special_tokens=False)
        ids: list[int] = []
        starts: list[int] = []
        for token, (start, end) in zip(found.ids, found.offsets, strict=True):
            inside = text[start:end]
            if len(inside.strip()) > 1 and ALONE.search(inside):
                for place in range(start, end):
                    known = backend.token_to_id(text[place])
                    spelled = self.tokenizer.encode(text[place], special=False) if known is None else [known]
                    ids += spelled
                    starts += [place] * len(spelled)
            else:
                ids.append(token)
                starts.append(start + len(inside) - len(inside.lstrip()))
        cut, first = [], []
        places = {start: place for place, start in reversed(list(enumerate(starts)))}
        last = 0
        for start, end in units(text):
            last = places.get(start, last)  # a sign that shares its piece with the one before
            if ids:
                cut.append((start, end))
                first.append(last)
        return Read(ids, cut, first)

    @cached_property
    def _field(self) -> Crf:
        return Crf(*(self.arrays[f"crf.{name}"] for name in FIELD))

    def _logits(self, model: Transformer, batch: Batch) -> Tensor:
        assert model.head is not None
        segments = batch["segments"]
        x = model.hidden(batch["ids"], segments=segments if bool((segments != 1).any()) else None)
        logits: Tensor = model.head(x)
        return logits.float()

    def _answers(self, model: Transformer, rows: Sequence[Row], weight: float) -> list[Answer]:
        read = [self._read(row["text"]) for row in rows]
        scores = self._scores(model, read)
        return [
            self._say(row["text"], one.units, ours, weight) for row, one, ours in zip(rows, read, scores, strict=True)
        ]

    def _scores(self, model: Transformer, read: Sequence["Read"]) -> list[np.ndarray]:
        """The Transformer's log-probabilities of the labels of each text's units, (units, labels)."""
        asked = [(number, window) for number, one in enumerate(read) for window in windows(len(one.ids), self._room)]
        examples = [window.example(read[number].ids, None, self._frame) for number, window in asked]
        scores = [np.zeros((len(one.ids), len(self._classes))) for one in read]
        for indices, part in batches(examples, ANSWERED_AT_ONCE):
            said = F.log_softmax(self._logits(model, collate(part, model.stem.tokens.weight.device)), dim=-1).cpu()
            for index, row in zip(indices, said.numpy(), strict=True):
                number, window = asked[index]
                begin = len(self._frame[0]) - window.start
                scores[number][window.asked] = row[begin + window.asked.start : begin + window.asked.stop]
        return [found[one.first] for found, one in zip(scores, read, strict=True)]

    def _blend(self, ours: np.ndarray, theirs: np.ndarray, weight: float) -> tuple[np.ndarray, np.ndarray]:
        """What speaks for labels, and for one after another: the Transformer by `weight`, the field by the rest."""
        return weight * ours + (1 - weight) * theirs, self._barred + (1 - weight) * self._field.moves

    def _say(self, text: str, cut: Sequence[tuple[int, int]], ours: np.ndarray, weight: float) -> Answer:
        """The spans that the scores of the units speak for."""
        if not len(cut):
            return {"spans": []}
        names = list(self._classes)
        scores, moves = self._blend(ours, self._field.scores(text) if weight < 1 else np.zeros(1), weight)
        best = likeliest(scores, moves)
        chances = Texts([len(best)]).expected(scores, moves)[1][np.arange(len(best)), best]
        spans = []
        for span in from_bio([names[place] for place in best], cut):
            sure = min(
                chance for chance, (start, _) in zip(chances, cut, strict=True) if span.start <= start < span.end
            )
            spans.append({**span._asdict(), "text": text[span.start : span.end], "score": float(sure)})
        return {"spans": spans}


class Read(NamedTuple):
    """A text as a model reads it: ids of its pieces, start and end of its units, the piece each unit begins with."""

    ids: list[int]
    units: list[tuple[int, int]]
    first: list[int]


class Window(NamedTuple):
    """A part of a text that is read at once, from piece `start` to `end`, and the part of it that is asked for."""

    start: int
    end: int
    asked: slice

    def example(self, ids: Sequence[int], targets: np.ndarray | None, frame: tuple[list[int], list[int]]) -> Example:
        """The window with its frame."""
        before, behind = frame
        example: dict[str, Sequence[int] | np.ndarray] = {"ids": [*before, *ids[self.start : self.end], *behind]}
        if targets is not None:
            wanted = np.full(len(example["ids"]), IGNORE)
            shift = len(before) - self.start
            wanted[self.asked.start + shift : self.asked.stop + shift] = targets[self.asked]
            example["targets"] = wanted
        return example


def windows(pieces: int, room: int) -> Iterator[Window]:
    """Windows of at most `room` pieces, half over one another, each asked for what lies deepest inside it."""
    step = room // 2
    begin = 0
    for start in range(0, max(pieces > 0, pieces - room + step), step):
        end = min(start + room, pieces)
        stop = pieces if end == pieces else start + (room + step) // 2
        yield Window(start, end, slice(begin, stop))
        begin = stop
