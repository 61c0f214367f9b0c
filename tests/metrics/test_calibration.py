"""Calibration and abstention, on numbers that can be worked out by hand and against scikit-learn."""

import numpy as np
import pytest
from sklearn.calibration import calibration_curve

from zhumo.metrics import calibration


def _confident(rows: int, seed: int, honest: float) -> tuple[np.ndarray, np.ndarray]:
    """Confidences, and hits that come true as often as they say where `honest` is 1."""
    generator = np.random.default_rng(seed)
    confidence = generator.random(rows)
    return confidence, generator.random(rows) < confidence**honest


def test_the_curve_is_that_of_scikit_learn() -> None:
    confidence, right = _confident(2_000, 0, 2.0)
    accuracy, mean = calibration_curve(right, confidence, n_bins=calibration.BINS)
    curve = calibration.reliability(confidence, right)
    assert [entry.accuracy for entry in curve] == pytest.approx(list(accuracy))
    assert [entry.confidence for entry in curve] == pytest.approx(list(mean))
    assert sum(entry.rows for entry in curve) == 2_000


def test_error_is_the_weighted_gap_of_the_curve() -> None:
    confidence, right = _confident(2_000, 1, 2.0)
    curve = calibration.reliability(confidence, right)
    gap = sum(entry.rows * abs(entry.accuracy - entry.confidence) for entry in curve) / 2_000
    assert calibration.expected_error(confidence, right).value == pytest.approx(gap)
    assert gap > 5 * calibration.expected_error(*_confident(20_000, 1, 1.0)).value  # the honest one is far better


def test_both_ends_have_a_bin() -> None:
    curve = calibration.reliability(np.array([0.0, 1.0, 1.0]), np.array([False, True, False]))
    assert curve == [calibration.Bin(0.0, 0.0, 1), calibration.Bin(1.0, 0.5, 2)]


def test_abstaining_when_unsure_leaves_fewer_errors() -> None:
    confidence = np.array([0.9, 0.8, 0.7, 0.6, 0.5])
    right = np.array([True, True, False, True, False])
    coverage, error = calibration.coverage_curve(confidence, right)
    assert list(coverage) == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0])
    assert list(error) == pytest.approx([0, 0, 1 / 3, 1 / 4, 2 / 5])
    assert calibration.error_at(confidence, right, 0.8).value == pytest.approx(1 / 4)
    assert calibration.error_at(confidence, right, 1.0).value == pytest.approx(2 / 5)


def test_equal_confidences_are_answered_together() -> None:
    coverage, error = calibration.coverage_curve(np.full(4, 0.5), np.array([True, False, False, True]))
    assert list(coverage) == [1.0]
    assert list(error) == [0.5]


def test_intervals_hold_the_value() -> None:
    confidence, right = _confident(500, 2, 2.0)
    for measure in (calibration.expected_error(confidence, right), calibration.error_at(confidence, right, 0.8)):
        assert not measure.higher_is_better
        low, high = measure.interval()
        assert low < high
