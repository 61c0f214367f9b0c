"""Rows that stay on disk: gone through as often as somebody likes, none of them kept."""

from collections.abc import Iterator, Sequence
from functools import cached_property
from itertools import accumulate
from pathlib import Path

import numpy as np
import orjson

from zhumo.prepare import each_row
from zhumo.tasks import Row


class Lines(Sequence[Row]):
    """The rows of a .jsonl file, in its order. Nothing is read before somebody asks."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @cached_property
    def _starts(self) -> np.ndarray:
        """Where each line begins, and the end of the file."""
        with self.path.open("rb") as file:
            return np.fromiter(accumulate(map(len, file), initial=0), dtype=np.int64)

    def __len__(self) -> int:
        return len(self._starts) - 1

    def __iter__(self) -> Iterator[Row]:
        return each_row(self.path)

    def __getitem__(self, index: int) -> Row:  # type: ignore[override]
        place = range(len(self))[index]
        with self.path.open("rb") as file:
            file.seek(int(self._starts[place]))
            row: Row = orjson.loads(file.readline())
            return row
