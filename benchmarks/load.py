"""A small open-loop client: requests leave by the clock, whether or not earlier ones have been answered.

So a server that falls behind shows it (Schroeder et al. 2006, "Open versus closed"): each latency is counted from the
moment the request was due, not from the moment a connection was free.
"""

import asyncio
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from benchmarks.harness import HERE


@dataclass(frozen=True)
class Target:
    """Where requests go."""

    port: int
    key: str
    pid: int = 0

    def request(self, path: str, body: bytes) -> bytes:
        """A whole HTTP/1.1 request of one JSON body."""
        head = (
            f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1:{self.port}\r\nAuthorization: Bearer {self.key}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        return head.encode() + body


async def answer_of(reader: asyncio.StreamReader) -> int:
    """The status of the response, once all of it is there."""
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    length = re.search(r"content-length: (\d+)", head, re.IGNORECASE)
    assert length is not None, head
    await reader.readexactly(int(length[1]))
    return int(head.split(" ", 2)[1])


async def fire(target: Target, path: str, bodies: Sequence[bytes], rate: float) -> list[float]:
    """Send each body when it is due, `rate` a second; the seconds until each was answered.

    Raises:
        RuntimeError: an answer is not 200.
    """
    idle: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []
    began = time.perf_counter()

    async def one(number: int, body: bytes) -> float:
        due = began + number / rate
        await asyncio.sleep(due - time.perf_counter())
        while idle and idle[-1][0].at_eof():  # the server ends a connection that has been idle for long
            idle.pop()[1].close()
        reader, writer = idle.pop() if idle else await asyncio.open_connection("127.0.0.1", target.port)
        writer.write(target.request(path, body))
        status = await answer_of(reader)
        seconds = time.perf_counter() - due
        if status != 200:
            raise RuntimeError(f"{path} answered {status}")
        idle.append((reader, writer))
        return seconds

    found = await asyncio.gather(*(one(number, body) for number, body in enumerate(bodies)))
    for _, writer in idle:
        writer.close()
    return list(found)


def latencies(target: Target, path: str, bodies: Sequence[bytes], rate: float) -> list[float]:
    """`fire`, from a program that is not asynchronous."""
    return asyncio.run(fire(target, path, bodies, rate))


@contextmanager
def serving(bundle: Path, *options: str) -> Iterator[Target]:
    """`zhumo serve` with these options on a free port of loopback; ends with the block."""
    with tempfile.NamedTemporaryFile("w", suffix=".key") as key:
        key.write("sk-" + os.urandom(16).hex())
        key.flush()
        command = [sys.executable, "-m", "zhumo", "serve", str(bundle), "--port", "0", "--key-file", key.name,
                   *options]  # fmt: skip
        environment = {**os.environ, "ZHUMO_LANG": "en", "PYTHONUNBUFFERED": "1"}
        with subprocess.Popen(
            command, cwd=HERE.parent, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        ) as process:
            assert process.stdout is not None
            try:
                port = next(found[1] for line in process.stdout if (found := re.search(r"127\.0\.0\.1:(\d+)", line)))
                yield Target(int(port), Path(key.name).read_text(encoding="utf-8"), process.pid)
            finally:
                process.terminate()
                process.wait(60)


def peak_memory(pid: int) -> float:
    """The most memory a running process has had, in GB."""
    status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    found = re.search(r"VmHWM:\s+(\d+) kB", status)
    assert found is not None
    return int(found[1]) * 1024 / 1e9


def engine_of(server: int) -> int:
    """The process that holds the models of a server: the child of its child."""
    [nursery] = _children(server)
    return max(_children(nursery))


def _children(parent: int) -> list[int]:
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            fields = stat.read_text(encoding="utf-8").rpartition(")")[2].split()
            if int(fields[1]) == parent and fields[0] != "Z":
                found.append(int(stat.parent.name))
    return found
