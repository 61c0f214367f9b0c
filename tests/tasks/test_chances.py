"""Where an item stands in a line of scores, and how lines are blended."""

import numpy as np

from zhumo.tasks.chances import blended, standing


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
