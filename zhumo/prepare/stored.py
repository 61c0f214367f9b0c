"""Rows on disk, one JSON a line."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import orjson

from zhumo.tasks import Row


@dataclass(frozen=True)
class Stored:
    """Rows in a .jsonl file, read again each time somebody asks for them."""

    path: Path
    count: int

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[Row]:
        return each_row(self.path)


def write_rows(path: Path, rows: Iterable[Row]) -> None:
    """Write rows as they come."""
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
