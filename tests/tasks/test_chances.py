"""Where an item stands in a line of scores, and how lines are blended."""

import numpy as np
import pytest

from zhumo.tasks.chances import apart, blended, standing


def test_of_equal_scores_the_earlier_item_stands_first() -> None:
    line = np.array([0.5, 2.0, 0.5, -np.inf, 0.5], dtype=np.float32)
    assert standing(line, np.array([0, 1, 2, 4, 3])).tolist() == [1, 0, 2, 3, 4]


def test_nothing_is_said_of_what_is_not_wanted() -> None:
    places = standing(np.array([1.0, 3.0]), np.array([0, np.nan, np.nan]))
    assert places[0] == 1 and np.isnan(places[1:]).all()


def test_a_blend_leaves_what_it_is_made_of() -> None:
    tables = [np.array([1.0, 2.0]), np.array([10.0, 20.0]), np.array([np.nan, np.nan])]
    assert blended(tables, [1.0, 0.5, 0.0]).tolist() == [6.0, 12.0]
    assert tables[0].tolist() == [1.0, 2.0]


@pytest.mark.parametrize("history", [[], [1], [1, 3, 1]])
@pytest.mark.parametrize("again", [None, 0.0, 0.3])
def test_chances_sum_to_one_and_those_of_the_history_to_what_they_share(
    history: list[int], again: float | None
) -> None:
    line = np.array([1.0, -2.0, 0.5, 3.0, -np.inf], dtype=np.float32)
    own = np.array(history, dtype=np.int64)
    chances = np.exp(apart(line, own, again))
    if again is None or not history:
        shared = np.exp(line) / np.exp(line).sum() * (1 - (again or 0))
        assert chances == pytest.approx(shared, abs=1e-6)
    else:
        assert chances.sum() == pytest.approx(1, abs=1e-6)
        assert chances[np.unique(own)].sum() == pytest.approx(again, abs=1e-6)
    assert line.tolist()[:4] == [1.0, -2.0, 0.5, 3.0]
