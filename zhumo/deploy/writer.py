"""One thread that writes all texts of one bundle, many at once, and the bounded queue before it."""

import asyncio
import threading
from collections import deque
from collections.abc import AsyncIterator, Generator, Sequence

from torch import Tensor

from zhumo.deploy.refusals import Refusal
from zhumo.deploy.worker import PLACES, RETRY_AFTER
from zhumo.engine import End, Reader, Scheduler
from zhumo.tasks import Answer
from zhumo.transformer.sample import Read

Piece = str | Answer
"""What a text yields is text, and the last is the whole answer."""

Writing = Generator[Read | str, Tensor | None, Answer]
Told = tuple[int, Piece]


class _Request:
    """Texts that were asked for together, and where what they say goes."""

    def __init__(self, writings: Sequence[Writing]) -> None:
        self.writings, self.left = writings, len(writings)
        self.loop = asyncio.get_running_loop()
        self.queue = asyncio.Queue[Told | Exception | None]()
        self.gone = False

    def tell(self, said: Told | Exception | None) -> None:
        self.loop.call_soon_threadsafe(self.queue.put_nowait, said)


class Writer:
    """The thread of one bundle's texts. places: how many requests may wait or be written."""

    def __init__(self, name: str, reader: Reader, places: int = PLACES) -> None:
        self.places = places
        self.scheduler: Scheduler[tuple[_Request, int], str, Answer] = Scheduler(reader)
        self._requests: set[_Request] = set()
        self._new: deque[_Request] = deque()
        self._changed = threading.Condition()
        self._closing = False
        self._thread = threading.Thread(target=self._live, name=f"zhumo-{name}-writer", daemon=True)
        self._thread.start()

    @property
    def taken(self) -> int:
        """Requests waiting and being written."""
        return len(self._requests)

    @property
    def running(self) -> int:
        """Requests being written."""
        return len(self._requests) - len(self._new)

    def stream(self, writings: Sequence[Writing]) -> AsyncIterator[Told]:
        """What the texts say, each piece with its text's place, and last its answer; given up when nobody reads on.

        Raises:
            Refusal: 503, no place is free; at once, not at the first piece.
        """
        request = _Request(writings)
        with self._changed:
            if self.taken >= self.places or self._closing:
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
                    self.scheduler.add((request, place), writing)
            for request in requests:
                if request.gone:
                    self._leave(request)
            try:
                for (request, place), piece in self.scheduler.step():
                    self._tell(request, place, piece)
            except Exception as error:  # of the model: nobody's text can go on
                for request in requests:
                    request.tell(error)
                    self._leave(request)
        for request in requests:
            request.tell(None)
            self._leave(request)

    def _tell(self, request: _Request, place: int, piece: str | End[Answer]) -> None:
        if request.gone:
            return
        if not isinstance(piece, End):
            request.tell((place, piece))
        elif piece.error is not None:
            request.tell(piece.error)
            self._leave(request)
        else:
            assert piece.result is not None
            request.tell((place, piece.result))
            request.left -= 1
            if not request.left:
                request.tell(None)
                self._leave(request)

    def _leave(self, request: _Request) -> None:
        for place in range(len(request.writings)):
            self.scheduler.drop((request, place))
        with self._changed:
            self._requests.discard(request)
