"""A measure kept row by row, its 95% interval, and whether two of them really differ (bootstrap, Efron 1979)."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache

import numpy as np

RESAMPLES = 1_000
_SEED = 20_240


@lru_cache(maxsize=2)
def _counts(rows: int) -> np.ndarray:
    """How often each row stands in each resample, (RESAMPLES, rows), drawn once for all measures.

    A byte holds a count: that one row of many is drawn 256 times has a chance of about 1 / 256!.
    """
    generator = np.random.default_rng(_SEED)
    counts = np.empty((RESAMPLES, rows), dtype=np.uint8)
    for line in counts:
        line[:] = np.bincount(generator.integers(0, rows, rows), minlength=rows)
    return counts


def mean(values: np.ndarray) -> float:
    """The plain average over rows."""
    return float(values.mean())


@dataclass(frozen=True)
class Measure:
    """One number about a set of rows, computed by `reduce` from one entry (or one line) of `values` a row."""

    name: str
    values: np.ndarray
    reduce: Callable[[np.ndarray], float] = field(default=mean)
    higher_is_better: bool = True

    @property
    def value(self) -> float:
        """The number over all rows."""
        return self.reduce(self.values)

    def of(self, index: np.ndarray) -> "Measure":
        """The same measure of some of the rows."""
        return replace(self, values=self.values[index])

    def shares(self) -> np.ndarray:
        """What each row adds to the number: of a mean its value, else n times the number less n - 1 times the number
        without it (Tukey's pseudo-values), so that a mean over rows stands for any measure."""
        if self.reduce is mean:
            return self.values
        rows, rest = len(self.values), self.values.copy()
        without = np.empty(rows)
        for row in range(rows):
            rest[row] = self.values[-1]
            without[row] = self.reduce(rest[:-1])
            rest[row] = self.values[row]
        return rows * self.value - (rows - 1) * without

    def interval(self) -> tuple[float, float]:
        """95% percentile bootstrap interval over rows; the same rows give the same interval."""
        low, high = np.quantile(self._resampled, [0.025, 0.975])
        return float(low), float(high)

    @cached_property
    def _resampled(self) -> np.ndarray:
        """The number over each resample, (RESAMPLES,); asked for by every rival, drawn once."""
        rows = len(self.values)
        if self.reduce is mean:
            # A resample of a mean is a weighted sum, so all resamples are one product with multinomial counts.
            return np.concatenate([part @ self.values / rows for part in np.split(_counts(rows), 10)])
        generator = np.random.default_rng(_SEED)
        return np.array([self.reduce(self.values[generator.integers(0, rows, rows)]) for _ in range(RESAMPLES)])

    def ahead(self, other: "Measure") -> tuple[float, float]:
        """95% interval of how far it is above `other` on the same rows (paired bootstrap)."""
        low, high = np.quantile(self._apart(other), [0.025, 0.975])
        return float(low), float(high)

    def beats(self, other: "Measure") -> float:
        """One-sided p-value of "not better than `other`" on the same rows (paired bootstrap; Koehn 2004)."""
        apart = self._apart(other) * (1 if self.higher_is_better else -1)
        return float((np.sum(apart <= 0) + 1) / (RESAMPLES + 1))

    def _apart(self, other: "Measure") -> np.ndarray:
        if len(other.values) != len(self.values):
            here, there = len(self.values), len(other.values)
            raise ValueError(f"{self.name}: {here} rows against {there}; a paired test needs the same rows")
        apart: np.ndarray = self._resampled - other._resampled  # of the same resamples
        return apart
