"""Spans and labels of units, and F1 as seqeval counts it."""

import pytest

from zhumo.metrics.spans import Span, entity_f1, from_bio, to_bio, units


def test_units_are_words_signs_and_chinese_characters() -> None:
    text = "iPhone 15卖¥5,999元！ _x_"
    assert [text[start:end] for start, end in units(text)] == [
        "iPhone", "15", "卖", "¥", "5", ",", "999", "元", "！", "_x_",
    ]  # fmt: skip


def test_spans_go_into_labels_and_back() -> None:
    cut = units("张三 in New York，李四")
    spans = [Span(0, 2, "P"), Span(6, 14, "L"), Span(15, 17, "P")]
    labels = to_bio(spans, cut)
    assert labels == ["B-P", "I-P", "O", "B-L", "I-L", "O", "B-P", "I-P"]
    assert from_bio(labels, cut) == spans


@pytest.mark.parametrize(
    ("labels", "wanted"),
    [
        (["B-A", "B-A", "I-A"], [(0, 1, "A"), (1, 3, "A")]),
        (["I-A", "I-A", "O"], [(0, 2, "A")]),
        (["B-A", "I-B", "I-B"], [(0, 1, "A"), (1, 3, "B")]),
        (["O", "O", "O"], []),
    ],
)
def test_labels_are_read_as_conlleval_reads_them(labels: list[str], wanted: list[tuple[int, int, str]]) -> None:
    assert from_bio(labels, [(0, 1), (1, 2), (2, 3)]) == [Span(*span) for span in wanted]


def test_a_span_counts_whole_or_not_at_all() -> None:
    truth = [[Span(0, 2, "P"), Span(5, 7, "L")], [], [Span(1, 2, "P")]]
    said = [[Span(0, 2, "P"), Span(5, 8, "L")], [Span(0, 1, "P")], [Span(1, 2, "L")]]
    f1, precision, recall = entity_f1(said, truth)
    assert (precision.value, recall.value) == (1 / 4, 1 / 3)
    assert f1.value == pytest.approx(2 / 7)
    assert entity_f1([[]], [[]])[0].value == 1
