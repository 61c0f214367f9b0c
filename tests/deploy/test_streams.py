"""Streams end when nobody reads them, a full queue says so, and a server told to stop finishes what it began."""

import asyncio
import http.client
import json
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from zhumo.deploy.meters import Meters
from zhumo.deploy.parity import Server
from zhumo.deploy.refusals import Refusal
from zhumo.deploy.worker import Worker
from zhumo.deploy.writer import Told, Writer, Writing
from zhumo.engine import Part
from zhumo.transformer.sample import Read

LONG = {
    "model": "write-small",
    "messages": [{"role": "user", "content": "hi"}],
    "max_tokens": 8000,
    "stream": True,
    "temperature": 1.2,
    "n": 8,
}


def ask(server: Server, body: dict[str, object]) -> http.client.HTTPResponse:
    return server.request("POST", "/v1/chat/completions", json.dumps(body))


def meter(server: Server, name: str) -> float:
    text = server.request("GET", "/metrics").read().decode()
    found = re.search(rf'^{name}{{[^}}]*model="write-small"[^}}]*}} (\S+)', text, re.MULTILINE)
    assert found is not None
    return float(found[1])


def until(condition: object, seconds: float = 30) -> bool:
    assert callable(condition)
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.05)
    return False


def test_a_stream_that_nobody_reads_is_not_written(server: Server) -> None:
    response = ask(server, LONG)
    assert response.readline().startswith(b"data: {")
    assert until(lambda: meter(server, "zhumo_running") == 1 and meter(server, "zhumo_kv_cache_usage_ratio") > 0)
    response.close()
    # Written to its end it would be limited only by the model's length; the next request must not wait for that.
    assert until(lambda: meter(server, "zhumo_running") == 0)
    assert meter(server, "zhumo_kv_cache_usage_ratio") == 0


def test_an_answer_that_nobody_waits_for_is_not_written(server: Server) -> None:
    body = json.dumps({**LONG, "stream": False}).encode()
    head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {server.key}\r\n"
    head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    with socket.create_connection(("127.0.0.1", server.port)) as client:
        client.sendall(head.encode() + body)
        assert until(lambda: meter(server, "zhumo_running") == 1)
    assert until(lambda: meter(server, "zhumo_running") == 0)
    assert server.post("/v1/completions", {"model": "write-small", "prompt": "a", "max_tokens": 1}, 0)["choices"]


def test_a_wrong_row_is_a_status_and_not_a_broken_stream(server: Server) -> None:
    response = ask(server, {**LONG, "messages": [{"role": "assistant", "content": "I speak first"}]})
    assert response.status == 400
    assert "the last message" in json.loads(response.read())["error"]["message"]


def test_events_are_what_the_standard_says(server: Server) -> None:
    body = ask(server, {**LONG, "max_tokens": 3, "n": 1}).read().decode()
    events = body.split("\n\n")
    assert events[-2:] == ["data: [DONE]", ""]
    assert all(json.loads(event.removeprefix("data: "))["object"] == "chat.completion.chunk" for event in events[:-2])


@pytest.mark.parametrize("places", [1, 3])
def test_a_full_queue_says_so(places: int) -> None:
    worker, gate = Worker("w", places), threading.Event()
    futures = [worker._submit(gate.wait) for _ in range(places)]
    with pytest.raises(Refusal) as refused:
        worker._submit(gate.wait)
    assert refused.value.status == 503 and refused.value.headers["Retry-After"] == "1"
    gate.set()
    assert all(future.result(10) for future in futures)
    assert until(lambda: worker.taken == 0)
    assert worker._submit(lambda: 7).result(10) == 7


def test_what_an_engine_lowers_meanwhile_is_not_a_workers() -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        worker = Worker("w")
        worker._submit(lambda: None).result(10)
        torch.set_num_threads(1)  # as the native core does while it reads
        assert worker._submit(torch.get_num_threads).result(10) == 3
    finally:
        torch.set_num_threads(before)


def test_what_was_given_up_before_it_began_never_begins() -> None:
    worker, gate, done = Worker("w"), threading.Event(), list[int]()
    worker._submit(gate.wait)
    waiting = worker._submit(lambda: done.append(1))
    assert waiting.cancel()
    gate.set()
    worker._submit(lambda: None).result(10)
    assert done == [] and until(lambda: worker.taken == 0)


class Slow:
    """A model of one token that takes its time."""

    bits, rows, steady, alike, slots, length, vocabulary = 32, 128, False, True, 2, 10_000, 2

    def __init__(self, fails: bool = False) -> None:
        self.steps, self.fails = 0, fails

    def step(self, parts: Sequence[Part]) -> list[Tensor]:
        if self.fails:
            raise RuntimeError("the model broke")
        self.steps += 1
        time.sleep(0.001)
        return [torch.zeros(1, 2) for _ in parts]

    def copy(self, source: int, target: int, count: int) -> None:
        raise AssertionError("no two texts here are alike")


def counting(most: int) -> Writing:
    for number in range(most):
        yield Read([0], 10_000)
        yield f"{number} "
    return {"text": "all"}


def test_a_stream_is_written_no_longer_than_somebody_reads() -> None:
    model = Slow()
    writer = Writer("w", model)

    async def read_three() -> list[object]:
        stream, found = writer.stream([counting(9_000)]), []
        async for piece in stream:
            found.append(piece)
            if len(found) == 3:
                break
        await stream.aclose()  # type: ignore[attr-defined]
        return found

    assert asyncio.run(read_three()) == [(0, "0 "), (0, "1 "), (0, "2 ")]
    assert until(lambda: writer.taken == 0)
    assert model.steps < 1_000
    writer.close()


def test_texts_are_told_with_their_places_and_a_full_queue_says_so() -> None:
    writer = Writer("w", Slow(), places=2)

    async def read() -> tuple[list[Told], list[Told]]:
        first, second = (writer.stream([counting(2), counting(1)]), writer.stream([counting(1)]))
        with pytest.raises(Refusal) as refused:
            writer.stream([counting(1)])
        assert refused.value.status == 503 and refused.value.headers["Retry-After"] == "1"
        said = [piece async for piece in first], [piece async for piece in second]
        writer.close()
        with pytest.raises(Refusal):
            writer.stream([counting(1)])
        return said

    both, one = asyncio.run(read())
    assert sorted(map(str, both)) == [
        "(0, '0 ')",
        "(0, '1 ')",
        "(0, {'text': 'all'})",
        "(1, '0 ')",
        "(1, {'text': 'all'})",
    ]
    assert one == [(0, "0 "), (0, {"text": "all"})]


def test_whoever_wants_answers_alone_is_told_nothing_else_and_a_step_wakes_a_loop_once() -> None:
    model = Slow()
    writer, wakes = Writer("w", model), 0

    async def read(pieces: bool) -> list[Told]:
        loop = asyncio.get_running_loop()
        tell = loop.call_soon_threadsafe

        def counted(*arguments: Any, **named: Any) -> asyncio.Handle:
            nonlocal wakes
            wakes += 1
            return tell(*arguments, **named)

        loop.call_soon_threadsafe = counted  # type: ignore[method-assign, assignment]
        return [said async for said in writer.stream([counting(20), counting(20)], pieces=pieces)]

    assert len(asyncio.run(read(pieces=True))) == 42
    assert wakes <= model.steps + 1 < 42
    wakes = 0
    assert sorted(map(str, asyncio.run(read(pieces=False)))) == ["(0, {'text': 'all'})", "(1, {'text': 'all'})"]
    assert wakes <= 2
    writer.close()


def test_whoever_closes_their_loop_in_the_middle_takes_nobody_with_them() -> None:
    writer = Writer("w", Slow())
    loop = asyncio.new_event_loop()

    async def begin() -> AsyncIterator[Told]:
        stream = writer.stream([counting(9_000)])
        assert await anext(stream) == (0, "0 ")
        return stream

    left = loop.run_until_complete(begin())
    loop.close()

    async def read() -> list[Told]:
        return [said async for said in writer.stream([counting(1)])]

    assert asyncio.run(asyncio.wait_for(read(), 30)) == [(0, "0 "), (0, {"text": "all"})]
    assert left is not None  # nobody told the writer that it was given up
    writer.close()


def test_a_model_that_breaks_ends_every_text_with_its_error_and_the_next_one_is_tried() -> None:
    model = Slow(fails=True)
    writer = Writer("w", model)

    async def read() -> list[object]:
        return [piece async for piece in writer.stream([counting(1)])]

    with pytest.raises(RuntimeError, match="the model broke"):
        asyncio.run(read())
    model.fails = False
    assert asyncio.run(read()) == [(0, "0 "), (0, {"text": "all"})]
    writer.close()


def test_the_meters_speak_prometheus(server: Server) -> None:
    server.post("/v1/chat/completions", {**LONG, "max_tokens": 4, "stream": False}, 0)
    assert meter(server, "zhumo_tokens_total") > 0
    names = {line.split()[2] for line in Meters().text().decode().splitlines() if line.startswith("# TYPE")}
    assert {
        "zhumo_requests_total",
        "zhumo_request_seconds",
        "zhumo_time_to_first_token_seconds",
        "zhumo_queue_depth",
        "zhumo_inter_token_seconds",
        "zhumo_tokens_total",
        "zhumo_running",
        "zhumo_shed_total",
        "zhumo_kv_cache_usage_ratio",
    } <= names


def test_sigterm_lets_an_answer_finish_and_ends_well(bundles: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZHUMO_KEY", "k")
    command = [sys.executable, "-m", "zhumo.deploy", str(bundles["write"])]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        found = re.search(r":(\d+)/ ", line)
        assert found is not None and "k" not in line.partition("#")[2]
        server = Server(int(found[1]), "k")
        response = ask(server, {**LONG, "max_tokens": 60, "n": 1})
        response.readline()
        process.send_signal(signal.SIGTERM)
        assert response.read().endswith(b"data: [DONE]\n\n")
        assert process.wait(60) == 0
