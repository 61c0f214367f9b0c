"""The same rows from every format, and not one byte lost where a file is damaged."""

import codecs
import gzip
import io
import json
import random
import re
import sqlite3
import tracemalloc
from collections import Counter
from datetime import datetime
from decimal import Decimal
from functools import partial
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from zhumo.errors import SourceError
from zhumo.sources import Bad, Record, open_rows
from zhumo.sources.lines import LONGEST, Encoding, Text
from zhumo.sources.readers import TEXT_READERS, read_lines, read_paragraphs
from zhumo.words import LANGUAGES, say

ROWS = [
    {"user": "张三", "item": "A-1", "text": "很好，下次还来"},
    {"user": "Anna", "item": "B;2", "text": 'the "best" of\tall'},
    {"user": "李四", "item": "C|3", "text": "x"},
]
PLAIN = [{key: value.replace("\t", " ") for key, value in row.items()} for row in ROWS]  # what a tsv can hold


def rows_of(source: object, **options: bool) -> list[dict[str, object]]:
    """All rows of a source that has no bad ones."""
    found = list(open_rows(source, **options))  # type: ignore[arg-type]
    assert not [bad for bad in found if isinstance(bad, Bad)]
    return [record.row for record in found if isinstance(record, Record)]


def quoted(row: dict[str, str]) -> str:
    return ",".join('"' + value.replace('"', '""') + '"' for value in row.values())


def jsonl(rows: list[dict[str, str]]) -> str:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def test_the_same_rows_from_every_format(tmp_path: Path) -> None:
    heading = "user,item,text\n"
    texts = {
        "a.csv": heading + "\n".join(map(quoted, ROWS)) + "\n",
        "semicolon.csv": heading.replace(",", ";") + "\n".join(map(quoted, ROWS)).replace('","', '";"'),
        "crlf.csv": (heading + "\n".join(map(quoted, ROWS))).replace("\n", "\r\n"),
        "a.jsonl": jsonl(ROWS),
        "a.ndjson": jsonl(ROWS) + "\n \n",
        "lines.json": jsonl(ROWS),
        "array.json": json.dumps(ROWS),
        "pretty.json": json.dumps(ROWS, ensure_ascii=False, indent=4),
        "apart.json": "\n\n".join(json.dumps(row, indent=1) for row in ROWS),
    }
    for name, text in texts.items():
        (tmp_path / name).write_text(text, encoding="utf-8", newline="")
        (tmp_path / f"{name}.gz").write_bytes(gzip.compress(text.encode()))
        (tmp_path / f"bom_{name}").write_text(text, encoding="utf-8-sig", newline="")
        for encoding, mark in (("utf-16-le", codecs.BOM_UTF16_LE), ("utf-16-be", codecs.BOM_UTF16_BE)):
            (tmp_path / f"{encoding}_{name}").write_bytes(mark + text.encode(encoding))
        for variant in (name, f"{name}.gz", f"bom_{name}", f"utf-16-le_{name}", f"utf-16-be_{name}"):
            assert rows_of(tmp_path / variant) == ROWS, variant

    table = pa.Table.from_pylist(ROWS)
    pq.write_table(table, tmp_path / "a.parquet")
    pq.write_table(table, tmp_path / "a.parquet.brotli", compression="brotli")
    with sqlite3.connect(tmp_path / "shop.db") as database:
        database.execute("CREATE TABLE reviews (user, item, text)")
        database.executemany("INSERT INTO reviews VALUES (:user, :item, :text)", ROWS)
    database.close()
    files = [tmp_path / name for name in ("a.parquet", "a.parquet.brotli", "shop.db")]
    for source in (*files, table, ROWS, iter(ROWS)):
        assert rows_of(source) == ROWS, source
    assert rows_of(f"sqlite:{tmp_path}/shop.db") == ROWS
    query = "SELECT item, count(*) AS n FROM reviews WHERE text <> '?' GROUP BY item ORDER BY item LIMIT 1"
    assert rows_of(f"sqlite:{tmp_path}/shop.db?{query}") == [{"item": "A-1", "n": 1}]

    (tmp_path / "a.tsv").write_text("\n".join("\t".join(row.values()) for row in [{k: k for k in PLAIN[0]}, *PLAIN]))
    assert rows_of(tmp_path / "a.tsv") == PLAIN


def test_recbole_headings_lose_their_types_only_where_all_have_one(tmp_path: Path) -> None:
    (tmp_path / "x.inter").write_text("user_id:token\titem_id:token\trating:float\n1\t2\t3\n")
    (tmp_path / "x.tsv").write_text("user_id:token\titem\n1\t2\n")
    assert rows_of(tmp_path / "x.inter") == [{"user_id": "1", "item_id": "2", "rating": "3"}]
    assert rows_of(tmp_path / "x.tsv") == [{"user_id:token": "1", "item": "2"}]


def test_text_by_line_and_by_paragraph(tmp_path: Path) -> None:
    text = "First line\r\nsecond\n\n \nNext\n\n"
    (tmp_path / "a.txt").write_bytes(text.encode())
    assert rows_of(tmp_path / "a.txt") == [{"text": "First line"}, {"text": "second"}, {"text": "Next"}]
    assert [row["text"] for row in rows_of(tmp_path / "a.txt", paragraphs=True)] == [
        "First line\r\nsecond\n\n \n", "Next\n\n"
    ]  # fmt: skip
    (tmp_path / "long.txt").write_text("0123456789\n" * 20_000)
    pieces = [str(row["text"]) for row in rows_of(tmp_path / "long.txt", paragraphs=True)]
    assert "".join(pieces) == "0123456789\n" * 20_000 and len(pieces) == 4


def test_tiny_shakespeare_is_whole_again_from_its_paragraphs(shared: Path) -> None:
    path = shared / "tiny-shakespeare/input.txt.gz"
    rows = rows_of(path, paragraphs=True)
    assert "".join(str(row["text"]) for row in rows) == gzip.decompress(path.read_bytes()).decode()
    assert len(rows) > 1_000


def test_typed_values_become_json(tmp_path: Path) -> None:
    moment = datetime(2024, 2, 29, 12, 30, 15, 250)
    row = {"when": moment, "price": Decimal("9.90"), "photo": b"\xff\x00", "score": float("nan"), "tags": ["a", "b"]}
    table = pa.Table.from_pylist([row])
    nano = table.set_column(0, "when", pa.array([1_709_209_815_000_250_999], pa.timestamp("ns")))
    pq.write_table(nano, tmp_path / "nano.parquet")
    expected = {**row, "when": "2024-02-29T12:30:15.000250", "price": "9.90", "photo": "/wA=", "score": None}
    assert rows_of([row]) == rows_of(table) == rows_of(tmp_path / "nano.parquet") == [expected]


def test_values_that_json_cannot_hold_are_bad() -> None:
    found = list(open_rows([{"id": 2**70}, {"id": 1}, {"x": object}, {"x": "\ud800"}]))
    assert [type(result) for result in found] == [Bad, Record, Bad, Bad]
    assert found[0].raw == b"{'id': 1180591620717411303424}"


def test_encodings_are_found_and_told(tmp_path: Path) -> None:
    chinese = "user,text\n" + "".join(f"{number},质量很好，发货快\n" for number in range(50))
    (tmp_path / "gbk.csv").write_text(chinese, encoding="gbk")
    (tmp_path / "late.csv").write_text("user,text\n" + "1,plain\n" * 200_000 + "2,中文\n", encoding="gb18030")
    (tmp_path / "latin.csv").write_text("user,text\n1,élan vital\n2,Zürich\n", encoding="latin-1")
    (tmp_path / "minified.json").write_text(json.dumps([{"t": "汉字" * 400_000}], ensure_ascii=False), encoding="gbk")
    (tmp_path / "utf8.csv").write_bytes(chinese.encode() + b"99,\xff\xfe\n")
    encodings = {name: [*open_rows(tmp_path / name).encodings.values()] for name in
                 ("gbk.csv", "late.csv", "latin.csv", "minified.json", "utf8.csv")}  # fmt: skip
    assert encodings == {"gbk.csv": ["gb18030"], "late.csv": ["gb18030"], "latin.csv": ["utf-8"],
                         "minified.json": ["gb18030"], "utf8.csv": ["utf-8"]}  # fmt: skip
    assert rows_of(tmp_path / "gbk.csv")[49] == {"user": "49", "text": "质量很好，发货快"}
    assert rows_of(tmp_path / "late.csv")[-1]["text"] == "中文"
    assert rows_of(tmp_path / "minified.json")[0]["t"] == "汉字" * 400_000
    for name, lines in (("latin.csv", [2, 3]), ("utf8.csv", [52])):
        bad = [result for result in open_rows(tmp_path / name) if isinstance(result, Bad)]
        assert [(result.line, result.reason) for result in bad] == [(line, "encoding") for line in lines]


def test_lines_of_utf8_in_a_file_of_gb18030_are_read_as_what_they_are(tmp_path: Path) -> None:
    gbk = [f'{{"text": "质量很好，发货快 {number}"}}' for number in range(90)]
    utf8 = ['{"text": "颜色也漂亮"}', '{"text": "你好"}', '{"text": "plain"}']
    raw = [line.encode("gbk") for line in gbk] + [line.encode() for line in utf8]
    (tmp_path / "mixed.jsonl").write_bytes(b"\n".join(raw))
    assert list(open_rows(tmp_path / "mixed.jsonl").encodings.values()) == ["gb18030"]
    assert [row["text"] for row in rows_of(tmp_path / "mixed.jsonl")] == [
        json.loads(line)["text"] for line in gbk + utf8
    ]


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
def test_utf16_without_its_mark_is_found(tmp_path: Path, encoding: str) -> None:
    (tmp_path / "a.csv").write_bytes("user,text\n1,质量很好\n2,fine\n".encode(encoding))
    assert list(open_rows(tmp_path / "a.csv").encodings.values()) == [encoding]
    assert rows_of(tmp_path / "a.csv") == [{"user": "1", "text": "质量很好"}, {"user": "2", "text": "fine"}]
    (tmp_path / "nul.csv").write_bytes(b"user,text\n1,a\0b\n2,fine and without any\n")
    assert [type(row) for row in open_rows(tmp_path / "nul.csv")] == [Bad, Record]


DAMAGE = {
    "encoding": b'{"id": "\xff\xfe broken"}\n',
    "encoding ": '{"id": "中文"}\n'.encode("gbk"),
    "nul": b'{"id": "a\x00b"}\n',
    "not_json": b'{"id": "cut off\n',
    "not_json ": b'{"id": NaN}\n',
    "not_json  ": b'{"id": "\\ud800"}\n',
    "not_json   ": b'{"id": 1} {"id": 2}\n',
    "not_json    ": b"id: 7\r\n",
    "not_object": b"[1, 2]\n",
    "not_object ": b"null\n",
    "empty": b"\n",
    "empty ": b"  \t\r\n",
}


def test_every_damaged_line_of_jsonl_is_kept_byte_for_byte(tmp_path: Path) -> None:
    draw = random.Random(0)
    lines, expected, good = [], [], 0
    for number in range(20_000):
        if draw.random() < 0.02:
            kind, raw = draw.choice(list(DAMAGE.items()))
            expected.append((number + 1, raw, kind.strip()))
            lines.append(raw)
        else:
            lines.append(f'{{"id": {number}, "text": "第{number}行"}}\n'.encode())
            good += 1
    lines.append(b'{"id": "last"}')
    (tmp_path / "damaged.jsonl").write_bytes(b"".join(lines))
    found = list(open_rows(tmp_path / "damaged.jsonl"))
    assert [(bad.line, bad.raw, bad.reason) for bad in found if isinstance(bad, Bad)] == expected
    assert sum(isinstance(record, Record) for record in found) == good + 1
    assert b"".join(result.raw for result in found) == b"".join(lines)


def test_a_stray_quote_costs_one_line_of_csv(tmp_path: Path) -> None:
    good = [f'{number},"says ""{number}"", then\nmore"\n' for number in range(5_000)]
    lines = ["id,text\n", *good]
    bad = {100: '100,"never closed\n', 2_000: '2000,"a" b\n', 3_000: "3000,a,b\n", 4_000: "4000\n", 4_500: "\n"}
    for place, line in bad.items():
        lines[place] = line
    (tmp_path / "quotes.csv").write_text("".join(lines))
    found = list(open_rows(tmp_path / "quotes.csv"))
    assert [(result.raw.decode(), result.reason) for result in found if isinstance(result, Bad)] == [
        (bad[100], "not_csv"), (bad[2_000], "not_csv"), (bad[3_000], "fields"), (bad[4_000], "fields"), ("\n", "empty")
    ]  # fmt: skip
    records = [result for result in found if isinstance(result, Record)]
    assert len(records) == 4_995
    assert records[-1].row == {"id": "4999", "text": 'says "4999", then\nmore'}
    assert b"".join(result.raw for result in found) == "".join(lines[1:]).encode()


def test_a_quote_that_never_closes_does_not_swallow_the_file(tmp_path: Path) -> None:
    (tmp_path / "open.csv").write_text('id,text\n1,"open\n' + "2,fine\n" * 30_000)
    counts = Counter(type(result) for result in open_rows(tmp_path / "open.csv"))
    assert counts == {Bad: 1, Record: 30_000}


def test_a_broken_array_gives_what_stood_before_and_keeps_the_rest(tmp_path: Path) -> None:
    text = '[{"a": 1},\n {"a": "\\ud800"}, {"a": NaN}, 5, {"a": 2},\n {"a": }, {"a": 3}]'
    (tmp_path / "broken.json").write_text(text)
    found = list(open_rows(tmp_path / "broken.json"))
    assert [(result.line, result.raw.decode(), getattr(result, "reason", "")) for result in found] == [
        (1, '{"a": 1}', ""),
        (2, '{"a": "\\ud800"}', "not_json"),
        (2, '{"a": NaN}', "not_json"),
        (2, "5", "not_object"),
        (2, '{"a": 2}', ""),
        (3, '{"a": }, {"a": 3}]', "not_json"),
    ]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16-le"])
def test_a_line_too_long_comes_in_pieces(tmp_path: Path, encoding: str) -> None:
    mark = codecs.BOM_UTF16_LE if encoding == "utf-16-le" else b""
    long = ('{"id": "' + "x" * (2 * LONGEST + 5) + '"}\n').encode(encoding)
    exact = ('{"id":"' + "y" * (LONGEST // len("y".encode(encoding)) - 10) + '"}\n').encode(encoding)
    (tmp_path / "long.jsonl").write_bytes(mark + long + exact + '{"id": 3}'.encode(encoding))
    found = list(open_rows(tmp_path / "long.jsonl"))
    pieces = [result for result in found if isinstance(result, Bad)]
    assert {(piece.line, piece.reason) for piece in pieces} == {(1, "too_long")}
    assert [piece.piece for piece in pieces] == list(range(len(pieces)))
    assert b"".join(piece.raw for piece in pieces) == mark + long
    assert max(len(piece.raw) for piece in pieces) <= LONGEST + 2
    assert next((record.line, len(record.raw)) for record in found if isinstance(record, Record)) == (2, len(exact))
    assert found[-1].line == 3


def test_memory_stays_flat(tmp_path: Path) -> None:
    row = json.dumps({"text": "x" * 1_000})
    (tmp_path / "big.json").write_text("[" + ",\n".join([row] * 40_000) + "]")
    (tmp_path / "big.jsonl").write_text(f"{row}\n" * 40_000)
    for name in ("big.json", "big.jsonl"):
        tracemalloc.start()
        assert sum(1 for _ in open_rows(tmp_path / name)) == 40_000
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert peak < 12 << 20, name  # of 40 MB


def without_blank_end(raw: bytes, encoding: str) -> bytes:
    """A file without the blank lines at its end, which are the only bytes a reader may leave out."""
    lines = raw.decode(encoding, errors="surrogateescape").split("\n")
    kept = [line + "\n" for line in lines[:-1]] + lines[-1:]
    while kept and not kept[-1].removeprefix("\ufeff").strip():
        kept.pop()
    return "".join(kept).encode(encoding, errors="surrogateescape")


PIECES = [*b'" , \n \r \t a {} {"a":1} \xe4\xb8\xad \xff \0 \xef\xbb\xbf'.split(b" "), b" "]


@given(raw=st.lists(st.sampled_from(PIECES)).map(b"".join))
def test_no_byte_is_lost_whatever_a_file_holds(raw: bytes) -> None:
    text = Text("x", lambda: io.BytesIO(raw), "utf-8")
    assert b"".join(result.raw for result in read_paragraphs(text)) == raw
    kept = without_blank_end(raw, "utf-8")
    assert b"".join(result.raw for result in TEXT_READERS[".jsonl"](text)) == kept
    assert len("".join(result.row["text"] for result in read_lines(text) if isinstance(result, Record))) <= len(raw)
    for suffix, heading in ((".csv", b"a,b\n"), (".tsv", b"a\tb\n")):
        table = Text("x", partial(io.BytesIO, heading + raw), "utf-8")
        assert b"".join(result.raw for result in TEXT_READERS[suffix](table)) == kept


@given(raw=st.lists(st.sampled_from([b"\n", b"\0", b"\r", b"\xd8", b"\xff\xfe", b"a", b"\n\n", b"{"])).map(b"".join))
@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be", "gb18030"])
def test_no_byte_is_lost_in_other_encodings(encoding: Encoding, raw: bytes) -> None:
    assert b"".join(result.raw for result in read_paragraphs(Text("x", partial(io.BytesIO, raw), encoding))) == raw


@given(pieces=st.lists(st.sampled_from(["[", "]", "{}", '{"a":', "1", ",", "\n", '"', "中", "\ufeff", "NaN"])))
def test_json_gives_bad_and_never_fails(pieces: list[str]) -> None:
    raw = "".join(pieces).encode()
    results = list(TEXT_READERS[".json"](Text("x", partial(io.BytesIO, raw), "utf-8")))
    outside = re.sub(rb"[\s,\[\]]|\xef\xbb\xbf", b"", raw)
    assert re.sub(rb"[\s,\[\]]|\xef\xbb\xbf", b"", b"".join(result.raw for result in results)) == outside


@pytest.mark.parametrize(
    ("name", "content", "key"),
    [
        ("twice.csv", b"a,b,a\n1,2,3\n", "sources.twice"),
        ("nothing.csv", b"\n\n1,2\n", "sources.no_heading"),
        ("broken.csv", b"\xff,b\n1,2\n", "sources.no_heading"),
        ("cut.jsonl.gz", gzip.compress(jsonl(ROWS * 100).encode())[:-20], "sources.damaged"),
        ("no.jsonl.gz", b"not gzip", "sources.damaged"),
        ("no.parquet", b"PAR1 but no more", "sources.damaged"),
        ("no.sqlite", b"no database" * 100, "sources.damaged"),
        ("table.xls", b"", "sources.kind"),
        ("weights.gguf", b"", "sources.kind"),
    ],
)
def test_what_cannot_be_read_says_so(tmp_path: Path, name: str, content: bytes, key: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(SourceError) as caught:
        list(open_rows(tmp_path / name))
    assert caught.value.key == f"error.{key}"
    assert all(name in caught.value.say(language) for language in LANGUAGES)


def test_an_empty_file_has_no_rows(tmp_path: Path) -> None:
    for name in ("a.csv", "a.tsv", "a.jsonl", "a.json", "a.txt"):
        (tmp_path / name).write_bytes(b"")
        assert rows_of(tmp_path / name) == []


def test_headings_are_trimmed_and_nameless_columns_get_a_name(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(", 商品 ,\n1,2,3\n")
    assert rows_of(tmp_path / "a.csv") == [{"column1": "1", "商品": "2", "column3": "3"}]


def test_a_folder_gives_its_files_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("data/b").mkdir(parents=True)
    Path("data/a.csv").write_text("x\n1\n")
    Path("data/b/c.jsonl").write_text('{"x": 2}\n')
    Path("data/notes.docx").write_text("")
    Path("data/.hidden.csv").write_text("x\n9\n")
    rows = open_rows("data")
    assert [(r.source, r.line, r.row) for r in rows if isinstance(r, Record)] == [
        ("data/a.csv", 2, {"x": "1"}), ("data/b/c.jsonl", 1, {"x": 2})
    ]  # fmt: skip
    assert list(rows.fingerprint) == list(rows.encodings) == ["data/a.csv", "data/b/c.jsonl"]
    assert rows.licence is None
    Path("empty").mkdir()
    with pytest.raises(SourceError, match="holds no file"):
        open_rows("empty")


def test_a_fingerprint_is_of_the_content(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("x\n1\n")
    before = open_rows(path).fingerprint
    assert before == open_rows(path).fingerprint
    path.write_text("x\n2\n")
    assert list(before.values()) != list(open_rows(path).fingerprint.values())
    assert open_rows(ROWS).fingerprint == open_rows(pa.Table.from_pylist(ROWS)).fingerprint
    assert open_rows(ROWS).fingerprint != open_rows(ROWS[1:]).fingerprint


def test_rows_can_be_read_again(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text(jsonl(ROWS))
    for rows in (open_rows(tmp_path / "a.jsonl"), open_rows(iter(ROWS)), open_rows(pa.Table.from_pylist(ROWS))):
        assert list(rows) == list(rows) and len(list(rows)) == 3


def test_a_row_can_turn_out_bad_later() -> None:
    record = next(iter(open_rows([{"text": ""}])))
    assert isinstance(record, Record)
    assert record.bad("empty") == Bad("rows", 1, b'{"text":""}', "empty")


def test_every_reason_has_a_sentence() -> None:
    for reason in {kind.strip() for kind in DAMAGE} | {"too_long", "not_csv", "fields"}:
        assert {say(f"bad.{reason}", language) for language in LANGUAGES} != {""}


def test_real_files_of_every_kind_read_without_a_bad_row(shared: Path) -> None:
    for name, count in {
        "telco-churn/data.csv.gz": 7_043,
        "chnsenticorp/test.jsonl.gz": 1_200,
        "clinc150/domains.json.gz": 1,
        "tang-poetry/test.jsonl.gz": 5_802,
        "clothing-reviews/data.csv.gz": 23_486,
    }.items():
        assert len(rows_of(shared / name)) == count
    assert len(rows_of(f"sqlite:{shared}/geoquery-sql/geography.sqlite?SELECT * FROM state")) == 51
