"""What is found and cited: documents cut into passages, and passages into sentences, in Chinese and English."""

import hashlib
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from zhumo.sources.documents import Document
from zhumo.sources.outline import fence_after

Span = tuple[int, int]
LEAST = 8  # letters of a sentence that is looked for by itself
SHORT = 4  # a piece of less than this part of the length joins its neighbour

# A full stop ends nothing after these words; after these only where a capital follows; and not before a number.
NEVER = frozenset((
    "e.g", "i.e", "cf", "vs", "mr", "mrs", "ms", "dr", "prof", "st", "approx", "incl", "excl", "resp", "viz", "u.s",
    "u.k",
))  # fmt: skip
SELDOM = frozenset(("etc", "al", "inc", "ltd", "co", "corp", "a.m", "p.m", "jr", "sr", "dept", "est", "min", "max"))
NUMBERED = frozenset(("no", "nr", "fig", "sec", "ch", "vol", "art", "p", "pp", "eq", "tab", "ver", "v"))
LONGEST_WORD = 24  # that could stand in one of these lists, and more

_CJK = "\u3000-\u9fff\uff00-\uffef"
_QUOTES = re.escape("”’」』）)】》〉]\"'*_")
_END = re.compile(rf"[。！？；]++[{_QUOTES}]*+|(?<![.!?])[.!?]++[{_QUOTES}]*+(?=\s|[{_CJK}]|$)")
_AMBIGUOUS = "\"'*_"  # the same mark opens and closes
_WORD = re.compile(r"[^\W_]+(?:\.[^\W_]+)*$")
_NEXT = re.compile(r"\s*(\S?)")
_LINE = re.compile(r"[^\n]*\n|[^\n]+")
_ITEM = re.compile(
    r"\s*(?:(?:[-*+•·]|\d{1,3}[.)]|[a-zA-Z][.)])\s|[（(]\d{1,3}[)）]|\d{1,3}、|[一二三四五六七八九十]{1,3}、)"
)
_RULE = re.compile(r"\|?\s*+:?-++:?\s*+(?:\|\s*+:?-++:?\s*+)+\|?|\|\s*+:?-++:?\s*+\|")
_BREAKS = re.compile(r"[\s，、,：:]")


@dataclass(frozen=True)
class Passage:
    """A piece of a document. also: file and headings of passages that say nearly the same, for which it stands."""

    file: str
    headings: tuple[str, ...]
    text: str
    also: tuple[tuple[str, tuple[str, ...]], ...] = ()

    @property
    def key(self) -> str:
        """Sixteen hexadecimal digits that are the same as long as file, headings and text are."""
        said = json.dumps([self.file, self.headings, self.text], ensure_ascii=False)
        return hashlib.sha256(said.encode()).hexdigest()[:16]

    @property
    def full(self) -> str:
        """Headings and text: what is indexed and embedded."""
        return "\n".join(filter(None, (" > ".join(self.headings), self.text)))

    @cached_property
    def spans(self) -> tuple[Span, ...]:
        """Where its sentences lie in the text, those of a few letters left out."""
        return tuple((start, end) for start, end in sentences(self.text) if _letters(self.text[start:end]) >= LEAST)

    @property
    def said(self) -> list[str]:
        """Each sentence of `spans` by itself, with the heading it stands under: what is embedded beside `full`."""
        heading = f"{self.headings[-1]}: " if self.headings else ""
        return [heading + self.text[start:end] for start, end in self.spans]


def cut(document: Document, length: int = 2_500) -> list[Passage]:
    """The passages of a document, which hold all of it once.

    length: of about so many letters, of which a Chinese character counts as two. A passage ends with a paragraph,
    an item of a list, a code fence or a table. Only what alone is longer is cut: a paragraph at a sentence, a fence at
    a line, a table at a row, a sentence between words. None reaches across a heading. None is longer than half as much
    again.
    """
    return [
        Passage(document.path, section.headings, section.text[start:end])
        for section in document.sections
        for start, end in _pieces(section.text, length)
    ]


def _letters(text: str) -> int:
    return sum(letter.isalnum() for letter in text)


def sentences(text: str) -> list[Span]:
    """Where each sentence begins and ends. Between them is nothing but white space.

    An item of a list begins a sentence; a row of a table is one, and so is a code fence.
    """
    found: list[Span] = []
    for kind, start, end in _blocks(text):
        found += [_trimmed(text, start, end)] if kind in ("code", "row") else _split(text, start, end)
    return found


# -- from text to blocks, and from blocks to sentences


def _blocks(text: str) -> Iterator[tuple[str, int, int]]:
    """Kind ("code", "row", "item" or "prose"), begin and end of what stands between blank lines, or begins anew."""
    kind, start, end, fence = "", 0, 0, ""
    for row, line in _rows(text):
        before, fence = fence, fence_after(fence, line[0])
        if before or fence:
            new = "code"
        elif not line[0].strip():
            new = ""
        elif row:
            new = "row"
        elif _ITEM.match(line[0]):
            new = "item"
        else:
            new = kind if kind in ("item", "prose") else "prose"
        if kind and (new != kind or new == "row" or (new == "item" and _ITEM.match(line[0])) or (fence and not before)):
            yield kind, start, end
            start = line.start()
        elif not kind:
            start = line.start()
        kind, end = new, line.end()
    if kind:
        yield kind, start, end


def _rows(text: str) -> Iterator[tuple[bool, re.Match[str]]]:
    """Every line, and whether it is a row of a table: between bars, or around a line that rules off its heading."""
    lines = list(_LINE.finditer(text))
    ruled = False
    for place, line in enumerate(lines):
        below = lines[place + 1][0].strip() if place + 1 < len(lines) else ""
        bars = "|" in line[0]
        ruled = bars and (ruled or bool(_RULE.fullmatch(below)))
        yield ruled or line[0].lstrip().startswith("|"), line


def _split(text: str, start: int, end: int) -> Iterator[Span]:
    """The sentences of a paragraph."""
    for mark in _END.finditer(text, start, end):
        first = _NEXT.match(text, start)
        if _ends(text, first.start(1) if first else start, end, mark):
            close = _closed(text, start, mark)
            yield _trimmed(text, start, close)
            start = close
    if text[start:end].strip():
        yield _trimmed(text, start, end)


def _closed(text: str, start: int, mark: re.Match[str]) -> int:
    """Where a sentence's last quote or bracket ends. A mark that also opens closes where one is open."""
    end = mark.end()
    for place in range(mark.start() + 1, mark.end()):
        sign = text[place]
        if sign in _AMBIGUOUS and text[place - 1] != sign:
            runs = re.findall(f"{re.escape(sign)}+", text[start:place])
            if len(runs) % 2 == 0:
                return place
    return end


def _ends(text: str, start: int, end: int, mark: re.Match[str]) -> bool:
    """Whether a mark ends the sentence that began at start."""
    if not mark[0].startswith((".", "!", "?")):
        return True
    after = _NEXT.match(text, mark.end(), end)
    following = after[1] if after else ""
    if not following:
        return True
    if following.islower():
        return False
    begin = max(start, mark.start() - LONGEST_WORD)
    word = _WORD.search(text, begin, mark.start())
    if word is None or mark[0][0] != ".":
        return True
    first, lower = word.start() == start, word[0].casefold()
    if lower in NEVER or (len(lower) == 1 and (first or (word[0].isupper() and word[0] != "I"))):
        return False
    if lower in SELDOM:
        return following.isupper()
    if lower in NUMBERED:
        return not following.isdigit()
    return not (lower.isdigit() and (first or not text[mark.end()].isspace()))


def _trimmed(text: str, start: int, end: int) -> Span:
    """A span without the white space at its ends."""
    piece = text[start:end]
    return start + len(piece) - len(piece.lstrip()), end - len(piece) + len(piece.rstrip())


# -- from sentences to passages


def _pieces(text: str, length: int) -> list[Span]:
    """Begin and end of the passages of a section."""
    letters = np.frombuffer(text.encode("utf-32-le"), dtype=np.uint32)
    widths = np.concatenate([[0], np.cumsum(1 + _wide(letters))])

    def wide(start: int, end: int) -> int:
        return int(widths[end] - widths[start])

    pieces: list[Span] = []

    def put(start: int, end: int) -> None:
        if pieces and wide(pieces[-1][0], end) <= length:
            pieces[-1] = (pieces[-1][0], end)
        else:
            pieces.append((start, end))

    for unit in _units(text):
        start, end = unit[0][0], unit[-1][1]
        if wide(start, end) <= length:
            put(start, end)
            continue
        for inner, last in unit:
            at = inner
            while wide(at, last) > length:
                most = max(at + 1, int(np.searchsorted(widths, widths[at] + length, side="right")) - 1)
                to = _break(text, at, most)
                put(*_trimmed(text, at, to))
                at = to
            if text[at:last].strip():
                put(*_trimmed(text, at, last))
    joined: list[Span] = []
    for start, end in pieces:
        if joined and min(wide(start, end), wide(*joined[-1])) < length / SHORT:
            joined[-1] = (joined[-1][0], end)
        else:
            joined.append((start, end))
    return joined


def _wide(letters: np.ndarray) -> np.ndarray:
    """Which letters are twice as wide as others, as Chinese, Japanese and Korean ones are."""
    wide: np.ndarray = ((letters >= 0x2E80) & (letters <= 0xD7AF)) | ((letters >= 0xF900) & (letters <= 0xFAFF))
    return wide | ((letters >= 0xFF00) & (letters <= 0xFF60)) | (letters >= 0x20000)


def _units(text: str) -> Iterator[list[Span]]:
    """What should stay together, in the parts into which it may be cut: lines of a fence, rows of a table, sentences
    of a paragraph or of an item of a list."""
    table: list[Span] = []
    for kind, start, end in _blocks(text):
        if table and (kind != "row" or start != table[-1][1]):
            yield [_trimmed(text, *row) for row in table]
            table = []
        if kind == "row":
            table.append((start, end))
        elif kind == "code":
            lines = [_trimmed(text, *line.span()) for line in _LINE.finditer(text, start, end) if line[0].strip()]
            yield lines
        else:
            yield list(_split(text, start, end))
    if table:
        yield [_trimmed(text, *row) for row in table]


def _break(text: str, start: int, most: int) -> int:
    """Where to cut a sentence that is too long: behind a blank or comma of its second half, or where it must be."""
    for place in range(most, start + (most - start) // 2, -1):
        if _BREAKS.match(text[place - 1]):
            return place
    return most
