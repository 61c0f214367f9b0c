"""Interactions -> one row a user: what each took, oldest first; and which of it is training, validation and test.

Twenty-five million interactions must fit on a small machine, so they are integers as soon as they are read, and rows
are made one at a time when somebody asks for them.
"""

from array import array
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import orjson

from zhumo.prepare.split import Part
from zhumo.tasks import Row

Window = dict[str, int]
"""Where the interactions between two cuts went; `Dealt` says what the words mean."""


class Values:
    """A column of few different values, as integers; -1 where there is none. A column without any takes no room."""

    def __init__(self) -> None:
        self._codes = array("i")
        self._count = 0
        self._known: dict[object, int] = {}
        self.values: list[Any] = []

    def append(self, value: Any) -> None:
        """Take the value of one more interaction."""
        self._count += 1
        if value in (None, "", []):
            if self.values:
                self._codes.append(-1)
            return
        if not self.values:
            self._codes = array("i", [-1]) * (self._count - 1)
        key = value if isinstance(value, str | int | float) else orjson.dumps(value)
        code = self._known.setdefault(key, len(self.values))
        if code == len(self.values):
            self.values.append(value)
        self._codes.append(code)

    def codes(self) -> np.ndarray:
        """The place in `values` of each interaction's value."""
        if not self.values:
            return np.broadcast_to(np.int32(-1), self._count)
        return np.frombuffer(self._codes, dtype=np.int32)


class Interactions:
    """Who took what and when, as it streams by: 16 bytes each, and 4 more for each further column."""

    def __init__(self, columns: Iterable[str] = ()) -> None:
        self.users: dict[str, int] = {}
        self.items: dict[str, int] = {}
        self.user, self.item, self.time = array("i"), array("i"), array("d")
        self.columns = {name: Values() for name in columns}

    def add(self, row: Row) -> None:
        """Take one row {"user", "item", "time"?, further columns}."""
        self.user.append(self.users.setdefault(row["user"], len(self.users)))
        self.item.append(self.items.setdefault(row["item"], len(self.items)))
        self.time.append(row.get("time", np.nan))
        for name, values in self.columns.items():
            values.append(row.get(name))


class Taken:
    """All interactions, user by user in the order users first appear, each user's oldest first.

    The sort is stable: interactions of one moment, and all where there are no times, keep the order of the file.
    dedupe: drop what the same user took at the same moment before; without times nothing is a duplicate.
    """

    def __init__(self, stream: Interactions, *, dedupe: bool) -> None:
        self.users, self.items = list(stream.users), list(stream.items)
        user, item = (np.frombuffer(numbers, dtype=np.int32) for numbers in (stream.user, stream.item))
        time = np.frombuffer(stream.time, dtype=np.float64)
        order = np.lexsort((np.nan_to_num(time), user))
        if dedupe:
            order = order[_first(user, time, item)[order]]
        self.duplicates = len(user) - len(order)
        self.user, self.item, self.time = user[order], item[order], time[order]
        self.columns = {
            name: (values.values, values.codes()[order] if values.values else values.codes()[: len(order)])
            for name, values in stream.columns.items()
        }
        self.offsets = np.concatenate([[0], np.cumsum(np.bincount(self.user, minlength=len(self.users)))])

    def __len__(self) -> int:
        return len(self.user)

    def before(self, moment: float) -> np.ndarray:
        """The place behind the last interaction of each user before a moment."""
        place: np.ndarray = self.offsets[:-1] + np.bincount(self.user[self.time < moment], minlength=len(self.users))
        return place

    def basket(self, places: np.ndarray) -> np.ndarray:
        """The place behind the basket that begins at each place: what one user takes at one moment."""
        other = (self.user[1:] != self.user[:-1]) | (self.time[1:] != self.time[:-1])
        ends = np.append(np.flatnonzero(other) + 1, len(self))
        stop: np.ndarray = ends[np.searchsorted(ends, places, side="right")]
        return stop


def _first(*keys: np.ndarray) -> np.ndarray:
    """Whether an interaction is the first of those with the same keys; NaN equals nothing."""
    order = np.lexsort(keys)
    same = np.ones(max(len(order) - 1, 0), dtype=bool)
    for key in keys:
        sorted_ = key[order]
        same &= sorted_[1:] == sorted_[:-1]
    first = np.ones(len(order), dtype=bool)
    first[order[1:][same]] = False
    return first


@dataclass(frozen=True)
class Histories(Sequence[Row]):
    """The rows of one part. Row i: the interactions from begin[i] to end[i], and as `next` those from there to stop[i],
    which are of one moment, `at`.

    kept, traits: columns whose value at the newest interaction of the history goes into the row, or into its `traits`.
    """

    taken: Taken
    begin: np.ndarray
    end: np.ndarray
    stop: np.ndarray
    kept: Sequence[str] = ()
    traits: Sequence[str] = ()

    def __len__(self) -> int:
        return len(self.begin)

    def __getitem__(self, index: int) -> Row:  # type: ignore[override]
        taken, begin, end, stop = self.taken, self.begin[index], self.end[index], self.stop[index]
        row: Row = {"user": taken.users[taken.user[begin]], "items": self._items(begin, end)}
        times = taken.time[begin:end]
        if not np.isnan(times).any():
            row["times"] = times.tolist()
        row |= {name: self._newest(name, end) for name in self.kept}
        traits = {name: self._newest(name, end) for name in self.traits}
        if self.traits:
            row["traits"] = {name: value for name, value in traits.items() if value is not None}
        if stop > end:
            row["next"] = list(dict.fromkeys(self._items(end, stop)))
            if not np.isnan(taken.time[end]):
                row["at"] = float(taken.time[end])
        return row

    def _newest(self, column: str, end: int) -> Any:
        values, codes = self.taken.columns[column]
        return values[codes[end - 1]] if codes[end - 1] >= 0 else None

    def _items(self, begin: int, end: int) -> list[str]:
        return [self.taken.items[item] for item in self.taken.item[begin:end].tolist()]

    def last(self, column: str) -> dict[str, Any]:
        """By item the value that stood last beside it in these histories."""
        values, codes = self.taken.columns[column]
        place = self._places(codes)
        place = place[np.lexsort((self.taken.time[place], self.taken.item[place]))]
        return {item: values[codes[group[-1]]] for item, group in self._by_item(place)}

    def median(self, column: str) -> dict[str, float]:
        """By item the middle one of the numbers that stood beside it in these histories."""
        values, codes = self.taken.columns[column]
        place, numbers = self._places(codes), np.array(values, dtype=np.float64)
        place = place[np.argsort(self.taken.item[place], kind="stable")]
        return {item: float(np.median(numbers[codes[group]])) for item, group in self._by_item(place)}

    def _places(self, codes: np.ndarray) -> np.ndarray:
        """The interactions of these histories that have a value."""
        end = np.zeros(len(self.taken.users), dtype=np.int64)
        end[self.taken.user[self.begin]] = self.end
        return np.flatnonzero((np.arange(len(codes)) < end[self.taken.user]) & (codes >= 0))

    def _by_item(self, place: np.ndarray) -> Iterable[tuple[str, np.ndarray]]:
        """The places, which are sorted by item, in a group for each."""
        item = self.taken.item[place]
        starts = np.flatnonzero(np.diff(item, prepend=-1))
        return zip((self.taken.items[one] for one in item[starts]), np.split(place, starts)[1:], strict=True)


@dataclass(frozen=True)
class Dealt:
    """The rows of each part, and where the interactions after the training went.

    windows: for each part that is asked, `asked` (rows), `next` (interactions that must be found), `later` (those after
    the first basket, which nobody asks for), `users` and `new` (users without any history before the cut, who cannot
    be asked by it, and their interactions).
    """

    parts: Mapping[Part, Histories]
    windows: Mapping[str, Window]


def gather(interactions: Iterable[Row], traits: Sequence[str] = ()) -> Histories:
    """One row a user, in the order users first appear, of all interactions."""
    stream = Interactions(traits)
    for row in interactions:
        stream.add(row)
    taken = Taken(stream, dedupe=False)
    return Histories(taken, taken.offsets[:-1], taken.offsets[1:], taken.offsets[1:], traits=traits)


def leave_one_out(taken: Taken, kept: Sequence[str] = (), traits: Sequence[str] = ()) -> Dealt:
    """Each user's last item is the test and the one before it the validation; fewer than three items only train."""
    begin, end = taken.offsets[:-1], taken.offsets[1:]
    long = end - begin >= 3
    known = np.where(long, end - 2, end)
    parts: dict[Part, Histories] = {
        "train": Histories(taken, begin, known, known, kept, traits),
        "valid": Histories(taken, begin[long], end[long] - 2, end[long] - 1, kept, traits),
        "test": Histories(taken, begin[long], end[long] - 1, end[long], kept, traits),
    }
    window = {"asked": int(long.sum()), "next": int(long.sum()), "later": 0, "users": 0, "new": 0}
    return Dealt(parts, {"valid": window, "test": window})


def by_moment(
    taken: Taken, valid_from: float, test_from: float, kept: Sequence[str] = (), traits: Sequence[str] = ()
) -> Dealt:
    """What was taken before the first moment trains; who takes something after a moment is asked for it.

    The history is then all that came before the moment, and what must be found is the first basket after it.
    """
    begin, end = taken.offsets[:-1], taken.offsets[1:]
    known, later = taken.before(valid_from), taken.before(test_from)
    old = known > begin
    parts: dict[Part, Histories] = {"train": Histories(taken, begin[old], known[old], known[old], kept, traits)}
    windows = {}
    for part, cut, until in (("valid", known, later), ("test", later, end)):
        there = until > cut
        asked = there & (cut > begin)
        stop = taken.basket(cut[asked])
        parts[part] = Histories(taken, begin[asked], cut[asked], stop, kept, traits)  # type: ignore[index]
        new = there & (cut == begin)
        windows[part] = {
            "asked": int(asked.sum()),
            "next": int((stop - cut[asked]).sum()),
            "later": int((until[asked] - stop).sum()),
            "users": int(new.sum()),
            "new": int((until[new] - cut[new]).sum()),
        }
    return Dealt(parts, windows)
