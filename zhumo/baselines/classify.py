"""Rivals of a text classifier that cost seconds: the most frequent label, and a linear model of words or characters."""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.multiclass import OneVsRestClassifier

Row = Mapping[str, Any]
Answer = dict[str, Any]

CHINESE = re.compile(r"[\u3400-\u9fff]")
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
    texts = [row["text"] for row in train]
    vectorizer = _vectorizer(mostly_chinese(texts))
    features = vectorizer.fit_transform(texts)
    labels = sorted({label for row in train for label in _labels(row)})
    linear = LogisticRegression(C=10.0, max_iter=1_000)
    if _is_multi(train):
        wanted = np.array([[label in _labels(row) for label in labels] for row in train], dtype=int)
        model = OneVsRestClassifier(linear).fit(features, wanted)
    else:
        model = linear.fit(features, [row["label"] for row in train])
    scores = model.predict_proba(vectorizer.transform([row["text"] for row in test]))
    return [_say(dict(zip(labels, map(float, row), strict=True)), _is_multi(train)) for row in scores]


def _vectorizer(chinese: bool) -> TfidfVectorizer:
    if chinese:
        return TfidfVectorizer(analyzer="char", ngram_range=(1, 3), min_df=2, sublinear_tf=True)
    return TfidfVectorizer(token_pattern=r"\b\w+\b", ngram_range=(1, 2), sublinear_tf=True)


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
