"""A bundle as the routes see it: its name, what is told of it, and what may be asked, whoever answers."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing
from contextvars import ContextVar
from typing import Any, NamedTuple, Protocol

from zhumo.deploy.frames import Json
from zhumo.deploy.meters import Meters
from zhumo.deploy.refusals import Refusal

Piece = str | Json
"""What a text yields is text, and the last is the whole answer."""

Told = tuple[int, Piece]


class Caller(NamedTuple):
    """Whom a request is answered for. name: of the key; until: when nobody waits any more, on the loop's clock."""

    name: str = ""
    until: float | None = None


CALLER = ContextVar("caller", default=Caller())  # noqa: B039, it is frozen


Begin = Callable[[], None]
Follow = Callable[[], Awaitable[Begin]]
"""Makes ready for the bundles that lie in the folders now; what it gives is called in the moment they serve."""


class Answering(Protocol):
    """Who answers: an engine of this process or one of another.

    about: what is told of each bundle, by its name; capacity: how many requests each answers `at_once`, and for how
    many it has `places`; ready: whether it answers now; followers: who must be ready before other bundles serve.
    """

    followers: list[Follow]

    @property
    def about(self) -> Mapping[str, Json]: ...

    @property
    def capacity(self) -> Mapping[str, Mapping[str, int]]: ...

    @property
    def ready(self) -> bool: ...

    def ask(self, model: str, what: str, owner: str, **facts: Any) -> AsyncGenerator[Any]:
        """What is said to a question of `engine.ONCE`, or to `write`."""

    async def swap(self) -> bool:
        """Read the bundles again; whether they serve now."""

    async def close(self) -> None:
        """Take no more."""


class Served:
    """One bundle."""

    def __init__(self, name: str, engine: Answering, meters: Meters) -> None:
        self.name, self.engine, self.meters = name, engine, meters

    @property
    def about(self) -> Json:
        """Its entry in /v1/models."""
        return self.engine.about[self.name]

    @property
    def task(self) -> str:
        """What it does."""
        task: str = self.about["task"]
        return task

    async def answer(self, rows: list[Json], *, written: bool) -> tuple[list[Json], int]:
        """Exactly what the bundle says of each row, and the tokens read. written: the answers are texts."""
        answers, read = await self.ask("answer", rows=rows, written=written)
        return answers, read

    async def stream(self, rows: list[Json]) -> AsyncGenerator[Told]:
        """Each row's text as it is written, then its whole answer; with the row's place.

        Raises:
            Refusal: 503, no place is free; 504, it was not written in time.
        """
        async for place, piece in self._said("write", rows=rows):
            yield place, piece

    async def ask(self, what: str, **facts: Any) -> Any:
        """What the engine says to a question of `engine.ONCE`.

        Raises:
            Refusal: 503, no place is free; 504, it was not answered in time.
        """
        async with aclosing(self._said(what, **facts)) as said:
            return await anext(said)

    async def _said(self, what: str, **facts: Any) -> AsyncGenerator[Any]:
        caller = CALLER.get()
        async with aclosing(self.engine.ask(self.name, what, caller.name, **facts)) as said:
            while True:
                try:
                    async with asyncio.timeout_at(caller.until):
                        piece = await anext(said)
                except StopAsyncIteration:
                    return
                except TimeoutError as error:
                    raise Refusal(504, "deadline") from error
                yield piece

    def used(self, read: int, answers: Sequence[Json]) -> dict[str, int]:
        """OpenAI's `usage` of one request, which is also added to the meters. read: tokens of what was asked."""
        wrote = sum(answer.get("completion_tokens", 0) for answer in answers)
        for kind, count in (("prompt", read), ("completion", wrote)):
            self.meters.tokens.labels(self.name, kind).inc(count)
        dropped = sum(answer.get("prompt_dropped", 0) for answer in answers)  # of prompts that fill the model
        told = {"prompt_dropped": dropped} if dropped else {}
        return {"prompt_tokens": read, "completion_tokens": wrote, "total_tokens": read + wrote} | told
