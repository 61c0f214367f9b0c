"""One thread that writes all texts of one bundle, many at once, and the bounded queue before it."""

import asyncio
import threading
import time
from collections import deque
from collections.abc import AsyncIterator, Generator, Sequence
from contextlib import suppress

from torch import Tensor

from zhumo.deploy.places import Places
from zhumo.deploy.refusals import Refusal
from zhumo.deploy.served import Told
from zhumo.deploy.worker import RETRY_AFTER, WAIT
from zhumo.engine import End, Reader, Scheduler
from zhumo.tasks import Answer
from zhumo.transformer.sample import Read

Writing = Generator[Read | str, Tensor | None, Answer]


class _Request:
    """Texts that were asked for together, and where what they say goes. pieces: whether that is more than answers."""

    def __init__(self, writings: Sequence[Writing], owner: str, pieces: bool) -> None:
        self.writings, self.owner, self.pieces, self.left = writings, owner, pieces, len(writings)
        self.until, self.begun = time.monotonic() + WAIT, False
        self.loop = asyncio.get_running_loop()
        self.queue = asyncio.Queue[Told | Exception | None]()
        self.gone = False


def _deliver(said: Sequence[tuple[_Request, Told | Exception | None]]) -> None:
    for request, piece in said:
        request.queue.put_nowait(piece)


class Writer:
    """The thread of one bundle's texts. places: how many requests may wait or be written; None: twice the model's."""

    def __init__(self, name: str, reader: Reader, places: int | None = None) -> None:
        self.places = Places(2 * reader.slots if places is None else places)
        self.scheduler: Scheduler[tuple[_Request, int], str, Answer] = Scheduler(reader)
        self._requests: set[_Request] = set()
        self._new: deque[_Request] = deque()
        self._said: list[tuple[_Request, Told | Exception | None]] = []
        self._changed = threading.Condition()
        self._closing = False
        self._thread = threading.Thread(target=self._live, name=f"zhumo-{name}-writer", daemon=True)
        self._thread.start()

    @property
    def taken(self) -> int:
        """Requests waiting and being written."""
        return len(self.places)

    @property
    def running(self) -> int:
        """Requests being written."""
        with self._changed:
            return sum(request.begun for request in self._requests)

    def stream(self, writings: Sequence[Writing], owner: str = "", *, pieces: bool = True) -> AsyncIterator[Told]:
        """What the texts say, each piece with its text's place, and last its answer; given up when nobody reads on.
        pieces: False tells the answers alone.

        Raises:
            Refusal: 503, no place is free; at once, not at the first piece. Or its turn did not come in time.
        """
        request = _Request(writings, owner, pieces)
        with self._changed:
            if self._closing or not self.places.take(owner):
                raise Refusal(503, "busy", headers={"Retry-After": RETRY_AFTER})
            self._requests.add(request)
            self._new.append(request)
            self._changed.notify()

        async def read() -> AsyncIterator[Told]:
            try:
                while (said := await request.queue.get()) is not None:
                    if isinstance(said, Exception):
                        raise said
                    yield said
            finally:
                request.gone = True

        return read()

    def close(self) -> None:
        """Finish the step in hand and take no more."""
        with self._changed:
            self._closing = True
            self._changed.notify()

    def _live(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._closing or self._new or len(self.scheduler))
                new = [self._new.popleft() for _ in range(len(self._new))]
                requests = list(self._requests)
                if self._closing:
                    break
            for request in new:
                for place, writing in enumerate(request.writings):
                    self.scheduler.add((request, place), writing, request.owner)
            for request in requests:
                self._look_after(request)
            try:
                for (request, place), piece in self.scheduler.step():
                    self._hear(request, place, piece)
            except Exception as error:  # of the model: nobody's text can go on
                for request in requests:
                    self._said.append((request, error))
                    self._leave(request)
            self._tell()
        for request in requests:
            self._said.append((request, None))
            self._leave(request)
        self._tell()

    def _look_after(self, request: _Request) -> None:
        """Let go who went away or has waited too long."""
        request.begun = request.begun or any(
            self.scheduler.begun((request, place)) for place in range(len(request.writings))
        )
        if request.gone:
            self._leave(request)
        elif not request.begun and time.monotonic() > request.until:
            self._said.append((request, Refusal(503, "waited", headers={"Retry-After": RETRY_AFTER})))
            self._leave(request)

    def _hear(self, request: _Request, place: int, piece: str | End[Answer]) -> None:
        if request.gone:
            return
        if not isinstance(piece, End):
            if request.pieces:
                self._said.append((request, (place, piece)))
        elif piece.error is not None:
            self._said.append((request, piece.error))
            self._leave(request)
        else:
            assert piece.result is not None
            self._said.append((request, (place, piece.result)))
            request.left -= 1
            if not request.left:
                self._said.append((request, None))
                self._leave(request)

    def _tell(self) -> None:
        """Tell everybody what a step said, waking each loop but once."""
        for loop in {request.loop for request, _ in self._said}:
            with suppress(RuntimeError):  # it has been closed, and nobody waits there
                loop.call_soon_threadsafe(_deliver, [said for said in self._said if said[0].loop is loop])
        self._said.clear()

    def _leave(self, request: _Request) -> None:
        for place in range(len(request.writings)):
            self.scheduler.drop((request, place))
        with self._changed:
            if request in self._requests:
                self._requests.discard(request)
                self.places.leave(request.owner)
