"""Who is turned away at the door, before there is a request."""

import asyncio
from typing import Any, cast

from uvicorn import Config
from uvicorn.server import ServerState

from zhumo.deploy.admission import Admission
from zhumo.deploy.protocol import Protocol

ASKED = b"POST /%d HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n{}"


class Full:
    """An admission that has no place."""

    retry_after = b"7"

    def turns_away(self, *_: object) -> bool:
        return True


async def app(scope: object, receive: object, send: object) -> None:
    raise AssertionError("no request comes as far as this")


async def answer(reader: asyncio.StreamReader) -> bytes:
    head = await reader.readuntil(b"\r\n\r\n")
    size = next(int(line[15:]) for line in head.split(b"\r\n") if line.startswith(b"content-length"))
    return head + await reader.readexactly(size)


class First(Full):
    """One that has no place for the first who comes, and then has."""

    def __init__(self) -> None:
        self.came = 0

    def turns_away(self, *_: object) -> bool:
        self.came += 1
        return self.came == 1


async def slow(scope: Any, receive: object, send: Any) -> None:
    """Answers after the time that a connection may idle."""
    await asyncio.sleep(1.5)
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": b"{}"})


async def listening(admission: Full, app: Any = app, **settings: Any) -> tuple[asyncio.Server, int]:
    config = Config(app, interface="asgi3", lifespan="off", log_config=None, **settings)
    config.load()

    def made() -> Protocol:
        told: Any = {"config": config, "server_state": ServerState(), "app_state": {}}
        return Protocol(**told, admission=cast(Admission, admission))

    server = await asyncio.get_running_loop().create_server(made, "127.0.0.1")
    return server, server.sockets[0].getsockname()[1]


def test_who_is_turned_away_is_told_over_a_connection_that_stays() -> None:
    async def talk() -> list[bytes]:
        server, port = await listening(Full())
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        found = []
        for number in range(3):
            writer.write(ASKED % number)
            found.append(await answer(reader))
        writer.close()
        server.close()
        return found

    found = asyncio.run(talk())
    assert all(said.startswith(b"HTTP/1.1 503") and b"retry-after: 7\r\n" in said for said in found)


def test_who_was_turned_away_before_the_body_came_is_let_go_when_idle() -> None:
    async def talk() -> bytes:
        server, port = await listening(Full(), timeout_keep_alive=1)
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        head, _, body = (ASKED % 1).partition(b"{}")
        writer.write(head)
        await answer(reader)
        writer.write(b"{}" + body)
        left = await asyncio.wait_for(reader.read(), 60)
        writer.close()
        server.close()
        return left

    assert asyncio.run(talk()) == b""


def test_who_is_let_in_right_after_another_was_turned_away_is_not_idle() -> None:
    async def talk() -> list[bytes]:
        server, port = await listening(First(), slow, timeout_keep_alive=1)
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(ASKED % 1 + ASKED % 2)
        found = [await asyncio.wait_for(answer(reader), 60) for _ in range(2)]
        writer.close()
        server.close()
        return found

    found = asyncio.run(talk())
    assert found[0].startswith(b"HTTP/1.1 503") and found[1].startswith(b"HTTP/1.1 200")
