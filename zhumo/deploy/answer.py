"""`zhumo answer`: a file of rows through a bundle, by the same `answer` that evaluates and serves."""

import base64
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import chain, islice
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import orjson
import pyarrow as pa
import pyarrow.parquet as pq
from rich.console import Console
from rich.progress import Progress

from zhumo.bundle import Bundle, load
from zhumo.deploy.requests import OPTIONS
from zhumo.deploy.routes import SHELF
from zhumo.deploy.sums import check_sums
from zhumo.errors import DataError, ModelError
from zhumo.prepare.columns import Columns, Unusable
from zhumo.prepare.histories import gather
from zhumo.recipe import parse_yaml
from zhumo.sources import Bad, Record, open_rows
from zhumo.tasks import Answer, Field, Row, Task
from zhumo.words import say

AT_ONCE = 64
USERS_AT_ONCE = 1_024  # a recommender makes its own batches of them
HISTORY = ("user", "item", "time")  # what of an interaction makes a history
# What a row asks with, and whether it must; a task's other fields are what it is asked for.
ASKED: Mapping[str, Mapping[str, Field]] = {
    "classify": {"text": Field(str)},
    "tag": {"text": Field(str)},
    "embed": {"text": Field(str), "match": Field(str, needed=False)},
    "rerank": {"text": Field(str), "documents": Field(list, texts=True)},
    "recommend": {"items": Field(list)},
    "translate": {"source": Field(str)},
    "write": {"messages": Field(list, needed=False), "system": Field(str, needed=False),
              "prompt": Field(str, needed=False), "text": Field(str, needed=False)},
}  # fmt: skip
TYPED = (*OPTIONS, *SHELF[1:])  # taken from a row where the source can say what kind of value they are
RANKED = {"rank": pa.int32(), "item": pa.string(), "score": pa.float32()}
Mapped = Mapping[str, Any]
Found = Record | Bad


class Asked(NamedTuple):
    """A row to be asked, what in its answer says which it was, and the record it came from."""

    row: Row
    place: dict[str, Any]
    record: Record


class Lines:
    """Answers as one JSON a line."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file

    def add(self, answers: Sequence[Answer]) -> None:
        """Write answers, each with the place that says which it was."""
        self._file.writelines(orjson.dumps(answer) + b"\n" for answer in answers)

    def close(self) -> None:
        """A line is whole as it is."""


class Table:
    """Lists of items as one parquet table: who (`user`, or `line`), rank from 1, item, score."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._writer: pq.ParquetWriter | None = None

    def add(self, answers: Sequence[Answer]) -> None:
        """Write lists, each with the place that says whose it is."""
        who = next(iter(answers[0])) if answers else "user"
        lines = [(answer[who], rank, item) for answer in answers for rank, item in enumerate(answer["items"], 1)]
        kinds = {who: pa.int64() if who == "line" else pa.string(), **RANKED}
        columns = [
            [one[0] for one in lines],
            [one[1] for one in lines],
            *([one[2][name] for one in lines] for name in ("id", "score")),
        ]
        table = pa.table(
            [pa.array(column, kind) for column, kind in zip(columns, kinds.values(), strict=True)], names=[*kinds]
        )
        if self._writer is None:
            self._writer = pq.ParquetWriter(self._file, table.schema)
        self._writer.write_table(table)

    def close(self) -> None:
        """Write what ends a table, also an empty one."""
        if self._writer is None:
            self.add([])
        assert self._writer is not None
        self._writer.close()


def answer_file(folder: str | Path, source: str, out: str | Path) -> dict[str, int]:
    """Answer every row of a source into `out`, in order; returns how many `rows`, `answers` and `quarantined`.

    Columns are those of the bundle's recipe where the source has them, else the task's own names. Each answer is one
    JSON a line with the `line` it came from. What cannot be asked goes to `OUT.quarantine.jsonl` with its line, bytes
    and reason. A recommender takes rows with `items` (a list, or ids with commas between), or one row an interaction,
    which are gathered into one answer a `user`; where `out` ends in .parquet its lists become a table.

    Raises:
        ModelError: not a bundle, or a damaged one.
        SourceError: there is no such source.
        DataError: the source has no column that could be asked, or the answers make no table.
    """
    check_sums(Path(folder))
    bundle = load(folder)
    if bundle.task is None:
        raise ModelError("model.no_task", folder=folder)
    path = Path(out)
    lists = bundle.task.name == "recommend"
    if path.suffix == ".parquet" and not lists:
        raise DataError("answer.no_table", path=path, task=bundle.task.name)
    aside = path.with_name(f"{path.name}.quarantine.jsonl")
    counts = {"rows": 0, "answers": 0, "quarantined": 0}
    asked = _asked(bundle.task, _prepared(Path(folder)), open_rows(source))
    with _whole(path) as good, _whole(aside) as bad, Progress(console=Console(stderr=True), transient=True) as bar:
        shown = bar.add_task(say("cli.answer.doing"), total=None)
        sink = Table(good) if path.suffix == ".parquet" else Lines(good)
        while part := list(islice(asked, USERS_AT_ONCE if lists else AT_ONCE)):
            found = list(_answered(bundle, part))
            answers = [one for one in found if not isinstance(one, Bad)]
            sink.add(answers)
            bad.writelines(orjson.dumps(_note(one)) + b"\n" for one in found if isinstance(one, Bad))
            counts["rows"] += len(part)
            counts["answers"] += len(answers)
            counts["quarantined"] += len(found) - len(answers)
            bar.update(shown, completed=counts["rows"])
        sink.close()
    if not counts["quarantined"]:
        aside.unlink()
    return counts


def _prepared(folder: Path) -> Mapping[str, Any]:
    """What the bundle's recipe says of columns."""
    path = folder / "recipe.yaml"
    recipe = parse_yaml(path.read_text(encoding="utf-8"), str(path))[0] if path.is_file() else {}
    section: Mapping[str, Any] = recipe.get("prepare", {})
    return section


def _asked(task: Task, section: Mapping[str, Any], records: Iterable[Found]) -> Iterator[Asked | Bad]:
    """Each record as a row of the task; one that cannot be asked as Bad."""
    mapped: Mapped = section.get("columns", {})
    stream, head = iter(records), list[Found]()
    for found in stream:
        head.append(found)
        if isinstance(found, Record):
            break
    first = next((found for found in head if isinstance(found, Record)), None)
    everything = chain(head, stream)
    if first is not None and task.name == "recommend" and not _has("items", mapped, first):
        traits = [name for name in section.get("traits", []) if name in first.row]
        fields = {name: task.fields[name] for name in HISTORY}
        return _users(_columns(fields, mapped, first, traits), traits, everything)
    return _rows(task, _columns(ASKED[task.name], mapped, first) if first else None, everything)


def _has(name: str, mapped: Mapped, record: Record) -> bool:
    return name in record.row or mapped.get(name) in record.row


def _columns(fields: Mapping[str, Field], mapped: Mapped, first: Record, extra: Sequence[str] = ()) -> Columns:
    """How records become rows: by the recipe's columns where the source has them, else by the task's own names.

    Raises:
        DataError: the source has no column of a needed field.
    """
    there = {
        name: columns
        for name, columns in mapped.items()
        if name in fields and any(one in first.row for one in ([columns] if isinstance(columns, str) else columns))
    }
    columns = Columns(fields, there, extra, "nfc")
    columns.check(first.row, first.source)
    return columns


def _rows(task: Task, columns: Columns | None, records: Iterable[Found]) -> Iterator[Asked | Bad]:
    for found in records:
        if isinstance(found, Bad) or columns is None:
            yield found if isinstance(found, Bad) else found.bad("empty")
            continue
        try:
            row = _ready(task, columns.row(found.row))
        except Unusable as error:
            yield found.bad(error.reason)
            continue
        typed = {name: found.row[name] for name in TYPED if isinstance(found.row.get(name), int | float | list | dict)}
        yield Asked({**row, **typed}, {"line": found.line}, found)


def _ready(task: Task, row: Row) -> Row:
    """A row in the form the task is asked in: ids as a list, and a prompt as a chat where the model knows chats."""
    if "items" in row:
        return {"items": _items(row["items"])}
    if "prompt" in row and task.tokenizer is not None and task.tokenizer.template is not None:
        system = [{"role": "system", "content": row["system"]}] if "system" in row else []
        return {"messages": [*system, {"role": "user", "content": row["prompt"]}]}
    if not row:
        raise Unusable("no_value", "text")
    return row


def _items(value: Sequence[Any]) -> list[str]:
    """Ids from a list, or from one text with commas between them."""
    if len(value) == 1 and isinstance(value[0], str):
        value = [item.strip() for item in value[0].split(",")]
    return [str(item) for item in value if item != ""]


def _users(columns: Columns, traits: Sequence[str], records: Iterable[Found]) -> Iterator[Asked | Bad]:
    """Interactions gathered into one history a user; all must be read before the first is whole."""
    last, bad = dict[str, Record](), list[Bad]()

    def usable() -> Iterator[Row]:
        for found in records:
            if isinstance(found, Bad):
                bad.append(found)
                continue
            try:
                row = columns.row(found.row)
            except Unusable as error:
                bad.append(found.bad(error.reason))
                continue
            last[row["user"]] = found
            yield row

    histories = gather(usable(), traits)
    yield from bad
    for row in histories:
        asked: Row = {name: row[name] for name in ("items", "times", "traits") if name in row}
        yield Asked(asked, {"user": row["user"]}, last[row["user"]])


def _answered(bundle: Bundle, part: Sequence[Asked | Bad]) -> Iterator[Answer | Bad]:
    """The answers of a part, in order; if one row spoils it, each by itself."""
    asked = [found for found in part if isinstance(found, Asked)]
    try:
        answers: list[Answer | Bad] = list(bundle.answer([one.row for one in asked]))
    except DataError:
        answers = [_alone(bundle, one) for one in asked]
    rest = iter(zip(asked, answers, strict=True))
    for found in part:
        if isinstance(found, Bad):
            yield found
            continue
        one, answer = next(rest)
        yield answer if isinstance(answer, Bad) else {**one.place, **answer}


def _alone(bundle: Bundle, one: Asked) -> Answer | Bad:
    try:
        return bundle.answer([one.row])[0]
    except DataError as error:
        return one.record.bad(str(error))


def _note(bad: Bad) -> dict[str, Any]:
    raw = base64.b64encode(bad.raw).decode()
    return {"source": bad.source, "line": bad.line, "reason": bad.reason, "bytes": raw}


@contextmanager
def _whole(path: Path) -> Iterator[BinaryIO]:
    """A file that is there whole, or as it was before."""
    part = path.with_name(f".{path.name}.part")
    try:
        with part.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
