"""Excel workbooks, written with openpyxl itself and read as rows."""

import sys
import zipfile
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from zhumo.errors import SourceError
from zhumo.sources import Bad, Record, open_rows

openpyxl = pytest.importorskip("openpyxl")


def workbook(path: Path, **sheets: list[list[Any]]) -> Path:
    book = openpyxl.Workbook()
    book.remove(book.active)
    for name, rows in sheets.items():
        sheet = book.create_sheet(name)
        for row in rows:
            sheet.append(row)
    book.save(path)
    return path


HEADING = ["会员号", "text", None, "day"]
ORDERS = [
    HEADING,
    ["甲", "很好", 1.5, datetime(2024, 1, 2)],
    [7, "=1+1", True, None],
    [None] * 4,
    ["乙", "fine", 2, None],
]


def test_values_keep_their_kind(tmp_path: Path) -> None:
    path = workbook(tmp_path / "orders.xlsx", 订单=[[None], *ORDERS, [None], [None]])
    found = list(open_rows(path))
    assert [row.row for row in found if isinstance(row, Record)] == [
        {"会员号": "甲", "text": "很好", "column3": 1.5, "day": "2024-01-02T00:00:00"},
        {"会员号": 7, "text": None, "column3": True, "day": None},  # nobody has computed the formula
        {"会员号": "乙", "text": "fine", "column3": 2, "day": None},
    ]
    assert [(row.line, row.reason) for row in found if isinstance(row, Bad)] == [(5, "empty")]
    assert list(open_rows(path).fingerprint) == [str(path)]


def test_a_formula_is_what_excel_last_saw(tmp_path: Path) -> None:
    path = workbook(tmp_path / "a.xlsx", s=[["n", "e"], ["=1+1", "#N/A"]])
    with zipfile.ZipFile(path) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    sheet = files["xl/worksheets/sheet1.xml"]
    assert b"<v></v>" in sheet or b"<v />" in sheet or b"<v/>" in sheet
    files["xl/worksheets/sheet1.xml"] = (
        sheet.replace(b"<v></v>", b"<v>2</v>").replace(b"<v />", b"<v>2</v>").replace(b"<v/>", b"<v>2</v>")
    )
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    assert [row.row for row in open_rows(path) if isinstance(row, Record)] == [{"n": 2, "e": None}]


def test_one_of_several_sheets_is_named(tmp_path: Path) -> None:
    path = workbook(tmp_path / "a.xlsx", one=[["x"], [1]], two=[["x"], [2]])
    assert [row.row for row in open_rows(f"xlsx:{path}?two") if isinstance(row, Record)] == [{"x": 2}]
    for source in (str(path), f"xlsx:{path}?three"):
        with pytest.raises(SourceError, match="one, two"):
            list(open_rows(source))


def test_cells_beside_the_table_make_a_row_bad(tmp_path: Path) -> None:
    path = workbook(tmp_path / "a.xlsx", s=[["x", "y"], [1, 2, "note"], [3]])
    bad, record = open_rows(path)
    assert isinstance(bad, Bad) and (bad.reason, bad.raw) == ("fields", b'{"x":1,"y":2,"column3":"note"}')
    assert record.raw == b'{"x":3,"y":null}'


@pytest.mark.parametrize("content", [b"", b"PK\3\4 no zip", None])
def test_what_is_no_workbook_says_so(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "broken.xlsx"
    if content is None:
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("hello.txt", "no workbook")
    else:
        path.write_bytes(content)
    with pytest.raises(SourceError, match=r"broken\.xlsx cannot be read"):
        list(open_rows(path))


def test_a_workbook_that_would_fill_the_memory_is_not_opened(tmp_path: Path) -> None:
    path = workbook(tmp_path / "bomb.xlsx", s=[["x"], [1]])
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("xl/sharedStrings.xml", b"<a>" * (20 << 20))
    with pytest.raises(SourceError, match="unpacked"):
        list(open_rows(path))


def test_without_the_reader_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = workbook(tmp_path / "a.xlsx", s=[["x"]])
    monkeypatch.setitem(sys.modules, "openpyxl", None)
    with pytest.raises(SourceError, match=r"zhumo\[xlsx\]"):
        list(open_rows(path))
