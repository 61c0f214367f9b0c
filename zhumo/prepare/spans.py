"""Marked texts in the forms people keep them in -> a text and its spans.

| form | looks like |
|---|---|
| spans | {"text", "spans": [{"start", "end", "label" or "type"}, ...]}, or [start, end, label] each |
| tags | {"tokens", "tags"}, a tag a token, or {"text", "tags"}, a tag a character: BIO, BIOES or BMES |
"""

from collections.abc import Callable, Mapping, Sequence
from itertools import accumulate, pairwise
from typing import Any

from zhumo.metrics.spans import ALONE, OUTSIDE, Span, from_bio
from zhumo.prepare.columns import Unusable
from zhumo.tasks import Row

_PARTS = {"B": "B", "S": "B", "I": "I", "M": "I", "E": "I"}


def to_spans(record: Mapping[str, Any], clean: Callable[[str], str]) -> Row:
    """The row {"text", "spans"} of a record. clean: gives a part of a text in the recipe's Unicode form.

    Raises:
        Unusable: there is no text, nothing says what in it is what, or what says so does not fit the text.
    """
    tokens, tags, text = record.get("tokens"), record.get("tags"), record.get("text")
    if tags is not None:
        units = tokens if tokens is not None else list(text) if isinstance(text, str) else None
        text, spans = _tagged(units, tags)
    elif record.get("spans") is None:
        raise Unusable("no_value", "spans")
    else:
        if not isinstance(text, str):
            raise Unusable("no_value" if text is None else "not_text", "text")
        spans = _listed(record["spans"], text)
    text, spans = _cleaned(text, sorted(spans), clean)
    if not text:
        raise Unusable("no_value", "text")
    return {"text": text, "spans": [span._asdict() for span in spans]}


def _tagged(tokens: Any, tags: Any) -> tuple[str, list[Span]]:
    """Tokens put together as they were written: without blanks where all are single characters or Chinese."""
    if not isinstance(tokens, list) or not all(isinstance(token, str) for token in tokens):
        raise Unusable("not_text", "tokens")
    if not isinstance(tags, list) or len(tags) != len(tokens):
        raise Unusable("tags", "tags")
    text, cut = "", []
    letters = all(len(token) == 1 for token in tokens)
    for token in tokens:
        apart = text and token and not letters and not (ALONE.match(text[-1]) or ALONE.match(token[0]))
        text += " " if apart else ""
        cut.append((len(text), len(text) + len(token)))
        text += token
    return text, from_bio([_bio(tag) for tag in tags], cut)


def _bio(tag: Any) -> str:
    if tag == OUTSIDE:
        return OUTSIDE
    part, _, label = tag.partition("-") if isinstance(tag, str) else ("", "", "")
    if part not in _PARTS or not label:
        raise Unusable("tags", "tags")
    return f"{_PARTS[part]}-{label}"


def _listed(given: Any, text: str) -> list[Span]:
    spans = []
    for entry in given if isinstance(given, list) else [None]:
        named = entry if isinstance(entry, dict) else {}
        parts = [named.get("start"), named.get("end"), named.get("label", named.get("type"))] if named else entry
        if not isinstance(parts, list) or [type(part) for part in parts] != [int, int, str]:
            raise Unusable("spans", "spans")
        spans.append(Span(*parts))
        if not 0 <= spans[-1].start < spans[-1].end <= len(text) or not spans[-1].label:
            raise Unusable("spans", "spans")
    return spans


def _cleaned(text: str, spans: Sequence[Span], clean: Callable[[str], str]) -> tuple[str, list[Span]]:
    """The text part by part, so that a span still stands where it stood."""
    if any(one.end > two.start for one, two in pairwise(spans)):
        raise Unusable("spans", "spans")
    edges = sorted({0, len(text), *(edge for span in spans for edge in span[:2])})
    parts = [clean(text[start:end]) for start, end in pairwise(edges)]
    whole = "".join(parts)
    lead, length = len(whole) - len(whole.lstrip()), len(whole.strip())
    moved = accumulate(map(len, parts), initial=-lead)
    place = {edge: min(max(0, there), length) for edge, there in zip(edges, moved, strict=True)}
    found = [Span(place[span.start], place[span.end], span.label) for span in spans]
    if any(span.start == span.end for span in found):
        raise Unusable("spans", "spans")
    return whole.strip(), found
