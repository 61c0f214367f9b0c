"""A bundle behind the server: its name, its worker, and what of its folder is told."""

import math
from collections.abc import Generator
from typing import Any, Protocol, runtime_checkable

import torch

from zhumo.bundle import Bundle
from zhumo.deploy.meters import Meters
from zhumo.deploy.worker import Worker
from zhumo.errors import ModelError
from zhumo.run import read_json
from zhumo.tasks import Answer, Row
from zhumo.transformer import Transformer

Piece = str | Answer
"""A stream's pieces are text, and the last is the whole answer."""


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
        meters.watch(name, lambda: self.worker.taken - self.worker.running, lambda: self.worker.running)

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
        texts = [row["text"] for row in rows if "text" in row and self.task.tokenizer is not None]
        return sum(len(self.task.tokenizer.encode(text)) for text in texts if self.task.tokenizer is not None)

    def pieces(self, rows: list[Row]) -> Generator[tuple[int, Piece], None, None]:
        """Each row's text as it is written, then its whole answer; with the row's place. Runs on the worker."""
        assert isinstance(self.task, Streams)
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

    def items(self, query: str, limit: int) -> list[dict[str, str]]:
        """Items of a recommender's catalogue whose title or id holds `query`, in its order."""
        titles, found, wanted = self.task.state.get("titles", {}), [], query.casefold()
        for item in self.task.state["items"]:
            title = str(titles.get(item, item))
            if wanted in title.casefold() or wanted == item.casefold():
                found.append({"id": item, "title": title})
            if len(found) == limit:
                break
        return found

    def used(self, read: int, answers: list[Answer]) -> dict[str, int]:
        """OpenAI's `usage` of one request, which is also added to the meters. read: tokens of what was asked."""
        wrote = sum(answer.get("completion_tokens", 0) for answer in answers)
        for kind, count in (("prompt", read), ("completion", wrote)):
            self.meters.tokens.labels(self.name, kind).inc(count)
        return {"prompt_tokens": read, "completion_tokens": wrote, "total_tokens": read + wrote}
