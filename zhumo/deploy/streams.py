"""Server-sent events: text on its way to the client while it is written."""

import time
from collections.abc import AsyncIterator
from typing import Any

import orjson

from zhumo.deploy.requests import Sampling
from zhumo.deploy.routes import Json, Stream, envelope
from zhumo.deploy.served import Served
from zhumo.deploy.writer import Told
from zhumo.tasks import Answer
from zhumo.words import say

DONE = b"data: [DONE]\n\n"


async def events(
    ask: Sampling, stream: Stream, first: Told, rest: AsyncIterator[Told], served: Served
) -> AsyncIterator[bytes]:
    """OpenAI's chunks: the text of each choice in pieces, why it ended, the usage where it was asked for, [DONE].

    A failure after the first byte can no longer be a status, so it becomes an error event.
    """
    head = envelope(ask, stream.kind, stream.prefix)
    wants_usage = ask.stream_options is not None and ask.stream_options.include_usage
    answers: list[Answer] = []
    try:
        async for index, piece in _chain(first, rest):
            if isinstance(piece, str):
                yield _event({**head, "choices": [_choice(stream, index, piece, None)]})
            else:
                answers.append(piece)
                yield _event({**head, "choices": [_choice(stream, index, None, piece["finish_reason"])]})
    except Exception:  # told to the client and raised again for the log
        message = say("error.serve.broken_stream", "en")
        yield _event({"error": {"message": message, "type": "server_error", "param": None, "code": "broken_stream"}})
        raise
    used = served.used(sum(answer["prompt_tokens"] for answer in answers), answers)
    if wants_usage:
        yield _event({**head, "choices": [], "usage": used})
    yield DONE


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


def _choice(stream: Stream, index: int, text: str | None, finish: str | None) -> Json:
    return {"index": index, **stream.piece(text), "logprobs": None, "finish_reason": finish}


def _event(value: Any) -> bytes:
    return b"data: " + orjson.dumps(value) + b"\n\n"
