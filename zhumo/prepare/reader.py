"""From sources to usable rows, with an account of where every row went."""

import base64
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import orjson

from zhumo.errors import DataError
from zhumo.prepare.chats import judged, to_messages
from zhumo.prepare.columns import Columns, Unusable, as_time, is_blank
from zhumo.prepare.keep import Keep
from zhumo.prepare.spans import to_spans
from zhumo.prepare.split import Part
from zhumo.recipe import Recipe
from zhumo.sources import Bad, Record, open_rows
from zhumo.tasks import Field, Row, Task
from zhumo.words import say

MIN_BAD = 10  # below this many, a bad row is an accident, whatever its share


@dataclass
class Counts:
    """Where every row went."""

    read: int = 0
    quarantined: Counter[str] = field(default_factory=Counter)
    filtered: int = 0
    duplicates: int = 0
    leaks: int = 0  # training rows that also stand in the test or validation source
    parts: dict[Part, int] = field(default_factory=dict)

    @property
    def bad(self) -> int:
        """Rows in quarantine."""
        return sum(self.quarantined.values())

    @property
    def kept(self) -> int:
        """Rows that came through."""
        return self.read - self.bad - self.filtered - self.duplicates - self.leaks

    def summary(self) -> dict[str, int]:
        """rows in = rows out + quarantined + deduplicated + filtered."""
        return {
            "in": self.read,
            "out": self.kept,
            "quarantined": self.bad,
            "deduplicated": self.duplicates + self.leaks,
            "filtered": self.filtered,
        }


class Reader:
    """Reads sources into rows, putting aside what cannot be used and leaving out what is not wanted."""

    def __init__(self, recipe: Recipe, task: type[Task], quarantine: Path) -> None:
        section = recipe.prepare
        self.recipe = recipe
        self.task = task
        self.quarantine = quarantine.open("wb")
        self.counts = Counts()
        self.forms: Counter[str] = Counter()
        self.columns = Columns(self._fields(), section.columns, self._extra(), section.normalise, covered=section.mask)
        self.keep = Keep(section.keep, computed=not task.histories)
        self.ids: dict[str, int] = {}  # by id a hash of what its row says

    def rows(self, source: str) -> Iterator[Row]:
        """The usable rows of one source."""
        limit, before = self.recipe.prepare.limit, self.counts.read
        for record in open_rows(source, paragraphs=self.task.name == "write"):
            if isinstance(record, Bad) and record.piece:  # of a row that was counted with its first piece
                self.put_aside(record, None)
                continue
            if limit is not None and self.counts.read - before >= limit:
                break
            self.counts.read += 1
            try:
                if isinstance(record, Bad):
                    raise Unusable(record.reason, "")
                row = self._row(record, source, first=self.counts.read == before + 1)
                if not self.keep.wants(record.row, row):
                    self.counts.filtered += 1
                    continue
            except Unusable as error:
                self.counts.quarantined[error.reason] += 1
                self.put_aside(record if isinstance(record, Bad) else record.bad(error.reason), error.field or None)
                continue
            yield row

    def _row(self, record: Record, source: str, *, first: bool) -> Row:
        if first:
            self.keep.check(record.row, source)
        if self.recipe.prepare.id is not None:
            self._know(record.row, self.recipe.prepare.id)
        if self.task.name == "write" and (chat := self._chat(record.row)) is not None:
            return chat
        if first:
            self.columns.check(record.row, source)
        row = self._marked(record.row) if self.task.name == "tag" else self.columns.row(record.row)
        split = self.recipe.prepare.split
        if split.by == "time" and split.column is not None:
            row[split.column] = as_time(row[split.column])
        return row

    def _know(self, record: Mapping[str, Any], column: str) -> None:
        """An id comes once, or again with the very same row, which is a duplicate like others."""
        if is_blank(record.get(column)):
            raise Unusable("no_value", column)
        said = hash(orjson.dumps(record, option=orjson.OPT_SORT_KEYS))
        if self.ids.setdefault(str(record[column]), said) != said:
            raise Unusable("same_id", column)

    def _chat(self, record: dict[str, Any]) -> Row | None:
        columns = self.columns
        mapped = {name: record[column] for name, (column, *_) in columns.columns.items() if column in record}
        named = {**record, **mapped}
        messages, form = to_messages(named)
        if messages is None:
            return None
        self.forms[form] += 1
        cleaned = [{**message, "content": columns.text(message["content"])} for message in messages]
        if not all(message["content"] for message in cleaned):
            raise Unusable("no_value", "messages")
        row: Row = {"messages": cleaned, **{name: record.get(name) for name in columns.extra}}
        if form == "preference" and named.get("rejected") is not None:
            row["rejected"] = columns.text(judged(named, "rejected"))
        return row

    def _marked(self, record: Mapping[str, Any]) -> Row:
        columns = self.columns
        mapped = {name: record.get(column) for name, (column, *_) in columns.columns.items()}
        return {**to_spans(mapped, columns.part), **{name: record.get(name) for name in columns.extra}}

    def _fields(self) -> Mapping[str, Field]:
        """The task's fields; a history cannot be divided by time where a moment is missing."""
        fields = self.task.fields
        if self.task.histories and self.recipe.prepare.split.by == "time":
            return {**fields, "time": replace(fields["time"], needed=True)}
        return fields

    def _extra(self) -> list[str]:
        split = self.recipe.prepare.split
        named = [split.column] if split.column else []
        return list(dict.fromkeys([*named, *self.recipe.evaluate.slices, *self.recipe.prepare.traits]))

    def put_aside(self, bad: Bad, field: str | None) -> None:
        """Keep what cannot be used, byte for byte, with the reason why."""
        entry = {"source": bad.source, "line": bad.line, "field": field, "reason": bad.reason}
        if bad.piece:
            entry["piece"] = bad.piece
        if bad.why:
            entry["why"] = bad.why
        self.quarantine.write(orjson.dumps({**entry, "bytes": base64.b64encode(bad.raw).decode()}) + b"\n")

    def close(self) -> None:
        """End the quarantine file and give up if too much of the data is in it."""
        self.quarantine.close()
        bad, allowed = self.counts.bad, self.recipe.prepare.max_bad
        if bad >= MIN_BAD and bad > allowed * self.counts.read:
            reason, count = self.counts.quarantined.most_common(1)[0]
            raise DataError(
                "data.too_bad",
                bad=bad,
                read=self.counts.read,
                allowed=allowed,
                reason=say(f"bad.{reason}"),
                count=count,
                quarantine=self.quarantine.name,
            )
