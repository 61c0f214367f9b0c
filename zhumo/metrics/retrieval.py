"""How early the right document comes. A place is a rank counted from 1."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from zhumo.metrics.measure import Measure


def right_answers(row: Mapping[str, Any]) -> list[str]:
    """The different matches of a row."""
    return list(dict.fromkeys([*([row["match"]] if "match" in row else []), *row.get("matches", ())]))


def candidates(row: Mapping[str, Any]) -> list[str]:
    """What a row wants put in order: its `documents`; where it names none, its right answers and then its wrong ones,
    `negatives`."""
    return list(row["documents"]) if "documents" in row else [*right_answers(row), *row.get("negatives", ())]


def place_of(scores: np.ndarray, own: Sequence[int]) -> int:
    """The place of the best of the right documents `own` when documents are ranked by score, other right ones not
    counted; of equals it stands last, so ties win nothing."""
    best = scores[own].max()
    return int((scores >= best).sum() - (scores[own] >= best).sum()) + 1


def right_documents(texts: Sequence[str], matches: Sequence[Sequence[str]]) -> tuple[list[str], list[list[int]]]:
    """All different matches, and for each text which of them are right: its own, and those of every other row that
    asks the very same."""
    column = {match: place for place, match in enumerate(dict.fromkeys(match for own in matches for match in own))}
    right: dict[str, dict[int, None]] = {}
    for text, own in zip(texts, matches, strict=True):
        right.setdefault(text, {}).update(dict.fromkeys(column[match] for match in own))
    return list(column), [list(right[text]) for text in texts]


def recall(places: Sequence[int], k: int) -> Measure:
    """Share of queries whose document is among the first k."""
    return Measure(f"recall@{k}", (np.asarray(places) <= k).astype(float))


def reciprocal_rank(places: Sequence[int], k: int = 10) -> Measure:
    """Mean of 1 / place, nothing for a document after the first k."""
    array = np.asarray(places, dtype=float)
    return Measure(f"mrr@{k}", np.where(array <= k, 1 / array, 0.0))
