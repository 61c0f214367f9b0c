"""Places and what is made of them."""

import numpy as np
import pytest

from zhumo.metrics.retrieval import place_of, recall, reciprocal_rank, right_documents


def test_place_counts_from_one_and_ties_win_nothing() -> None:
    scores = np.array([0.2, 0.9, 0.5, 0.5])
    assert [place_of(scores, [own]) for own in range(4)] == [4, 1, 3, 3]


def test_other_right_documents_do_not_stand_in_the_way() -> None:
    scores = np.array([0.2, 0.9, 0.5, 0.5, 0.9])
    assert place_of(scores, [0, 2]) == 4  # behind both of .9, and the stranger of .5 comes first
    assert place_of(scores, [0, 1]) == 2
    assert place_of(scores, [1, 4]) == 1


def test_rows_that_ask_the_same_share_their_right_documents() -> None:
    documents, right = right_documents(["a", "b", "a", "a", "c"], [["x"], ["y"], ["z"], ["x"], ["x"]])
    assert documents == ["x", "y", "z"]
    assert right == [[0, 2], [1], [0, 2], [0, 2], [0]]


def test_measures_of_places() -> None:
    places = [1, 2, 10, 11]
    assert recall(places, 1).value == 0.25
    assert recall(places, 5).value == 0.5
    assert reciprocal_rank(places).value == pytest.approx((1 + 1 / 2 + 1 / 10) / 4)
    assert (recall(places, 5).name, reciprocal_rank(places).name) == ("recall@5", "mrr@10")
