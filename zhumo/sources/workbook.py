"""Rows of a sheet of an Excel workbook: FILE.xlsx, or xlsx:FILE?SHEET where it has several."""

import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any, BinaryIO

from zhumo.errors import SourceError
from zhumo.sources.lines import Bad, Record
from zhumo.sources.readers import Results, columns_of, read_values

MOST_BYTES = 4 << 30  # unpacked
MOST_RATIO = 400  # unpacked to packed; sheets of little variety reach 100
MOST_ROWS = 1 << 20  # of a sheet, says Excel; a file of a few bytes may say that it holds a billion empty ones

# What zipfile, zlib and openpyxl raise: torn bytes, a file left out, XML that is none or not what it should be.
BROKEN = (
    zipfile.BadZipFile, zlib.error, EOFError, OSError, RuntimeError, LookupError, ValueError, TypeError, AttributeError,
    SyntaxError,
)  # fmt: skip
Cells = Sequence[object]
Rows = Iterator[tuple[int, Cells]]


def sheets_of(name: str, file: Path | BinaryIO) -> list[str]:
    """The names of the sheets of a workbook, those that hold nothing left out.

    Raises:
        SourceError: as `read_xlsx`.
    """
    with _opened(name, file) as book:
        return [sheet.title for sheet in book.worksheets if _holds(name, sheet)]


def read_xlsx(name: str, file: Path | BinaryIO, sheet: str | None) -> Results:
    """Each row below the heading, which is the first row that holds anything. Numbers, dates and truth values keep
    their kind; a formula is the value Excel last saw, and an error such as #N/A is no value. Blank rows at the end hold
    no row.

    Raises:
        SourceError: the reader is not installed; there is no such sheet, or several hold something and none is named.
    """
    with _opened(name, file) as book:
        sheets = {found.title: found for found in book.worksheets}
        wanted = sheet
        if sheet is None:
            filled = [title for title, found in sheets.items() if _holds(name, found)] or list(sheets)
            wanted = filled[0] if len(filled) == 1 else None
        if wanted not in sheets:
            raise SourceError("sources.which_sheet", source=name, sheets=", ".join(sheets))
        yield from _records(name, _rows(name, sheets[wanted]))


@contextmanager
def _opened(name: str, file: Path | BinaryIO) -> Iterator[Any]:
    try:
        import openpyxl
    except ImportError as error:
        raise SourceError("sources.extra", source=name, extra="xlsx") from error
    try:
        _refuse_bomb(name, file)
        with closing(openpyxl.load_workbook(file, read_only=True, data_only=True)) as book:
            yield book
    except BROKEN as error:
        raise SourceError("sources.damaged", source=name, problem=str(error)[:200]) from error


def _rows(name: str, sheet: Any) -> Rows:
    """Every row and its number. Where a sheet ends is seen, not believed: some programs write that it is one cell."""
    sheet.reset_dimensions()
    for number, cells in enumerate(sheet.iter_rows(), 1):
        if number > MOST_ROWS:
            raise SourceError("sources.damaged", source=name, problem=f"more than {MOST_ROWS:,} rows")
        yield number, [_value(cell) for cell in cells]


def _holds(name: str, sheet: Any) -> bool:
    return any(cell is not None for _, cells in _rows(name, sheet) for cell in cells)


def _records(name: str, rows: Rows) -> Results:
    heading: list[str] = []
    blank: list[int] = []
    for number, cells in rows:
        if not heading:
            heading = _heading(name, cells)
            continue
        if all(cell is None for cell in cells):
            blank.append(number)
            continue
        for empty in blank:
            yield Bad(name, empty, b"", "empty")
        blank.clear()
        reason = "fields" if any(cell is not None for cell in cells[len(heading) :]) else ""
        padded = [*cells, *[None] * (len(heading) - len(cells))]
        found = {column: cell for column, cell in zip(heading, padded, strict=False)}
        if reason:
            found |= {f"column{place}": cell for place, cell in enumerate(cells, 1) if place > len(heading)}
        [row] = read_values(name, [found])
        if isinstance(row, Bad) or reason:
            yield Bad(name, number, row.raw, reason or "not_json")
        else:
            yield Record(row.row, name, number, row.raw)
    if not heading:
        raise SourceError("sources.no_heading", source=name)


def _heading(name: str, cells: Cells) -> list[str]:
    """The names of the columns; empty where the row is blank. What stands beside the last name is no column."""
    texts = ["" if cell is None else str(cell) for cell in cells]
    while texts and not texts[-1].strip():
        texts.pop()
    return columns_of(name, texts) if texts else []


def _value(cell: object) -> object:
    if getattr(cell, "data_type", "n") == "e":
        return None
    value = getattr(cell, "value", None)
    if isinstance(value, str) and not value.strip():
        return None
    return str(value) if isinstance(value, timedelta) else value


def _refuse_bomb(name: str, file: Path | BinaryIO) -> None:
    """A workbook is a zip file, which may be made to grow beyond measure."""
    with zipfile.ZipFile(file) as archive:
        size = sum(member.file_size for member in archive.infolist())
        packed = archive.start_dir  # where the list of what is in it begins, behind all of it
    if size > min(MOST_BYTES, MOST_RATIO * packed):
        raise SourceError("sources.damaged", source=name, problem=f"{size:,} bytes unpacked")
