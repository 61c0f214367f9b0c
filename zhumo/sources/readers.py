"""One reader a format: each yields every row of a source as a Record and everything else in it as Bad."""

import base64
import csv
import datetime
import decimal
import io
import json
import re
import sqlite3
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path

import orjson
import pyarrow as pa
import pyarrow.parquet as pq

from zhumo.errors import SourceError
from zhumo.sources.lines import BLOCK, LONGEST, Bad, Line, Record, Text

Results = Iterator[Record | Bad]
MOST_LINES = 1_000  # of one quoted CSV record: a stray quote must not swallow the file
LONGEST_PARAGRAPH = 1 << 16  # characters, after which a paragraph is cut at the next line break
BETWEEN = re.compile(r"[\s,\]]*")
ATOMIC = re.compile(r"(.+):(?:token|token_seq|float|float_seq)")  # RecBole's typed headings
READING = (sqlite3.SQLITE_SELECT, sqlite3.SQLITE_READ, sqlite3.SQLITE_FUNCTION, sqlite3.SQLITE_RECURSIVE)


def read_jsonl(text: Text) -> Results:
    """One JSON object a line."""
    for line in _no_blank_end(text.lines()):
        yield line if isinstance(line, Bad) else _json_row(text.name, line)


def read_json(text: Text) -> Results:
    """An array of objects, one object, or objects one after the other; the file may be larger than memory.

    After a syntax error what follows cannot be told apart any more, so all of it comes as Bad pieces; a file of one
    object a line is read by `read_jsonl`, which goes on after such an error.
    """
    first = next(text.lines(), None)
    by_line = isinstance(first, Line) and isinstance(_json_row(text.name, first), Record)
    return read_jsonl(text) if by_line else _json_values(text)


def _json_values(text: Text) -> Results:
    errors = "surrogatepass" if text.encoding.startswith("utf-16") else "surrogateescape"
    with text.open() as binary, io.TextIOWrapper(binary, text.encoding, errors, newline="") as stream:
        torn = 0
        for number, piece, ended in _values(stream):
            raw = piece.encode(text.encoding, errors)
            if ended:
                yield _json_row(text.name, Line(number, raw, piece))
            else:
                yield Bad(text.name, number, raw, "not_json", torn)
                torn += 1


def _values(stream: io.TextIOBase) -> Iterator[tuple[int, str, bool]]:
    """(line, characters, True) of each JSON value, then (line, characters, False) of what cannot be cut into values."""
    extent = json.JSONDecoder(strict=False).raw_decode  # only finds where a value ends; orjson judges it
    opening = re.compile(r"\ufeff?\s*\[?\s*")
    buffer, at, line = stream.read(BLOCK), 0, 1
    between = opening
    while buffer:
        gap = between.match(buffer, at)
        assert gap is not None, "the pattern matches nothing, too"
        between, at, line = BETWEEN, gap.end(), line + gap.group().count("\n")
        try:
            _, end = extent(buffer, at)
        except (ValueError, RecursionError):
            more = stream.read(BLOCK) if len(buffer) - at <= LONGEST else ""
            if not more:
                break
            buffer, at = buffer[at:] + more, 0
            continue
        yield line, buffer[at:end], True
        at, line = end, line + buffer.count("\n", at, end)
    rest = buffer[at:]
    while rest:
        yield line, rest, False
        line, rest = line + rest.count("\n"), stream.read(BLOCK)


def _json_row(name: str, line: Line) -> Record | Bad:
    try:
        row = orjson.loads(line.text)
    except orjson.JSONDecodeError:
        return Bad(name, line.number, line.raw, "not_json" if line.text.strip() else "empty")
    if not isinstance(row, dict):
        return Bad(name, line.number, line.raw, "not_object")
    return Record(row, name, line.number, line.raw)


def read_csv(text: Text) -> Results:
    """Rows under a heading, by RFC 4180, divided by the one of `, ; tab |` that is most often in the heading.

    Values stay text. A record that does not parse costs its first line; reading goes on with the next.
    """
    return _table(text, None)


def read_tsv(text: Text) -> Results:
    """Rows under a heading, divided by tabs; quotes are letters, as in the registered text/tab-separated-values.

    Where every heading carries one of RecBole's types (`user_id:token`), the types are left off.
    """
    return _table(text, "\t")


class _Tape:
    """Lines for a csv.reader, remembered until its record is known to be good, so that they can be read again."""

    def __init__(self, lines: Iterator[Line | Bad]) -> None:
        self.lines = lines
        self.ahead: deque[Line | Bad] = deque()
        self.taken: list[Line] = []

    def peek(self) -> Line | Bad | None:
        if not self.ahead and (line := next(self.lines, None)):
            self.ahead.append(line)
        return self.ahead[0] if self.ahead else None

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        line = self.peek()
        if not isinstance(line, Line) or len(self.taken) >= MOST_LINES:
            raise StopIteration  # within a quoted field, csv.reader then finds its end missing
        self.ahead.popleft()
        self.taken.append(line)
        return line.text

    def keep(self) -> bytes:
        """The bytes of the lines taken, which are done with."""
        raw = b"".join(line.raw for line in self.taken)
        self.taken.clear()
        return raw

    def give_back(self) -> Line:
        """The first line taken; those after it are to be read again."""
        first, *others = self.taken
        self.ahead.extendleft(reversed(others))
        self.taken.clear()
        return first


def _table(text: Text, delimiter: str | None) -> Results:
    tape = _Tape(_no_blank_end(text.lines()))
    first = tape.peek()
    if first is None:
        return
    if isinstance(first, Bad):
        raise SourceError("sources.no_heading", source=text.name)
    csv.field_size_limit(LONGEST)
    if delimiter is None:
        reader = csv.reader(tape, delimiter=max(",;\t|", key=first.text.count), strict=True)
    else:
        reader = csv.reader(tape, delimiter=delimiter, quoting=csv.QUOTE_NONE)
    heading, _ = _fields(reader)
    if not any(heading):
        raise SourceError("sources.no_heading", source=text.name)
    columns = columns_of(text.name, heading)
    tape.keep()
    while (line := tape.peek()) is not None:
        if isinstance(line, Bad):
            tape.ahead.popleft()
            yield line
            continue
        fields, reason = _fields(reader)
        if not reason and len(fields) != len(columns):
            reason = "fields" if fields else "empty"
        if reason:
            start = tape.give_back()
            yield Bad(text.name, start.number, start.raw, reason)
        else:
            yield Record(dict(zip(columns, fields, strict=True)), text.name, line.number, tape.keep())


def _fields(reader: Iterator[list[str]]) -> tuple[list[str], str]:
    try:
        return next(reader), ""
    except csv.Error:
        return [], "not_csv"


def columns_of(source: str, heading: Sequence[str]) -> list[str]:
    """Names of columns: trimmed, each once, `columnN` where one has none."""
    typed = [ATOMIC.fullmatch(name) for name in heading]
    if all(typed):
        heading = [match.group(1) for match in typed if match]
    columns = [name.strip() or f"column{number}" for number, name in enumerate(heading, 1)]
    twice = next((name for name in columns if columns.count(name) > 1), None)
    if twice is not None:
        raise SourceError("sources.twice", source=source, column=twice)
    return columns


def _no_blank_end(lines: Iterator[Line | Bad]) -> Iterator[Line | Bad]:
    """All lines but the blank ones at the end of the file (up to 1,000), which hold no row."""
    blank: list[Line] = []
    for line in lines:
        if isinstance(line, Line) and not line.text.strip() and len(blank) < MOST_LINES:
            blank.append(line)
            continue
        yield from blank
        blank.clear()
        yield line


def read_lines(text: Text) -> Results:
    """Each line that is not blank as a row {"text": line}, without its line break."""
    for line in text.lines():
        if isinstance(line, Bad):
            yield line
        elif line.text.strip():
            yield Record({"text": line.text.rstrip("\r\n")}, text.name, line.number, line.raw)


def read_paragraphs(text: Text) -> Results:
    """Each paragraph as a row {"text": paragraph} with its line breaks and the blank lines after it.

    So the rows, joined, are the file again. A paragraph ends where a line follows a blank one, or after 65,536
    characters at the next line break.
    """
    held: list[Line] = []
    size = 0
    for line in text.lines():
        ends = held and not held[-1].text.strip() and bool(isinstance(line, Bad) or line.text.strip())
        if held and (ends or size >= LONGEST_PARAGRAPH or isinstance(line, Bad)):
            yield _paragraph(text.name, held)
            held, size = [], 0
        if isinstance(line, Bad):
            yield line
        else:
            held.append(line)
            size += len(line.text)
    if held:
        yield _paragraph(text.name, held)


def _paragraph(name: str, lines: list[Line]) -> Record:
    whole = "".join(line.text for line in lines)
    return Record({"text": whole}, name, lines[0].number, b"".join(line.raw for line in lines))


def read_parquet(name: str, path: Path) -> Results:
    """Rows of a Parquet file, in batches."""
    with pq.ParquetFile(path) as file:
        columns_of(name, file.schema_arrow.names)
        yield from read_values(name, (row for batch in file.iter_batches(4_096) for row in _rows(batch)))


def read_arrow(name: str, table: pa.Table) -> Results:
    """Rows of an Arrow table."""
    columns_of(name, table.schema.names)
    yield from read_values(name, (row for batch in table.to_batches(4_096) for row in _rows(batch)))


def _rows(batch: pa.RecordBatch) -> list[dict[str, object]]:
    """Python has no nanoseconds, so times are cut to microseconds."""
    schema = pa.schema([(field.name, _microseconds(field.type)) for field in batch.schema])
    rows: list[dict[str, object]] = batch.cast(schema, safe=False).to_pylist()
    return rows


def _microseconds(kind: pa.DataType) -> pa.DataType:
    nano = pa.types.is_timestamp(kind) and kind.unit == "ns"
    return pa.timestamp("us", kind.tz) if nano else kind


def read_values(name: str, rows: Iterable[Mapping[str, object]]) -> Results:
    """Rows of typed values as JSON: dates and times in ISO form, decimals as text, bytes as base64, NaN as null."""
    for number, row in enumerate(rows, 1):
        try:
            raw = orjson.dumps(row, _as_text, orjson.OPT_SERIALIZE_NUMPY)
        except TypeError:
            yield Bad(name, number, repr(row).encode(errors="backslashreplace"), "not_json")
            continue
        yield _json_row(name, Line(number, raw, raw.decode()))


def _as_text(value: object) -> str:
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if isinstance(value, (decimal.Decimal, datetime.timedelta)):
        return str(value)
    raise TypeError(type(value).__name__)


def read_sqlite(name: str, path: Path, query: str | None) -> Results:
    """The rows of a query, or of the only table. The database is opened to read, and nothing but reading is allowed.

    Raises:
        SourceError: more or fewer tables than one and no query.
    """
    with closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)) as database:
        database.text_factory = _sqlite_text
        database.set_authorizer(lambda action, *_: sqlite3.SQLITE_OK if action in READING else sqlite3.SQLITE_DENY)
        cursor = database.execute(query or f'SELECT * FROM "{_only_table(database, name)}"')
        columns = columns_of(name, [column[0] for column in cursor.description or ()])
        yield from read_values(name, (dict(zip(columns, row, strict=True)) for row in cursor))


def _sqlite_text(value: bytes) -> str:
    """Bytes that are no UTF-8 stay in the row as lone surrogates, which makes it Bad."""
    return value.decode(errors="surrogateescape")


def _only_table(database: sqlite3.Connection, name: str) -> str:
    query = "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%' ORDER BY name"
    tables = [str(row[0]) for row in database.execute(query)]
    if len(tables) != 1:
        raise SourceError("sources.which_table", source=name, tables=", ".join(tables))
    return tables[0].replace('"', '""')


TEXT_READERS: Mapping[str, Callable[[Text], Results]] = {
    ".csv": read_csv,
    ".tsv": read_tsv,
    ".inter": read_tsv,
    ".item": read_tsv,
    ".user": read_tsv,
    ".jsonl": read_jsonl,
    ".ndjson": read_jsonl,
    ".json": read_json,
    ".txt": read_lines,
}
PARQUET = (".parquet", ".parquet.brotli")
SQLITE = (".sqlite", ".sqlite3", ".db")
XLSX = ".xlsx"
