"""embed: a text as a vector, so that what means the same lies close together."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zhumo.baselines.retrieval import bm25
from zhumo.errors import DataError
from zhumo.metrics.measure import Measure
from zhumo.metrics.retrieval import place_of, recall, reciprocal_rank, right_answers, right_documents
from zhumo.tasks import Answer, Baseline, Field, Loss, Row, Task
from zhumo.tasks.examples import Batch, Example, batches, collate
from zhumo.tasks.pairs import PAIR, mined, numbered
from zhumo.tasks.pooling import pool, pool_all
from zhumo.transformer import Transformer

ANSWERED_AT_ONCE = 64  # texts in one pass of the model
TEMPERATURE = 0.05  # of cosines in the loss, as in SimCSE (Gao et al. 2021)


class Embed(Task):
    """A text, and where there is one, the text that belongs to it: an answer to a question, a body to a title.

    state: from the start weights, `pooling` and what they want before a text, `prefix`, and a match, `match_prefix`;
    `negatives`: how many wrong answers are looked up for a row that names none; `widths`: to which a vector may be cut.
    """

    name: ClassVar[str] = "embed"
    fields: ClassVar[Mapping[str, Field]] = PAIR
    metric: ClassVar[str] = "mrr@10"
    protocol: ClassVar[str] = "report.protocol.embed"
    baselines: ClassVar[Mapping[str, Baseline]] = {"bm25": bm25}
    reads: ClassVar[bool] = True

    def learn(self, rows: Iterable[Row]) -> None:
        """The wrong answers that look right, where the recipe asks for some; all else is in the weights."""
        self._wrong = mined(rows, count) if (count := self.state.get("negatives", 0)) else {}

    def encode(self, row: Row) -> list[Example]:
        """Text and match, an example for each match; a text without one has nothing to come close to."""
        text = self._ids(row["text"], "prefix")
        wrong = [self._ids(one, "match_prefix") for one in row.get("negatives") or self._wrong.get(row["text"], ())]
        beside = {
            "negatives": [token for ids in wrong for token in ids],
            "negative_segments": [number for number, ids in enumerate(wrong, 1) for _ in ids],
        }
        found = [self._ids(match, "match_prefix") for match in right_answers(row)]
        return [{"ids": text, "match": match, "match_segments": [1] * len(match), **beside} for match in found]

    @property
    def vocabulary(self) -> int:
        """Ids of the tokenizer."""
        assert self.tokenizer is not None
        return self.tokenizer.size

    def head(self, width: int) -> nn.Module | None:
        """None: the vector is the pooled hidden states themselves."""
        return None

    def loss(self, model: Transformer, batch: Batch) -> Loss:
        """InfoNCE (van den Oord et al. 2018): each text must find its match among the matches of its batch and the
        wrong answers of all its rows; at every width it may be cut to (Kusupati et al. 2022), their mean."""
        wrong = numbered(batch["negatives"], batch["negative_segments"])
        sought = [(batch["match"], batch["match_segments"]), *wrong]
        asked = [(batch["ids"], batch["segments"]), *sought]
        texts, *found = map(_unit, pool_all(model, asked, self.state.get("pooling")))
        some = [segments.any(1) for _, segments in sought]
        choices = _stacked([ids[own] for (ids, _), own in zip(sought, some, strict=True)])
        vectors = torch.cat([one[own] for one, own in zip(found, some, strict=True)])
        own = torch.arange(len(texts), device=texts.device)
        # Two rows may have one and the same match, or text; the other row's match is then no wrong answer, nor is any
        # copy of a right one.
        same = (_alike(batch["ids"], batch["ids"]).float() @ _alike(choices[: len(own)], choices).float()) > 0
        same[own, own] = False
        widths = self.state.get("widths") or [texts.shape[1]]
        total = texts.new_zeros(())
        for width in widths:
            cosines = _cut(texts, width) @ _cut(vectors, width).T / TEMPERATURE
            total = total + F.cross_entropy(cosines.masked_fill(same, -torch.inf), own, reduction="sum")
        return Loss(total / len(widths), len(own))

    def answer(self, model: Transformer, rows: Sequence[Row]) -> list[Answer]:
        """The vector of each text, of length 1, cut to the row's `dimensions` if it names some; beside it that of its
        match, where the row has one, and those of further matches; where it has `documents`, the cosine of each."""
        answers: list[Answer] = [
            {"embedding": vector} for vector in self.vectors(model, [(row["text"], "prefix") for row in rows])
        ]
        width = model.config.width
        if too_wide := [row["dimensions"] for row in rows if row.get("dimensions", 0) > width]:
            raise DataError("embed.dimensions", asked=too_wide[0], width=width)
        asked = [(index, match) for index, row in enumerate(rows) for match in right_answers(row)]
        vectors = self.vectors(model, [(match, "match_prefix") for _, match in asked])
        for (index, _), vector in zip(asked, vectors, strict=True):
            if "match_embedding" in answers[index]:
                answers[index].setdefault("match_embeddings", []).append(vector)
            else:
                answers[index]["match_embedding"] = vector
        documents = list(dict.fromkeys(text for row in rows for text in row.get("documents", ())))
        known = dict(zip(documents, self.vectors(model, [(one, "match_prefix") for one in documents]), strict=True))
        for answer, row in zip(answers, rows, strict=True):
            if "documents" in row:
                answer["scores"] = [float(np.dot(answer["embedding"], known[text])) for text in row["documents"]]
        return [_answer_cut(answer, row["dimensions"]) if "dimensions" in row else answer
                for answer, row in zip(answers, rows, strict=True)]  # fmt: skip

    def score(self, answers: Sequence[Answer], rows: Sequence[Row]) -> list[Measure]:
        """How early each text finds its match among all different matches of these rows, and how early with vectors cut
        to each width they may be cut to. Where several rows ask the very same, the match of each is right.

        Raises:
            DataError: no row has a match, so there is nothing to find.
        """
        matched = [index for index, row in enumerate(rows) if right_answers(row)]
        if not matched:
            raise DataError("embed.no_match")
        said, asked = [answers[index] for index in matched], [rows[index] for index in matched]
        places = _places(said, asked)
        measures = [recall(places, 1), recall(places, 5), reciprocal_rank(places)]
        for width in self.state.get("widths", ()) if "embedding" in said[0] else ():
            if width < len(said[0]["embedding"]):
                cut = reciprocal_rank(_places(said, asked, width))
                measures.append(replace(cut, name=f"{cut.name}/{width}"))
        return measures

    def vectors(self, model: Transformer, texts: Sequence[tuple[str, str]]) -> list[list[float]]:
        """Texts as vectors of length 1. Each comes with what it is, "prefix" for one that looks for a match and
        "match_prefix" for what is looked for."""
        examples: list[Example] = [{"ids": self._ids(text, prefix)} for text, prefix in texts]
        device = next(model.parameters()).device
        vectors: list[list[float]] = [[] for _ in texts]
        with torch.no_grad():
            for indices, part in batches(examples, ANSWERED_AT_ONCE):
                batch = collate(part, device)
                found = _unit(pool(model, batch["ids"], batch["segments"], self.state.get("pooling"))).tolist()
                for index, vector in zip(indices, found, strict=True):
                    vectors[index] = vector
        return vectors

    _wrong: Mapping[str, Sequence[str]] = {}

    def _ids(self, text: str, prefix: str) -> list[int]:
        assert self.tokenizer is not None
        # An empty text still needs one position to be asked at.
        return self.tokenizer.encode(self.state.get(prefix, "") + text, length=self.length) or [0]


def _unit(vectors: Tensor) -> Tensor:
    """Of length 1."""
    return F.normalize(vectors.float(), dim=-1)


def _alike(ids: Tensor, others: Tensor) -> Tensor:
    """Which rows hold the same text, (batch, others)."""
    return (ids.unsqueeze(1) == others.unsqueeze(0)).all(-1)


def _stacked(parts: Sequence[Tensor]) -> Tensor:
    """Batches as one, the shorter lines padded."""
    time = max(part.shape[1] for part in parts)
    return torch.cat([F.pad(part, (0, time - part.shape[1])) for part in parts])


def _cut(vectors: Tensor, width: int) -> Tensor:
    """The first numbers of each vector, of length 1 again."""
    return F.normalize(vectors[:, :width], dim=-1) if width < vectors.shape[1] else vectors


def _shorter(vectors: np.ndarray, width: int | None) -> np.ndarray:
    if width is None or width >= vectors.shape[1]:
        return vectors
    cut = vectors[:, :width]
    return np.asarray(cut / np.maximum(np.linalg.norm(cut, axis=1, keepdims=True), np.finfo(np.float32).tiny))


def _answer_cut(answer: Answer, width: int) -> Answer:
    """An answer with all its vectors cut."""
    one = {name: _shorter(np.array([vector]), width)[0].tolist() for name, vector in answer.items()
           if name != "match_embeddings"}  # fmt: skip
    if "match_embeddings" in answer:
        one["match_embeddings"] = _shorter(np.array(answer["match_embeddings"]), width).tolist()
    return one


def _places(answers: Sequence[Mapping[str, Any]], rows: Sequence[Row], width: int | None = None) -> list[int]:
    """The place of each row's first right match; a baseline without vectors says it itself."""
    if "place" in answers[0]:
        return [int(answer["place"]) for answer in answers]
    matches = [right_answers(row) for row in rows]
    documents, right = right_documents([row["text"] for row in rows], matches)
    vectors = {
        match: vector
        for own, answer in zip(matches, answers, strict=True)
        for match, vector in zip(own, [answer["match_embedding"], *answer.get("match_embeddings", ())], strict=True)
    }
    texts = _shorter(np.array([answer["embedding"] for answer in answers]), width)
    cosines = texts @ _shorter(np.array([vectors[text] for text in documents]), width).T
    return [place_of(line, own) for line, own in zip(cosines, right, strict=True)]
