"""A bundle behind the server: its name, its worker, and what of its folder is told."""

import math
from collections.abc import Generator, Mapping
from functools import cached_property
from typing import Any, Protocol, runtime_checkable

import torch
from torch import nn

from zhumo.bundle import Bundle
from zhumo.deploy.meters import Meters
from zhumo.deploy.worker import Worker
from zhumo.errors import ModelError
from zhumo.run import read_json
from zhumo.tasks import Answer, Row
from zhumo.tasks.recommend import Recommend
from zhumo.tasks.shelf import Facet
from zhumo.transformer import Transformer
from zhumo.transformer.cache import LayerCache

Piece = str | Answer
"""A stream's pieces are text, and the last is the whole answer."""

MOST_VALUES = 50  # of one column that are told
UNIQUE = frozenset(("title", "text", "picture"))  # columns whose values name an item and no group of them


@runtime_checkable
class Streams(Protocol):
    """A task that can show its answer while it makes it."""

    def stream(self, model: Transformer, row: Row) -> Generator[str, None, Answer]:
        """The text of a row in pieces; returns the whole answer."""


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
        self.chat = bool(facts.is_file() and read_json(facts).get("chat"))  # whether it has learned from chats
        self.worker = Worker(name)
        self.cached = 0  # bytes of keys and values of the text being written
        if isinstance(self.task, Streams):
            bundle.model.blocks[0].register_forward_pre_hook(self._measure_cache, with_kwargs=True)
        meters.watch(name, lambda: self.worker.taken - self.worker.running, lambda: self.worker.running)
        meters.cache.labels(name).set_function(lambda: self.cached)

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
        pieces = self.worker.stream(lambda: self.pieces(rows))
        answers = [piece async for _, piece in pieces if not isinstance(piece, str)]
        return answers, sum(answer["prompt_tokens"] for answer in answers)

    def _read(self, rows: list[Row]) -> int:
        texts = [row[name] for row in rows for name in ("text", "source") if name in row]
        return 0 if self.task.tokenizer is None else sum(len(self.task.tokenizer.encode(text)) for text in texts)

    def pieces(self, rows: list[Row]) -> Generator[tuple[int, Piece], None, None]:
        """Each row's text as it is written, then its whole answer; with the row's place. Runs on the worker."""
        assert isinstance(self.task, Streams)
        try:
            for index, row in enumerate(rows):
                pieces = self.task.stream(self.bundle.model, row)
                while True:
                    with torch.inference_mode():
                        try:
                            piece: Piece = next(pieces)
                        except StopIteration as end:
                            piece = end.value
                    yield index, piece
                    if not isinstance(piece, str):
                        break
        finally:
            self.cached = 0

    def _measure_cache(self, _module: nn.Module, _ids: object, options: Mapping[str, Any]) -> None:
        """A block is about to run: what its cache and those of its like hold in memory."""
        cache: LayerCache | None = options.get("cache")
        if cache is not None:
            self.cached = (cache.keys.nbytes + cache.values.nbytes) * self.bundle.model.config.depth

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
