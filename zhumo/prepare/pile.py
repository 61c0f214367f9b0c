"""Rows of text tasks on their way from the sources to their parts.

Each goes to disk as it comes. Where it belongs may hang on all the others (is it there twice? is it among the newest?
does the test hold one like it?), so that is decided once all are there, from 33 bytes of memory a row.
"""

from array import array
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import orjson

from zhumo.prepare.near import alike, grouped
from zhumo.prepare.split import PARTS, Part, by_hash, by_time, cluster, key_of
from zhumo.recipe import Split
from zhumo.tasks import Row

DUPLICATE, LEAK = len(PARTS), len(PARTS) + 1  # where rows go beside the places in PARTS: nowhere
DEALT = len(PARTS)  # what stands for the part of a row whose source belongs to none


class Pile:
    """All usable rows in the order they came, in one file."""

    def __init__(self, path: Path, split: Split) -> None:
        self.path = path
        self.split = split
        self._file = path.open("wb")
        self._whole, self._text, self._group = bytearray(), bytearray(), bytearray()  # 16 bytes a row each
        self._given = bytearray()
        self._times = array("d")
        self._starts = array("q", [0])

    def __len__(self) -> int:
        return len(self._given)

    def add(self, row: Row, part: Part | None) -> None:
        """Take one more. part: where its whole source belongs; None: it is to be dealt."""
        line = orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE)
        self._file.write(line)
        self._given.append(DEALT if part is None else PARTS.index(part))
        self._whole += key_of(line)
        self._text += key_of(cluster(row))
        if self.split.by == "group":
            self._group += key_of(str(row[self.split.column or ""]))
        if self.split.by == "time":
            self._times.append(row[self.split.column or ""])
        if self.split.near is not None:
            self._starts.append(self._starts[-1] + len(line))

    def deal(self, valid: float | str, test: float | str, *, dedupe: bool) -> tuple[np.ndarray, np.ndarray]:
        """Where each row goes, a place in PARTS or DUPLICATE or LEAK, and the group of texts alike it belongs to, given
        as the place of its first row.

        Of equal rows the first stays. What is alike to a row of a test or validation source does not train.
        """
        self._file.close()
        places, given = np.arange(len(self)), np.frombuffer(self._given, dtype=np.uint8)
        fresh = firsts(self._whole) == places if dedupe else np.ones(len(self), dtype=bool)
        groups = firsts(self._text)
        if self.split.near is not None:
            groups = self._near(groups, places[fresh & (groups == places)].tolist(), self.split.near)
        held = np.zeros(len(self), dtype=bool)
        held[groups[fresh & (given != DEALT)]] = True
        where = np.where(fresh, given, DUPLICATE).astype(np.uint8)
        where[fresh & (given == DEALT)] = LEAK
        dealt = np.flatnonzero(fresh & (given == DEALT) & ~held[groups])
        where[dealt] = self._parts(dealt, groups, valid, test)
        return where, groups

    def _near(self, groups: np.ndarray, places: Sequence[int], least: float) -> np.ndarray:
        with self.path.open("rb") as file:

            def read(place: int) -> str:
                file.seek(self._starts[place])
                return cluster(orjson.loads(file.readline()))

            return grouped(groups, alike(read, places, least, self.path.parent))

    def _parts(self, rows: np.ndarray, groups: np.ndarray, valid: float | str, test: float | str) -> np.ndarray:
        """The part of each row. What belongs together goes where a hash of the least of its keys says."""
        if self.split.by == "time":
            by_age = by_time(np.frombuffer(self._times)[rows].tolist(), valid, test)
            return np.array([PARTS.index(part) for part in by_age], dtype=np.uint8)
        assert not isinstance(valid, str) and not isinstance(test, str)  # days divide by time only
        keys, units = self._text, groups
        if self.split.by == "group":
            keys, units = self._group, firsts(self._group)
            if self.split.near is not None:
                units = grouped(units, np.stack([np.arange(len(self)), groups], axis=1))
        numbers, unit = _numbers(keys)[rows], units[rows]
        order = np.lexsort((*numbers.T, unit))
        begins = _begins(unit[order])
        dealt = [PARTS.index(by_hash(key.tobytes(), valid, test)) for key in numbers[order[begins]]]
        parts = np.empty(len(rows), dtype=np.uint8)
        parts[order] = np.array(dealt, dtype=np.uint8)[np.cumsum(begins) - 1]
        return parts

    def spread(self, where: np.ndarray, folder: Path) -> None:
        """Write `train.jsonl`, `valid.jsonl` and `test.jsonl`. The pile is gone then."""
        with ExitStack() as stack:
            lines = stack.enter_context(self.path.open("rb"))
            files = [stack.enter_context((folder / f"{part}.jsonl").open("wb")) for part in PARTS]
            for line, place in zip(lines, where.tolist(), strict=True):
                if place < len(PARTS):
                    files[place].write(line)
        self.path.unlink()


def firsts(keys: bytearray) -> np.ndarray:
    """For each 16 bytes the place of the first that are the same."""
    numbers = _numbers(keys)
    order = np.lexsort(numbers.T)  # stable: of equal ones the first comes first
    begins = _begins(numbers[order])
    places = np.empty(len(order), dtype=np.int64)
    places[order] = order[begins][np.cumsum(begins) - 1]
    return places


def _numbers(keys: bytearray) -> np.ndarray:
    return np.frombuffer(keys, dtype=np.uint64).reshape(-1, 2)


def _begins(ordered: np.ndarray) -> np.ndarray:
    """Whether each is another than the one before it."""
    begins = np.ones(len(ordered), dtype=bool)
    differ = ordered[1:] != ordered[:-1]
    begins[1:] = differ if differ.ndim == 1 else differ.any(axis=1)
    return begins
