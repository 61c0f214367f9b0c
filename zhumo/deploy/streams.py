"""Server-sent events: text on its way to the client while it is written."""

import secrets
import time
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any, Protocol

import orjson

from zhumo.deploy.refusals import Refusal
from zhumo.deploy.requests import Ask, Sampling
from zhumo.deploy.served import Served, Told
from zhumo.tasks import Answer
from zhumo.words import say

Json = dict[str, Any]


class Stream(Protocol):
    """How the answer to one request is told in events; an event that has a `type` is sent under that name."""

    last: bytes
    """What ends the stream, after all events."""

    def begin(self) -> Iterator[Json]:
        """Before the first piece."""

    def piece(self, place: int, text: str) -> Iterator[Json]:
        """A piece of the text at a place."""

    def end(self, place: int, answer: Answer) -> Iterator[Json]:
        """A text is whole: what of its answer was not told yet."""

    def close(self, used: Json) -> Iterator[Json]:
        """All texts are whole. used: as `Served.used`."""

    def broken(self, message: str, code: str) -> Json:
        """It could not be answered to its end, too late for a status. code: the sentence's name."""


class Chunks:
    """The chunks of OpenAI's chats and completions. said: a piece of text in a choice; called: calls in one."""

    last = b"data: [DONE]\n\n"

    def __init__(
        self, ask: Sampling, kind: str, prefix: str, said: Callable[[str | None], Json],
        called: Callable[[Answer], Json] | None = None,
    ) -> None:  # fmt: skip
        self._head, self._said, self._called = envelope(ask, kind, prefix), said, called
        self._wants_usage = ask.stream_options is not None and ask.stream_options.include_usage

    def begin(self) -> Iterator[Json]:
        """Nothing."""
        return iter(())

    def piece(self, place: int, text: str) -> Iterator[Json]:
        """A choice with a piece."""
        yield self._chunk(place, self._said(text), None)

    def end(self, place: int, answer: Answer) -> Iterator[Json]:
        """A choice with its calls, and one with why it ended."""
        if self._called is not None and "tool_calls" in answer:
            yield self._chunk(place, self._called(answer), None)
        yield self._chunk(place, self._said(None), answer["finish_reason"])

    def close(self, used: Json) -> Iterator[Json]:
        """The usage, where it was asked for."""
        if self._wants_usage:
            yield {**self._head, "choices": [], "usage": used}

    def broken(self, message: str, code: str) -> Json:
        """OpenAI's error."""
        return {"error": {"message": message, "type": "server_error", "param": None, "code": code}}

    def _chunk(self, place: int, said: Json, finish: str | None) -> Json:
        return {**self._head, "choices": [{"index": place, **said, "logprobs": None, "finish_reason": finish}]}


def envelope(ask: Ask, kind: str, prefix: str) -> Json:
    """What every OpenAI answer begins with."""
    return {"id": f"{prefix}-{secrets.token_hex(12)}", "object": kind, "created": int(time.time()), "model": ask.model}


async def events(
    ask: Ask, stream: Callable[[Any], Stream], first: Told, rest: AsyncIterator[Told], served: Served
) -> AsyncIterator[bytes]:
    """A stream on the wire. A failure after the first byte can no longer be a status, so it becomes an event."""
    telling = stream(ask)
    answers: list[Answer] = []
    for event in telling.begin():
        yield _event(event)
    try:
        async for place, piece in _chain(first, rest):
            if not isinstance(piece, str):
                answers.append(piece)
            for event in telling.piece(place, piece) if isinstance(piece, str) else telling.end(place, piece):
                yield _event(event)
    except Refusal as refusal:
        yield _event(telling.broken(refusal.say("en"), refusal.key))
        return
    except Exception:  # told to the client and raised again for the log
        yield _event(telling.broken(say("error.serve.broken_stream", "en"), "broken_stream"))
        raise
    for event in telling.close(served.used(sum(answer["prompt_tokens"] for answer in answers), answers)):
        yield _event(event)
    yield telling.last


async def timed(pieces: AsyncIterator[Told], served: Served) -> AsyncIterator[Told]:
    """The same pieces, with the seconds before each observed."""
    last, meter = time.perf_counter(), served.meters.first_token.labels(served.name)
    async for piece in pieces:
        now = time.perf_counter()
        meter.observe(now - last)
        last, meter = now, served.meters.next_token.labels(served.name)
        yield piece


async def _chain(first: Told, rest: AsyncIterator[Told]) -> AsyncIterator[Told]:
    yield first
    async for piece in rest:
        yield piece


def _event(value: Json) -> bytes:
    name = f"event: {value['type']}\n" if "type" in value else ""
    return name.encode() + b"data: " + orjson.dumps(value) + b"\n\n"
