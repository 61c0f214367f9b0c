"""From scores to a shelf: what a shop may show, what it would rather show, and not ten times nearly the same.

A score line holds the logarithm of how likely each item of the catalogue is, up to a constant. The columns of the
catalogue are turned into numbers once, when a column is first asked for: after that a filter or a boost costs as much
as the items it touches, also among a million.
"""

from collections.abc import Callable, Mapping, Sequence
from itertools import islice
from typing import Any

import numpy as np

from zhumo.errors import DataError, nearest

Only = Mapping[str, Sequence[Any]]
"""Column -> the values an item may have there, or for a column of numbers [low or None, high or None]."""

Boost = Mapping[str, Mapping[str, float]]
"""Column -> value -> what the odds of an item with that value are multiplied by, above 0."""

Facet = dict[str, Any]
"""Where a column's numbers lie, {"low", "high"}, or {"values": {value: items}}, the commonest first."""

WIDER = 10  # so many times k stand to choice where a list is to be diverse
BLOCK = 128  # items of which at first only the best is looked at
NEAR = 2_000  # values that a misspelt one is compared with


class Values:
    """A column of words: the items of each value. A cell holds one value, several, or None."""

    def __init__(self, cells: Sequence[Any]) -> None:
        codes: list[int] = []
        owners: list[int] = []
        self.known: dict[str, int] = {}
        for place, cell in enumerate(cells):
            for value in cell if isinstance(cell, list | tuple) else () if cell is None else (cell,):
                codes.append(self.known.setdefault(str(value), len(self.known)))
                owners.append(place)
        order = np.argsort(np.array(codes, dtype=np.int64), kind="stable")
        self._owners = np.array(owners, dtype=np.int64)[order]
        self._ends = np.cumsum(np.bincount(np.array(codes, dtype=np.int64), minlength=len(self.known)))

    def items(self, value: Any) -> np.ndarray:
        """Places of the items with a value; of none where nobody has it."""
        code = self.known.get(str(value))
        if code is None:
            return self._owners[:0]
        return self._owners[self._ends[code - 1] if code else 0 : self._ends[code]]

    def common(self, most: int) -> dict[str, int]:
        """The commonest values and how many items have each."""
        counts = np.diff(self._ends, prepend=0)
        values = list(self.known)
        return {values[code]: int(counts[code]) for code in np.argsort(-counts, kind="stable")[:most]}


class Shelf:
    """The columns of a catalogue, ready to be asked. columns: name -> a cell an item, all equally long."""

    def __init__(self, columns: Mapping[str, Sequence[Any]], size: int) -> None:
        self.columns, self.size = columns, size
        self._coded: dict[str, Values | np.ndarray] = {}

    def column(self, name: str) -> Values | np.ndarray:
        """A column as numbers (NaN: none) where every cell is one, else by its values; empty where there is none."""
        if name not in self._coded:
            cells = self.columns.get(name, ())
            given = [cell for cell in cells if cell is not None]
            numbers = given and all(isinstance(cell, int | float) and not isinstance(cell, bool) for cell in given)
            self._coded[name] = np.array(cells, dtype=np.float64) if numbers else Values(cells)
        return self._coded[name]

    def facet(self, name: str, most: int) -> Facet:
        """What a column can be filtered by; of values the `most` commonest."""
        if isinstance(column := self.column(name), Values):
            return {"values": column.common(most)}
        return {"low": float(np.nanmin(column)), "high": float(np.nanmax(column))}

    def check(self, only: Only, boost: Boost) -> None:
        """See that a request speaks of what there is.

        Raises:
            DataError: an unknown column or value, with the nearest known; a range that is none; a boost of numbers.
        """
        for name in (*only, *boost):
            if name not in self.columns:
                known = ", ".join(self.columns) or "-"
                raise DataError(
                    "recommend.unknown_column", name=name, near=nearest(name, self.columns) or "-", known=known
                )
        for name, wanted in only.items():
            if isinstance(column := self.column(name), Values):
                _check_values(name, column, wanted)
            elif not _is_range(wanted):
                raise DataError("recommend.bad_range", name=name)
        for name, factors in boost.items():
            column = self.column(name)
            if not isinstance(column, Values):
                raise DataError("recommend.boost_numbers", name=name)
            _check_values(name, column, factors)

    def allowed(self, only: Only, exclude: np.ndarray) -> np.ndarray:
        """Which items may be shown, (items,) bool: in every column of `only` as it says, and not among the places of
        `exclude`. A cell that is empty is never what was asked for."""
        mask = np.ones(self.size, dtype=bool)
        for name, wanted in only.items():
            mask &= self._within(self.column(name), wanted)
        mask[exclude] = False
        return mask

    def _within(self, column: Values | np.ndarray, wanted: Sequence[Any]) -> np.ndarray:
        if isinstance(column, Values):
            inside = np.zeros(self.size, dtype=bool)
            for value in wanted:
                inside[column.items(value)] = True
            return inside
        low, high = (end if end is not None else side * np.inf for end, side in zip(wanted, (-1, 1), strict=True))
        within: np.ndarray = (column >= low) & (column <= high)  # NaN is neither
        return within

    def boosted(self, scores: np.ndarray, boost: Boost) -> np.ndarray:
        """A score line with the odds of some items multiplied; of an item with several boosted values, by each."""
        scores = scores.copy()
        for name, factors in boost.items():
            if isinstance(column := self.column(name), Values):
                for value, factor in factors.items():
                    scores[column.items(value)] += np.log(factor)
        return scores


def best(scores: np.ndarray, count: int) -> np.ndarray:
    """Places of the `count` largest finite scores, the largest first; of equals the earlier place."""
    # Of a large catalogue only the blocks with the largest maxima can hold any of the best.
    starts = np.arange(0, len(scores), BLOCK)
    if len(starts) > 4 * count:
        most = np.maximum.reduceat(scores, starts)
        starts = starts[most >= np.partition(most, -count)[-count]]
    able = (starts[:, None] + np.arange(BLOCK)).ravel()
    able = able[: np.searchsorted(able, len(scores))]  # the last block may be cut short
    able = able[np.isfinite(scores[able])]
    if count < len(able):
        least = np.partition(scores[able], -count)[-count]
        able = able[scores[able] >= least]  # more than count where several are equal to the last
    order: np.ndarray = able[np.argsort(-scores[able], kind="stable")][:count]
    return order


def diverse(scores: np.ndarray, similar: Callable[[int], np.ndarray], diversity: float, k: int) -> np.ndarray:
    """The order in which k candidates are shown: maximal marginal relevance (Carbonell & Goldstein 1998).

    scores: of the candidates, best first, (candidates,). similar: how like one candidate all are, (candidates,), at
    most 1. diversity 0 leaves the order as it is, 1 looks at nothing but what is already shown; between them a
    candidate is worth (1 - diversity) * its score, put between 0 and 1, less diversity * its likeness to the one shown
    that is most like it.
    """
    count = min(k, len(scores))
    if diversity == 0 or count < 2:
        return np.arange(count)
    worth = (scores - scores[-1]) / max(float(scores[0] - scores[-1]), np.finfo(np.float32).tiny)
    shown = np.zeros(count, dtype=np.int64)  # the best comes first whatever else
    likeness = similar(0).astype(np.float64)
    left = np.ones(len(scores), dtype=bool)
    left[0] = False
    for place in range(1, count):
        shown[place] = np.where(left, (1 - diversity) * worth - diversity * likeness, -np.inf).argmax()
        left[shown[place]] = False
        likeness = np.maximum(likeness, similar(int(shown[place])))
    return shown


def _check_values(name: str, column: Values, wanted: Sequence[Any] | Mapping[str, float]) -> None:
    for value in wanted:
        if str(value) not in column.known:
            near = nearest(str(value), islice(column.known, NEAR)) or "-"
            raise DataError("recommend.unknown_value", name=name, value=value, near=near)


def _is_range(wanted: Sequence[Any]) -> bool:
    if len(wanted) != 2 or not all(end is None or type(end) in (int, float) for end in wanted):
        return False
    low, high = wanted
    return low is None or high is None or low <= high
