"""Spans of text: the units they are made of, their labels unit by unit (BIO), and how many were found."""

import re
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from zhumo.metrics.measure import Measure

OUTSIDE = "O"
_ALONE = (
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u31f0-\u31ff\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
)
ALONE = re.compile(f"[{_ALONE}]")
"""A character of a script that puts no blanks between words."""

_UNIT = re.compile(rf"[{_ALONE}]|[^\W{_ALONE}]+|[^\w\s]")


class Span(NamedTuple):
    """A stretch of a text, from character `start` up to but without `end`, that is a `label`."""

    start: int
    end: int
    label: str


def spans_of(row: Mapping[str, Any]) -> list[Span]:
    """The spans of a row or an answer."""
    return [Span(span["start"], span["end"], span["label"]) for span in row["spans"]]


def units(text: str) -> list[tuple[int, int]]:
    """Start and end of what a span is made of: a word, a sign, or one character where words have no blanks between."""
    return [found.span() for found in _UNIT.finditer(text)]


def to_bio(spans: Sequence[Span], cut: Sequence[tuple[int, int]]) -> list[str]:
    """The label of each unit: B-x where a span begins, I-x where it goes on, O elsewhere (Ramshaw and Marcus 1995)."""
    labels = [OUTSIDE] * len(cut)
    for span in spans:
        inside = [place for place, (start, end) in enumerate(cut) if start < span.end and end > span.start]
        for place in inside:
            labels[place] = f"{'B' if place == inside[0] else 'I'}-{span.label}"
    return labels


def from_bio(labels: Sequence[str], cut: Sequence[tuple[int, int]]) -> list[Span]:
    """The spans that labels of units speak of; an I-x that follows nothing of its kind begins one, as in conlleval."""
    spans: list[Span] = []
    before = OUTSIDE
    for label, (start, end) in zip(labels, cut, strict=True):
        if label.startswith("I-") and before[2:] == label[2:]:
            spans[-1] = spans[-1]._replace(end=end)
        elif label != OUTSIDE:
            spans.append(Span(start, end, label[2:]))
        before = label
    return spans


def entity_f1(said: Sequence[Sequence[Span]], truth: Sequence[Sequence[Span]]) -> list[Measure]:
    """Micro-F1, precision and recall over spans: one is right where both ends and the label are, as in seqeval."""
    counts = np.array([[len({*a} & {*b}), len({*a}), len({*b})] for a, b in zip(said, truth, strict=True)])
    return [
        Measure("f1", counts, _f1),
        Measure("precision", counts, partial(_share, of=1)),
        Measure("recall", counts, partial(_share, of=2)),
    ]


def _f1(counts: np.ndarray) -> float:
    hit, said, true = counts.sum(0)
    return float(2 * hit / (said + true)) if said + true else 1.0


def _share(counts: np.ndarray, of: int) -> float:
    sums = counts.sum(0)
    return float(sums[0] / sums[of]) if sums[of] else 1.0
