"""The threads of the native core, and the memory they compute in."""

import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from ctypes import byref

import torch

from zhumo.engine.library import Model, Step, library, path_of

ALIGNED = 64  # bytes: what the core works in begins at a multiple of this


class Crew:
    """Threads that work on one call at a time; whoever calls holds `lock` from before it asks for room.

    threads: default those of torch. path: the kind of processor code, by default the best one.

    Raises:
        ValueError: there is no core, or the processor has not this kind of code.
    """

    def __init__(self, threads: int | None = None, path: str | None = None) -> None:
        core = library()
        if core is None:
            raise ValueError("there is no native core here")
        self._core, self._path = core, path_of(core, path)
        self._threads = threads or torch.get_num_threads()
        self._team = core.zhumo_open(self._threads)
        if not self._team:
            raise MemoryError(f"no {self._threads} threads to be had")
        weakref.finalize(self, core.zhumo_close, self._team)
        self._room = torch.empty(0, dtype=torch.uint8)
        self.lock = threading.Lock()

    def room(self, model: Model, count: int, beside: int = 0) -> int:
        """Where memory begins for `beside` bytes of the caller's, a multiple of ALIGNED, and after them what a step of
        so many rows needs. It is the same memory in every call."""
        needed = beside + self._core.zhumo_scratch(byref(model), count, self._threads, self._path) + ALIGNED
        if len(self._room) < needed:
            self._room = torch.empty(needed, dtype=torch.uint8)
        return -(-self._room.data_ptr() // ALIGNED) * ALIGNED

    def run(self, model: Model, step: Step) -> None:
        """Compute a step."""
        self._core.zhumo_step(self._team, byref(model), byref(step), self._path)


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
