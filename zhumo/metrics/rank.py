"""Ranked lists with one right item or several each: were they found, how high, and what else the lists are like.

`places` turns lists into numbers once; each measure is then a line or two over them.
"""

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np

from zhumo.metrics.measure import Measure

NOWHERE = np.inf
"""The place of an item that is not in the list."""


def places(lists: Sequence[Sequence[str]], wanted: Sequence[Sequence[str]]) -> np.ndarray:
    """Where the wanted items of each row stand in its list, (rows, most that any row wants) float64.

    Counted from 0; NOWHERE where an item is not in the list, NaN beyond the last item a row wants.
    """
    found = []
    for list_, items in zip(lists, wanted, strict=True):
        place = {item: index for index, item in enumerate(list_)}
        found.append([place.get(item, NOWHERE) for item in dict.fromkeys(items)])
    return padded(found)


def padded(lines: Sequence[Sequence[float]]) -> np.ndarray:
    """Lines of numbers as one table, NaN where a line is shorter than the longest."""
    table = np.full((len(lines), max(map(len, lines), default=0)), np.nan)
    for row, line in enumerate(lines):
        table[row, : len(line)] = line
    return table


def hit(where: np.ndarray, k: int) -> Measure:
    """Share of rows of which any item is among the first k (hit rate)."""
    return Measure(f"hit@{k}", np.any(where < k, axis=1).astype(np.float64))


def recall(where: np.ndarray, k: int) -> Measure:
    """Share of a row's items that are among the first k; with one right item the same as `hit`."""
    found = np.sum(where < k, axis=1)
    return Measure(f"recall@{k}", np.asarray(found / np.maximum(_count(where), 1)))


def ndcg(where: np.ndarray, k: int) -> Measure:
    """Discounted gain 1 / log2(place + 2) within the first k, as a share of the best there is (Järvelin & Kekäläinen
    2002): that of all the row's items, at most k, at the top of the list.
    """
    gain = np.where(where < k, 1 / np.log2(where + 2), 0.0).sum(axis=1)
    best = np.cumsum([0.0, *(1 / np.log2(np.arange(k) + 2))])
    return Measure(f"ndcg@{k}", gain / best[np.clip(_count(where), 1, k)])


def mrr(where: np.ndarray, k: int) -> Measure:
    """Reciprocal rank of the first right item, 1 / (place + 1), within the first k."""
    return Measure(f"mrr@{k}", np.where(where < k, 1 / (where + 1), 0.0).max(axis=1, initial=0.0))


def _count(where: np.ndarray) -> np.ndarray:
    """How many items each row wants."""
    count: np.ndarray = (~np.isnan(where)).sum(axis=1)
    return count


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
