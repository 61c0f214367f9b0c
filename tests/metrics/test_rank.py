"""Ranking measures against scikit-learn and numbers by hand."""

import numpy as np
import pytest
import scipy.sparse as sparse
from sklearn.metrics import ndcg_score

from zhumo.metrics import rank

LISTS = [["a", "b", "c"], ["b", "c", "d"], ["a", "b"], []]
WANTED = [["a"], ["d"], ["d"], ["a"]]
BASKETS = [["c", "x", "a"], ["b"], ["d", "e"], ["a"]]


def test_places_count_from_zero_and_nowhere_is_far() -> None:
    assert rank.places(LISTS, WANTED).tolist() == [[0], [2], [rank.NOWHERE], [rank.NOWHERE]]
    where = rank.places(LISTS, BASKETS)
    assert where[0].tolist() == [2, rank.NOWHERE, 0]
    assert np.isnan(where).sum(axis=1).tolist() == [0, 2, 1, 2]


def test_by_hand() -> None:
    where = rank.places(LISTS, WANTED)
    assert rank.hit(where, 2).value == 0.25
    assert rank.hit(where, 3).value == 0.5
    assert rank.mrr(where, 10).value == pytest.approx((1 + 1 / 3) / 4)
    assert rank.ndcg(where, 10).value == pytest.approx((1 + 1 / np.log2(4)) / 4)
    assert rank.ndcg(where, 2).value == 0.25
    assert (rank.recall(where, 3).values == rank.hit(where, 3).values).all()


def test_several_right_items_by_hand() -> None:
    where = rank.places(LISTS, BASKETS)
    assert rank.hit(where, 10).values.tolist() == [1, 1, 0, 0]
    assert rank.recall(where, 10).values.tolist() == pytest.approx([2 / 3, 1, 0, 0])
    assert rank.recall(where, 1).values.tolist() == pytest.approx([1 / 3, 1, 0, 0])
    assert rank.mrr(where, 10).values.tolist() == [1, 1, 0, 0]
    assert rank.ndcg(where, 1).values.tolist() == [1, 1, 0, 0]
    best = 1 + 1 / np.log2(3) + 1 / np.log2(4)
    assert rank.ndcg(where, 10).values.tolist() == pytest.approx([(1 + 1 / np.log2(4)) / best, 1, 0, 0])


@pytest.mark.parametrize("k", [1, 5, 10])
def test_ndcg_is_that_of_scikit_learn(k: int) -> None:
    generator = np.random.default_rng(k)
    scores = generator.normal(size=(50, 30))
    right = generator.random((50, 30)) < generator.choice([0.01, 0.1, 0.5], size=(50, 1))
    right[:, 7] |= ~right.any(axis=1)
    lists = [[str(item) for item in line[:10]] for line in np.argsort(-scores, axis=1)]
    where = rank.places(lists, [[str(item) for item in np.flatnonzero(line)] for line in right])
    assert rank.ndcg(where, k).value == pytest.approx(ndcg_score(right, scores, k=k))


def test_coverage_is_the_share_of_the_catalogue_and_lies_in_its_interval() -> None:
    measure = rank.coverage(LISTS, 8, 2)
    assert measure.value == pytest.approx(3 / 8)  # a, b and c; d stands third
    low, high = measure.interval()
    assert low <= measure.value <= high


def test_novelty_is_the_surprise_in_bits() -> None:
    measure = rank.novelty([["a", "b"], ["b", "?"], ["?"]], {"a": 1.0, "b": 0.25}, 10)
    assert measure.values.tolist() == [1.0, 2.0, 0.0]


def test_what_is_said_of_lists_begins_with_what_decides() -> None:
    def names(wanted: list[list[str]], most: int) -> list[str]:
        return [measure.name for measure in rank.found(LISTS, wanted, most)]

    assert names(WANTED, 10) == ["ndcg@10", "ndcg@5", "hit@10", "hit@5", "mrr@10", "mrr@5"]
    assert names(BASKETS, 20)[:3] == ["ndcg@10", "ndcg@5", "ndcg@20"] and names(BASKETS, 20)[-1] == "recall@20"


def test_bias_is_how_much_more_popular_the_shown_are_than_the_taken() -> None:
    popularity = {"a": 0.5, "b": 0.25, "c": 0.0}
    measure = rank.bias([["a", "b", "c"], ["c"], ["a"]], [["b"], ["b", "?"], []], popularity, 2)
    assert measure.value == pytest.approx(np.mean([0.375, 0.0]) / np.mean([0.25, 0.25]))
    low, high = measure.interval()
    assert low <= measure.value <= high and not measure.higher_is_better


def test_diversity_is_the_mean_distance_of_pairs() -> None:
    cells = [["x"], ["x", "y"], None, ["y"]]
    vectors = rank.marked(cells).toarray()
    lists = [["0", "1", "2", "3"], ["0", "3"], ["1"], ["0", "new"]]
    found = rank.diversity(lists, {"0": 0, "1": 1, "2": 2, "3": 3, "new": 9}, rank.marked(cells), 3, "category")
    assert found.name == "diversity_category@3"
    cosine = vectors[0] @ vectors[1] / np.sqrt(2)
    assert found.values.tolist() == pytest.approx([1 - cosine / 3, 1, 0, 1])


def test_diversity_takes_any_lines_and_many_lists() -> None:
    generator = np.random.default_rng(0)
    lines = sparse.random_array((40, 30), density=0.3, rng=generator, format="csr")
    unit = lines.toarray() / np.linalg.norm(lines.toarray(), axis=1, keepdims=True).clip(1e-9)
    picks = [generator.permutation(40)[:6] for _ in range(rank.LISTS_AT_ONCE + 9)]
    found = rank.diversity(
        [[str(item) for item in pick] for pick in picks], {str(item): item for item in range(40)}, lines, 6, "company"
    )
    some = unit[picks[-1]] @ unit[picks[-1]].T
    assert found.values[-1] == pytest.approx(1 - (some.sum() - some.trace()) / 30)
