"""Texts and what belongs to them: a question's answers, right ones and wrong ones that look right."""

from collections.abc import Iterable, Iterator, Mapping

import numpy as np
import torch
from torch import Tensor

from zhumo.baselines.retrieval import Bm25
from zhumo.metrics.retrieval import right_answers
from zhumo.tasks import Field, Row
from zhumo.tasks.shelf import best

WEIGHED = 20  # documents that are put in order, of those a search has found
MINED_AT_ONCE = 64  # texts for which wrong answers are looked up at once
LIKE_RIGHT = 0.95  # share of the right answer's score from which a found one may be right too, and is left out
PAIR: Mapping[str, Field] = {
    "text": Field(str, guess=("text", "question", "query", "title", "文本", "问题", "标题", "查询")),
    "match": Field(str, False, guess=("match", "answer", "passage", "body", "答案", "回答", "正文", "段落")),
    "matches": Field(list, False, texts=True),
    "negatives": Field(list, False, texts=True),
}
"""What a row of such a task holds: a text, and where there is one, the text that belongs to it. A row may name further
right answers, `matches`, and wrong ones that look right, `negatives`."""


def looked_up(rows: Iterable[Row], among: Iterable[Row] = ()) -> Iterator[tuple[str, list[str], np.ndarray, list[int]]]:
    """Each text of rows that has a right answer, all right answers of rows and of `among`, how likely BM25 finds each
    of them (`(answers,)`), and which are the text's own."""
    asked: dict[str, None] = {}
    right: dict[str, list[str]] = {}
    for row in rows:
        asked |= {row["text"]: None} if right_answers(row) else {}
        right.setdefault(row["text"], []).extend(right_answers(row))
    for row in among:
        right.setdefault(row["text"], []).extend(right_answers(row))
    documents = list(dict.fromkeys(match for own in right.values() for match in own))
    if len(documents) < 2:
        return
    index, place = Bm25(documents), {match: number for number, match in enumerate(documents)}
    texts = list(asked)
    for start in range(0, len(texts), MINED_AT_ONCE):
        part = texts[start : start + MINED_AT_ONCE]
        for text, scores in zip(part, index.scores(part), strict=True):
            yield text, documents, scores, [place[match] for match in right[text]]


def mined(rows: Iterable[Row], count: int) -> dict[str, list[str]]:
    """For each text the `count` wrong answers that BM25 finds likeliest, but none that is about as likely as a right
    one: it may well be right (Moreira et al. 2024)."""
    found: dict[str, list[str]] = {}
    for text, documents, scores, own in looked_up(rows):
        scores[scores >= LIKE_RIGHT * scores[own].max()] = 0.0
        scores[own] = 0.0
        found[text] = [documents[one] for one in best(scores, count) if scores[one] > 0]
    return found


def numbered(ids: Tensor, segments: Tensor) -> list[tuple[Tensor, Tensor]]:
    """Texts that lie one behind the other in each row, numbered 1, 2, ...: all first ones, then all second ones, with
    segments of their own. A row keeps its place; one that has no such text is empty."""
    found = []
    for number in range(1, int(segments.max()) + 1 if segments.shape[1] else 1):
        texts = [line[own] for line, own in zip(ids, segments == number, strict=True)]
        padded = torch.nn.utils.rnn.pad_sequence(texts, batch_first=True)
        own = torch.nn.utils.rnn.pad_sequence([torch.ones_like(text) for text in texts], batch_first=True)
        found.append((padded, own))
    return found
