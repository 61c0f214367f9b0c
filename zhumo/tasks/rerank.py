"""rerank: which of some documents answers a text, each read together with it.

A vector of a document is made before anybody asks; here the question is known while the document is read, which is
surer and costs one reading a document. So it puts in order the few that a faster search has found (Nogueira and Cho
2019).
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from scipy.special import expit
from sklearn.linear_model import LogisticRegression
from torch import Tensor, nn

from zhumo.baselines.retrieval import bm25_among
from zhumo.errors import DataError
from zhumo.metrics.measure import Measure
from zhumo.metrics.retrieval import candidates, place_of, recall, reciprocal_rank, right_answers
from zhumo.tasks import Answer, Baseline, Field, Loss, Row, Task
from zhumo.tasks.classify import LabelHead
from zhumo.tasks.examples import Batch, Example, batches, collate
from zhumo.tasks.pairs import PAIR, numbered
from zhumo.tasks.pooling import pool, pool_all
from zhumo.transformer import Transformer

ANSWERED_AT_ONCE = 64  # pairs in one pass of the model
NEGATIVES = 7  # wrong answers that a row gets which names none, where the recipe does not say how many


class Rerank(Task):
    """A text and documents in, how surely each of them answers it out.

    Learned from right answers beside wrong ones that look right. A row that names no wrong ones gets some in prepare,
    of the first that BM25 finds, if its right answer is one of those, and so can be asked alone.

    state: from the start weights `pooling` and what they want before a text, `prefix`, and a document, `match_prefix`;
    from calibration `scale` and `shift`, which make a score a probability (Platt 1999).
    """

    name: ClassVar[str] = "rerank"
    fields: ClassVar[Mapping[str, Field]] = {**PAIR, "match": replace(PAIR["match"], needed=True)}
    metric: ClassVar[str] = "mrr@10"
    protocol: ClassVar[str] = "report.protocol.rerank"
    baselines: ClassVar[Mapping[str, Baseline]] = {"bm25": bm25_among}
    reads: ClassVar[bool] = True
    wrong: ClassVar[int] = NEGATIVES

    def learn(self, rows: Iterable[Row]) -> None:
        """Nothing: all is in the weights."""

    def encode(self, row: Row) -> list[Example]:
        """For each right answer an example: its pair with the text, then those of the wrong ones, one behind the other.
        None where there is nothing to choose between."""
        first = self._first(row["text"])
        wrong = [self._pair(first, document) for document in row.get("negatives", ())]
        pairs = ([self._pair(first, document), *wrong] for document in right_answers(row) if wrong)
        return [
            {
                "ids": [token for pair in own for token in pair],
                "segments": [number for number, pair in enumerate(own, 1) for _ in pair],
            }
            for own in pairs
        ]

    @property
    def vocabulary(self) -> int:
        """Ids of the tokenizer."""
        assert self.tokenizer is not None
        return self.tokenizer.size

    def head(self, width: int) -> nn.Module:
        """One score a pair."""
        return LabelHead(width, 1)

    def loss(self, model: Transformer, batch: Batch) -> Loss:
        """Cross-entropy of the right pair among those of its example."""
        pairs = numbered(batch["ids"], batch["segments"])
        found = pool_all(model, pairs, self.state.get("pooling"))
        scores = torch.stack([self._logits(model, vectors) for vectors in found], dim=1)
        some = torch.stack([segments.any(1) for _, segments in pairs], dim=1)
        scores = scores.masked_fill(~some, -torch.inf)
        right = torch.zeros(len(scores), dtype=torch.int64, device=scores.device)
        return Loss(F.cross_entropy(scores, right, reduction="sum"), len(scores))

    def calibrate(self, model: Transformer, rows: Sequence[Row]) -> None:
        """What makes a score the probability that the document is right, by the candidates of validation rows."""
        right = [place < len(right_answers(row)) for row in rows for place in range(len(candidates(row)))]
        if len(set(right)) < 2:
            return
        # A little held back, as Platt does: where the few there are can be told apart, all would be certain.
        fitted = LogisticRegression().fit(np.concatenate(self._scores(model, rows))[:, None], right)
        if fitted.coef_[0, 0] > 0:  # else the model tells nothing apart, and its order must not be turned round
            self.state |= {"scale": float(fitted.coef_[0, 0]), "shift": float(fitted.intercept_[0])}

    def answer(self, model: Transformer, rows: Sequence[Row]) -> list[Answer]:
        """For each of a row's documents, in their order, the probability that it answers the text: `scores`. Asked are
        its `documents`, and where it names none its right answers and then its wrong ones."""
        scale, shift = self.state.get("scale", 1.0), self.state.get("shift", 0.0)
        return [{"scores": expit(scale * one + shift).tolist()} for one in self._scores(model, rows)]

    def score(self, answers: Sequence[Answer], rows: Sequence[Row]) -> list[Measure]:
        """How early the first right answer comes among a row's candidates; rows with nothing to choose between are left
        out.

        Raises:
            DataError: no row has a choice, so there is nothing to find.
        """
        asked = [(answer, row) for answer, row in zip(answers, rows, strict=True)
                 if right_answers(row) and row.get("negatives")]  # fmt: skip
        if not asked:
            raise DataError("rerank.no_choice")
        places = [place_of(np.array(answer["scores"]), range(len(right_answers(row)))) for answer, row in asked]
        return [recall(places, 1), recall(places, 5), reciprocal_rank(places)]

    def _first(self, text: str) -> list[int]:
        """The beginning of a text's pairs: the text, of which at most half the length."""
        assert self.tokenizer is not None
        return self.tokenizer.encode(self.state.get("prefix", "") + text, length=self.length // 2)

    def _pair(self, first: list[int], document: str) -> list[int]:
        """The beginning, what parts two texts, and as much of a document as has room."""
        assert self.tokenizer is not None
        between, end = self._marks
        room = self.length - len(first) - len(between) - len(end)
        second = self.tokenizer.encode(self.state.get("match_prefix", "") + document, length=room, special=False)
        return [*first, *between, *second, *end]

    @cached_property
    def _marks(self) -> tuple[list[int], list[int]]:
        """What stands between the texts of a pair, and after them."""
        assert self.tokenizer is not None
        # The frame of an empty text ends with what ends any; a tokenizer that has no frame parts texts by a line.
        end = self.tokenizer.encode("")[1:]
        return [] if end else self.tokenizer.encode("\n", special=False), end

    def _logits(self, model: Transformer, vectors: Tensor) -> Tensor:
        assert model.head is not None
        logits: Tensor = model.head(vectors)
        return logits.float()[:, 0]

    def _scores(self, model: Transformer, rows: Sequence[Row]) -> list[np.ndarray]:
        """What the head says of each candidate of each row."""
        asked = [candidates(row) for row in rows]
        pairs: list[Example] = [
            {"ids": self._pair(first, document)}
            for first, own in zip((self._first(row["text"]) for row in rows), asked, strict=True)
            for document in own
        ]
        scores, device = np.empty(len(pairs)), next(model.parameters()).device
        with torch.no_grad():
            for indices, part in batches(pairs, ANSWERED_AT_ONCE):
                batch = collate(part, device)
                vectors = pool(model, batch["ids"], batch["segments"], self.state.get("pooling"))
                scores[indices] = self._logits(model, vectors).cpu().numpy()
        return np.split(scores, np.cumsum([len(own) for own in asked])[:-1]) if asked else []
