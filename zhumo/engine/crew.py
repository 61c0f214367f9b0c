"""The threads of the native core, and the memory they compute in."""

import math
import threading
import time
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from ctypes import byref, c_double

import torch

from zhumo.engine.library import PATHS, Model, Step, library, path_of

ALIGNED = 64  # bytes: what the core works in begins at a multiple of this
WINDOW = 0.2  # seconds of steps after which is counted how many cores their threads had
SHARE = 0.55  # of a core; threads that had less each are too many
SHORTEST, LONGEST = 1.0, 8.0  # seconds until all threads are tried again, twice as long each time that it was in vain


class Cores:
    """How many of `most` threads are to work: as many as there are cores for.

    A thread that has no core, since another program has it or a container may not use it, is waited for by all others,
    many times in a step. So a crew that had too little goes on with as many threads as it had cores, and now and then
    tries all of them again.
    """

    def __init__(self, most: int) -> None:
        self.most = self.count = most
        self._seconds = self._had = 0.0
        self._pause, self._again = SHORTEST, math.inf

    def saw(self, seconds: float, had: float) -> None:
        """A step took so many seconds, in which its threads together had so many seconds of processors."""
        self._seconds += seconds
        self._had += had
        if self._seconds < WINDOW:
            return
        had, self._seconds, self._had = self._had / self._seconds, 0.0, 0.0
        now, tried = time.monotonic(), self.count == self.most
        if had < SHARE * self.count and self.count > 1:
            self.count, self._again = max(1, round(had)), now + self._pause
            if tried:
                self._pause = min(2 * self._pause, LONGEST)
        elif tried:
            self._pause = SHORTEST
        elif now > self._again:
            self.count = self.most


class Crew:
    """Threads that work on one call at a time; whoever calls holds `lock` from before it asks for room.

    threads: at most, default those of torch. path: the kind of processor code, by default the best one.

    Raises:
        ValueError: there is no core, or the processor has not this kind of code.
    """

    def __init__(self, threads: int | None = None, path: str | None = None) -> None:
        core = library()
        if core is None:
            raise ValueError("there is no native core here")
        self._core, self._path = core, path_of(core, path)
        self.cores = Cores(threads or torch.get_num_threads())
        self._team = core.zhumo_open(self.cores.most)
        if not self._team:
            raise MemoryError(f"no {self.cores.most} threads to be had")
        weakref.finalize(self, core.zhumo_close, self._team)
        self._room = torch.empty(0, dtype=torch.uint8)
        self.lock = threading.Lock()

    @property
    def path(self) -> str:
        """Which kind of processor code runs."""
        return PATHS[self._path]

    def room(self, model: Model, count: int, beside: int = 0) -> int:
        """Where memory begins for `beside` bytes of the caller's, a multiple of ALIGNED, and after them what a step of
        so many rows needs. It is the same memory in every call."""
        needed = beside + self._core.zhumo_scratch(byref(model), count, self.cores.most, self._path) + ALIGNED
        if len(self._room) < needed:
            self._room = torch.empty(needed, dtype=torch.uint8)
        return -(-self._room.data_ptr() // ALIGNED) * ALIGNED

    def run(self, model: Model, step: Step) -> None:
        """Compute a step."""
        had, count = c_double(), self.cores.count
        seconds = self._core.zhumo_step(self._team, byref(model), byref(step), count, self._path, byref(had))
        self.cores.saw(seconds, had.value)


@contextmanager
def one_thread() -> Iterator[None]:
    """Torch works with one thread meanwhile: its others would go on spinning on the cores that the core's threads need.

    How many it takes is a thread's own affair, so whoever computes in another is not slowed down.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
