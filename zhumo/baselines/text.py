"""Rivals of a language model that cost seconds: n-gram counts, and the reply to the nearest known prompt."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from sklearn.feature_extraction.text import TfidfVectorizer

from zhumo.metrics.text import words

ORDER = 5
NEAREST_CHUNK = 256  # prompts compared at once, to bound memory

Ids = Sequence[int] | np.ndarray
Pair = tuple[Ids, Ids]
"""Ids, and for each position the id that follows; a negative one is not asked."""


@dataclass(frozen=True)
class _Level:
    """n-grams of one order: each a context and what followed it.

    contexts: sorted keys (shorter context, one older id); grams: sorted keys (context, next id).
    discounted: counts after discount, one a gram; total, left: count and probability left for shorter contexts, one a
    context.
    """

    contexts: np.ndarray
    grams: np.ndarray
    discounted: np.ndarray
    total: np.ndarray
    left: np.ndarray


class NGram:
    """An n-gram model of ids with interpolated modified Kneser-Ney smoothing (Chen and Goodman 1998).

    It reads the same examples as the Transformer, so their likelihoods compare: same ids, same targets.
    """

    def __init__(self, pairs: Iterable[Pair], vocabulary: int, order: int = ORDER) -> None:
        self.vocabulary = vocabulary
        self.order = order
        older, targets, _ = self._positions(pairs)
        contexts = [np.zeros(len(targets), dtype=np.int64)]  # for each position, its context by length
        keys = [np.zeros(1, dtype=np.int64)]
        for column in older.T:
            known, numbers = np.unique(contexts[-1] * (vocabulary + 1) + column, return_inverse=True)
            keys.append(known)
            contexts.append(numbers)
        # The longest n-grams count how often they stand there, a shorter one after how many different ids.
        grams, counts = np.unique(contexts[-1] * vocabulary + targets, return_counts=True)
        self.levels = [_level(keys[-1], grams, counts, vocabulary)]
        for length in range(order - 2, -1, -1):
            shorter = keys[length + 1][grams // vocabulary] // (vocabulary + 1)
            grams, counts = np.unique(shorter * vocabulary + grams % vocabulary, return_counts=True)
            self.levels.insert(0, _level(keys[length], grams, counts, vocabulary))

    def nll(self, pairs: Iterable[Pair]) -> np.ndarray:
        """Nats and number of the targets of each pair, (pairs, 2)."""
        older, targets, owners = self._positions(pairs := list(pairs))
        chance = np.full(len(targets), 1 / self.vocabulary)
        context = np.zeros(len(targets), dtype=np.int64)
        for length, level in enumerate(self.levels):
            if length:
                key = context * (self.vocabulary + 1) + older[:, length - 1]
                context = np.where(context < 0, -1, _find(level.contexts, key))
            gram = np.where(context < 0, -1, _find(level.grams, context * self.vocabulary + targets))
            own = np.where(gram < 0, 0, level.discounted[gram] / level.total[context])
            chance = np.where(context < 0, chance, own + level.left[context] * chance)
        nats = np.bincount(owners, -np.log(chance), minlength=len(pairs))
        return np.column_stack((nats, np.bincount(owners, minlength=len(pairs))))

    def _positions(self, pairs: Iterable[Pair]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """All asked positions: the ids before each, newest first, (positions, order - 1); its target; its pair."""
        before = np.full(self.order - 1, self.vocabulary)  # an id of its own stands before the beginning
        older = [np.zeros((0, self.order - 1), dtype=np.int64)]
        targets, owners = [np.zeros(0, dtype=np.int64)], [np.zeros(0, dtype=np.int64)]
        for index, (ids, wanted) in enumerate(pairs):
            row = np.concatenate((before, np.asarray(ids, dtype=np.int64)))
            asked = np.flatnonzero(np.asarray(wanted) >= 0)
            older.append(np.lib.stride_tricks.sliding_window_view(row, self.order - 1)[asked + 1, ::-1])
            targets.append(np.asarray(wanted, dtype=np.int64)[asked])
            owners.append(np.full(len(asked), index))
        return np.concatenate(older), np.concatenate(targets), np.concatenate(owners)


def _level(contexts: np.ndarray, grams: np.ndarray, counts: np.ndarray, vocabulary: int) -> _Level:
    discount = _discounts(counts)[np.minimum(counts, 3)]
    owner = grams // vocabulary
    total = np.bincount(owner, counts, minlength=len(contexts))
    left = np.bincount(owner, discount, minlength=len(contexts)) / total
    return _Level(contexts, grams, counts - discount, total, left)


def _discounts(counts: np.ndarray) -> np.ndarray:
    """What is taken from a count of 0, 1, 2, and 3 or more."""
    times = np.bincount(np.minimum(counts, 5), minlength=6).astype(float)
    times[1:] = np.maximum(times[1:], 1)  # a tiny text may lack one of them
    share = times[1] / (times[1] + 2 * times[2])
    ideal = [i - (i + 1) * share * times[i + 1] / times[i] for i in (1, 2, 3)]
    return np.array([0.0, *np.clip(ideal, 0.1, (0.95, 1.9, 2.8))])


def _find(keys: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Place of each wanted key among sorted ones, -1 where it is not there."""
    place = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
    return np.where(keys[place] == wanted, place, -1)


def nearest(known: Sequence[str], asked: Sequence[str]) -> list[int]:
    """For each asked text the most similar known one, by cosine of TF-IDF of words and pairs; the first on a tie."""
    vectorizer = TfidfVectorizer(analyzer=_terms, sublinear_tf=True)
    table = vectorizer.fit_transform(known).T.tocsr()
    found: list[int] = []
    for start in range(0, len(asked), NEAREST_CHUNK):
        scores = vectorizer.transform(asked[start : start + NEAREST_CHUNK]) @ table
        found += scores.toarray().argmax(axis=1).tolist()
    return found


def _terms(text: str) -> list[str]:
    single = words(text) or [text]
    return single + [f"{left} {right}" for left, right in pairwise(single)]
