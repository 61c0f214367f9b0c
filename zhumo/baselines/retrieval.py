"""The rival of an embedding: BM25 (Robertson & Zaragoza 2009), which matches words and knows no meaning."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from scipy.sparse import csr_array
from sklearn.feature_extraction.text import CountVectorizer

from zhumo.metrics.retrieval import candidates, place_of, right_answers, right_documents

Row = Mapping[str, Any]
Answer = dict[str, Any]

_RUNS = re.compile(r"[\u3400-\u9fff]+|[^\W_\u3400-\u9fff]+")


def terms(text: str) -> list[str]:
    """Words in lower case; of Chinese, which has no blanks between words, every character and every pair of two."""
    found = []
    for run in _RUNS.findall(text.lower()):
        if "\u3400" <= run[0] <= "\u9fff":
            found += [*run, *(run[at : at + 2] for at in range(len(run) - 1))]
        else:
            found.append(run)
    return found


def _counted(text: str) -> list[str]:
    """The terms of a text; what has none is all alike."""
    return terms(text) or [""]


class Bm25:
    """An index of documents. `k1` bounds what repeating a term gains, `b` is how much long documents pay."""

    def __init__(self, documents: Sequence[str], k1: float = 1.2, b: float = 0.75) -> None:
        self.vectorizer = CountVectorizer(analyzer=_counted)
        counts = csr_array(self.vectorizer.fit_transform(documents), dtype=np.float64)
        lengths = counts.sum(axis=1)
        found = np.bincount(counts.indices, minlength=counts.shape[1])
        self.idf = idf = np.log1p((len(documents) - found + 0.5) / (found + 0.5))
        self.unknown = float(np.log1p((len(documents) + 0.5) / 0.5))
        norm = k1 * (1 - b + b * lengths / lengths.mean())
        rows = np.repeat(np.arange(len(documents)), np.diff(counts.indptr))
        counts.data *= idf[counts.indices] * (k1 + 1) / (counts.data + norm[rows])
        self.weights = counts.T.tocsr()  # (terms, documents)

    def weight(self, term: str) -> float:
        """How telling a term is: the more, the fewer documents hold it."""
        place = self.vectorizer.vocabulary_.get(term)
        return self.unknown if place is None else float(self.idf[place])

    def scores(self, queries: Sequence[str]) -> np.ndarray:
        """How well each document fits each query, (queries, documents)."""
        asked = csr_array(self.vectorizer.transform(queries), dtype=np.float64)
        scores: np.ndarray = (asked @ self.weights).toarray()
        return scores


def bm25(_task: object, _train: Sequence[Row], test: Sequence[Row]) -> list[Answer]:
    """The place each text's own match takes among all matches of the test rows: {"place": 1} is found first."""
    right_of = [right_answers(row) for row in test]
    matched = [index for index, own in enumerate(right_of) if own]
    answers: list[Answer] = [{} for _ in test]
    if not matched:
        return answers
    texts = [test[index]["text"] for index in matched]
    documents, right = right_documents(texts, [right_of[index] for index in matched])
    index = Bm25(documents)
    for number, text, own in zip(matched, texts, right, strict=True):
        answers[number] = {"place": place_of(index.scores([text])[0], own)}
    return answers


def bm25_among(_task: object, _train: Sequence[Row], test: Sequence[Row]) -> list[Answer]:
    """How well the words of each row's candidates fit its text: right answers, then wrong ones. Rare words count by all
    candidates of the test rows."""
    own = [candidates(row) for row in test]
    documents = {text: place for place, text in enumerate(dict.fromkeys(text for texts in own for text in texts))}
    if not documents:
        return [{"scores": []} for _ in test]
    index = Bm25(list(documents))
    return [
        {"scores": index.scores([row["text"]])[0][[documents[text] for text in texts]].tolist()}
        for row, texts in zip(test, own, strict=True)
    ]
