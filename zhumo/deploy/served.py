"""A bundle behind the server: its name, its worker, and what of its folder is told."""

import math
from collections.abc import AsyncIterator
from functools import cached_property
from typing import Any, Protocol, runtime_checkable

from zhumo.bundle import FULL, Bundle
from zhumo.deploy.meters import Meters
from zhumo.deploy.reader import reader_of
from zhumo.deploy.worker import Worker
from zhumo.deploy.writer import Told, Writer, Writing
from zhumo.errors import ModelError
from zhumo.run import read_json
from zhumo.tasks import Answer, Row
from zhumo.tasks.recommend import Recommend
from zhumo.tasks.shelf import Facet

MOST_VALUES = 50  # of one column that are told
UNIQUE = frozenset(("title", "text", "picture"))  # columns whose values name an item and no group of them


@runtime_checkable
class Writes(Protocol):
    """A task whose answer is a text."""

    def write(self, row: Row, length: int) -> Writing:
        """A row's text in pieces, and what a model is to read between them; returns the whole answer."""


class Served:
    """One bundle, one worker.

    Raises:
        ModelError: a bare model folder, which answers no rows.
    """

    def __init__(self, name: str, bundle: Bundle, meters: Meters) -> None:
        if bundle.task is None:
            raise ModelError("model.no_task", folder=bundle.folder)
        self.name, self.bundle, self.task, self.meters = name, bundle, bundle.task, meters
        facts = bundle.folder / "run.json"
        self.facts: dict[str, Any] = read_json(facts) if facts.is_file() else {}
        self.chat = bool(self.facts.get("chat"))  # whether it has learned from chats
        self.worker = Worker(name)
        self.writer = (
            Writer(name, reader_of(bundle.model, self.facts.get("bits", FULL)))
            if isinstance(self.task, Writes)
            else None
        )
        busy = (self.worker, self.writer) if self.writer else (self.worker,)
        meters.watch(
            name,
            waiting=lambda: sum(one.taken - one.running for one in busy),
            running=lambda: sum(one.running for one in busy),
        )
        meters.cache.labels(name).set_function(lambda: self.writer.scheduler.cached if self.writer else 0)

    def describe(self) -> dict[str, Any]:
        """Its entry in /v1/models."""
        created = math.floor((self.bundle.folder / "task.json").stat().st_mtime)
        return {
            "id": self.name,
            "object": "model",
            "created": created,
            "owned_by": "zhumo",
            "task": self.task.name,
            "family": self.bundle.family,
            "parameters": self.bundle.model.parameter_count(),
            "chat": self.chat,
            "bits": self.writer.scheduler.model.bits if self.writer else self.bundle.bits,
        }

    def report(self) -> Any:
        """The report card, or None where the folder has none."""
        path = self.bundle.folder / "report.json"
        return read_json(path) if path.is_file() else None

    def card(self, language: str) -> str | None:
        """The report card as a page of its own."""
        path = self.bundle.folder / f"report.{language}.html"
        return path.read_text(encoding="utf-8") if path.is_file() else None

    async def answer(self, rows: list[Row], *, written: bool) -> tuple[list[Answer], int]:
        """Exactly what the bundle says of each row, each by itself, as the parity gate asks them; and the tokens read.

        written: the answers are texts, which are given up in the middle when nobody waits for them any more.
        """
        if not written:
            return await self.worker.run(lambda: ([self.bundle.answer([row])[0] for row in rows], self._read(rows)))
        told = {place: piece async for place, piece in self.stream(rows) if not isinstance(piece, str)}
        answers = [told[place] for place in range(len(rows))]
        return answers, sum(answer["prompt_tokens"] for answer in answers)

    def stream(self, rows: list[Row]) -> AsyncIterator[Told]:
        """Each row's text as it is written, then its whole answer; with the row's place.

        Raises:
            Refusal: 503, no place is free.
        """
        assert isinstance(self.task, Writes) and self.writer is not None
        return self.writer.stream([self.task.write(row, self.writer.scheduler.model.length) for row in rows])

    def close(self) -> None:
        """Finish what is in hand and take no more."""
        self.worker.close()
        if self.writer is not None:
            self.writer.close()

    def _read(self, rows: list[Row]) -> int:
        texts = [row[name] for row in rows for name in ("text", "source") if name in row]
        texts += [match for row in rows for match in row.get("matches", ())]
        return 0 if self.task.tokenizer is None else sum(len(self.task.tokenizer.encode(text)) for text in texts)

    async def similar(self, item: str, k: int, kind: str) -> Answer:
        """What a recommender finds like an item, or taken with it."""
        shop = self.shop
        return await self.worker.run(lambda: shop.similar(self.bundle.model, item, k, kind))

    @property
    def shop(self) -> Recommend:
        """The task of a recommender."""
        assert isinstance(self.task, Recommend)
        return self.task

    @cached_property
    def facets(self) -> dict[str, Facet]:
        """What the catalogue of a recommender can be filtered by, by column."""
        shelf = self.shop.shelf
        return {name: shelf.facet(name, MOST_VALUES) for name in shelf.columns if name not in UNIQUE}

    def used(self, read: int, answers: list[Answer]) -> dict[str, int]:
        """OpenAI's `usage` of one request, which is also added to the meters. read: tokens of what was asked."""
        wrote = sum(answer.get("completion_tokens", 0) for answer in answers)
        for kind, count in (("prompt", read), ("completion", wrote)):
            self.meters.tokens.labels(self.name, kind).inc(count)
        dropped = sum(answer.get("prompt_dropped", 0) for answer in answers)  # of prompts that fill the model
        told = {"prompt_dropped": dropped} if dropped else {}
        return {"prompt_tokens": read, "completion_tokens": wrote, "total_tokens": read + wrote} | told
