"""A folder of documents as text under headings. Every file comes out as a Document or, with its reason, as Bad."""

import re
import zipfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from io import BytesIO
from pathlib import Path, PurePosixPath

from zhumo.errors import SourceError, ZhumoError
from zhumo.privacy import NEVER_SHOWN, mask_all
from zhumo.sources.docx import read_docx
from zhumo.sources.html import read_html
from zhumo.sources.lines import Line, Record, Text, encoding_of
from zhumo.sources.outline import Outline, Section, fence_after
from zhumo.sources.pdf import read_pdf
from zhumo.sources.readers import Results, read_csv, read_tsv
from zhumo.sources.workbook import read_xlsx, sheets_of

__all__ = ["Bad", "Document", "Section", "content_of", "document_of", "found", "read_document", "read_documents"]

MOST_BYTES = 50 << 20
MOST_UNPACKED = 256 << 20  # of a workbook
MOST_DEEP = 32  # folders in one another
OLD_OFFICE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"  # Compound File Binary: Word 97, and what is behind a password
QUESTION = frozenset((
    "question", "questions", "q", "query", "ask", "问题", "问", "提问", "标准问题", "常见问题", "问句", "问法",
))  # fmt: skip
ANSWER = frozenset((
    "answer", "answers", "a", "reply", "response", "答案", "答", "回答", "回复", "答复", "解答", "标准答案", "标准回答",
))  # fmt: skip
TOPIC = frozenset(("category", "topic", "section", "类别", "分类", "类目", "主题", "栏目"))


@dataclass(frozen=True)
class Document:
    """What one file says. path: relative to its folder, with slashes."""

    path: str
    title: str
    sections: tuple[Section, ...]


@dataclass(frozen=True)
class Bad:
    """A file, or link, that cannot be a document: where it lies, and what is wrong and how it is mended."""

    path: str
    error: ZhumoError


def read_documents(folder: Path) -> Iterator[Document | Bad]:
    """Every file below a folder, by name.

    Raises:
        SourceError: there is no such folder.
    """
    for name, path in found(folder):
        if isinstance(path, ZhumoError):
            yield Bad(name, path)
            continue
        try:
            yield read_document(path, name)
        except ZhumoError as error:
            yield Bad(name, error)


def read_document(path: Path, name: str) -> Document:
    """One file. name: what it is called, its path relative to the folder; its ending says of what kind it is.

    Markdown loses its front matter; HTML scripts, styles and menus; a CSV file or workbook is a list of questions and
    answers, each a section whose last heading is the question.

    Raises:
        SourceError: it is of another kind, empty, too large, encrypted, scanned or damaged; or what reads it is not
            installed.
    """
    return document_of(name, content_of(path, name))


def found(folder: Path) -> Iterator[tuple[str, Path | SourceError]]:
    """Name and place of every file below a folder, by name; instead of its place, why it must not be opened.

    Hidden files, what lies in hidden folders and the locks of Office (`~$name`) are no documents. A link to a folder
    is not followed: what lies in the same folder is found there anyway.

    Raises:
        SourceError: there is no such folder.
    """
    if not folder.is_dir():
        raise SourceError("support.no_folder", folder=folder)
    home = folder.resolve()
    waiting = [folder]
    while waiting:
        path = waiting.pop()
        name = path.relative_to(folder).as_posix()
        shown = name.encode(errors="backslashreplace").decode()
        if path != folder and path.is_symlink():
            if not path.resolve().is_relative_to(home):
                yield shown, SourceError("support.outside", file=shown)
                continue
            if path.is_dir():
                continue
        if path.is_dir():
            if name.count("/") >= MOST_DEEP:
                yield shown, SourceError("support.nested", file=shown, most=MOST_DEEP)
                continue
            try:
                own = [inner for inner in path.iterdir() if not inner.name.startswith((".", "~$"))]
            except OSError as error:
                yield shown, SourceError("sources.damaged", source=shown, problem=error.strerror)
                continue
            waiting += sorted(own, reverse=True)
        elif shown != name:
            yield shown, SourceError("support.file_name", file=shown)
        elif path.exists() and not path.is_file():  # a pipe or a device
            yield name, SourceError("support.kind", file=name, known=", ".join(KINDS))
        else:
            yield name, path


def content_of(path: Path, name: str) -> bytes:
    """The bytes of a file.

    Raises:
        SourceError: it cannot be read, or is larger than 50 MB.
    """
    try:
        with path.open("rb") as file:
            content = file.read(MOST_BYTES + 1)
    except OSError as error:
        raise SourceError("sources.damaged", source=name, problem=error.strerror) from error
    if len(content) > MOST_BYTES:
        raise SourceError("support.large", file=name, most=MOST_BYTES >> 20)
    return content


def document_of(name: str, content: bytes) -> Document:
    """The document that the bytes of a file are; see `read_document`.

    Numbers that are one person's wherever they stand (`NEVER_SHOWN`) are covered: no knowledge holds them.
    """
    kind = PurePosixPath(name).suffix.lower()
    if kind not in KINDS:
        raise SourceError("support.kind", file=name, known=", ".join(KINDS))
    if len(content) > MOST_BYTES:
        raise SourceError("support.large", file=name, most=MOST_BYTES >> 20)
    if kind in (".docx", ".xlsx") and content.startswith(OLD_OFFICE):
        raise SourceError("support.encrypted", file=name)
    title, sections = KINDS[kind](name, content) if content else ("", ())
    if not sections:
        raise SourceError("support.empty", file=name)
    return _covered(Document(name, title or PurePosixPath(name).stem, sections))


def _covered(document: Document) -> Document:
    texts = [text for section in document.sections for text in (*section.headings, section.text)]
    title, *rest = mask_all([document.title, *texts], NEVER_SHOWN)[0]
    covered = iter(rest)
    sections = (Section(tuple(next(covered) for _ in one.headings), next(covered)) for one in document.sections)
    return Document(document.path, title, tuple(sections))


Read = tuple[str, tuple[Section, ...]]


def _text(name: str, content: bytes) -> str:
    """Text in UTF-8, UTF-16 or GB18030, whichever it is, with single line feeds."""
    text = _source(name, content)
    lines = []
    for line in text.lines():
        if not isinstance(line, Line):
            raise SourceError("support.not_text", file=name, line=line.line, encoding=text.encoding)
        lines.append(line.text)
    return "".join(lines).replace("\r\n", "\n").replace("\r", "\n")


def _source(name: str, content: bytes) -> Text:
    def open_() -> BytesIO:
        return BytesIO(content)

    return Text(name, open_, encoding_of(open_))


def _plain(name: str, content: bytes) -> Read:
    text = _text(name, content).rstrip().lstrip("\n")
    return "", (Section((), text),) if text else ()


_HEADING = re.compile(r" {0,3}(#{1,6})(?:[ \t]|$)")
_UNDERLINE = re.compile(r" {0,3}(=+|-+)[ \t]*")
_NO_PARAGRAPH = re.compile(r"\s*(?:$|[#>|*+-]|\d+[.)]|\t| {4})")


def _markdown(name: str, content: bytes) -> Read:
    """Headings of CommonMark, those with number signs and those of one line that are underlined; inside a code fence
    there are none."""
    outline = Outline()
    fence, title = "", ""
    held: list[str] = []  # a line that may turn out to be underlined
    alone = True  # nothing stands above that would make the next line part of a paragraph
    for line in _without_front_matter(_text(name, content).split("\n")):
        before, fence = fence, fence_after(fence, line)
        mark = _HEADING.match(line)
        under = _UNDERLINE.fullmatch(line) if held else None
        if before or fence or not (mark or under):
            for waiting in held:
                outline.add(waiting)
            may_be = alone and not (before or fence or _NO_PARAGRAPH.match(line))
            held = [line] if may_be else []
            if not may_be:
                outline.add(line)
            alone = not fence and (bool(before) or not line.strip())
            continue
        if under:
            level, text = 1 if under[1][0] == "=" else 2, held.pop()
        elif mark:
            level, text = len(mark[1]), _unclosed(line[mark.end() :].strip())
            for waiting in held:
                outline.add(waiting)
            held = []
        outline.head(level, text)
        title = title or (" ".join(text.split()) if level == 1 else "")
        alone = True
    for waiting in held:
        outline.add(waiting)
    return title, outline.sections()


def _unclosed(heading: str) -> str:
    """A heading without the number signs that may close it."""
    before = heading.rstrip("#")
    return before.rstrip() if before != before.rstrip() or not before else heading


def _without_front_matter(lines: list[str]) -> list[str]:
    """All lines but the YAML between two lines of dashes, with which many generators of sites let a page begin."""
    if lines[0].rstrip() == "---":
        for number, line in enumerate(lines[1:], 1):
            if line.rstrip() in ("---", "..."):
                return lines[number + 1 :]
            if line.strip() and not re.match(r"[\w.\"'-]+\s*:|[ \t#-]", line):
                break
    return lines


def _html(name: str, content: bytes) -> Read:
    return read_html(name, _text(name, content))


def _csv(name: str, content: bytes) -> Read:
    return "", _answers(name, read_csv(_source(name, content)))


def _tsv(name: str, content: bytes) -> Read:
    return "", _answers(name, read_tsv(_source(name, content)))


def _xlsx(name: str, content: bytes) -> Read:
    """All sheets, each a list of its own; the name of a sheet is a heading where there are several."""
    if find_spec("openpyxl") is None:
        raise SourceError("sources.extra", source=name, extra="support")
    _refuse_bomb(name, content)
    sheets = sheets_of(name, BytesIO(content))
    sections = []
    for sheet in sheets:
        outer = (sheet,) if sheets[1:] else ()
        for section in _answers(name, read_xlsx(name, BytesIO(content), sheet)):
            sections.append(Section((*outer, *section.headings), section.text))
    return "", tuple(sections)


def _refuse_bomb(name: str, content: bytes) -> None:
    try:
        with zipfile.ZipFile(BytesIO(content)) as archive:
            size = sum(member.file_size for member in archive.infolist())
    except (zipfile.BadZipFile, ValueError, NotImplementedError) as error:
        raise SourceError("sources.damaged", source=name, problem=error) from error
    if size > MOST_UNPACKED:
        raise SourceError("support.unpacked", file=name, size=size >> 20, most=MOST_UNPACKED >> 20)


def _answers(name: str, rows: Results) -> tuple[Section, ...]:
    """Questions and answers, under their topic where a column has one; other columns say nothing. A row without one
    of both spoils the file: what is missing in it would be missed by nobody."""
    sections, bad = [], []
    for row in rows:
        if not isinstance(row, Record):
            bad += [row.line] if row.reason != "empty" else []
            continue
        question, answer, topic = (_value(row.row, known) for known in (QUESTION, ANSWER, TOPIC))
        if question is None or answer is None:
            raise SourceError("support.no_columns", file=name, known=", ".join(row.row))
        if question and answer:
            sections.append(Section((*([topic] if topic else []), question), answer))
        elif any(row.row.values()):
            bad.append(row.line)
    if bad:
        raise SourceError("support.rows", file=name, bad=len(bad), lines=", ".join(map(str, bad[:5])))
    return tuple(sections)


def _value(row: Mapping[str, object], known: frozenset[str]) -> str | None:
    """What stands in the column that has a known name; None: there is no such column."""
    for column, value in row.items():
        if column.strip().casefold() in known:
            return "" if value is None else str(value).strip()
    return None


def _pdf(name: str, content: bytes) -> Read:
    return "", read_pdf(name, content)


KINDS: Mapping[str, Callable[[str, bytes], Read]] = {
    ".md": _markdown,
    ".markdown": _markdown,
    ".txt": _plain,
    ".html": _html,
    ".htm": _html,
    ".csv": _csv,
    ".tsv": _tsv,
    ".xlsx": _xlsx,
    ".docx": read_docx,
    ".pdf": _pdf,
}
