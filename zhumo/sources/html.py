"""HTML pages: their text under their headings. Nothing is ever fetched.

The parser of the standard library looks through the whole page again for each comment that never ends. Here each letter
is looked at once, as in the HTML standard (section 13.2.5, tokenization).
"""

import html
import re
from collections.abc import Iterator

from zhumo.errors import SourceError
from zhumo.sources.outline import Outline, Section

RAW = frozenset(("script", "style"))  # what stands in them is no HTML
UNSEEN = frozenset(("nav", "template", "noscript", "svg", "iframe", "canvas", "object"))
BLOCKS = frozenset((
    "address", "article", "aside", "blockquote", "body", "caption", "dd", "details", "div", "dl", "dt", "fieldset",
    "figcaption", "figure", "footer", "form", "header", "hr", "main", "ol", "p", "section", "summary", "table", "ul",
))  # fmt: skip
HEADINGS = {f"h{level}": level for level in range(1, 7)}
_TAG = re.compile(r"<(/?)([a-zA-Z][^\s/>]*+)(?:[^>=]|=\s*+(?:\"[^\"]*+\"|'[^']*+')|=)*+>")
_RAW_END = {tag: re.compile(rf"</{tag}(?=[\s/>])", re.IGNORECASE) for tag in RAW}
_CJK = re.compile(r"[\u3000-\u9fff\uff00-\uffef]")


def read_html(name: str, text: str) -> tuple[str, tuple[Section, ...]]:
    """The title, empty where there is none, and the sections. Scripts, styles and menus are left out; tables become
    rows between bars, items of lists lines after a dash, preformatted text a code fence.

    Raises:
        SourceError: a comment, script or menu never ends, so that what is text cannot be told.
    """
    page = _Page()
    unseen, deep = "", 0
    for kind, value in _tokens(name, text):
        if unseen:
            deep += {"<": value == unseen, "</": -(value == unseen)}.get(kind, 0)
            unseen = unseen if deep else ""
        elif kind == "<" and value in UNSEEN:
            unseen, deep = value, 1
        elif kind == "<":
            page.start(value)
        elif kind == "</":
            page.end(value)
        else:
            page.write(html.unescape(value))
    if unseen:
        raise SourceError("sources.damaged", source=name, problem=f"<{unseen}> without </{unseen}>")
    page.end_line()
    return " ".join("".join(page.title).split()), page.outline.sections()


def _tokens(name: str, text: str) -> Iterator[tuple[str, str]]:
    """("<", tag) and ("</", tag) in small letters, and ("", text between them)."""
    begin = at = 0  # of the text not yet given; where to look for a tag
    while (at := text.find("<", at)) >= 0:
        follows = text[at + 1 : at + 2]
        letter, closing = follows.isascii() and follows.isalpha(), follows == "/"
        if not letter and follows not in ("!", "?", "/"):
            at += 1
            continue
        if text.startswith("<!--", at):
            tag, end = "", text.find("-->", at + 2) + 3
            if end < 3:
                raise SourceError("sources.damaged", source=name, problem="<!-- without -->")
        elif match := _TAG.match(text, at):
            tag, end = match[2].lower(), match.end()
        else:
            tag, end = "", 0 if letter else text.find(">", at) + 1
        if not end:
            break  # the tag never ends; its letters are kept
        yield "", text[begin:at]
        if tag in RAW and not closing:
            over = _RAW_END[tag].search(text, end)
            if over is None:
                raise SourceError("sources.damaged", source=name, problem=f"<{tag}> without </{tag}>")
            end = over.start()
        elif tag:
            yield ("</" if closing else "<"), tag
        begin = at = end
    yield "", text[begin:]


class _Page:
    """Lines, rows and headings as their tags come."""

    def __init__(self) -> None:
        self.outline = Outline()
        self.title: list[str] = []
        self._line: list[str] = []
        self._cells: list[list[str]] | None = None  # of the row that is open
        self._level = 0  # of the heading that is open
        self._item = False  # the line begins an item of a list
        self._in_title = False
        self._kept = False  # blanks and line breaks count
        self._going = False  # no blank line has come since the last line

    def start(self, tag: str) -> None:
        if tag == "title":
            self._in_title = True
        elif tag in HEADINGS:
            self.end_line()
            self._level = HEADINGS[tag]
        elif tag == "tr":
            self.end_line(blank=False)
            self._cells = []
        elif tag in ("td", "th") and self._cells is not None:
            self._cells.append([])
        elif tag == "pre":
            self.end_line()
            self._kept = True
        elif tag == "li":
            self.end_line(blank=False)
            self._item = True
        elif tag == "br":
            self._break()
        elif tag in BLOCKS:
            self._part()

    def end(self, tag: str) -> None:
        if tag == "title":
            self._in_title = False
        elif tag in HEADINGS or tag in ("pre", "table"):
            self.end_line()
        elif tag in ("tr", "li"):
            self.end_line(blank=False)
        elif tag in BLOCKS:
            self._part()

    def write(self, text: str) -> None:
        if self._in_title:
            self.title.append(text)
        elif self._cells:
            self._cells[-1].append(text)
        else:
            self._line.append(text)

    def end_line(self, *, blank: bool = True) -> None:
        """Write what is open: a row, a heading, a code block or a line. blank: a paragraph ends here."""
        raw, self._line = "".join(self._line), []
        cells, self._cells = self._cells, None
        level, self._level = self._level, 0
        kept, self._kept = self._kept, False
        item, self._item = self._item, False
        if kept and raw.strip():
            fence = "`" * max(3, 1 + max(map(len, re.findall("`+", raw)), default=0))
            self._add(f"{fence}\n{raw.strip(chr(10))}\n{fence}")
        elif level:
            self.outline.head(level, _smooth(raw))
        elif text := _smooth(raw):
            self._add(f"- {text}" if item else text)
        if cells:
            found = [_smooth("".join(cell)) for cell in cells]
            if found[1:] and any(found):
                self._add(f"| {' | '.join(cell.replace('|', '/') for cell in found)} |")
            elif found[0]:
                self._add(found[0])
        if blank and self._going:
            self._add("")

    def _add(self, line: str) -> None:
        self.outline.add(line)
        self._going = bool(line)

    def _part(self) -> None:
        """A block begins or ends. Within a row or a heading it only parts words; an item waits for its words."""
        if self._kept:
            return
        if self._cells or self._level:
            self.write(" ")
        elif self._item and not "".join(self._line).strip():
            self._line.clear()
        else:
            self.end_line()

    def _break(self) -> None:
        if self._kept:
            self._line.append("\n")
        elif self._cells or self._level:
            self.write(" ")
        else:
            self.end_line(blank=False)


def _smooth(text: str) -> str:
    """One line, without the blanks that only laid out the source; Chinese lines are joined by none."""
    joined: list[str] = []
    for line in filter(None, (" ".join(line.split()) for line in text.split("\n"))):
        wide = joined and _CJK.match(joined[-1][-1]) and _CJK.match(line)
        joined.append(line if wide or not joined else f" {line}")
    return "".join(joined)
