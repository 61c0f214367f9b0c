"""Who looks after the engine's process: starts it, starts it again when it dies, and puts another in its place.

The server asks the supervisor as it would ask an engine of its own process. Whatever kills an engine, the server still
takes requests, says why it cannot answer, and has an engine again within moments.
"""

import asyncio
import logging
import socket
import subprocess
import sys
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from zhumo.deploy.frames import Frames, Json, error_of
from zhumo.deploy.refusals import Refusal
from zhumo.deploy.served import Begin, Follow
from zhumo.errors import ModelError, ZhumoError

SOON, LATE = 0.1, 10.0  # seconds before an engine that did not come up is started again: at first, and at most
RETRY = {"Retry-After": "1", "x-should-retry": "true"}  # the second is what OpenAI's clients look at

log = logging.getLogger("zhumo.serve")


class Nursery:
    """The process that forks engines; `nursery.py` is its other side. It has a process group of its own: the Ctrl-C of
    a terminal is for the server alone, which then lets the engine finish."""

    def __init__(self) -> None:
        self._control, theirs = socket.socketpair()
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", "zhumo.deploy.nursery", str(theirs.fileno())],
                pass_fds=(theirs.fileno(),), stdin=subprocess.DEVNULL, process_group=0,
            )  # fmt: skip

    @property
    def alive(self) -> bool:
        """Whether it forks."""
        return self._process.poll() is None

    def fork(self) -> socket.socket:
        """The server's end of a new engine.

        Raises:
            OSError: the nursery has just died.
        """
        ours, theirs = socket.socketpair()
        with theirs:
            socket.send_fds(self._control, [b"+"], [theirs.fileno()])
        ours.setblocking(False)
        return ours

    def close(self) -> None:
        """End it."""
        self._control.close()
        self._process.kill()
        self._process.wait()


class Link:
    """One engine in its process, from its first frame to its end."""

    def __init__(self, frames: Frames) -> None:
        self._frames = frames
        self._asked = 0
        self._waiting: dict[int, asyncio.Queue[tuple[str, Any]]] = {}
        self.about: Mapping[str, Json] = {}
        self.capacity: Mapping[str, Mapping[str, int]] = {}
        self.process = 0
        self.gone = asyncio.Event()
        self._left = asyncio.Event()

    async def open(self, folders: Mapping[str, Path], slots: int) -> None:
        """Have it load its bundles.

        Raises:
            ModelError: a folder is not a bundle, is damaged, or answers otherwise than it did.
            EOFError, OSError: it died.
        """
        self._frames.send(
            {"folders": {name: str(folder.resolve()) for name, folder in folders.items()}, "slots": slots}
        )
        found = await self._frames.receive()
        if "failed" in found:
            raise error_of(found["failed"])
        self.process, self.about, self.capacity = found["process"], found["about"], found["capacity"]
        self._reading = asyncio.create_task(self._read())

    async def ask(self, model: str, what: str, owner: str, **facts: Any) -> AsyncGenerator[Any]:
        """See `Engine.ask`; what is not read to its end is given up there."""
        self._asked += 1
        number, said = self._asked, asyncio.Queue[tuple[str, Any]]()
        self._waiting[number] = said
        self._frames.send((number, model, what, owner, facts))
        kind = ""
        try:
            while True:
                kind, value = await said.get()
                if kind == "failed":
                    raise value
                if kind == "end":
                    return
                yield value
        finally:
            del self._waiting[number]
            self._left.set()
            if kind not in ("failed", "end"):
                self._frames.send((number, "", "drop", "", {}))

    def give_up(self, error: Refusal) -> None:
        """Tell everybody who waits that there will be nothing more."""
        for said in self._waiting.values():
            said.put_nowait(("failed", error))

    async def drained(self) -> None:
        """Wait until nobody waits for it; who came before the deadlines there are has one."""
        while self._waiting:
            self._left.clear()
            await self._left.wait()

    async def close(self) -> None:
        """End it."""
        await self._frames.close()

    async def _read(self) -> None:
        with suppress(EOFError, OSError):
            while True:
                number, kind, value = await self._frames.receive()
                if number in self._waiting:
                    self._waiting[number].put_nowait((kind, error_of(value) if kind == "failed" else value))
        self.gone.set()
        self.give_up(Refusal(503, "engine_lost", headers=RETRY))


class Supervisor:
    """An engine of bundles on disk, in a process of its own. slots: texts that one bundle writes at once."""

    def __init__(self, folders: Mapping[str, Path], slots: int) -> None:
        self.folders, self.slots = folders, slots
        self.followers: list[Follow] = []
        self._nursery = Nursery()
        self._changing = asyncio.Lock()
        self._watches: set[asyncio.Task[None]] = set()
        self._link: Link

    @property
    def about(self) -> Mapping[str, Json]:
        """What is told of each bundle."""
        return self._link.about

    @property
    def capacity(self) -> Mapping[str, Mapping[str, int]]:
        """How many requests each bundle takes in."""
        return self._link.capacity

    @property
    def ready(self) -> bool:
        """Whether there is an engine."""
        return not self._link.gone.is_set()

    @property
    def process(self) -> int:
        """The number of the engine's process."""
        return self._link.process

    def ask(self, model: str, what: str, owner: str, **facts: Any) -> AsyncGenerator[Any]:
        """See `Engine.ask`.

        Raises:
            Refusal: also 503, there is no engine now, or it died over this.
        """
        if not self.ready:
            raise Refusal(503, "engine_lost", headers=RETRY)
        return self._link.ask(model, what, owner, **facts)

    async def start(self) -> None:
        """Have an engine, and from now on always.

        Raises:
            ModelError: a folder is not a bundle, is damaged, or answers otherwise than it did.
        """
        self._take(await self._started(), await self._followed())

    async def swap(self) -> bool:
        """Put an engine of what lies in the folders now in the place of this one, once it has proved itself and all
        followers are ready, and end the old one when it has answered whom it began with. Whether it went well; why not
        stands in the log."""
        async with self._changing:
            old = self._link
            try:
                new = await self._started()
                try:
                    if _tasks(new) != _tasks(old):
                        raise ModelError("serve.other_task")
                    begins = await self._followed()
                except BaseException:
                    await new.close()
                    raise
            except (ZhumoError, EOFError, OSError) as error:
                log.error("the bundles stay as they are: %s", error)
                return False
            self._take(new, begins)
        await old.drained()
        await old.close()
        return True

    def give_up(self, error: Refusal) -> None:
        """Tell everybody who waits that there will be nothing more."""
        self._link.give_up(error)

    async def close(self) -> None:
        """End the engine."""
        for task in self._watches:
            task.cancel()
        if hasattr(self, "_link"):
            await self._link.close()
        self._nursery.close()

    def _take(self, link: Link, begins: Sequence[Begin]) -> None:
        self._link = link
        for begin in begins:
            begin()
        watch = asyncio.create_task(self._watch(link))
        self._watches.add(watch)
        watch.add_done_callback(self._watches.discard)

    async def _watch(self, link: Link) -> None:
        await link.gone.wait()
        async with self._changing:
            if link is self._link:
                log.error("the engine died (process %d); another one is started", link.process)
                self._take(*await self._restarted())

    async def _followed(self) -> list[Begin]:
        return [await follow() for follow in self.followers]

    async def _restarted(self) -> tuple[Link, list[Begin]]:
        pause = SOON
        while True:
            try:
                begins = await self._followed()
                return await self._started(), begins
            except (ZhumoError, EOFError, OSError) as error:
                log.error("no engine: %s; tried again in %.1f s", error, pause)
            await asyncio.sleep(pause)
            pause = min(2 * pause, LATE)

    async def _started(self) -> Link:
        if not self._nursery.alive:
            self._nursery = Nursery()
        link = Link(await Frames.over(self._nursery.fork()))
        await link.open(self.folders, self.slots)
        return link


def _tasks(link: Link) -> dict[str, str]:
    return {name: one["task"] for name, one in link.about.items()}
