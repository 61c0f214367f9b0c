"""Rivals of a text classifier that cost seconds: the most frequent label, and a linear model of words or characters."""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import scipy.sparse as sparse
from scipy.special import expit, softmax
from sklearn.feature_extraction.text import HashingVectorizer
from sklearn.linear_model import LogisticRegression

Row = Mapping[str, Any]
Answer = dict[str, Any]

CHINESE = re.compile(r"[\u3400-\u9fff]")
HASHES = 2**20
MOST = 2**16  # features that are read; beyond, the commonest
SURE = 10.0  # the log-odds of what is always so
MOSTLY = 0.3  # share of Chinese characters from which a text has no blanks to find words by


def mostly_chinese(texts: Sequence[str]) -> bool:
    """Whether Chinese characters carry these texts; each says as much as a few Latin letters."""
    return sum(len(CHINESE.findall(text)) for text in texts) > MOSTLY * sum(map(len, texts))


def majority(_task: object, train: Sequence[Row], test: Sequence[Row]) -> list[Answer]:
    """The most frequent label of the training rows for everybody, with the frequencies as probabilities."""
    counts = Counter(label for row in train for label in _labels(row))
    scores = {label: count / len(train) for label, count in counts.most_common()}
    return [_say(scores, _is_multi(train)) for _ in test]


def tfidf(_task: object, train: Sequence[Row], test: Sequence[Row]) -> list[Answer]:
    """Logistic regression on TF-IDF of words and word pairs, or of 1 to 3 characters where the text is Chinese."""
    labels = sorted({label for row in train for label in _labels(row)})
    wanted = np.array([[label in _labels(row) for label in labels] for row in train])
    multi = _is_multi(train)
    logits = Linear.fit([row["text"] for row in train], wanted, multi).logits([row["text"] for row in test])
    scores = expit(logits) if multi else softmax(logits, axis=1)
    return [_say(dict(zip(labels, map(float, row), strict=True)), multi) for row in scores]


@dataclass(frozen=True)
class Linear:
    """A linear model of TF-IDF features, as plain arrays.

    buckets: (features,) the hashes of words or characters that are read, rising. rarity: (features,) what each counts.
    weights: (labels, features). bias: (labels,).
    """

    chinese: bool
    buckets: np.ndarray
    rarity: np.ndarray
    weights: np.ndarray
    bias: np.ndarray

    @classmethod
    def fit(cls, texts: Sequence[str], wanted: np.ndarray, multi: bool) -> "Linear":
        """Learn from texts. wanted: (texts, labels) bool; exactly one label a text unless `multi`."""
        chinese = mostly_chinese(texts)
        counts = _counts(texts, chinese)
        have = np.bincount(counts.indices, minlength=HASHES)
        least = max(2 if chinese else 1, np.partition(have, -MOST)[-MOST])
        buckets = np.flatnonzero(have >= least)
        rarity = np.log((1 + len(texts)) / (1 + have[buckets])) + 1
        fresh = cls(chinese, buckets, rarity.astype(np.float32), np.zeros((0, 0)), np.zeros(0))
        features = fresh._features(texts)
        weights, bias = _each(features, wanted) if multi else _one_of(features, wanted)
        return replace(fresh, weights=weights.astype(np.float32), bias=bias.astype(np.float32))

    def logits(self, texts: Sequence[str]) -> np.ndarray:
        """What speaks for each label, (texts, labels) float32: to go through a softmax, or each through a sigmoid."""
        said: np.ndarray = self._features(texts) @ self.weights.T + self.bias
        return said

    def _features(self, texts: Sequence[str]) -> sparse.csr_array:
        counts = sparse.csr_array(_counts(texts, self.chinese)[:, self.buckets])
        counts.data = (1 + np.log(counts.data)) * self.rarity[counts.indices]
        lengths = np.sqrt(np.asarray(counts.multiply(counts).sum(axis=1)))
        counts.data = counts.data / np.repeat(lengths, np.diff(counts.indptr))
        return counts


def _one_of(features: sparse.csr_array, wanted: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """One regression over all labels; one that no text carries is never said."""
    weights, bias = np.zeros((wanted.shape[1], features.shape[1])), np.full(wanted.shape[1], -SURE)
    known = np.flatnonzero(wanted.any(axis=0))
    bias[known] = SURE
    if len(known) > 1:
        model = LogisticRegression(C=10.0, max_iter=1_000).fit(features, wanted.argmax(axis=1))
        two = len(known) == 2  # of two labels it is the second that is scored
        weights[known] = np.concatenate([-model.coef_, model.coef_]) / 2 if two else model.coef_
        bias[known] = np.concatenate([-model.intercept_, model.intercept_]) / 2 if two else model.intercept_
    return weights, bias


def _each(features: sparse.csr_array, wanted: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A regression a label; what is said of all texts is always said."""
    weights, bias = np.zeros((wanted.shape[1], features.shape[1])), np.where(wanted.any(axis=0), SURE, -SURE)
    for label in np.flatnonzero(wanted.any(axis=0) & ~wanted.all(axis=0)):
        model = LogisticRegression(C=10.0, max_iter=1_000).fit(features, wanted[:, label])
        weights[label], bias[label] = model.coef_[0], model.intercept_[0]
    return weights, bias


def _counts(texts: Sequence[str], chinese: bool) -> sparse.csr_array:
    form = (
        {"analyzer": "char", "ngram_range": (1, 3)} if chinese else {"token_pattern": r"\b\w+\b", "ngram_range": (1, 2)}
    )
    vectorizer = HashingVectorizer(n_features=HASHES, alternate_sign=False, norm=None, dtype=np.float32, **form)
    return sparse.csr_array(vectorizer.transform(texts))


def _say(scores: Mapping[str, float], multi: bool) -> Answer:
    ranked = dict(sorted(scores.items(), key=lambda entry: -entry[1]))
    if multi:
        return {"labels": [label for label, score in ranked.items() if score >= 0.5], "scores": ranked}
    return {"label": next(iter(ranked)), "scores": ranked}


def _labels(row: Row) -> list[str]:
    label = row["label"]
    return label if isinstance(label, list) else [label]


def _is_multi(rows: Sequence[Row]) -> bool:
    return any(isinstance(row["label"], list) for row in rows)
