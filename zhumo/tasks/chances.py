"""Lines of scores as probabilities: two of them blended, new and seen items kept apart, the odds of one.

A line holds the logarithm of how likely each item of the catalogue is, up to a constant.
"""

from collections.abc import Sequence

import numpy as np
import torch

from zhumo.baselines.rank import History

FAITH = 0.25  # power of what is said of an item beside how often it was taken


def blended(tables: Sequence[np.ndarray], weights: Sequence[float]) -> np.ndarray:
    """The product of what several say, each to the power of its weight (Hinton 2002)."""
    said = [(table, weight) for table, weight in zip(tables, weights, strict=True) if weight > 0]
    total: np.ndarray = said[0][0] * said[0][1]
    for table, weight in said[1:]:
        total += weight * table
    return total


def apart(line: np.ndarray, history: History, again: float | None) -> np.ndarray:
    """The logarithm of the probability of every item: those of the history share `again`, the others the rest; None
    makes no difference between them.

    Of those of the history the ones taken often come first: their odds are how often, times what is said to the power
    of FAITH.
    """
    chances = line.astype(np.float32)
    if again is None:
        return _even(chances)
    chances[history] = -np.inf
    chances = _even(chances)
    if again > 0:
        chances += np.float32(np.log1p(-again))
        own, times = np.unique(history, return_counts=True)
        chances[own] = np.log(again) + _even(np.log(times) + FAITH * line[own])
    return chances


def _even(logs: np.ndarray) -> np.ndarray:
    """The same, of probabilities that sum to 1. A whole catalogue goes through this for each answer: one call of torch,
    where numpy would make an array of each step."""
    even: np.ndarray = torch.log_softmax(torch.from_numpy(logs), dim=0).numpy()
    return even


def odds(chances: np.ndarray) -> np.ndarray:
    """The logarithm of odds, of the logarithm of probabilities."""
    odds: np.ndarray = chances - np.log1p(-np.minimum(np.exp(chances), 1 - 1e-6))
    return odds


def standing(line: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Where the wanted items of a line stand among all, counted from 0, of equals the earlier one first; wanted may
    end in NaN, of which nothing is known."""
    known = wanted[~np.isnan(wanted)].astype(int)
    own, places = line[known], np.full(len(wanted), np.nan)
    places[: len(known)] = np.count_nonzero(line > own[:, None], axis=1)
    places[: len(known)] += [np.count_nonzero(line[:place] == line[place]) for place in known]
    return places
