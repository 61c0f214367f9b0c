"""What a shop does with scores: filters, boosts and diversity, by hand on a small catalogue and by law on any."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from zhumo.errors import DataError
from zhumo.tasks.shelf import Shelf, best, diverse

COLUMNS = {
    "category": ["茶", ["茶", "gift"], "mug", None, "mug"],
    "price": [9.5, 30, None, 12.0, 4],
    "stock": [True, False, True, True, True],
}
SCORES = np.log(np.array([0.4, 0.3, 0.2, 0.06, 0.04], dtype=np.float32))
NOBODY = np.array([], dtype=np.int64)


@pytest.fixture(scope="module")
def shelf() -> Shelf:
    return Shelf(COLUMNS, 5)


def shown(mask: np.ndarray) -> list[int]:
    return np.flatnonzero(mask).tolist()


@pytest.mark.parametrize(
    ("only", "left"),
    [
        ({}, [0, 1, 2, 3, 4]),
        ({"category": ["茶"]}, [0, 1]),
        ({"category": ["gift", "mug"]}, [1, 2, 4]),
        ({"category": []}, []),
        ({"category": ["nobody sells it"]}, []),
        ({"price": [None, 12]}, [0, 3, 4]),
        ({"price": [9.5, 12]}, [0, 3]),
        ({"price": [None, None]}, [0, 1, 3, 4]),
        ({"stock": [True], "price": [5, None]}, [0, 3]),
        ({"colour": ["red"]}, []),
    ],
)
def test_a_filter_leaves_what_is_as_it_says(shelf: Shelf, only: dict[str, list[object]], left: list[int]) -> None:
    assert shown(shelf.allowed(only, NOBODY)) == left


def test_what_is_excluded_is_not_shown(shelf: Shelf) -> None:
    assert shown(shelf.allowed({"category": ["mug"]}, np.array([2, 0]))) == [4]


def test_a_boost_multiplies_the_odds_against_every_other_item(shelf: Shelf) -> None:
    before, after = np.exp(SCORES), np.exp(shelf.boosted(SCORES, {"category": {"茶": 2.0, "gift": 3.0, "mug": 0.5}}))
    assert after / after[3] == pytest.approx(before / before[3] * [2, 6, 0.5, 1, 0.5], rel=1e-5)
    assert SCORES[0] == np.float32(np.log(np.float32(0.4)))  # what was given stays as it is
    assert shelf.boosted(SCORES, {"nothing": {"x": 2.0}}) == pytest.approx(SCORES)


@pytest.mark.parametrize(
    ("only", "boost", "said"),
    [
        ({"categories": ["茶"]}, {}, "Nearest: category"),
        ({"category": ["gifts"]}, {}, "Nearest: gift"),
        ({}, {"category": {"mugg": 2.0}}, "Nearest: mug"),
        ({}, {"prise": {"1": 2.0}}, "Nearest: price"),
        ({}, {"price": {"4": 2.0}}, "only the values of a column of words"),
        ({"price": [5]}, {}, "lowest, highest"),
        ({"price": [9, 5]}, {}, "lowest, highest"),
        ({"price": ["cheap", None]}, {}, "lowest, highest"),
        ({"price": [True, None]}, {}, "lowest, highest"),
    ],
)
def test_what_is_not_there_is_told_with_the_nearest(
    shelf: Shelf, only: dict[str, list[object]], boost: dict[str, dict[str, float]], said: str
) -> None:
    with pytest.raises(DataError, match=said):
        shelf.check(only, boost)


def test_what_is_there_passes(shelf: Shelf) -> None:
    shelf.check({"category": ["茶"], "price": [None, 3], "stock": [False]}, {"category": {"gift": 2.0}})


def test_the_best_are_those_of_a_stable_sort() -> None:
    assert best(np.array([1.0, 3.0, -np.inf, 3.0, 2.0]), 3).tolist() == [1, 3, 4]
    assert best(np.array([0.0, 0.0, 0.0]), 2).tolist() == [0, 1]
    assert best(np.array([-np.inf, 5.0]), 9).tolist() == [1]
    assert best(np.array([-np.inf]), 3).tolist() == []


@pytest.mark.parametrize("size", [3_000, 4_096, 6_001])
def test_the_best_of_a_large_catalogue_are_those_of_a_stable_sort(size: int) -> None:
    generator = np.random.default_rng(size)
    scores = generator.normal(size=size).round(1).astype(np.float32)  # many are equal
    scores[generator.random(size) < 0.3] = -np.inf
    scores[-1] = scores[5] = 9.0
    wanted = np.argsort(-scores, kind="stable")
    assert best(scores, 1).tolist() == [5] and best(scores, 3).tolist() == wanted[:3].tolist()
    assert best(np.full(size, -np.inf), 3).tolist() == []


def test_diversity_by_hand() -> None:
    """Three teas and a mug: half diverse, the mug (worth .2, unlike all) overtakes the teas (worth 1, .9, .8)."""
    like = np.array([[1, 0.9, 0.9, 0], [0.9, 1, 0.9, 0], [0.9, 0.9, 1, 0], [0, 0, 0, 1]])
    scores = np.array([1.0, 0.9, 0.8, 0.2])
    # worth above the least: 1, .875, .75, 0. Second: .5 * .875 - .5 * .9 < 0 for the teas, 0 for the mug.
    assert diverse(scores, like.__getitem__, 0.5, 4).tolist() == [0, 3, 1, 2]
    assert diverse(scores, like.__getitem__, 0.1, 4).tolist() == [0, 1, 2, 3]
    assert diverse(scores, like.__getitem__, 0.5, 2).tolist() == [0, 3]


lines = st.lists(st.floats(-20, 0, width=32), min_size=1, max_size=30)


@given(lines, st.integers(1, 40))
def test_best_is_sorted_and_whole(values: list[float], count: int) -> None:
    order = best(np.array(values), count)
    assert order.tolist() == sorted(range(len(values)), key=lambda place: (-values[place], place))[:count]


@given(lines, st.integers(1, 40), st.floats(0, 1), st.integers(0, 5))
def test_diverse_shows_each_once_and_begins_with_the_best(values: list[float], k: int, share: float, seed: int) -> None:
    scores = np.sort(np.array(values))[::-1]
    points = np.random.default_rng(seed).normal(size=(len(scores), 4))
    points /= np.linalg.norm(points, axis=1, keepdims=True)
    order = diverse(scores, lambda place: points @ points[place], share, k)
    assert order[0] == 0 and len(set(order.tolist())) == len(order) == min(k, len(scores))
    assert diverse(scores, lambda place: points @ points[place], 0.0, k).tolist() == list(range(len(order)))


@given(st.floats(0.1, 10), st.integers(0, 4))
def test_a_boost_of_all_and_of_one_is_no_boost(factor: float, place: int) -> None:
    shelf = Shelf({"all": ["same"] * 5}, 5)
    after = shelf.boosted(SCORES, {"all": {"same": factor}})
    assert after - after[place] == pytest.approx(SCORES - SCORES[place], abs=1e-5)


def test_a_column_is_turned_into_numbers_once() -> None:
    size = 200_000
    cells = [f"c{place % 50}" for place in range(size)]
    shelf = Shelf({"category": cells}, size)
    coded = shelf.column("category")
    cells.clear()  # what is asked now can only come from the numbers
    assert shelf.column("category") is coded
    assert shelf.allowed({"category": ["c7", "c9"]}, NOBODY).sum() == size * 2 // 50
