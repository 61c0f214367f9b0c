"""Excel workbooks, written with openpyxl itself and read as rows."""

import re
import sys
import zipfile
from collections.abc import Callable
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


def with_sheet(path: Path, change: Callable[[bytes], bytes]) -> Path:
    """The same workbook, of which the first sheet's XML is changed."""
    with zipfile.ZipFile(path) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    changed = change(files["xl/worksheets/sheet1.xml"])
    assert changed != files["xl/worksheets/sheet1.xml"]
    files["xl/worksheets/sheet1.xml"] = changed
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
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
    with_sheet(path, lambda xml: re.sub(rb"<v></v>|<v ?/>", b"<v>2</v>", xml))
    assert [row.row for row in open_rows(path) if isinstance(row, Record)] == [{"n": 2, "e": None}]


def test_one_of_several_sheets_is_named(tmp_path: Path) -> None:
    path = workbook(tmp_path / "a.xlsx", one=[["x"], [1]], two=[["x"], [2]])
    assert [row.row for row in open_rows(f"xlsx:{path}?two") if isinstance(row, Record)] == [{"x": 2}]
    for source in (str(path), f"xlsx:{path}?three"):
        with pytest.raises(SourceError, match="one, two"):
            list(open_rows(source))


def test_sheets_that_hold_nothing_are_none(tmp_path: Path) -> None:
    path = workbook(tmp_path / "a.xlsx", Sheet1=[["x"], [1]], Sheet2=[], Sheet3=[[None, " "]])
    assert [row.row for row in open_rows(path) if isinstance(row, Record)] == [{"x": 1}]
    for source in (f"xlsx:{path}?Sheet2", str(workbook(tmp_path / "b.xlsx", Sheet1=[]))):
        with pytest.raises(SourceError, match="column names"):
            list(open_rows(source))


@pytest.mark.parametrize("stated", [b"A1", b"A1:B2", b"B2:C3"])
def test_where_a_sheet_ends_is_seen_and_not_believed(tmp_path: Path, stated: bytes) -> None:
    path = workbook(tmp_path / "a.xlsx", s=[["x", "y", "z"], *([number] * 3 for number in range(9))])
    with_sheet(path, lambda xml: re.sub(rb'<dimension ref="[^"]*"', b'<dimension ref="' + stated + b'"', xml))
    assert [row.row for row in open_rows(path) if isinstance(row, Record)] == [
        {"x": number, "y": number, "z": number} for number in range(9)
    ]


def test_a_row_beyond_all_sheets_is_not_waited_for(tmp_path: Path) -> None:
    path = workbook(tmp_path / "a.xlsx", s=[["x"], [1]])
    with_sheet(path, lambda xml: xml.replace(b'r="2"', b'r="1000000000000"').replace(b'r="A2"', b""))
    with pytest.raises(SourceError, match="1,048,576 rows"):
        list(open_rows(path))


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
