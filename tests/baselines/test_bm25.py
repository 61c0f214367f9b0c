"""BM25 by hand on three documents, and against the measured floors of real ones."""

import gzip
import json
import math
from pathlib import Path

import pytest

from zhumo.baselines.retrieval import Bm25, bm25, terms
from zhumo.metrics.retrieval import place_of, recall, reciprocal_rank, right_documents


def test_terms_of_both_scripts() -> None:
    assert terms("The card's PIN_code, 2 times") == ["the", "card", "s", "pin", "code", "2", "times"]
    assert terms("我爱iPhone学习") == ["我", "爱", "我爱", "iphone", "学", "习", "学习"]


def test_scores_are_the_formula() -> None:
    index = Bm25(["red red dress", "blue dress", "shoe"], k1=1.2, b=0.75)
    idf = {"red": math.log(1 + 2.5 / 1.5), "dress": math.log(1 + 1.5 / 2.5)}

    def weight(term: str, count: int, length: int) -> float:
        return idf[term] * count * 2.2 / (count + 1.2 * (0.25 + 0.75 * length / 2))

    scores = index.scores(["red dress", "hat"])
    assert list(scores[0]) == pytest.approx([weight("red", 2, 3) + weight("dress", 1, 3), weight("dress", 1, 2), 0])
    assert list(scores[1]) == [0, 0, 0]  # an unknown word fits nothing


@pytest.mark.parametrize(
    ("language", "first", "five", "rank"), [("en", 0.919, 0.984, 0.948), ("zh", 0.93, 0.985, 0.955)]
)
def test_passages_are_found_as_measured(shared: Path, language: str, first: float, five: float, rank: float) -> None:
    with gzip.open(shared / "xquad" / f"{language}.jsonl.gz", "rt", encoding="utf-8") as lines:
        rows = [{"text": row["question"], "match": row["context"]} for row in map(json.loads, lines)]
    places = [answer["place"] for answer in bm25(None, [], rows)]
    assert recall(places, 1).value >= first
    assert recall(places, 5).value >= five
    assert reciprocal_rank(places).value >= rank


@pytest.mark.long
def test_medical_answers_are_found_as_measured(shared: Path) -> None:
    """The floor of medquad counts every answer to the same question as right, and so do we."""
    rows = []
    for part in ("test", "dev", "train"):
        with gzip.open(shared / "medquad" / f"{part}.jsonl.gz", "rt", encoding="utf-8") as lines:
            rows += [json.loads(line) for line in lines]
    asked = [row["question"] for row in rows]
    documents, right = right_documents(asked, [[row["answer"]] for row in rows])
    index = Bm25(documents)
    places = [place_of(index.scores([text])[0], own) for text, own in zip(asked[:1661], right[:1661], strict=True)]
    assert len(documents) == 15_811
    assert recall(places, 1).value == pytest.approx(0.2902, abs=1e-3)
    assert recall(places, 5).value == pytest.approx(0.6936, abs=1e-3)
    assert reciprocal_rank(places).value == pytest.approx(0.4567, abs=1e-3)


def test_a_row_without_a_match_finds_nothing() -> None:
    assert bm25(None, [], [{"text": "a"}, {"text": "b", "match": "b"}]) == [{}, {"place": 1}]
