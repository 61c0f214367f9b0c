"""The rival of a tagger: a conditional random field of words or characters and their neighbours (Lafferty et al. 2001).

Exact gradient, L-BFGS, a square penalty: what CRFsuite does, in numpy. It knows nothing but the training rows.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import scipy.sparse as sparse
from scipy.optimize import minimize
from sklearn.feature_extraction.text import HashingVectorizer

from zhumo.metrics.spans import spans_of, to_bio, units

Row = Mapping[str, Any]

PENALTY = 0.1
STEPS = 100
HASHES = 2**22
MOST = 2**17  # looks that are read; beyond, the commonest


@dataclass(frozen=True)
class Crf:
    """A conditional random field as plain arrays.

    buckets: (looks,) hashes of what is read of a unit, rising. weights: (looks, labels), what each says of a label.
    moves: (labels, labels), what a label says of the next; a text begins as if label 0 stood before it.
    """

    buckets: np.ndarray
    weights: np.ndarray
    moves: np.ndarray

    @classmethod
    def fit(cls, rows: Sequence[Row], labels: Mapping[str, int]) -> "Crf":
        """Learn from texts and their spans. labels: the place of each label of a unit."""
        cuts = [units(row["text"]) for row in rows]
        truth = [
            np.array([labels[label] for label in to_bio(spans_of(row), cut)], dtype=np.int64)
            for row, cut in zip(rows, cuts, strict=True)
        ]
        seen = _read([look for row, cut in zip(rows, cuts, strict=True) for look in looks(row["text"], cut)])
        have = np.bincount(seen.indices, minlength=HASHES)
        buckets = np.flatnonzero(have >= max(2, np.partition(have, -MOST)[-MOST]))
        weights, moves = learned(sparse.csr_array(seen[:, buckets]), truth, len(labels))
        return cls(buckets, weights.astype(np.float32), moves.astype(np.float32))

    def scores(self, text: str) -> np.ndarray:
        """What speaks for each label of each unit, (units, labels), before what the neighbours say."""
        cut = units(text)
        if not cut:
            return np.zeros((0, len(self.moves)))
        found: np.ndarray = _read(looks(text, cut))[:, self.buckets] @ self.weights
        return found


def _read(all_looks: Sequence[Sequence[str]]) -> sparse.csr_array:
    """Which looks each unit has, hashed, (units, HASHES)."""
    form = {"analyzer": list, "binary": True, "norm": None, "alternate_sign": False, "dtype": np.float64}
    return sparse.csr_array(HashingVectorizer(n_features=HASHES, **form).transform(all_looks))


def looks(text: str, cut: Sequence[tuple[int, int]]) -> list[list[str]]:
    """What a field sees of each unit: itself and two neighbours on each side, in pairs too, and how it is written."""
    words = ["<<", "<", *(text[start:end] for start, end in cut), ">", ">>"]
    found = []
    for place in range(2, len(words) - 2):
        word, around = words[place], words[place - 2 : place + 3]
        looks = ["always", *(f"{number}={one}" for number, one in enumerate(around))]
        looks += [f"{number}+={one}|{two}" for number, (one, two) in enumerate(pairwise(around))]
        looks += [f"around={around[1]}|{around[3]}", f"three={around[1]}|{word}|{around[3]}"]
        looks += [f"digit={word.isdigit()}", f"latin={word.isascii()}", f"title={word.istitle()}"]
        if len(word) > 1:
            looks += [f"low={word.lower()}", f"head={word[:3]}", f"tail={word[-3:]}", f"upper={word.isupper()}"]
        found.append(looks)
    return found


def learned(features: sparse.csr_array, truth: Sequence[np.ndarray], labels: int) -> tuple[np.ndarray, np.ndarray]:
    """Weights and moves that make the truth likeliest. features: (units of all texts, looks); truth: labels a text."""
    width = features.shape[1]
    texts, right = Texts([len(one) for one in truth]), np.concatenate(truth)
    before = np.concatenate([np.append(0, one[:-1])[: len(one)] for one in truth])
    wanted = np.eye(labels)[right]
    pairs = np.zeros((labels, labels))
    np.add.at(pairs, (before, right), 1)
    turned = sparse.csr_array(features.T)

    def loss(numbers: np.ndarray) -> tuple[float, np.ndarray]:
        weights, moves = numbers[: width * labels].reshape(width, labels), numbers[width * labels :]
        scores = features @ weights
        total, chances, moved = texts.expected(scores, moves.reshape(labels, labels))
        value = total - (scores * wanted).sum() - (moves * pairs.ravel()).sum() + PENALTY * (numbers @ numbers)
        slope = np.concatenate([(turned @ (chances - wanted)).ravel(), (moved - pairs).ravel()])
        return float(value), slope + 2 * PENALTY * numbers

    start = np.zeros(width * labels + labels * labels)
    found = minimize(loss, start, jac=True, method="L-BFGS-B", options={"maxiter": STEPS, "maxcor": 6}).x
    return found[: width * labels].reshape(width, labels), found[width * labels :].reshape(labels, labels)


class Texts:
    """Texts of several lengths side by side, so that one step goes through all of them at once."""

    def __init__(self, lengths: Sequence[int]) -> None:
        sizes = np.array(lengths)
        begins = np.cumsum(sizes) - sizes
        order = np.argsort(-sizes, kind="stable")
        self.steps = [begins[order[sizes[order] > time]] + time for time in range(int(sizes.max(initial=0)))]

    def expected(self, scores: np.ndarray, moves: np.ndarray) -> tuple[float, np.ndarray, np.ndarray]:
        """Log of the sum over all series of labels; each unit's chance of each label; how often which follows which.

        scores: (units, labels). Forward and backward (Rabiner 1989), each step scaled to one.
        """
        top = scores.max(axis=1, keepdims=True)
        here, follow = np.exp(scores - top), np.exp(moves)
        forward, backward, scale = np.empty_like(here), np.ones_like(here), np.empty((len(here), 1))
        for time, rows in enumerate(self.steps):
            came = forward[self.steps[time - 1][: len(rows)]] @ follow if time else follow[:1]
            now = came * here[rows]
            scale[rows] = now.sum(axis=1, keepdims=True)
            forward[rows] = now / scale[rows]
        moved = np.zeros_like(moves)
        for time in range(len(self.steps) - 1, -1, -1):
            rows = self.steps[time]
            ahead = here[rows] * backward[rows] / scale[rows]
            if time:
                earlier = self.steps[time - 1][: len(rows)]
                backward[earlier] = ahead @ follow.T
                moved += forward[earlier].T @ ahead
            else:
                moved[0] += ahead.sum(axis=0)
        return float(np.log(scale).sum() + top.sum()), forward * backward, moved * follow


def likeliest(scores: np.ndarray, moves: np.ndarray) -> np.ndarray:
    """The best series of labels (Viterbi 1967).

    scores: (time, labels). moves: (labels, labels), added to each step from one to the next; label 0 stands before all.
    """
    best = np.append(0.0, np.full(len(moves) - 1, -np.inf))
    came = np.zeros(scores.shape, dtype=np.int64)
    for time in range(len(scores)):
        ways = best[:, None] + moves
        came[time] = ways.argmax(axis=0)
        best = ways.max(axis=0) + scores[time]
    path = [int(best.argmax())]
    for time in range(len(scores) - 1, 0, -1):
        path.append(int(came[time, path[-1]]))
    return np.array(path[::-1])[: len(scores)]
