"""Marked texts in the forms people keep them in."""

import unicodedata
from typing import Any

import pytest

from zhumo.prepare.columns import Unusable
from zhumo.prepare.spans import to_spans

NAME = {"start": 3, "end": 6, "label": "PER"}


@pytest.mark.parametrize(
    "record",
    [
        {"text": "我是张小三。", "spans": [{"start": 2, "end": 5, "label": "PER"}]},
        {"text": "我是张小三。", "spans": [[2, 5, "PER"]]},
        {"text": "我是张小三。", "spans": [{"type": "PER", "start": 2, "end": 5, "value": "张小三"}]},
        {"text": "我是张小三。", "tags": ["O", "O", "B-PER", "I-PER", "I-PER", "O"]},
        {"tokens": list("我是张小三。"), "tags": ["O", "O", "B-PER", "I-PER", "I-PER", "O"]},
        {"tokens": list("我是张小三。"), "tags": ["O", "O", "B-PER", "M-PER", "E-PER", "O"]},
        {"tokens": list("我是张小三。"), "tags": ["O", "O", "I-PER", "I-PER", "I-PER", "O"]},
        {"tokens": ["我是", "张小三", "。"], "tags": ["O", "S-PER", "O"]},
    ],
)
def test_all_forms_say_the_same(record: dict[str, Any]) -> None:
    assert to_spans(record, str) == {"text": "我是张小三。", "spans": [{"start": 2, "end": 5, "label": "PER"}]}


def test_words_are_put_together_with_blanks() -> None:
    row = to_spans(
        {
            "tokens": ["The", "Bank", "of", "China", "北", "京", "分行"],
            "tags": ["O", "B-X", "I-X", "I-X", "B-Y", "I-Y", "O"],
        },
        str,
    )
    assert row["text"] == "The Bank of China北京分行"
    assert [row["text"][span["start"] : span["end"]] for span in row["spans"]] == ["Bank of China", "北京"]


def test_neighbours_of_one_kind_stay_two() -> None:
    row = to_spans({"tokens": list("张三李四"), "tags": ["B-P", "I-P", "B-P", "I-P"]}, str)
    assert [(span["start"], span["end"]) for span in row["spans"]] == [(0, 2), (2, 4)]


def test_a_span_stays_where_it_was_when_the_text_is_cleaned() -> None:
    text = "  Cafe\u0301 Ölmu\u0308hle"  # decomposed accents, which NFC joins
    start = text.index("Ö")
    row = to_spans(
        {"text": text, "spans": [[start, len(text), "ORG"], [2, 7, "LOC"]]},
        lambda part: unicodedata.normalize("NFC", part),
    )
    assert row["text"] == "Café Ölmühle"
    assert [row["text"][span["start"] : span["end"]] for span in row["spans"]] == ["Café", "Ölmühle"]


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        ({"text": "abc"}, "no_value"),
        ({"spans": []}, "no_value"),
        ({"text": " ", "spans": []}, "no_value"),
        ({"text": 3, "spans": []}, "not_text"),
        ({"text": "abc", "spans": [[0, 4, "X"]]}, "spans"),
        ({"text": "abc", "spans": [[2, 2, "X"]]}, "spans"),
        ({"text": "abc", "spans": [[-1, 2, "X"]]}, "spans"),
        ({"text": "abc", "spans": [[0, 2, "X"], [1, 3, "Y"]]}, "spans"),
        ({"text": "abc", "spans": [[0, True, "X"]]}, "spans"),
        ({"text": "abc", "spans": [{"start": 0, "end": 1}]}, "spans"),
        ({"text": "abc", "spans": "none"}, "spans"),
        ({"text": "a b", "spans": [[1, 2, "X"]]}, None),
        ({"text": " ab", "spans": [[0, 1, "X"]]}, "spans"),
        ({"tokens": ["a"], "tags": ["O", "O"]}, "tags"),
        ({"tokens": ["a"], "tags": ["Q-X"]}, "tags"),
        ({"tokens": ["a"], "tags": ["B-"]}, "tags"),
        ({"tokens": ["a"], "tags": [3]}, "tags"),
        ({"tokens": [1], "tags": ["O"]}, "not_text"),
        ({"tags": ["O"]}, "not_text"),
    ],
)
def test_what_does_not_fit_its_text_is_refused(record: dict[str, Any], reason: str | None) -> None:
    if reason is None:
        assert to_spans(record, str)["text"]
        return
    with pytest.raises(Unusable) as error:
        to_spans(record, str)
    assert error.value.reason == reason
