"""PDF files that hold text, read page by page by PDFium."""

import re
import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING

from zhumo.errors import SourceError
from zhumo.sources.outline import Section

if TYPE_CHECKING:
    from pypdfium2 import PdfDocument

MOST_PAGES = 10_000
PASSWORD = 4  # FPDF_ERR_PASSWORD of PDFium's fpdfview.h
_ONE = threading.Lock()  # PDFium keeps state of its own and may be called by one thread at a time
_HYPHEN = re.compile(r"[\x02\ufffe]\s*")  # how PDFium marks a word divided at the end of a line
_WRAPPED = re.compile(r"(?<=[\u3000-\u9fff\uff00-\uffef])\n(?=[\u3000-\u9fff\uff00-\uffef])")
_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f]")


def read_pdf(name: str, content: bytes) -> tuple[Section, ...]:
    """A section a page. Its headings are the entry of the table of contents it falls under, with those around it (the
    last one where several begin on the page), then the number of the page.

    Raises:
        SourceError: PDFium is not installed; the file is damaged, encrypted or too long, or half of its pages or more
            hold no text, as scanned ones do.
    """
    try:
        import pypdfium2
    except ImportError as error:
        raise SourceError("sources.extra", source=name, extra="support") from error
    with _ONE:
        try:
            with pypdfium2.PdfDocument(content) as document:
                if len(document) > MOST_PAGES:
                    raise SourceError("support.pages", file=name, pages=len(document), most=MOST_PAGES)
                pages = list(_pages(document))
                entries = _entries(document)
        except pypdfium2.PdfiumError as error:
            if error.err_code == PASSWORD:
                raise SourceError("support.encrypted", file=name) from error
            raise SourceError("sources.damaged", source=name, problem=str(error)[:200].rstrip(".")) from error
    empty = [number for number, text in enumerate(pages, 1) if not text]
    if 2 * len(empty) >= len(pages):
        raise SourceError("support.scanned", file=name, empty=len(empty), pages=len(pages))
    path: list[tuple[int, str]] = []
    sections = []
    for number, text in enumerate(pages):
        while entries and entries[0][0] <= number:
            _, level, title = entries.pop(0)
            path = [*(outer for outer in path if outer[0] < level), (level, title)]
        if text:
            sections.append(Section((*(title for _, title in path if title), f"p. {number + 1}"), text))
    return tuple(sections)


def _pages(document: "PdfDocument") -> Iterator[str]:
    for page in document:
        lines = page.get_textpage().get_text_bounded().replace("\r\n", "\n")
        yield _CONTROLS.sub("", _WRAPPED.sub("", _HYPHEN.sub("", lines))).strip()
        page.close()


def _entries(document: "PdfDocument") -> list[tuple[int, int, str]]:
    """Page from 0, level and title of each entry of the table of contents that leads to a page, in their order."""
    found = []
    for entry in document.get_toc():
        goal = entry.get_dest()
        page = goal.get_index() if goal else None
        if page is not None:
            found.append((page, entry.level, " ".join(entry.get_title().split())))
    return sorted(found, key=lambda entry: entry[0])
