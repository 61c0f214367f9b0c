"""What goes between the server and its engine: frames of JSON over a pair of sockets that no stranger can reach.

A frame is its length, 4 bytes, and a JSON value. Errors travel as the name of their sentence and its facts, so that the
server says them in the reader's language.
"""

import asyncio
import contextlib
import socket
import struct
from typing import Any, Self

import orjson

from zhumo.deploy.refusals import Refusal
from zhumo.errors import ZhumoError

LENGTH = struct.Struct("<I")
Json = dict[str, Any]


class Broken(Exception):
    """What failed at the other end without being anybody's fault we can name; its log says what."""


class Frames:
    """One end."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    @classmethod
    async def over(cls, end: socket.socket) -> Self:
        """Of a connected socket, which is theirs from now on."""
        return cls(*await asyncio.open_unix_connection(sock=end))

    def send(self, value: object) -> None:
        """Send a frame; nothing where the other end has gone."""
        if not self._writer.is_closing():
            body = orjson.dumps(value)
            self._writer.write(LENGTH.pack(len(body)) + body)

    async def receive(self) -> Any:
        """The next frame.

        Raises:
            EOFError, OSError: the other end has gone.
        """
        (length,) = LENGTH.unpack(await self._reader.readexactly(LENGTH.size))
        return orjson.loads(await self._reader.readexactly(length))

    async def close(self) -> None:
        """Send what is still to be sent, and let the other end see that nobody listens."""
        self._writer.close()
        with contextlib.suppress(OSError):
            await self._writer.wait_closed()


def told(error: Exception) -> Json:
    """An error as a frame holds it."""
    if isinstance(error, Refusal):
        return {"kind": "Refusal", "status": error.status, "key": error.key, "param": error.param,
                "headers": error.headers, "facts": _plain(error.facts)}  # fmt: skip
    if isinstance(error, ZhumoError):
        return {"kind": type(error).__name__, "key": error.key.removeprefix("error."), "facts": _plain(error.facts)}
    return {"kind": "Broken", "said": f"{type(error).__name__}: {error}"}


def error_of(told: Json) -> Exception:
    """The error that was told."""
    kinds = {kind.__name__: kind for kind in ZhumoError.__subclasses__()}
    if told["kind"] == "Refusal":
        return Refusal(told["status"], told["key"], param=told["param"], headers=told["headers"], **told["facts"])
    if told["kind"] in kinds:
        return kinds[told["kind"]](told["key"], **told["facts"])
    return Broken(told["said"])


def _plain(facts: dict[str, object]) -> Json:
    return {name: fact if isinstance(fact, int | float | str) else str(fact) for name, fact in facts.items()}
