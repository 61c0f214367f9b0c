"""How early the right document comes. A place is a rank counted from 1."""

from collections.abc import Sequence

import numpy as np

from zhumo.metrics.measure import Measure


def place_of(scores: np.ndarray, own: int) -> int:
    """The place of document `own` when documents are ranked by score; of equals it stands last, so ties win nothing."""
    return int((scores >= scores[own]).sum())


def recall(places: Sequence[int], k: int) -> Measure:
    """Share of queries whose document is among the first k."""
    return Measure(f"recall@{k}", (np.asarray(places) <= k).astype(float))


def reciprocal_rank(places: Sequence[int], k: int = 10) -> Measure:
    """Mean of 1 / place, nothing for a document after the first k."""
    array = np.asarray(places, dtype=float)
    return Measure(f"mrr@{k}", np.where(array <= k, 1 / array, 0.0))
