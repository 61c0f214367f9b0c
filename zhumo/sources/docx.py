"""Word documents: the text of `word/document.xml` under the headings that its styles make.

ECMA-376, part 1 (WordprocessingML). The XML is read as a stream of events by expat, so that neither depth nor size of
a hostile file becomes memory; nothing but the two members named here is ever unpacked.
"""

import re
import zipfile
import zlib
from collections.abc import Callable, Mapping
from io import BytesIO
from typing import NoReturn
from xml.parsers import expat

from zhumo.errors import SourceError
from zhumo.sources.outline import Outline, Section

MOST_BYTES = 128 << 20  # of one member, unpacked
MOST_DEEP = 200  # elements in one another
BODY, STYLES = "word/document.xml", "word/styles.xml"
SPACES = (
    "http://schemas.openxmlformats.org/wordprocessingml/2006/main",
    "http://purl.oclc.org/ooxml/wordprocessingml/main",
)
FALLBACK = "http://schemas.openxmlformats.org/markup-compatibility/2006 Fallback"
# Torn bytes, an encrypted or missing member, XML that is none.
BROKEN = (
    zipfile.BadZipFile, zlib.error, EOFError, OSError, RuntimeError, LookupError, ValueError, expat.ExpatError,
)  # fmt: skip
Attributes = Mapping[str, str]


def read_docx(name: str, content: bytes) -> tuple[str, tuple[Section, ...]]:
    """The title, empty where no paragraph is styled as one, and the sections. Deleted text and tables of contents are
    left out; tables become rows between bars, items of lists lines after a dash.

    Raises:
        SourceError: it is no Word document, is damaged, or would grow beyond measure.
    """
    try:
        with zipfile.ZipFile(BytesIO(content)) as archive:
            body = _unpacked(name, archive, BODY)
            styles = _Styles()
            if STYLES in archive.namelist():
                _parse(name, _unpacked(name, archive, STYLES), styles.start, _nothing, _nothing)
        reader = _Body(styles.levels())
        _parse(name, body, reader.start, reader.end, reader.characters)
    except BROKEN as error:
        raise SourceError("sources.damaged", source=name, problem=str(error).strip("'\"")[:200]) from error
    return reader.title, reader.outline.sections()


def _unpacked(name: str, archive: zipfile.ZipFile, member: str) -> bytes:
    size = archive.getinfo(member).file_size  # zipfile gives no more than that
    if size > MOST_BYTES:
        raise SourceError("support.unpacked", file=name, size=size >> 20, most=MOST_BYTES >> 20)
    return archive.read(member)


def _parse(
    name: str,
    xml: bytes,
    start: Callable[[str, Attributes], None],
    end: Callable[[str], None],
    characters: Callable[[str], None],
) -> None:
    """Read XML, refusing what Word never writes: a document type, by which entities are declared, and great depth."""
    parser = expat.ParserCreate(namespace_separator=" ")
    deep = 0

    def opened(tag: str, attributes: Attributes) -> None:
        nonlocal deep
        deep += 1
        if deep > MOST_DEEP:
            raise SourceError("support.nested", file=name, most=MOST_DEEP)
        start(_plain(tag), {_plain(key): value for key, value in attributes.items()})

    def closed(tag: str) -> None:
        nonlocal deep
        deep -= 1
        end(_plain(tag))

    def refuse(*_: object) -> NoReturn:
        raise SourceError("sources.damaged", source=name, problem="<!DOCTYPE>")

    parser.StartElementHandler, parser.EndElementHandler = opened, closed
    parser.CharacterDataHandler = characters
    parser.StartDoctypeDeclHandler = refuse
    parser.buffer_text = True
    parser.Parse(xml, True)


def _plain(tag: str) -> str:
    """A name of WordprocessingML without its namespace; others keep theirs."""
    space, _, local = tag.rpartition(" ")
    return local if space in SPACES else tag


def _nothing(_: str) -> None:
    pass


class _Styles:
    """Which level of heading the styles of paragraphs are: -1 for a table of contents, 0 for the title, 1 to 9.

    A style's id is what the program that wrote it liked, but its name is Word's English one in every language.
    """

    def __init__(self) -> None:
        self._own: dict[str, int] = {}
        self._based: dict[str, str] = {}
        self._id = ""

    def start(self, tag: str, attributes: Attributes) -> None:
        value = attributes.get("val", "")
        if tag == "style":
            self._id = attributes.get("styleId", "")
        elif tag == "name":
            if found := re.fullmatch(r"heading (\d)", value.lower()):
                self._own[self._id] = int(found[1])
            elif value.lower() == "title":
                self._own[self._id] = 0
            elif re.match(r"toc (\d|heading)", value.lower()):
                self._own[self._id] = -1
        elif tag == "basedOn":
            self._based[self._id] = value
        elif tag == "outlineLvl" and value.isdecimal() and int(value) < 9:
            self._own.setdefault(self._id, int(value) + 1)

    def levels(self) -> dict[str, int]:
        """The level of each style that has one, its own or that of the style it is based on."""
        found = {}
        for style in {*self._own, *self._based}:
            base, seen = style, set[str]()
            while base not in self._own and base in self._based and base not in seen:
                seen.add(base)
                base = self._based[base]
            if base in self._own:
                found[style] = self._own[base]
        return found


class _Paragraph:
    def __init__(self) -> None:
        self.text: list[str] = []
        self.level: int | None = None
        self.item = False


class _Body:
    def __init__(self, levels: Mapping[str, int]) -> None:
        self.outline = Outline()
        self.title = ""
        self._levels = levels
        self._open: list[_Paragraph] = []  # a text box stands within a paragraph and holds others
        self._tables = 0
        self._cells: list[list[str]] = []  # of the row that is open
        self._left_out = 0
        self._reading = False

    def start(self, tag: str, attributes: Attributes) -> None:
        if self._left_out or tag in (FALLBACK, "moveFrom"):  # a fallback says once more what stood before it
            self._left_out += 1
            return
        value = attributes.get("val", "")
        if tag == "p":
            self._open.append(_Paragraph())
        elif tag == "tbl":
            self._tables += 1
        elif tag == "tr" and self._tables == 1:
            self._cells = []
        elif tag == "tc" and self._tables == 1:
            self._cells.append([])
        elif self._open:
            paragraph = self._open[-1]
            if tag == "t":
                self._reading = True
            elif tag in ("tab", "br", "cr", "noBreakHyphen"):
                paragraph.text.append({"tab": " ", "noBreakHyphen": "-"}.get(tag, "\n"))
            elif tag == "pStyle":
                paragraph.level = self._levels.get(value, paragraph.level)
            elif tag == "outlineLvl" and value.isdecimal() and int(value) < 9:
                paragraph.level = int(value) + 1
            elif tag == "numPr":
                paragraph.item = True

    def characters(self, text: str) -> None:
        if self._reading:
            self._open[-1].text.append(text)

    def end(self, tag: str) -> None:
        if self._left_out:
            self._left_out -= 1
        elif tag == "t":
            self._reading = False
        elif tag == "p":
            self._write(self._open.pop())
        elif tag == "tr" and self._tables == 1:
            self._write_row()
        elif tag == "tbl":
            self._tables -= 1
            self.outline.add("")

    def _write(self, paragraph: _Paragraph) -> None:
        text = "".join(paragraph.text).strip()
        if not text or paragraph.level == -1:
            return
        if self._cells:
            self._cells[-1].append(text)
        elif paragraph.level is not None:
            self.outline.head(paragraph.level, text)
            self.title = self.title or (" ".join(text.split()) if paragraph.level == 0 else "")
        elif paragraph.item:
            self.outline.add(f"- {text}")
        else:
            self.outline.add(f"{text}\n")

    def _write_row(self) -> None:
        cells, self._cells = [" ".join(" ".join(cell).split()).replace("|", "/") for cell in self._cells], []
        if any(cells):
            self.outline.add(f"| {' | '.join(cells)} |" if cells[1:] else f"{cells[0]}\n")
