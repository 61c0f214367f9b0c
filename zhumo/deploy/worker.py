"""One thread that alone touches one bundle's model, and a bounded queue before it in which every key has its turn.

The event loop never waits for a model, a model never runs twice at once, and who finds the queue full is told so.
"""

import asyncio
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, TypeVar

import torch

from zhumo.deploy.places import Places
from zhumo.deploy.refusals import Refusal
from zhumo.engine import Turns

T = TypeVar("T")
PLACES = 32
WAIT = 30.0  # seconds a request may wait for its turn
RETRY_AFTER = "1"  # seconds


@dataclass(eq=False)
class _Job:
    owner: str
    work: Callable[[], Any]
    future: Future[Any] = field(default_factory=Future)
    until: float = field(default_factory=lambda: time.monotonic() + WAIT)


class Worker:
    """The thread of one bundle. places: how many requests may wait or run."""

    def __init__(self, name: str, places: int = PLACES) -> None:
        self.places = Places(places)
        self.running = 0
        self._waiting: list[_Job] = []
        self._turns = Turns()
        self._changed = threading.Condition()
        self._closing = False
        threading.Thread(target=self._live, name=f"zhumo-{name}", daemon=True).start()

    @property
    def taken(self) -> int:
        """Requests waiting and running."""
        return len(self.places)

    async def run(self, work: Callable[[], T], owner: str = "") -> T:
        """`work()` on the thread. Cancelled before it began, it never begins.

        Raises:
            Refusal: 503, no place is free, or its turn did not come in time.
        """
        return await asyncio.wrap_future(self._submit(work, owner))

    def close(self) -> None:
        """Finish the work in hand and take no more."""
        with self._changed:
            self._closing = True
            self._changed.notify()

    def _submit(self, work: Callable[[], T], owner: str = "") -> Future[T]:
        job = _Job(owner, work)
        with self._changed:
            if self._closing or not self.places.take(owner):
                raise Refusal(503, "busy", headers={"Retry-After": RETRY_AFTER})
            self._turns.join(owner, {job.owner for job in self._waiting})
            self._waiting.append(job)
            self._changed.notify()
        job.future.add_done_callback(lambda _: self._leave(job))
        return job.future

    def _live(self) -> None:
        torch.get_num_threads()  # from now on this thread's own: the engine lowers everybody's while it reads
        while (job := self._next()) is not None:
            if not job.future.set_running_or_notify_cancel():
                continue
            began, self.running = time.monotonic(), 1
            try:
                if began > job.until:
                    raise Refusal(503, "waited", headers={"Retry-After": RETRY_AFTER})
                result = job.work()
            except BaseException as error:
                self.running = 0
                job.future.set_exception(error)
            else:
                self.running = 0
                job.future.set_result(result)
            with self._changed:
                self._turns.charge(job.owner, time.monotonic() - began)

    def _next(self) -> _Job | None:
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._closing)
            if self._closing:
                for job in tuple(self._waiting):
                    job.future.cancel()
                return None
            job = min(self._waiting, key=lambda job: self._turns[job.owner])
            self._waiting.remove(job)
            return job

    def _leave(self, job: _Job) -> None:
        with self._changed:
            self.places.leave(job.owner)
            if job in self._waiting:  # cancelled
                self._waiting.remove(job)
