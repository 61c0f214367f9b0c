"""embed: a text as a vector, so that what means the same lies close together."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zhumo.baselines.retrieval import bm25
from zhumo.errors import DataError
from zhumo.metrics.measure import Measure
from zhumo.metrics.retrieval import place_of, recall, reciprocal_rank, right_documents
from zhumo.tasks import Answer, Baseline, Field, Loss, Row, Task
from zhumo.tasks.examples import Batch, Example, batches, collate
from zhumo.tasks.pooling import pool
from zhumo.transformer import Transformer

ANSWERED_AT_ONCE = 64  # texts in one pass of the model
TEMPERATURE = 0.05  # of cosines in the loss, as in SimCSE (Gao et al. 2021)


class Embed(Task):
    """A text, and where there is one, the text that belongs to it: an answer to a question, a body to a title.

    state: from the start weights, `pooling` and what they want before a text, `prefix`, and a match, `match_prefix`.
    """

    name: ClassVar[str] = "embed"
    fields: ClassVar[Mapping[str, Field]] = {
        "text": Field(str, guess=("text", "question", "query", "title", "文本", "问题", "标题", "查询")),
        "match": Field(str, False, guess=("match", "answer", "passage", "body", "答案", "回答", "正文", "段落")),
    }
    metric: ClassVar[str] = "mrr@10"
    protocol: ClassVar[str] = "report.protocol.embed"
    baselines: ClassVar[Mapping[str, Baseline]] = {"bm25": bm25}

    def learn(self, rows: Iterable[Row]) -> None:
        """Nothing: all there is to know is in the weights."""

    def encode(self, row: Row) -> list[Example]:
        """Text and match; a text without a match has nothing to come close to."""
        if "match" not in row:
            return []
        match = self._ids(row["match"], "match_prefix")
        return [{"ids": self._ids(row["text"], "prefix"), "match": match, "match_segments": [1] * len(match)}]

    @property
    def vocabulary(self) -> int:
        """Ids of the tokenizer."""
        assert self.tokenizer is not None
        return self.tokenizer.size

    def head(self, width: int) -> nn.Module | None:
        """None: the vector is the pooled hidden states themselves."""
        return None

    def loss(self, model: Transformer, batch: Batch) -> Loss:
        """InfoNCE (van den Oord et al. 2018): each text must find its match among the matches of its batch."""
        texts = self._vectors(model, batch["ids"], batch["segments"])
        matches = self._vectors(model, batch["match"], batch["match_segments"])
        cosines = texts @ matches.T / TEMPERATURE
        # Two rows may have one and the same match, or text; the other row's match is then no wrong answer.
        same = _alike(batch["match"]) | _alike(batch["ids"])
        own = torch.arange(len(cosines), device=cosines.device)
        same[own, own] = False
        return Loss(F.cross_entropy(cosines.masked_fill(same, -torch.inf), own, reduction="sum"), len(own))

    def answer(self, model: Transformer, rows: Sequence[Row]) -> list[Answer]:
        """The vector of each text, of length 1; beside it that of its match, where the row has one."""
        answers: list[Answer] = [
            {"embedding": vector} for vector in self._embed(model, [(row["text"], "prefix") for row in rows])
        ]
        matched = [index for index, row in enumerate(rows) if "match" in row]
        vectors = self._embed(model, [(rows[index]["match"], "match_prefix") for index in matched])
        for index, vector in zip(matched, vectors, strict=True):
            answers[index]["match_embedding"] = vector
        return answers

    def score(self, answers: Sequence[Answer], rows: Sequence[Row]) -> list[Measure]:
        """How early each text finds its match among all different matches of these rows. Where several rows ask the
        very same, the match of each is right.

        Raises:
            DataError: no row has a match, so there is nothing to find.
        """
        matched = [index for index, row in enumerate(rows) if "match" in row]
        if not matched:
            raise DataError("embed.no_match")
        places = _places([answers[index] for index in matched], [rows[index] for index in matched])
        return [recall(places, 1), recall(places, 5), reciprocal_rank(places)]

    def _ids(self, text: str, prefix: str) -> list[int]:
        assert self.tokenizer is not None
        # An empty text still needs one position to be asked at.
        return self.tokenizer.encode(self.state.get(prefix, "") + text, length=self.length) or [0]

    def _vectors(self, model: Transformer, ids: Tensor, segments: Tensor) -> Tensor:
        return F.normalize(pool(model, ids, segments, self.state.get("pooling")).float(), dim=-1)

    def _embed(self, model: Transformer, texts: Sequence[tuple[str, str]]) -> list[list[float]]:
        examples: list[Example] = [{"ids": self._ids(text, prefix)} for text, prefix in texts]
        device = next(model.parameters()).device
        vectors: list[list[float]] = [[] for _ in texts]
        with torch.no_grad():
            for indices, part in batches(examples, ANSWERED_AT_ONCE):
                batch = collate(part, device)
                found = self._vectors(model, batch["ids"], batch["segments"]).tolist()
                for index, vector in zip(indices, found, strict=True):
                    vectors[index] = vector
        return vectors


def _alike(ids: Tensor) -> Tensor:
    """Which rows of a batch hold the same text, (batch, batch)."""
    return (ids.unsqueeze(0) == ids.unsqueeze(1)).all(-1)


def _places(answers: Sequence[Mapping[str, Any]], rows: Sequence[Row]) -> list[int]:
    """The place of each row's match; a baseline without vectors says it itself."""
    if "place" in answers[0]:
        return [int(answer["place"]) for answer in answers]
    matches = [row["match"] for row in rows]
    documents, right = right_documents([row["text"] for row in rows], matches)
    vectors = dict(zip(matches, (answer["match_embedding"] for answer in answers), strict=True))
    cosines = np.array([answer["embedding"] for answer in answers]) @ np.array([vectors[text] for text in documents]).T
    return [place_of(line, own) for line, own in zip(cosines, right, strict=True)]
