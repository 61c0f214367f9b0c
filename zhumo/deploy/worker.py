"""One thread that alone touches one bundle's model, and a bounded queue before it.

The event loop never waits for a model, a model never runs twice at once, and who finds the queue full is told so.
"""

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from zhumo.deploy.refusals import Refusal

T = TypeVar("T")
PLACES = 32
RETRY_AFTER = "1"  # seconds


class Worker:
    """The thread of one bundle. places: how many requests may wait or run."""

    def __init__(self, name: str, places: int = PLACES) -> None:
        self.name, self.places = name, places
        self.taken = 0  # waiting and running; counted on the event loop and the thread alike
        self.running = 0
        self._lock = threading.Lock()
        self._closing = threading.Event()
        self._pool = ThreadPoolExecutor(1, f"zhumo-{name}")

    async def run(self, work: Callable[[], T]) -> T:
        """`work()` on the thread. Cancelled before it began, it never begins.

        Raises:
            Refusal: 503, no place is free.
        """
        return await asyncio.wrap_future(self._submit(work))

    def close(self) -> None:
        """Finish the work in hand and take no more."""
        self._closing.set()
        self._pool.shutdown(wait=False, cancel_futures=True)

    @property
    def alive(self) -> bool:
        """Whether it still takes work."""
        return not self._closing.is_set()

    def _submit(self, work: Callable[[], T]) -> Future[T]:
        with self._lock:
            if self.taken >= self.places or not self.alive:
                raise Refusal(503, "busy", headers={"Retry-After": RETRY_AFTER})
            self.taken += 1
        future = self._pool.submit(self._counted, work)
        future.add_done_callback(self._leave)
        return future

    def _counted(self, work: Callable[[], T]) -> T:
        self.running = 1
        try:
            return work()
        finally:
            self.running = 0

    def _leave(self, _: object) -> None:
        with self._lock:
            self.taken -= 1
