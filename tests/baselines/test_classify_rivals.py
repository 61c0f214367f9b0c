"""The linear rival reaches its published floors; every rival answers in the form of the task."""

import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from zhumo.baselines.classify import majority, mostly_chinese, tfidf


def _read(path: Path) -> list[dict[str, Any]]:
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        return [{"text": row["text"], "label": str(row["label"])} for row in map(json.loads, lines)]


@pytest.mark.parametrize(
    ("name", "test", "floor"), [("banking77", "test", 0.894), ("chnsenticorp", "test_unseen", 0.915)]
)
def test_linear_reaches_its_floor(shared: Path, name: str, test: str, floor: float) -> None:
    train, rows = _read(shared / name / "train.jsonl.gz"), _read(shared / name / f"{test}.jsonl.gz")
    answers = tfidf(None, train, rows)
    right = np.mean([answer["label"] == row["label"] for answer, row in zip(answers, rows, strict=True)])
    assert right >= floor
    for answer in answers:
        assert next(iter(answer["scores"])) == answer["label"]
        assert sum(answer["scores"].values()) == pytest.approx(1)


def test_majority_says_the_most_frequent_label(shared: Path) -> None:
    train = _read(shared / "banking77" / "train.jsonl.gz")
    [answer] = majority(None, train, train[:1])
    assert answer["label"] == "card_payment_fee_charged"
    assert len(answer["scores"]) == 77
    assert sum(answer["scores"].values()) == pytest.approx(1)


def test_several_labels_are_answered_each_by_itself(shared: Path) -> None:
    with gzip.open(shared / "online-shopping-10-cats" / "dev.jsonl.gz", "rt", encoding="utf-8") as lines:
        read = [json.loads(line) for line in lines]
    rows = [{"text": row["text"], "label": [row["category"], f"sentiment {row['label']}"]} for row in read]
    train, test = rows[::2], rows[1::2]
    hits = {}
    for rival in (majority, tfidf):
        answers = rival(None, train, test)
        hits[rival] = np.mean([{*a["labels"]} == {*row["label"]} for a, row in zip(answers, test, strict=True)])
        assert set(answers[0]["scores"]) == {label for row in rows for label in row["label"]}
    assert hits[tfidf] > hits[majority] + 0.3


def test_chinese_is_seen_by_its_characters(shared: Path) -> None:
    for name, chinese in (("banking77", False), ("chnsenticorp", True)):
        assert mostly_chinese([row["text"] for row in _read(shared / name / "train.jsonl.gz")[:100]]) is chinese
    assert not mostly_chinese([])
