"""The conditional random field: its sums are those of all series written out, its slope that of its loss."""

from itertools import pairwise, product

import numpy as np
import scipy.sparse as sparse

from zhumo.baselines import tag
from zhumo.baselines.tag import Crf, Texts, learned, likeliest

SCORES = np.random.default_rng(0).normal(size=(9, 3))
MOVES = np.random.default_rng(1).normal(size=(3, 3))
LENGTHS = (4, 0, 3, 2)


def _value(series: tuple[int, ...], scores: np.ndarray) -> float:
    inner = sum(scores[time, label] for time, label in enumerate(series))
    return float(inner + sum(MOVES[a, b] for a, b in pairwise((0, *series))))


def test_sums_over_all_series() -> None:
    total, chances, moved = 0.0, np.zeros_like(SCORES), np.zeros_like(MOVES)
    begin = 0
    for length in LENGTHS:
        scores = SCORES[begin : begin + length]
        every = list(product(range(3), repeat=length))
        weights = np.exp([_value(series, scores) for series in every])
        total += np.log(weights.sum())
        for series, weight in zip(every, weights / weights.sum(), strict=True):
            for time, label in enumerate(series):
                chances[begin + time, label] += weight
            for a, b in pairwise((0, *series)):
                moved[a, b] += weight
        begin += length
    found = Texts(LENGTHS).expected(SCORES, MOVES)
    assert np.isclose(found[0], total)
    assert np.allclose(found[1], chances) and np.allclose(found[2], moved)


def test_the_likeliest_series_is_the_best_of_all() -> None:
    for begin, end in ((0, 5), (4, 9), (2, 3)):
        scores = SCORES[begin:end]
        best = max(product(range(3), repeat=end - begin), key=lambda series: _value(series, scores))
        assert likeliest(scores, MOVES).tolist() == list(best)
    assert likeliest(SCORES[:0], MOVES).tolist() == []


def test_learning_ends_where_nothing_is_better() -> None:
    features = sparse.csr_array(np.eye(4)[[0, 1, 2, 3, 0, 1, 2, 2]])
    truth = [np.array([0, 1, 2, 0]), np.array([0, 1, 2, 2])]
    weights, moves = learned(features, truth, 3)
    scores = features @ weights
    found = [likeliest(part, moves).tolist() for part in (scores[:4], scores[4:])]
    assert found == [[0, 1, 2, 0], [0, 1, 2, 2]]
    _, chances, _ = Texts([4, 4]).expected(scores, moves)
    slope = features.T @ (chances - np.eye(3)[np.concatenate(truth)]) + 2 * tag.PENALTY * weights
    assert np.abs(slope).max() < 1e-2


def test_names_are_found_by_what_stands_before_them() -> None:
    people = ("张三", "李四", "王五", "赵六")
    rows = [{"text": f"我是{name}，你好", "spans": [{"start": 2, "end": 4, "label": "PER"}]} for name in people] * 3
    field = Crf.fit(rows, {"O": 0, "B-PER": 1, "I-PER": 2})
    assert likeliest(field.scores("我是钱七，你好"), field.moves).tolist() == [0, 0, 1, 2, 0, 0, 0]
    assert field.scores(" ").shape == (0, 3)
