"""Looking at a user's own file and writing the recipe for it, saying what was guessed and why."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from zhumo.errors import DataError
from zhumo.prepare.chats import to_messages
from zhumo.prepare.columns import Unusable, as_number, as_time
from zhumo.sources import Bad, open_rows
from zhumo.tasks import Field, task_class
from zhumo.words import say

SAMPLE = 2_000
Record = Mapping[str, Any]


@dataclass(frozen=True)
class Guess:
    """A recipe as text, and a line a decision saying why."""

    recipe: str
    reasons: list[str]


def guess(task: str, source: str) -> Guess:
    """A commented recipe of at most 15 lines for the data in `source`.

    Raises:
        DataError: the file has no usable row, or no column looks like one the task needs.
    """
    records = [record.row for record in islice(open_rows(source), SAMPLE) if not isinstance(record, Bad)]
    if not records:
        raise DataError("data.no_rows", source=source, kept=0)
    if task == "write" and (found := to_messages(dict(records[0])))[0] is not None:
        return _write(task, source, {}, records, [say("cli.new.chat", form=found[1])])
    columns, reasons = _columns(task_class(task).fields, records, source)
    return _write(task, source, columns, records, reasons)


def _columns(fields: Mapping[str, Field], records: Sequence[Record], source: str) -> tuple[dict[str, str], list[str]]:
    """The likeliest pairs of a field and a column first, so that no field takes what looks more like another."""
    likely = {
        (name, column): _likeness(name, field, column, records)
        for name, field in fields.items()
        for column in records[0]
    }
    found: dict[str, str] = {}
    for name, column in sorted(likely, key=lambda pair: -likely[pair]):
        if likely[name, column] >= 1 and name not in found and column not in found.values():
            found[name] = column
    reasons = []
    for name, field in fields.items():
        if name in found:
            key = "cli.new.by_name" if field.likeness(found[name]) else "cli.new.by_values"
            reasons.append(say(key, field=name, column=found[name], sample=str(records[0].get(found[name]))[:40]))
        elif field.needed:
            raise DataError("data.no_guess", field=name, source=source, known=", ".join(records[0]))
    return {name: found[name] for name in fields if name in found}, reasons


def _likeness(name: str, field: Field, column: str, records: Sequence[Record]) -> float:
    """How much a column looks like a field: its heading first, its values where the heading says nothing."""
    values = [record.get(column) for record in records if record.get(column) not in (None, "")]
    if not values:
        return 0
    fits = _VALUE_TESTS.get(name, _any)(values)
    if named := field.likeness(column):
        return named + fits if fits or name not in _VALUE_TESTS else 0
    return fits if field.needed else 0


def _any(values: Sequence[Any]) -> float:
    return 0.5


def _long_text(values: Sequence[Any]) -> float:
    texts = [value for value in values if isinstance(value, str)]
    return 1 + min(4, sum(map(len, texts)) / len(texts) / 20) if len(texts) > 0.9 * len(values) else 0


def _category(values: Sequence[Any]) -> float:
    if any(isinstance(value, list) for value in values):
        return 2
    distinct = len({str(value) for value in values})
    return 3 if 2 <= distinct <= max(2, min(200, len(values) // 5)) else 0


def _identity(values: Sequence[Any]) -> float:
    distinct = len({str(value) for value in values})
    return 1 if 1 < distinct < len(values) else 0.1


def _numeric(values: Sequence[Any]) -> float:
    try:
        for value in values[:50]:
            as_number("price", value)
    except Unusable:
        return 0
    return 1


def _moment(values: Sequence[Any]) -> float:
    try:
        for value in values[:50]:
            as_time(value)
    except Unusable:
        return 0
    return 1


_VALUE_TESTS: dict[str, Callable[[Sequence[Any]], float]] = {
    "text": _long_text,
    "label": _category,
    "user": _identity,
    "item": _identity,
    "time": _moment,
    "price": _numeric,
}


def _write(task: str, source: str, columns: Mapping[str, str], records: Sequence[Record], reasons: list[str]) -> Guess:
    read = [_read(task, columns, record) for record in records]
    whole = "".join(text for texts in read for text in texts)
    chinese = sum("\u4e00" <= letter <= "\u9fff" for letter in whole) / max(1, len(whole))
    path = Path(source)
    lines = [f"# {say('cli.new.title', source=path.name)}", f"task: {task}", "prepare:", f"  source: {_quoted(source)}"]
    if columns:
        mapped = ", ".join(f"{name}: {_quoted(column)}" for name, column in columns.items())
        lines.append(f"  columns: {{{mapped}}}")
    if task == "recommend":
        lines += [
            f"  length: 50  # {say('cli.new.length_items')}",
            "build: {size: small, depth: 2, dropout: 0.2}",
            f"train: {{epochs: 10, batch: 32, patience: 3}}  # {say('cli.new.patience')}",
        ]
        return Guess("\n".join(lines) + "\n", reasons)
    # A question and a document, a prompt and its reply are read together; else it is one text at a time.
    together = sum if task in ("rerank", "write") else max
    lengths = [together(map(len, texts)) for texts in read if texts] or [0]
    longest = sorted(lengths)[len(lengths) * 95 // 100]
    tokens = longest if chinese > 0.2 else longest / 4
    length = next((size for size in (32, 64, 128, 256) if tokens * 1.2 <= size), 512)
    lines.append(f"  length: {length}  # {say('cli.new.length_tokens', characters=longest)}")
    if task == "write":
        lines += ["build: {start: smollm2-135m-instruct, lora: 16}", "train: {epochs: 1, batch: 16, precision: bf16}"]
        reasons.append(say("cli.new.start", start="smollm2-135m-instruct"))
    elif task == "translate":
        lines += [
            "build: {width: 192, depth: 3, heads: 4, hidden: 512, dropout: 0.15}",
            "train: {minutes: 30, batch: 128, lr: 4.0e-3, optimizer: muon, precision: bf16}",
        ]
    elif task == "tag":
        start = "multilingual-e5-small" if chinese > 0.05 else "minilm"
        lines.append(f"build: {{start: {start}}}")
        lines.append("train: {epochs: 5, batch: 6, lr: 3.0e-4, precision: bf16, metric: task}")
        reasons.append(say("cli.new.start", start=start))
    else:
        start = "multilingual-e5-small" if chinese > 0.05 else "minilm"
        lines.append(f"build: {{start: {start}}}")
        # An encoder of sentences serves as it is; what has a head to learn does not.
        epochs, batch = {"classify": (3, 32), "rerank": (2, 8)}.get(task, (0, 32))
        lines.append(f"train: {{epochs: {epochs}, batch: {batch}, precision: bf16}}")
        reasons.append(say("cli.new.start", start=start))
    return Guess("\n".join(lines) + "\n", reasons)


def _read(task: str, columns: Mapping[str, str], record: Record) -> list[str]:
    """The texts of a row that a model reads; a chat's are all it holds."""
    fields = task_class(task).fields
    read = [column for name, column in columns.items() if fields[name].kind is str or name == "tokens"]
    values = [record.get(column) for column in read or record]
    return ["".join(map(str, value)) if isinstance(value, list) else value for value in values
            if isinstance(value, list | str)]  # fmt: skip


def _quoted(text: str) -> str:
    """A YAML string that needs no thought: plain where it is plain, else in single quotes."""
    plain = text.replace("/", "").replace("_", "").replace("-", "").replace(".", "").isalnum()
    return (
        text
        if plain and not text[0].isdigit() and text not in ("true", "false", "null")
        else "'" + text.replace("'", "''") + "'"
    )
