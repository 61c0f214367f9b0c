"""The engine: bundles, and everything that may be asked of them. It runs in a process of its own, or in yours.

`Engine.ask` is its only door, and JSON is all that passes; so whether there is a process between those who ask and the
engine makes no difference to them.
"""

import asyncio
import contextlib
import logging
import math
import os
import socket
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from zhumo.bundle import FULL, Bundle, load
from zhumo.deploy.frames import Frames, Json, told
from zhumo.deploy.golden import WARMING, check_golden
from zhumo.deploy.places import SLOTS
from zhumo.deploy.reader import reader_of
from zhumo.deploy.served import Follow, Told
from zhumo.deploy.sums import check_sums
from zhumo.deploy.worker import Worker
from zhumo.deploy.writer import Writer, Writing
from zhumo.errors import ModelError
from zhumo.run import read_json
from zhumo.tasks import Answer, Row
from zhumo.tasks.recommend import Recommend
from zhumo.tasks.shelf import Facet
from zhumo.words import LANGUAGES

MOST_VALUES = 50  # of one column that are told
UNIQUE = frozenset(("title", "text", "picture"))  # columns whose values name an item and no group of them

log = logging.getLogger("zhumo.serve")


@runtime_checkable
class Writes(Protocol):
    """A task whose answer is a text."""

    def write(self, row: Row, length: int) -> Writing:
        """A row's text in pieces, and what a model is to read between them; returns the whole answer."""


class Held:
    """One bundle in the engine: who answers for it, and what of its folder is told. slots: texts written at once.

    Raises:
        ModelError: a bare model folder, which answers no rows.
    """

    def __init__(self, name: str, bundle: Bundle, slots: int) -> None:
        if bundle.task is None:
            raise ModelError("model.no_task", folder=bundle.folder)
        self.bundle, self.task = bundle, bundle.task
        facts: Json = _read(bundle.folder / "run.json") or {}
        self.worker = Worker(name)
        self.writer = (
            Writer(name, reader_of(bundle.model, facts.get("bits", FULL), facts.get("cache_bits", 16), slots))
            if isinstance(self.task, Writes)
            else None
        )
        self.about: Json = {
            "id": name,
            "object": "model",
            "created": math.floor((bundle.folder / "task.json").stat().st_mtime),
            "owned_by": "zhumo",
            "task": self.task.name,
            "family": bundle.family,
            "parameters": bundle.model.parameter_count(),
            "chat": bool(facts.get("chat")),  # whether it has learned from chats
            "bits": self.writer.scheduler.model.bits if self.writer else bundle.bits,
        }
        self.capacity = {
            "at_once": self.writer.scheduler.model.slots if self.writer else 1,
            "places": (self.writer or self.worker).places.count,
        }

    async def answer(self, owner: str, rows: list[Row], written: bool) -> tuple[list[Answer], int]:
        """Exactly what the bundle says of each row, each by itself, as the parity gate asks them; and the tokens read.

        written: the answers are texts, which are given up in the middle when nobody waits for them any more.
        """
        if not written:
            return await self.worker.run(
                lambda: ([self.bundle.answer([row])[0] for row in rows], self._read(rows)), owner
            )
        texts = self.write(owner, rows, pieces=False)
        said = {place: answer async for place, answer in texts if not isinstance(answer, str)}
        answers = [said[place] for place in range(len(rows))]
        return answers, sum(answer["prompt_tokens"] for answer in answers)

    def write(self, owner: str, rows: list[Row], *, pieces: bool = True) -> AsyncIterator[Told]:
        """Each row's text as it is written, then its whole answer; with the row's place. pieces: False gives the
        answers alone.

        Raises:
            Refusal: 503, no place is free.
        """
        assert isinstance(self.task, Writes) and self.writer is not None
        length = self.writer.scheduler.model.length
        return self.writer.stream([self.task.write(row, length) for row in rows], owner, pieces=pieces)

    async def similar(self, owner: str, item: str, k: int, kind: str) -> Answer:
        """What a recommender finds like an item, or taken with it."""
        shop = self._shop
        return await self.worker.run(lambda: shop.similar(self.bundle.model, item, k, kind), owner)

    async def items(self, _: str, q: str, limit: int, ids: list[str] | None) -> list[Json]:
        """Items of a recommender's catalogue that hold every word of `q`, or those of `ids` it has."""
        catalogue = self._shop.catalogue
        index = catalogue.index
        found = catalogue.search(q, limit) if ids is None else [index[item] for item in ids if item in index]
        return [{"id": catalogue.items[place], **catalogue.about(place)} for place in found]

    async def columns(self, _: str) -> Json:
        """What a catalogue can be filtered by, whether it names pictures, and whether the shop's answers hold what was
        taken before."""
        shop = self._shop
        return {"facets": self._facets, "pictures": "picture" in shop.catalogue.columns, "seen": shop.repeats}

    async def picture(self, _: str, item: str) -> str | None:
        """The file name of an item's picture, as the catalogue has it."""
        catalogue = self._shop.catalogue
        place = catalogue.index.get(item)
        name = None if place is None else catalogue.about(place).get("picture")
        return None if name is None else str(name)

    async def report_card(self, _: str, language: str | None) -> Any:
        """The report card as data, or as a page in a language; None where the folder has none."""
        if language is None:
            return _read(self.bundle.folder / "report.json")
        page = self.bundle.folder / f"report.{language}.html"
        return page.read_text(encoding="utf-8") if language in LANGUAGES and page.is_file() else None

    async def state(self, _: str) -> Json:
        """What waits, what runs, and how full the cache of keys and values is."""
        busy = [one for one in (self.worker, self.writer) if one is not None]
        return {
            "waiting": sum(one.taken - one.running for one in busy),
            "running": sum(one.running for one in busy),
            "cache": self.writer.scheduler.fill if self.writer else 0.0,
        }

    def close(self) -> None:
        """Finish what is in hand and take no more."""
        self.worker.close()
        if self.writer is not None:
            self.writer.close()

    def _read(self, rows: list[Row]) -> int:
        texts = [row[name] for row in rows for name in ("text", "source") if name in row]
        texts += [text for row in rows for name in ("matches", "documents") for text in row.get(name, ())]
        return 0 if self.task.tokenizer is None else sum(len(self.task.tokenizer.encode(text)) for text in texts)

    @property
    def _shop(self) -> Recommend:
        assert isinstance(self.task, Recommend)
        return self.task

    @cached_property
    def _facets(self) -> dict[str, Facet]:
        shelf = self._shop.shelf
        return {name: shelf.facet(name, MOST_VALUES) for name in shelf.columns if name not in UNIQUE}


ONCE: Mapping[str, Callable[..., Awaitable[Any]]] = {
    "answer": Held.answer,
    "similar": Held.similar,
    "items": Held.items,
    "columns": Held.columns,
    "picture": Held.picture,
    "report_card": Held.report_card,
    "state": Held.state,
}
"""What is answered by one value; `write` alone says many."""


class Engine:
    """Bundles by the names clients call them.

    Raises:
        ModelError: one of them is a bare model folder.
    """

    ready = True

    def __init__(self, bundles: Mapping[str, Bundle], slots: int = SLOTS) -> None:
        self.followers: list[Follow] = []
        self.held = {name: Held(name, bundle, slots) for name, bundle in bundles.items()}
        self.about = {name: one.about for name, one in self.held.items()}
        self.capacity = {name: one.capacity for name, one in self.held.items()}

    async def ask(self, model: str, what: str, owner: str, **facts: Any) -> AsyncGenerator[Any]:
        """What the engine says: one value, or a text's pieces. owner: whose turn it takes among all who wait.

        Raises:
            Refusal: 503, no place is free.
            ZhumoError: a row cannot be answered.
        """
        one = self.held[model]
        if what == "write":
            async for said in one.write(owner, **facts):
                yield said
        else:
            yield await ONCE[what](one, owner, **facts)

    async def swap(self) -> bool:
        """False: what is in memory stays."""
        return False

    async def close(self) -> None:
        """Finish what is in hand and take no more."""
        for one in self.held.values():
            one.close()


async def open_engine(folders: Mapping[str, str], slots: int) -> Engine:
    """An engine of bundles on disk, each held to its sums and to what it answered when it was made.

    Raises:
        ModelError: a folder is not a bundle, is damaged, or answers otherwise.
    """
    bundles = {}
    for name, folder in folders.items():
        check_sums(Path(folder))
        bundles[name] = load(folder)
    engine = Engine(bundles, slots)
    for one in engine.held.values():
        check_golden(one.bundle)
        if one.writer is not None:
            await one.answer("", [WARMING], written=True)
    return engine


async def serve_end(end: socket.socket) -> None:
    """Open the engine that the first frame describes and answer every frame after it until the other end has gone."""
    frames = await Frames.over(end)
    under_way: dict[int, asyncio.Task[None]] = {}

    async def reply(number: int, model: str, what: str, owner: str, facts: Json) -> None:
        try:
            async for said in engine.ask(model, what, owner, **facts):
                frames.send((number, "said", said))
            frames.send((number, "end", None))
        except asyncio.CancelledError:
            raise
        except Exception as error:
            answer = told(error)
            if answer["kind"] == "Broken":
                log.exception("the engine failed on %s of %s", what, model)
            frames.send((number, "failed", answer))
        finally:
            del under_way[number]

    order = await frames.receive()
    try:
        engine = await open_engine(order["folders"], order["slots"])
    except Exception as error:
        frames.send({"failed": told(error)})
        await frames.close()
        return
    frames.send({"process": os.getpid(), "about": engine.about, "capacity": engine.capacity})
    with contextlib.suppress(EOFError, OSError):
        while True:
            number, model, what, owner, facts = await frames.receive()
            if what != "drop":
                under_way[number] = asyncio.create_task(reply(number, model, what, owner, facts))
            elif number in under_way:
                under_way[number].cancel()


def _read(path: Path) -> Any:
    return read_json(path) if path.is_file() else None
