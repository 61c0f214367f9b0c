"""The open-loop client against a real server that answers nobody before two have asked."""

import asyncio
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from benchmarks import load


class Patient(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    pairs = threading.Barrier(2)

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.pairs.wait(timeout=30)
        self.send_response(200 if body == b"{}" and self.headers["Authorization"] == "Bearer key" else 400)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"{}")

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def target() -> Iterator[load.Target]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Patient) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield load.Target(server.server_port, "key")
        server.shutdown()


def test_requests_do_not_wait_for_answers(target: load.Target) -> None:
    """A closed loop would wait for the first answer for ever."""
    found = load.latencies(target, "/", [b"{}"] * 10, 50.0)
    assert len(found) == 10
    assert min(found) > 0


def test_a_refusal_is_an_error(target: load.Target) -> None:
    with pytest.raises(RuntimeError, match="400"):
        load.latencies(target, "/", [b"[]"] * 2, 50.0)


def test_a_connection_that_the_server_ended_is_not_used_again() -> None:
    opened = 0

    async def once(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal opened
        opened += 1
        await reader.readuntil(b"{}")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")
        await writer.drain()
        writer.close()

    async def asked() -> list[float]:
        async with await asyncio.start_server(once, "127.0.0.1", 0) as server:
            target = load.Target(server.sockets[0].getsockname()[1], "k")
            return await load.fire(target, "/", [b"{}"] * 3, 5.0)

    assert len(asyncio.run(asked())) == opened == 3
