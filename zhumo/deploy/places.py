"""So many and no more: who may be inside at once, and how long the others would wait."""

import time
from collections import Counter

SLOTS = 8  # texts that one bundle writes at once


class Places:
    """So many requests may be inside at once; when all are taken, who has less than an equal share still comes in."""

    def __init__(self, count: int) -> None:
        self.count = count
        self._taken = Counter[str]()
        self._all = 0

    def __len__(self) -> int:
        return self._all

    def free(self, owner: str) -> bool:
        """Whether there is a place for one more request of an owner."""
        if self._all < self.count:
            return True
        return (self._taken[owner] + 1) * len(self._taken.keys() | {owner}) <= self.count

    def take(self, owner: str) -> bool:
        """Take a place, if there is one."""
        if not self.free(owner):
            return False
        self._taken[owner] += 1
        self._all += 1
        return True

    def leave(self, owner: str) -> None:
        """Give it back."""
        self._all -= 1
        self._taken[owner] -= 1
        if not self._taken[owner]:
            del self._taken[owner]


class Pace:
    """How long a request takes a server that has work: the mean of about the last hundred."""

    LAST = 100

    def __init__(self) -> None:
        self._busy, self._done, self._since = 0.0, 0, 0.0

    @property
    def seconds(self) -> float:
        """Between one answer and the next; 0 as long as nothing is known."""
        return self._busy / self._done if self._done else 0.0

    def begin(self) -> None:
        """There is work again."""
        self._since = time.monotonic()

    def end(self, answered: bool) -> None:
        """A request has left, and there was work all the time."""
        now = time.monotonic()
        self._busy, self._since = self._busy + now - self._since, now
        self._done += answered
        if self._done > self.LAST:
            self._busy, self._done = self._busy / 2, self._done // 2
