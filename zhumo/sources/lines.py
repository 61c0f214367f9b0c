"""Bytes to lines of text, with flat memory. A line that cannot be text comes out as `Bad`, never not at all."""

import codecs
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO, Literal, NamedTuple

Encoding = Literal["utf-8", "utf-16-le", "utf-16-be", "gb18030"]
LONGEST = 10 << 20  # bytes of one line
BLOCK = 1 << 20
BOMS: dict[bytes, Encoding] = {b"\xff\xfe": "utf-16-le", b"\xfe\xff": "utf-16-be"}
BREAKS: dict[Encoding, bytes] = {"utf-8": b"\n", "gb18030": b"\n", "utf-16-le": b"\n\0", "utf-16-be": b"\0\n"}


class Line(NamedTuple):
    """One line: its number from 1, its bytes with the line break, and its text."""

    number: int
    raw: bytes
    text: str


class Bad(NamedTuple):
    """What cannot be a row: where it stood, its bytes as they were, and why (`bad.REASON` in the word lists).

    piece: what is too long to be held at once comes in several, numbered from 0. why: what is wrong and how it is
    mended, where the reason alone does not say so.
    """

    source: str
    line: int
    raw: bytes
    reason: str
    piece: int = 0
    why: str = ""


class Record(NamedTuple):
    """A row and where it came from. `raw` is its bytes, or its JSON where the source has no text of its own."""

    row: dict[str, Any]
    source: str
    line: int
    raw: bytes

    def bad(self, reason: str) -> Bad:
        """The same place as something that cannot be used after all."""
        return Bad(self.source, self.line, self.raw, reason)


@dataclass(frozen=True)
class Text:
    """A stream of text: how to open its bytes (again each time), what it is called, and its encoding."""

    name: str
    open: Callable[[], BinaryIO]
    encoding: Encoding

    def lines(self) -> Iterator[Line | Bad]:
        """Each line in order. One over 10 MB comes as Bad pieces of at most that."""
        with self.open() as file:
            for number, raw, whole, piece in _cut(file, self.encoding):
                if not whole:
                    yield Bad(self.name, number, raw, "too_long", piece)
                    continue
                try:
                    text = _text(raw, self.encoding)
                except UnicodeDecodeError:
                    yield Bad(self.name, number, raw, "encoding")
                    continue
                if "\0" in text:
                    yield Bad(self.name, number, raw, "nul")
                else:  # a byte order mark may also stand where files were joined; it means nothing there either
                    yield Line(number, raw, text.removeprefix("\ufeff"))


def encoding_of(open_: Callable[[], BinaryIO]) -> Encoding:
    """UTF-16 by its byte order mark, or by every second byte being zero; GB18030 where most lines of the first block
    beyond ASCII are that and not UTF-8; else UTF-8."""
    with open_() as file:
        block = file.read(BLOCK)
        if block[:2] in BOMS:
            return BOMS[block[:2]]
        if (halves := (block[::2].count(0), block[1::2].count(0))) and max(halves) > len(block) // 10 > min(halves):
            return "utf-16-le" if halves[1] > halves[0] else "utf-16-be"
        while block and block.isascii():
            block = file.read(BLOCK)
    *whole, last = block.split(b"\n")
    lines = [line for line in whole if not line.isascii()] or [last]
    utf8 = sum(_decode(line, "utf-8", line is not last) is not None for line in lines)
    chinese = sum(_looks_chinese(_decode(line, "gb18030", line is not last)) for line in lines)
    return "gb18030" if 2 * utf8 < len(lines) < 2 * chinese else "utf-8"


def _decode(line: bytes, encoding: Encoding, whole: bool) -> str | None:
    try:
        return codecs.getincrementaldecoder(encoding)().decode(line, final=whole)
    except UnicodeDecodeError:
        return None


def _looks_chinese(text: str | None) -> bool:
    """Mostly GB2312 beyond ASCII. Latin letters with accents can pass for GB18030, but then as rare characters."""
    strange = [character for character in text or "" if not character.isascii()]
    common = "".join(strange).encode("gb2312", errors="ignore").decode("gb2312")
    return 2 * len(common) > len(strange)


def _text(raw: bytes, encoding: Encoding) -> str:
    """A line as text. In a file of GB18030 some may be UTF-8; as GB18030 they would hold rare characters."""
    if encoding == "gb18030" and (utf8 := _decode(raw, "utf-8", True)) is not None:
        text = _decode(raw, "gb18030", True)
        return text if text is not None and _is_gb2312(text) else utf8
    return raw.decode(encoding)


def _is_gb2312(text: str) -> bool:
    try:
        return bool(text.encode("gb2312"))
    except UnicodeEncodeError:
        return False


def _cut(file: BinaryIO, encoding: Encoding) -> Iterator[tuple[int, bytes, bool, int]]:
    """(number, bytes, whether it is a whole line, number of the piece) of every line, or piece of one too long."""
    number, piece = 1, 0
    take = _take_utf16 if encoding.startswith("utf-16") else _take
    while raw := take(file, BREAKS[encoding]):
        ended = len(raw) <= LONGEST or raw.endswith(BREAKS[encoding])
        yield number, raw, ended and not piece, piece
        number, piece = (number + 1, 0) if ended else (number, piece + 1)


def _take(file: BinaryIO, _: bytes) -> bytes:
    """A line with its break, or the first LONGEST + 1 bytes of it."""
    return file.readline(LONGEST + 1)


def _take_utf16(file: BinaryIO, end: bytes) -> bytes:
    """The same in units of two bytes, since 0x0a is also half of other characters."""
    line = bytearray()
    while len(line) <= LONGEST and (part := file.readline(LONGEST + 1 - len(line))):
        line += part
        if len(line) % 2:
            line += file.read(1)
        if line.endswith(end):
            break
    return bytes(line)
