"""Whether a probability means what it says, and what is won by not answering when unsure.

confidence: (rows,), the probability of the label that was said; right: (rows,), whether it was the true one.
"""

from functools import partial
from typing import NamedTuple

import numpy as np

from zhumo.metrics.measure import Measure

BINS = 15  # of equal width, as in Guo et al. 2017


class Bin(NamedTuple):
    """Rows whose confidence lies in one interval."""

    confidence: float  # their mean
    accuracy: float
    rows: int


def reliability(confidence: np.ndarray, right: np.ndarray) -> list[Bin]:
    """The reliability curve: the bins that hold a row, from unsure to sure."""
    sums = _bins(np.column_stack([confidence, right]))
    return [Bin(float(sure / rows), float(hits / rows), int(rows)) for rows, sure, hits in sums if rows]


def expected_error(confidence: np.ndarray, right: np.ndarray) -> Measure:
    """Expected calibration error: the gap between confidence and accuracy, averaged over 15 bins of equal width.

    It is biased upwards on few rows, where a bin misses its mean by chance.
    """
    return Measure("ece", np.column_stack([confidence, right]), _expected_error, higher_is_better=False)


def _expected_error(pairs: np.ndarray) -> float:
    sums = _bins(pairs)
    return float(np.abs(sums[:, 1] - sums[:, 2]).sum() / len(pairs))


def _bins(pairs: np.ndarray) -> np.ndarray:
    """For each bin: rows, sum of confidence, sum of hits."""
    place = np.clip(np.ceil(pairs[:, 0] * BINS).astype(int) - 1, 0, BINS - 1)  # a bin holds its upper end
    weights = (None, pairs[:, 0], pairs[:, 1])
    return np.column_stack([np.bincount(place, weight, minlength=BINS) for weight in weights])


def coverage_curve(confidence: np.ndarray, right: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Coverage and error when only the surest rows are answered (Geifman & El-Yaniv 2017), from few rows to all.

    Rows of equal confidence are answered together, so the curve has one point a distinct confidence.
    """
    order = np.argsort(-confidence, kind="stable")
    ranked, wrong = confidence[order], (~right[order].astype(bool)).cumsum()
    said = np.arange(1, len(order) + 1)
    ends = np.append(ranked[1:] < ranked[:-1], True)
    return said[ends] / len(order), wrong[ends] / said[ends]


def error_at(confidence: np.ndarray, right: np.ndarray, coverage: float) -> Measure:
    """Share of wrong answers among the `coverage` surest rows: what is left when the rest is handed to a person."""
    name = f"error@{coverage:.0%}"
    return Measure(name, np.column_stack([confidence, right]), partial(_error_at, coverage=coverage), False)


def _error_at(pairs: np.ndarray, coverage: float) -> float:
    covered, error = coverage_curve(pairs[:, 0], pairs[:, 1])
    return float(error[np.searchsorted(covered, coverage - 1e-12)])
