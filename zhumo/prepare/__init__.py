"""Step 1, prepare: rows of business data -> clean rows, dealt to train, valid and test, and encoded.

Every row is accounted for: rows in = rows out + quarantined + deduplicated.
"""

import base64
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson

from zhumo.bundle import load_task, save_task
from zhumo.errors import DataError, RecipeError
from zhumo.prepare.chats import to_messages
from zhumo.prepare.columns import Columns, Unusable, as_time
from zhumo.prepare.histories import Dealt, Interactions, Taken, by_moment, leave_one_out
from zhumo.prepare.items import beside, merged, read_items
from zhumo.prepare.split import PARTS, Part, by_hash, by_time, cluster, cuts, key_of
from zhumo.recipe import Recipe
from zhumo.run import Run, write_json
from zhumo.sources import Bad, fetch, fingerprint, licence_of, open_rows
from zhumo.tasks import Field, Row, Task, task_class
from zhumo.tasks.catalogue import FIELDS
from zhumo.tasks.examples import Examples, pack
from zhumo.tokenizer import Tokenizer, learn_bpe, learn_characters
from zhumo.weights import read_weights
from zhumo.words import say

ASKED = ("pooling", "prefix", "match_prefix")  # what a task keeps of how weights want to be asked
MIN_BAD = 10  # below this many, a bad row is an accident, whatever its share


@dataclass
class Counts:
    """Where every row went."""

    read: int = 0
    quarantined: Counter[str] = field(default_factory=Counter)
    duplicates: int = 0
    leaks: int = 0  # training rows that also stand in the test or validation source
    parts: Counter[str] = field(default_factory=Counter)

    @property
    def kept(self) -> int:
        """Rows that came through."""
        return self.read - sum(self.quarantined.values()) - self.duplicates - self.leaks

    def summary(self) -> dict[str, int]:
        """rows in = rows out + quarantined + deduplicated."""
        bad = sum(self.quarantined.values())
        return {"in": self.read, "out": self.kept, "quarantined": bad, "deduplicated": self.duplicates + self.leaks}


class Reader:
    """Reads sources into rows, putting aside what cannot be used and what was already there."""

    def __init__(self, recipe: Recipe, task: type[Task], quarantine: Path) -> None:
        self.recipe = recipe
        self.task = task
        self.quarantine = quarantine.open("wb")
        self.counts = Counts()
        self.forms: Counter[str] = Counter()
        self.seen: set[bytes] = set()
        self.held_out: set[bytes] = set()

    def rows(self, source: str) -> Iterator[Row]:
        """The usable rows of one source, duplicates dropped."""
        section = self.recipe.prepare
        columns = Columns(self._fields(), section.columns, self._extra(), section.normalise)
        for index, record in enumerate(open_rows(source, paragraphs=self.task.name == "write")):
            if section.limit is not None and index >= section.limit:
                break
            self.counts.read += 1
            try:
                if isinstance(record, Bad):
                    raise Unusable(record.reason, "")
                row = self._row(columns, record.row, source, first=index == 0)
            except Unusable as error:
                self.counts.quarantined[error.reason] += 1
                self.put_aside(record if isinstance(record, Bad) else record.bad(error.reason), error.field or None)
                continue
            if self._is_duplicate(row):
                self.counts.duplicates += 1
                continue
            yield row

    def _row(self, columns: Columns, record: dict[str, Any], source: str, *, first: bool) -> Row:
        if self.task.name == "write" and (chat := self._chat(columns, record)) is not None:
            return chat
        if first:
            columns.check(record, source)
        row = columns.row(record)
        split = self.recipe.prepare.split
        if split.by == "time" and split.column is not None:
            row[split.column] = as_time(row[split.column])
        return row

    def _chat(self, columns: Columns, record: dict[str, Any]) -> Row | None:
        mapped = {name: record[column] for name, (column, *_) in columns.columns.items() if column in record}
        messages, form = to_messages({**record, **mapped})
        if messages is None:
            return None
        self.forms[form] += 1
        cleaned = [{**message, "content": columns.text(message["content"])} for message in messages]
        if not all(message["content"] for message in cleaned):
            raise Unusable("no_value", "messages")
        return {"messages": cleaned, **{name: record.get(name) for name in columns.extra}}

    def _fields(self) -> Mapping[str, Field]:
        """The task's fields; a history cannot be divided by time where a moment is missing."""
        fields = self.task.fields
        if self.task.histories and self.recipe.prepare.split.by == "time":
            return {**fields, "time": replace(fields["time"], needed=True)}
        return fields

    def _extra(self) -> list[str]:
        split = self.recipe.prepare.split
        named = [split.column] if split.column else []
        return [*named, *(name for name in self.recipe.evaluate.slices if name not in named)]

    def _is_duplicate(self, row: Row) -> bool:
        if not self.recipe.prepare.dedupe or self.task.histories:
            return False  # interactions are compared once they are integers
        key = key_of(orjson.dumps(row, option=orjson.OPT_SORT_KEYS).decode())
        known = key in self.seen
        self.seen.add(key)
        return known

    def put_aside(self, bad: Bad, field: str | None) -> None:
        """Keep what cannot be used, byte for byte, with the reason why."""
        entry = {"source": bad.source, "line": bad.line, "field": field, "reason": bad.reason}
        self.quarantine.write(orjson.dumps({**entry, "bytes": base64.b64encode(bad.raw).decode()}) + b"\n")

    def close(self) -> None:
        """End the quarantine file and give up if too much of the data is in it."""
        self.quarantine.close()
        bad = sum(self.counts.quarantined.values())
        allowed = self.recipe.prepare.max_bad
        if bad >= MIN_BAD and bad > allowed * self.counts.read:
            reason, count = self.counts.quarantined.most_common(1)[0]
            said = say(f"bad.{reason}")
            raise DataError(
                "data.too_bad",
                bad=bad,
                read=self.counts.read,
                allowed=allowed,
                reason=said,
                count=count,
                quarantine=self.quarantine.name,
            )


def prepare(recipe: Recipe, run: Run) -> None:
    """Make `runs/NAME/prepare/`: the rows of each part, their encoded examples, what the task learned, a data card."""
    section = recipe.prepare
    named = [source for source in (section.source, section.items, section.valid, section.test) if source]
    opened = {source: open_rows(source) for source in named}
    prints = {source: rows.fingerprint for source, rows in opened.items()}
    encodings = {name: kind for rows in opened.values() for name, kind in rows.encodings.items() if kind != "utf-8"}
    tokenizer_source = section.tokenizer if section.tokenizer not in (None, "bpe", "char") else None
    if tokenizer_source is not None:
        prints[tokenizer_source] = fingerprint(tokenizer_source)
    step = run.begin("prepare", recipe, {name: sha for files in prints.values() for name, sha in files.items()})
    if step.done:
        return
    kind = task_class(recipe.task)
    reader = Reader(recipe, kind, step.folder / "quarantine.jsonl")
    parts, known, facts = _deal_histories(recipe, reader) if kind.histories else (_deal(recipe, reader), {}, {})
    reader.close()
    if not parts["train"]:
        raise DataError("data.no_rows", source=section.source, kept=reader.counts.kept)
    for part in PARTS:
        reader.counts.parts[part] = len(parts[part])
        _write_rows(step.folder / f"{part}.jsonl", parts[part])
    tokenizer, state = _tokenizer(recipe, kind, tokenizer_source, parts["train"])
    task = kind(tokenizer, section.length, state | known)
    task.learn(parts["train"])
    examples = {}
    for part in ("train", "valid"):
        encoded = (example for row in parts[part] for example in task.encode(row))
        packed = pack(encoded, section.length) if kind.packed else encoded
        examples[part] = Examples.write(step.folder / f"{part}.safetensors", packed)
    if not examples["train"]:
        raise DataError("data.no_rows", source=section.source, kept=reader.counts.kept)
    save_task(step.folder, task)
    if tokenizer is not None:
        tokenizer.save(step.folder)
    card = {
        "format": 1,
        "rows": reader.counts.summary(),
        "quarantined": dict(reader.counts.quarantined),
        "leaks": reader.counts.leaks,
        "parts": dict(reader.counts.parts),
        "examples": examples,
        "forms": dict(reader.forms),
        "sources": {source: {"sha256": prints[source], "licence": licence_of(source)} for source in named},
        "encodings": encodings,
        **facts,
        **_describe(parts["train"]),
    }
    write_json(step.folder / "card.json", card)
    step.finish(rows=reader.counts.summary(), parts=dict(reader.counts.parts), examples=examples, encodings=encodings)


def _deal(recipe: Recipe, reader: Reader) -> Mapping[Part, Sequence[Row]]:
    """All rows of all sources, in their parts."""
    section = recipe.prepare
    parts: dict[Part, list[Row]] = {part: [] for part in PARTS}
    for part, source in (("test", section.test), ("valid", section.valid)):
        for row in reader.rows(source) if source else ():
            reader.held_out.add(key_of(cluster(row)))
            parts[part].append(row)  # type: ignore[index]
    rows = []
    for row in reader.rows(section.source):
        if key_of(cluster(row)) in reader.held_out:
            reader.counts.leaks += 1
        else:
            rows.append(row)
    for part, row in zip(_parts_of(rows, recipe), rows, strict=True):
        parts[part].append(row)
    return parts


def _parts_of(rows: list[Row], recipe: Recipe) -> list[Part]:
    section = recipe.prepare
    split = section.split
    valid = 0.0 if section.valid else split.valid
    test = 0.0 if section.test else split.test
    if split.by in ("time", "group") and split.column is None:
        raise RecipeError("recipe.split_column", by=split.by)
    if split.by == "last":
        raise RecipeError("recipe.split_last", task=recipe.task)
    if split.by == "time":
        return by_time([row[split.column or ""] for row in rows], valid, test)
    assert not isinstance(valid, str) and not isinstance(test, str)  # days divide by time only
    if split.by == "group":
        return [by_hash(key_of(str(row[split.column or ""])), valid, test) for row in rows]
    return [by_hash(key_of(cluster(row)), valid, test) for row in rows]


def _deal_histories(
    recipe: Recipe, reader: Reader
) -> tuple[Mapping[Part, Sequence[Row]], dict[str, Any], dict[str, Any]]:
    """The histories of all users in their parts, what is known of the items, and facts for the data card."""
    section = recipe.prepare
    if section.split.by not in ("last", "time") or section.valid or section.test:
        other = section.split.by if section.split.by not in ("last", "time") else "valid/test"
        raise RecipeError("recipe.split_histories", by=other)
    if section.split.column is not None:
        raise RecipeError("recipe.split_own_time", column=section.split.column)
    names = [name for name in FIELDS if name in reader.task.fields]
    stream = Interactions([*names, *recipe.evaluate.slices])
    for row in reader.rows(section.source):
        stream.add(row)
    if not len(stream.user):
        raise DataError("data.no_rows", source=section.source, kept=0)
    taken = Taken(stream, dedupe=section.dedupe)
    reader.counts.duplicates += taken.duplicates
    dealt, facts = _dealt(recipe, taken)
    besides = beside(dealt.parts["train"], names)
    described, rows = read_items(section.items, recipe, reader.put_aside) if section.items else ({}, None)
    known = merged(described, besides)
    return dealt.parts, {"catalogue": known} if known else {}, facts | ({"catalogue": rows} if rows else {})


def _dealt(recipe: Recipe, taken: Taken) -> tuple[Dealt, dict[str, Any]]:
    split, slices = recipe.prepare.split, recipe.evaluate.slices
    if split.by == "last":
        dealt, since = leave_one_out(taken, slices), {}
    else:
        moments = cuts(taken.time, split.valid, split.test)
        dealt = by_moment(taken, *moments, slices)
        since = {part: _day(moment) for part, moment in zip(("valid", "test"), moments, strict=True)}
    train = dealt.parts["train"]
    trained = int((train.end - train.begin).sum())
    return dealt, {"interactions": {"train": trained, **dealt.windows}, "since": since}


def _day(moment: float) -> str:
    if moment == float("inf"):
        return "–"
    return f"{datetime.fromtimestamp(moment, UTC):%Y-%m-%d %H:%M} UTC".removesuffix(" 00:00 UTC")


def _tokenizer(
    recipe: Recipe, kind: type[Task], source: str | None, rows: Sequence[Row]
) -> tuple[Tokenizer | None, dict[str, Any]]:
    """The tokenizer, and what published weights want to be asked like: their pooling, what stands before a text."""
    choice = recipe.prepare.tokenizer
    if choice is None or kind.histories:
        return None, {}
    if source is None:
        texts = (text for row in rows for text in _texts(row))
        return (learn_bpe(texts, recipe.prepare.vocabulary) if choice == "bpe" else learn_characters(texts)), {}
    path = fetch(source)
    weights = read_weights(path)
    if weights.tokenizer is None:
        raise DataError("data.no_tokenizer", source=source)
    if (path / "task.json").is_file():  # an earlier bundle says itself how it asks
        before = load_task(path).state
        return weights.tokenizer, {name: before[name] for name in ASKED if name in before}
    state: dict[str, Any] = {"pooling": weights.pooling} if weights.pooling else {}
    if weights.prefixes is not None:
        state |= {"prefix": weights.prefixes[0], "match_prefix": weights.prefixes[1]}
    return weights.tokenizer, state


def _texts(row: Row) -> Iterator[str]:
    if "messages" in row:
        yield from (message["content"] for message in row["messages"])
    for name in ("text", "match"):
        if name in row:
            yield row[name]


def _write_rows(path: Path, rows: Iterable[Row]) -> None:
    with path.open("wb") as file:
        for row in rows:
            file.write(orjson.dumps(row) + b"\n")


def read_rows(path: Path) -> list[Row]:
    """The rows a step left in a .jsonl file."""
    return list(each_row(path))


def each_row(path: Path) -> Iterator[Row]:
    """The rows of a .jsonl file one by one; it is not opened before the first is asked for."""
    with path.open("rb") as file:
        for line in file:
            yield orjson.loads(line)


def _describe(rows: Sequence[Row]) -> dict[str, Any]:
    """What a person should know of the training rows."""
    if "items" in rows[0]:
        lengths = sorted(len(row["items"]) for row in rows)
        items = {item for row in rows for item in row["items"]}
        return {"users": len(rows), "items": len(items), "length": _spread(lengths)}
    texts = [text for row in rows for text in _texts(row)]
    chinese = sum("\u4e00" <= c <= "\u9fff" for text in texts for c in text)
    facts: dict[str, Any] = {
        "length": _spread(sorted(map(len, texts))),
        "chinese": chinese / max(1, sum(map(len, texts))),
    }
    if "label" in rows[0]:
        labels = Counter(
            label for row in rows for label in (row["label"] if isinstance(row["label"], list) else [row["label"]])
        )
        facts["labels"] = dict(labels.most_common(100))
    return facts


def _spread(ordered: list[int]) -> dict[str, int]:
    return {
        "min": ordered[0],
        "median": ordered[len(ordered) // 2],
        "p95": ordered[len(ordered) * 95 // 100],
        "max": ordered[-1],
    }
