"""Step 1, prepare: rows of business data -> clean rows, dealt to train, valid and test, and encoded.

Every row is accounted for: rows in = rows out + quarantined + deduplicated.
"""

import base64
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson

from zhumo.bundle import save_task
from zhumo.errors import DataError, RecipeError
from zhumo.prepare.chats import to_messages
from zhumo.prepare.columns import Columns, Unusable, as_time
from zhumo.prepare.histories import gather, leave_one_out
from zhumo.prepare.split import PARTS, Part, by_hash, by_time, cluster, key_of
from zhumo.recipe import Recipe
from zhumo.run import Run, write_json
from zhumo.sources import Bad, fetch, fingerprint, licence_of, open_rows
from zhumo.tasks import Row, Task, task_class
from zhumo.tasks.examples import Examples, pack
from zhumo.tokenizer import Tokenizer, learn_bpe, learn_characters
from zhumo.weights import read_weights
from zhumo.words import say

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
        columns = Columns(self.task.fields, section.columns, self._extra(), section.normalise)
        for index, record in enumerate(open_rows(source, paragraphs=self.task.name == "write")):
            if section.limit is not None and index >= section.limit:
                break
            self.counts.read += 1
            if isinstance(record, Bad):
                self._put_aside(record)
                continue
            try:
                row = self._row(columns, record.row, source, first=index == 0)
            except Unusable as error:
                self._put_aside(record.bad(error.reason), error.field)
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

    def _extra(self) -> list[str]:
        split = self.recipe.prepare.split
        named = [split.column] if split.column else []
        return [*named, *(name for name in self.recipe.evaluate.slices if name not in named)]

    def _is_duplicate(self, row: Row) -> bool:
        if not self.recipe.prepare.dedupe or (self.task.histories and "time" not in row):
            return False  # without times, the same item twice is a history, not a duplicate
        key = key_of(orjson.dumps(row, option=orjson.OPT_SORT_KEYS).decode())
        known = key in self.seen
        self.seen.add(key)
        return known

    def _put_aside(self, bad: Bad, field: str | None = None) -> None:
        self.counts.quarantined[bad.reason] += 1
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
    prints = {source: open_rows(source).fingerprint for source in named}
    tokenizer_source = section.tokenizer if section.tokenizer not in (None, "bpe", "char") else None
    if tokenizer_source is not None:
        prints[tokenizer_source] = fingerprint(tokenizer_source)
    step = run.begin("prepare", recipe, {name: sha for files in prints.values() for name, sha in files.items()})
    if step.done:
        return
    kind = task_class(recipe.task)
    reader = Reader(recipe, kind, step.folder / "quarantine.jsonl")
    titles: dict[str, str] = {}
    parts = _deal(recipe, kind, reader, titles)
    reader.close()
    if not parts["train"]:
        raise DataError("data.no_rows", source=section.source, kept=reader.counts.kept)
    for part in PARTS:
        reader.counts.parts[part] = len(parts[part])
        _write_rows(step.folder / f"{part}.jsonl", parts[part])
    tokenizer, state = _tokenizer(recipe, kind, tokenizer_source, parts["train"])
    if titles:
        state["titles"] = titles
    task = kind(tokenizer, section.length, state)
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
        **_describe(parts["train"]),
    }
    write_json(step.folder / "card.json", card)
    step.finish(rows=reader.counts.summary(), parts=dict(reader.counts.parts), examples=examples)


def _deal(recipe: Recipe, kind: type[Task], reader: Reader, titles: dict[str, str]) -> dict[Part, list[Row]]:
    """All rows of all sources, in their parts."""
    section = recipe.prepare
    if kind.histories:
        return _deal_histories(recipe, reader, titles)
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
    if split.by == "time":
        return by_time([row[split.column or ""] for row in rows], valid, test)
    if split.by == "group":
        return [by_hash(key_of(str(row[split.column or ""])), valid, test) for row in rows]
    if split.by == "last":
        raise RecipeError("recipe.split_last", task=recipe.task)
    return [by_hash(key_of(cluster(row)), valid, test) for row in rows]


def _deal_histories(recipe: Recipe, reader: Reader, titles: dict[str, str]) -> dict[Part, list[Row]]:
    section = recipe.prepare
    if section.split.by != "last":
        raise RecipeError("recipe.split_only_last", by=section.split.by)
    if section.valid or section.test:
        raise RecipeError("recipe.split_only_last", by="valid/test")
    interactions = []
    for row in reader.rows(section.source):
        if "title" in row:
            titles.setdefault(row["item"], row.pop("title"))
        interactions.append(row)
    if section.items:
        titles.update(_titles(section.items, recipe))
    parts: dict[Part, list[Row]] = {part: [] for part in PARTS}
    for part, row in leave_one_out(gather(interactions)):
        parts[part].append(row)
    return parts


def _titles(source: str, recipe: Recipe) -> dict[str, str]:
    """Item -> title from a source with one row an item."""
    columns = recipe.prepare.columns
    item, title = str(columns.get("item", "item")), str(columns.get("title", "title"))
    found = {}
    for record in open_rows(source):
        if not isinstance(record, Bad) and record.row.get(item) and record.row.get(title):
            found[str(record.row[item])] = str(record.row[title])
    if not found:
        raise DataError("data.no_titles", source=source, item=item, title=title)
    return found


def _tokenizer(
    recipe: Recipe, kind: type[Task], source: str | None, rows: list[Row]
) -> tuple[Tokenizer | None, dict[str, Any]]:
    """The tokenizer, and what published weights want to be asked like: their pooling, what stands before a text."""
    choice = recipe.prepare.tokenizer
    if choice is None or kind.histories:
        return None, {}
    if source is None:
        texts = (text for row in rows for text in _texts(row))
        return (learn_bpe(texts, recipe.prepare.vocabulary) if choice == "bpe" else learn_characters(texts)), {}
    weights = read_weights(fetch(source))
    if weights.tokenizer is None:
        raise DataError("data.no_tokenizer", source=source)
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
    with path.open("rb") as file:
        return [orjson.loads(line) for line in file]


def _describe(rows: list[Row]) -> dict[str, Any]:
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
