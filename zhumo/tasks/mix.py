"""How much each part of an answer counts: what is best on validation rows, and of what is as good the most cautious.

Of what is within a standard error of the best (Breiman et al. 1984) the weight is taken that asks both parts most
evenly, and the lowest power: what is best by less than that is best by chance.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

WEIGHTS = np.arange(21) / 20
TRENDS = (0.0, 0.25, 0.5, 0.75, 1.0, 1.25, 1.5, 2.0)


class Mix(NamedTuple):
    """weight: of the Transformer beside the neighbours, 0 to 1. trend: the power of the trend. again: the share of what
    was taken before."""

    weight: float
    trend: float
    again: float


Gains = Callable[[Sequence[Mix]], np.ndarray]
"""Mixes -> what each of some rows gains by each, (mixes, rows)."""


def best_mix(gains: Gains, rates: Sequence[float]) -> Mix:
    """The mix to answer with. rates: shares of what was taken before, to choose from.

    One after the other: they hardly depend on each other, and all together would take many times as long.
    """
    again = rates[0]
    if len(rates) > 1:
        again = rates[int(gains([Mix(0.5, 0.0, rate) for rate in rates]).mean(axis=1).argmax())]
    equal, means = _equal(gains([Mix(weight, 0.0, again) for weight in WEIGHTS.tolist()]))
    weight = float(WEIGHTS[min(equal, key=lambda one: (abs(WEIGHTS[one] - 0.5), -means[one]))])
    equal, _ = _equal(gains([Mix(weight, trend, again) for trend in TRENDS]))
    return Mix(weight, TRENDS[min(equal)], again)


def _equal(gains: np.ndarray) -> tuple[list[int], np.ndarray]:
    """Which lines are within a standard error of the best, (lines, rows), and the mean of each."""
    means = gains.mean(axis=1)
    short = gains[means.argmax()] - gains
    equal = np.flatnonzero(short.mean(axis=1) <= short.std(axis=1) / np.sqrt(gains.shape[1]))
    return equal.tolist(), means
