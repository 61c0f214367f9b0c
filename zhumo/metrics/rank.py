"""Ranked lists with one right item each: was it found, how high, and what else the lists are like.

`places` turns lists into numbers once; each measure is then one line over them.
"""

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np

from zhumo.metrics.measure import Measure

NOWHERE = np.inf
"""The place of an item that is not in the list."""


def places(lists: Sequence[Sequence[str]], wanted: Sequence[str]) -> np.ndarray:
    """Where each wanted item stands in its list, counted from 0; NOWHERE where it does not."""
    found = [list_.index(item) if item in list_ else NOWHERE for list_, item in zip(lists, wanted, strict=True)]
    return np.asarray(found, dtype=np.float64)


def hit(where: np.ndarray, k: int) -> Measure:
    """Share of rows whose item is among the first k (hit rate; with one right item also called recall)."""
    return Measure(f"hit@{k}", (where < k).astype(np.float64))


def ndcg(where: np.ndarray, k: int) -> Measure:
    """Discounted gain 1 / log2(place + 2) within the first k (Järvelin & Kekäläinen 2002); its best is 1."""
    return Measure(f"ndcg@{k}", np.where(where < k, 1 / np.log2(where + 2), 0.0))


def mrr(where: np.ndarray, k: int) -> Measure:
    """Reciprocal rank, 1 / (place + 1), within the first k."""
    return Measure(f"mrr@{k}", np.where(where < k, 1 / (where + 1), 0.0))


def coverage(lists: Sequence[Sequence[str]], catalogue: int, k: int) -> Measure:
    """Share of a catalogue of so many items that the first k places of all lists together show.

    A list's value is its part in that: an item shown by n lists counts 1/n for each. So the mean is exactly the share,
    while the share of a resample, which holds some lists twice and others not at all, would always be too small.
    """
    shown = Counter(item for list_ in lists for item in set(list_[:k]))
    parts = [sum(1 / shown[item] for item in set(list_[:k])) for list_ in lists]
    return Measure(f"coverage@{k}", np.array(parts) * len(lists) / max(catalogue, 1))


def novelty(lists: Sequence[Sequence[str]], popularity: Mapping[str, float], k: int) -> Measure:
    """Mean surprise -log2(share of users who have the item), in bits, of the first k: low means a bias to bestsellers.

    popularity: share of users in (0, 1] by item (Zhou et al. 2010); items without one say nothing and are left out.
    """
    surprise = {item: -np.log2(share) for item, share in popularity.items() if share > 0}
    values = [[surprise[item] for item in list_[:k] if item in surprise] for list_ in lists]
    return Measure(f"novelty@{k}", np.array([np.mean(bits) if bits else 0.0 for bits in values]))
