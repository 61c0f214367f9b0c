"""Lines of scores as probabilities: two of them blended, new and seen items kept apart, the odds of one.

A line holds the logarithm of how likely each item of the catalogue is, up to a constant.
"""

from collections.abc import Sequence

import numpy as np

from zhumo.baselines.rank import History

FAITH = 0.25  # power of what is said of an item beside how often it was taken


def blended(tables: Sequence[np.ndarray], weights: Sequence[float]) -> np.ndarray:
    """The product of what several say, each to the power of its weight (Hinton 2002)."""
    blended = [weight * table for table, weight in zip(tables, weights, strict=True) if weight > 0]
    total: np.ndarray = np.add.reduce(blended)
    return total


def apart(line: np.ndarray, history: History, again: float | None) -> np.ndarray:
    """The logarithm of the probability of every item: those of the history share `again`, the others the rest; None
    makes no difference between them.

    Of those of the history the ones taken often come first: their odds are how often, times what is said to the power
    of FAITH.
    """
    chances = line.astype(np.float32)
    if again is None:
        return chances - _total(chances)
    own, times = np.unique(history, return_counts=True)
    chances[own] = -np.inf
    chances += np.float32(np.log1p(-again)) - _total(chances)
    if again > 0 and len(own):
        odds = np.log(times) + FAITH * line[own]
        chances[own] = np.log(again) + odds - _total(odds)
    return chances


def _total(logs: np.ndarray) -> np.float32:
    """The logarithm of the sum."""
    most = logs.max()
    return np.float32(most + np.log(np.exp(logs - most).sum()))


def odds(chances: np.ndarray) -> np.ndarray:
    """The logarithm of odds, of the logarithm of probabilities."""
    odds: np.ndarray = chances - np.log1p(-np.minimum(np.exp(chances), 1 - 1e-6))
    return odds


def standing(scores: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Where the wanted items of each line stand among all, (lines, wanted); NaN where a line wants fewer."""
    columns = [np.where(np.isnan(one), np.nan, _place(scores, np.nan_to_num(one).astype(int))) for one in wanted.T]
    return np.stack(columns, axis=1)


def _place(scores: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Where the wanted item of each line stands, counted from 0; of equals the earlier item comes first."""
    own = scores[np.arange(len(wanted)), wanted][:, None]
    before = np.arange(scores.shape[1]) < wanted[:, None]
    place: np.ndarray = ((scores > own) | ((scores == own) & before)).sum(axis=1)
    return place
