"""Ranked lists with one right item or several each: were they found, how high, and what else the lists are like.

`places` turns lists into numbers once; each measure is then a line or two over them.
"""

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
import scipy.sparse as sparse

from zhumo.metrics.measure import Measure

AT = (10, 5, 20)  # the leading k first
LISTS_AT_ONCE = 1_024
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


def found(lists: Sequence[Sequence[str]], wanted: Sequence[Sequence[str]], most: int) -> list[Measure]:
    """Everything about what was found, at each k of AT up to `most`, the length lists were asked for; NDCG leads."""
    where = places(lists, wanted)
    several = [recall] if where.shape[1] > 1 else []  # with one right item recall is the hit rate
    return [measure(where, k) for measure in (ndcg, hit, mrr, *several) for k in AT if k <= most]


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


def bias(
    lists: Sequence[Sequence[str]], taken: Sequence[Sequence[str]], popularity: Mapping[str, float], k: int
) -> Measure:
    """Mean popularity of what is shown over that of what the same users took: above 1 bestsellers are pushed.

    popularity: share of users by item; rows without any known item taken are left out (Abdollahpouri et al. 2019).
    """

    def mean(items: Sequence[str]) -> float:
        known = [popularity[item] for item in items if item in popularity]
        return float(np.mean(known)) if known else np.nan

    shares = np.array([[mean(list_[:k]), mean(items)] for list_, items in zip(lists, taken, strict=True)])
    return Measure(f"popularity@{k}", shares[~np.isnan(shares).any(axis=1)], _ratio, higher_is_better=False)


def _ratio(shares: np.ndarray) -> float:
    return float(shares[:, 0].mean() / shares[:, 1].mean()) if len(shares) else np.nan


def diversity(
    lists: Sequence[Sequence[str]], index: Mapping[str, int], known: sparse.csr_array, k: int, by: str
) -> Measure:
    """Mean distance, 1 - cosine, between the items of the first k (Ziegler et al. 2005); 0 for fewer than two.

    known: a line of what is known of each item; an item of which nothing is known is far from all. by: what that is.
    """
    norms = np.sqrt(known.multiply(known).sum(axis=1))
    unit = sparse.diags_array(1 / np.where(norms > 0, norms, 1)) @ known
    rows = [[index[item] for item in list_[:k] if index.get(item, len(norms)) < len(norms)] for list_ in lists]
    counts = np.array([len(list_[:k]) for list_ in lists])
    alike = np.concatenate([_alike(rows[start : start + LISTS_AT_ONCE], unit, norms > 0)
                            for start in range(0, len(rows), LISTS_AT_ONCE)])  # fmt: skip
    pairs = np.maximum(counts * (counts - 1), 1)
    return Measure(f"diversity_{by}@{k}", np.where(counts > 1, 1 - alike / pairs, 0.0))


def _alike(rows: Sequence[Sequence[int]], unit: sparse.csr_array, there: np.ndarray) -> np.ndarray:
    """The sum of the cosines of all pairs of each row: of unit vectors the square of their sum, less their number."""
    columns = np.array([place for row in rows for place in row], dtype=np.int64)
    offsets = np.cumsum([0, *map(len, rows)])
    member = sparse.csr_array((np.ones(len(columns)), columns, offsets), shape=(len(rows), len(there)))
    total = member @ unit
    alike: np.ndarray = total.multiply(total).sum(axis=1) - member @ there
    return alike


def marked(cells: Sequence[Sequence[str] | None]) -> sparse.csr_array:
    """A line for each item with a 1 at each of its values, (items, different values)."""
    known: dict[str, int] = {}
    columns = [known.setdefault(value, len(known)) for cell in cells for value in cell or ()]
    offsets = np.cumsum([0, *(len(cell or ()) for cell in cells)])
    return sparse.csr_array((np.ones(len(columns)), columns, offsets), shape=(len(cells), max(len(known), 1)))
