"""Who is turned away at the door, before there is a request."""

import asyncio
import socket
from typing import Any, cast

from uvicorn import Config
from uvicorn.server import ServerState

from zhumo.deploy.admission import Admission
from zhumo.deploy.protocol import HEAD_LIMIT, TICK, Protocol

ASKED = b"POST /%d HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n{}"


class Full:
    """An admission that has no place."""

    retry_after = b"7"
    came = 0

    def turns_away(self, *_: object) -> bool:
        self.came += 1
        return True


async def app(scope: object, receive: object, send: object) -> None:
    raise AssertionError("no request comes as far as this")


async def answer(reader: asyncio.StreamReader) -> bytes:
    head = await reader.readuntil(b"\r\n\r\n")
    size = next(int(line[15:]) for line in head.split(b"\r\n") if line.startswith(b"content-length"))
    return head + await reader.readexactly(size)


class First(Full):
    """One that has no place for the first who comes, and then has."""

    def turns_away(self, *_: object) -> bool:
        return super().turns_away() and self.came == 1


async def slow(scope: Any, receive: object, send: Any) -> None:
    """Answers after the time that a connection may idle."""
    await asyncio.sleep(1.5)
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": b"{}"})


async def after_a_tick() -> float:
    """Just after those were told who had been turned away; the time of the next one."""
    loop = asyncio.get_running_loop()
    await asyncio.sleep((loop.time() // TICK + 1) * TICK - loop.time())
    return (loop.time() // TICK + 1) * TICK


async def listening(
    admission: Full, app: Any = app, state: ServerState | None = None, **settings: Any
) -> tuple[asyncio.Server, int]:
    config = Config(app, interface="asgi3", lifespan="off", log_config=None, **settings)
    config.load()

    state = state or ServerState()

    def made() -> Protocol:
        told: Any = {"config": config, "server_state": state, "app_state": {}}
        return Protocol(**told, admission=cast(Admission, admission))

    server = await asyncio.get_running_loop().create_server(made, "127.0.0.1")
    return server, server.sockets[0].getsockname()[1]


def all_that_is_said_to(sent: bytes, *, more: bool = True) -> bytes:
    """By a server that has no place, until it ends the connection. more: whether the client may say more."""

    async def talk() -> bytes:
        server, port = await listening(Full(), timeout_keep_alive=1000)
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(sent)
        if not more:
            writer.write_eof()
        found = await asyncio.wait_for(reader.read(), 60)
        writer.close()
        server.close()
        return found

    return asyncio.run(talk())


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


def test_who_is_turned_away_is_told_at_the_next_tick() -> None:
    """So who asks again at once is refused as often as the clock ticks and no oftener."""

    async def talk() -> tuple[float, float]:
        server, port = await listening(Full())
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        due = await after_a_tick()
        writer.write(ASKED % 1)
        await answer(reader)
        writer.close()
        server.close()
        return due, asyncio.get_running_loop().time()

    for _ in range(5):
        due, told = asyncio.run(talk())
        assert told >= due - 0.001  # the clock's own grain


def test_who_asks_twice_in_one_breath_is_told_twice_in_order() -> None:
    last = b"GET / HTTP/1.1\r\nHost: a\r\nAccept-Language: zh\r\nConnection: close\r\n\r\n"
    found = all_that_is_said_to(ASKED % 1 + last)
    assert found.count(b"HTTP/1.1 503") == 2
    assert 0 < found.find(b"Too many requests") < found.find("排队的请求过多".encode())


def test_what_is_not_http_is_answered_after_who_was_turned_away() -> None:
    head = (ASKED % 1).partition(b"Content-Length")[0]
    found = all_that_is_said_to(head + b"Transfer-Encoding: chunked\r\n\r\nno number\r\n")
    assert 0 == found.find(b"HTTP/1.1 503") < found.find(b"HTTP/1.1 400")


def test_who_goes_away_before_the_tick_is_told_nothing_and_leaves_nothing() -> None:
    async def talk() -> tuple[list[Any], int, int]:
        problems, state, door = list[Any](), ServerState(), Full()
        asyncio.get_running_loop().set_exception_handler(lambda _, told: problems.append(told))
        server, port = await listening(door, state=state)
        for _ in range(20):
            _, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(ASKED % 1)
            await writer.drain()
            writer.transport.abort()
        await asyncio.sleep(5 * TICK)
        server.close()
        return problems, len(state.connections), door.came

    problems, left, came = asyncio.run(talk())
    assert (problems, left) == ([], 0) and came > 0


def test_who_was_turned_away_is_told_before_the_server_stops() -> None:
    async def talk() -> bytes:
        state = ServerState()
        server, port = await listening(Full(), state=state)
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        await after_a_tick()
        writer.write(ASKED % 1)
        async with asyncio.timeout(60):
            while not any(cast(Protocol, one).refused for one in state.connections):
                await asyncio.sleep(0)
        for one in list(state.connections):
            one.shutdown()
        found = await asyncio.wait_for(reader.read(), 60)
        writer.close()
        server.close()
        return found

    assert asyncio.run(talk()).startswith(b"HTTP/1.1 503")


def test_who_says_no_more_is_told_all_the_same() -> None:
    assert all_that_is_said_to(ASKED % 1, more=False).startswith(b"HTTP/1.1 503")


def test_who_asks_and_asks_and_reads_nothing_is_let_go() -> None:
    """Otherwise the answers it does not fetch would fill the memory."""

    async def talk() -> int:
        state = ServerState()
        server, port = await listening(Full(), state=state)
        connection = socket.create_connection(("127.0.0.1", port))
        connection.setblocking(False)
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(60):
                while True:
                    await loop.sock_sendall(connection, ASKED % 1 * 1000)
        except ConnectionError:
            return len(state.connections)
        finally:
            connection.close()
            server.close()

    assert asyncio.run(talk()) == 0


def test_a_head_behind_a_long_body_is_not_too_large() -> None:
    async def talk() -> bytes:
        server, port = await listening(Full())
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        head, _, end = (ASKED % 2).partition(b"Content-Length")
        body = b"a" * (HEAD_LIMIT + 10)
        writer.write(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % len(body) + body + head)
        await answer(reader)
        writer.write(b"Content-Length" + end)
        found = await asyncio.wait_for(answer(reader), 60)
        writer.close()
        server.close()
        return found

    assert asyncio.run(talk()).startswith(b"HTTP/1.1 503")
