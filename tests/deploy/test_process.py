"""The engine is a process of its own: killed, swapped and drained, the server goes on, and nobody's text is cut."""

import http.client
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from zhumo.bundle import load
from zhumo.deploy.golden import NAME, write_golden
from zhumo.deploy.parity import Server
from zhumo.deploy.sums import write_sums

TEXT = {"model": "write-small", "messages": [{"role": "user", "content": "hi"}], "stream": True, "temperature": 0.0}


class Running(Server):
    """A server and its process."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None
        found = re.search(r"http://127\.0\.0\.1:(\d+)/", process.stdout.readline())
        assert found is not None
        super().__init__(int(found[1]), "k")
        self.process = process

    @property
    def engine(self) -> int:
        """The engine's process: the one child of the one child."""
        [nursery] = children(self.process.pid)
        return max(children(nursery), default=0)

    def status(self, path: str) -> int:
        return self.request("GET", path).status

    def stream(self, **changes: Any) -> http.client.HTTPResponse:
        return self.request("POST", "/v1/chat/completions", json.dumps({**TEXT, **changes}))


def children(parent: int) -> list[int]:
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[1]) == parent and fields[0] != "Z":
            found.append(int(path.parent.name))
    return found


@contextmanager
def running(*folders: Path) -> Iterator[Running]:
    command = [sys.executable, "-m", "zhumo.deploy", *map(str, folders)]
    environment = {**os.environ, "ZHUMO_KEY": "k"}
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
    ) as process:
        yield Running(process)
        process.terminate()
        process.wait(120)


@pytest.fixture(scope="module")
def server(bundles: dict[str, Path]) -> Iterator[Running]:
    with running(bundles["write"], bundles["recommend"]) as found:
        yield found


def until(condition: Callable[[], bool], seconds: float = 120) -> float:
    began = time.monotonic()
    while not condition():
        assert time.monotonic() - began < seconds
        time.sleep(0.02)
    return time.monotonic() - began


def last(stream: http.client.HTTPResponse) -> dict[str, Any]:
    """What a stream that began is told in the end: its last event but `[DONE]`."""
    events = [line for line in stream.read().split(b"\n") if line.startswith(b"data: {")]
    told: dict[str, Any] = json.loads(events[-1].removeprefix(b"data: "))
    return told


def idle(server: Running) -> bool:
    text = server.request("GET", "/metrics").read().decode()
    found = re.findall(
        r"^(?:zhumo_queue_depth|zhumo_running|zhumo_kv_cache_usage_ratio)\{.*\} (\S+)", text, re.MULTILINE
    )
    assert len(found) == 6
    return set(found) == {"0.0"}


def test_nothing_listens_but_http(server: Running) -> None:
    listening = set()
    for pid in (server.process.pid, server.engine, *children(server.process.pid)):
        inodes = {
            os.readlink(link)[8:-1] for link in Path(f"/proc/{pid}/fd").iterdir() if "socket:" in os.readlink(link)
        }
        for kind in ("tcp", "tcp6", "unix"):
            for line in Path(f"/proc/{pid}/net/{kind}").read_text().splitlines()[1:]:
                fields = line.split()
                listens = fields[3] == "00010000" if kind == "unix" else fields[3] == "0A"
                if listens and fields[6 if kind == "unix" else 9] in inodes:
                    listening.add((kind, fields[1]))
    assert listening == {("tcp", f"0100007F:{server.port:04X}")}


def kill(server: Running, times: int) -> tuple[float, int, list[str]]:
    """The longest it took to be ready again, how often liveness failed, and what streams under way were told."""
    longest, failed, told = 0.0, 0, []
    for _ in range(times):
        stream, engine = server.stream(max_tokens=4_000), server.engine
        assert stream.readline().startswith(b"data: {")
        os.kill(engine, signal.SIGKILL)
        began = time.monotonic()
        told.append(last(stream)["error"]["code"])
        while server.status("/health/ready") != 200:
            failed += server.status("/health/live") != 200
            assert time.monotonic() - began < 60
        assert server.engine != engine
        longest = max(longest, time.monotonic() - began)
    return longest, failed, told


def test_a_killed_engine_comes_again_and_liveness_never_fails(server: Running) -> None:
    longest, failed, told = kill(server, 2)
    assert longest < 60 and not failed and told == ["engine_lost"] * 2
    assert server.stream(max_tokens=3).read().endswith(b"data: [DONE]\n\n")


def test_who_waits_for_a_killed_engine_may_ask_again(server: Running) -> None:
    until(lambda: server.status("/health/ready") == 200)
    found: list[http.client.HTTPResponse] = []
    asking = threading.Thread(target=lambda: found.append(server.stream(max_tokens=4_000, stream=False)))
    asking.start()
    until(lambda: not idle(server))
    os.kill(server.engine, signal.SIGKILL)
    asking.join(120)
    assert found[0].status == 503 and found[0].headers["x-should-retry"] == "true" and found[0].headers["retry-after"]
    until(lambda: server.status("/health/ready") == 200)


def test_without_a_nursery_there_is_a_new_one(server: Running) -> None:
    [nursery], engine = children(server.process.pid), server.engine
    os.kill(nursery, signal.SIGKILL)
    assert server.stream(max_tokens=3).read().endswith(b"data: [DONE]\n\n")  # the engine lives on
    os.kill(engine, signal.SIGKILL)
    until(lambda: server.status("/health/ready") == 200)
    assert children(server.process.pid) != [nursery]


def parent(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def leave(server: Running, times: int) -> None:
    """Read the beginning of so many texts, eight at a time, and go away."""
    for start in range(0, times, 8):
        streams = [server.stream(max_tokens=4_000) for _ in range(start, min(start + 8, times))]
        for stream in streams:
            assert stream.readline().startswith(b"data: {")
            stream.close()
        until(lambda: idle(server))


def test_who_goes_away_leaves_nothing_behind(server: Running) -> None:
    leave(server, 24)
    assert server.stream(max_tokens=3, n=8).read().endswith(b"data: [DONE]\n\n")  # all slots can be had


@pytest.mark.long
def test_five_hundred_leave_nothing_behind(server: Running) -> None:
    leave(server, 500)


@pytest.mark.parametrize("stream", [False, True])
def test_a_deadline_is_kept(server: Running, stream: bool) -> None:
    headers = {**server.headers, "X-Request-Timeout": "0.4"}
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=120)
    began = time.monotonic()
    connection.request(
        "POST", "/v1/chat/completions", json.dumps({**TEXT, "max_tokens": 8_000, "stream": stream}), headers
    )
    response = connection.getresponse()
    body = response.read()
    assert time.monotonic() - began < 20 and b'"code":"deadline"' in body
    assert response.status == (200 if stream else 504)
    until(lambda: idle(server))


@pytest.mark.parametrize("timeout", ["0", "-1", "soon", "nan"])
def test_a_deadline_that_is_none_is_refused(server: Running, timeout: str) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=120)
    connection.request(
        "POST", "/v1/chat/completions", json.dumps(TEXT), {**server.headers, "X-Request-Timeout": timeout}
    )
    assert connection.getresponse().status == 400


def drain(folder: Path) -> bool:
    """Stop a server in the middle of texts; whether all were written to their ends and it ended well."""
    with running(folder) as server:
        streams = [server.stream(max_tokens=20 + 10 * place) for place in range(4)]
        assert all(stream.readline().startswith(b"data: {") for stream in streams)
        server.process.send_signal(signal.SIGTERM)
        until(lambda: server.status("/health/ready") == 503)
        assert server.status("/health/live") == 200
        late = server.stream(max_tokens=1)
        assert late.status == 503 and json.loads(late.read())["error"]["code"] == "draining"
        whole = [stream.read().endswith(b"data: [DONE]\n\n") for stream in streams]
        return all(whole) and server.process.wait(120) == 0


def test_a_server_that_is_told_to_stop_cuts_no_text(bundles: dict[str, Path]) -> None:
    assert drain(bundles["write"])


@pytest.mark.long
def test_fifty_drains_cut_no_text(bundles: dict[str, Path]) -> None:
    assert all(drain(bundles["write"]) for _ in range(50))


CTRL_C = """
import asyncio, os, signal, time
from zhumo.deploy.frames import Frames
from zhumo.deploy.supervisor import Link, Nursery

signal.signal(signal.SIGINT, lambda *_: None)
nursery = Nursery()
time.sleep(0.5)  # its interpreter is up, torch is not
os.killpg(0, signal.SIGINT)


async def ask() -> None:
    link = Link(await Frames.over(nursery.fork()))
    await link.open({}, 1)
    await link.close()


asyncio.run(ask())
nursery.close()
"""


def test_ctrl_c_at_a_terminal_does_not_reach_who_forks_engines() -> None:
    """A terminal sends it to all processes of its foreground group; the nursery is deaf only once it has imported."""
    subprocess.run([sys.executable, "-c", CTRL_C], start_new_session=True, timeout=120, check=True)


def test_whose_text_is_longer_than_grace_is_told(bundles: dict[str, Path], tmp_path: Path) -> None:
    code = "import sys; from zhumo.deploy import server; server.GRACE = 1.0; server.serve(sys.argv[1:], port=0)"
    with subprocess.Popen(
        [sys.executable, "-c", code, str(bundles["write"])], stdout=subprocess.PIPE, text=True,
        env={**os.environ, "ZHUMO_KEY": "k"},
    ) as process:  # fmt: skip
        server = Running(process)
        stream = server.stream(max_tokens=8_000)
        stream.readline()
        process.send_signal(signal.SIGTERM)
        assert last(stream)["error"]["code"] == "draining"
        assert process.wait(120) == 0


def test_a_swap_fails_nobody_and_a_bad_bundle_never_answers(
    bundles: dict[str, Path], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    folder, good = tmp_path / "bundle", tmp_path / "good"
    shutil.copytree(bundles["write"], folder)
    write_golden(load(folder))
    write_sums(folder)
    shutil.copytree(folder, good)
    with running(folder) as server:
        stream = server.stream(max_tokens=40)
        stream.readline()
        first = server.engine
        server.process.send_signal(signal.SIGHUP)
        answers = []
        while server.engine == first or len(children(parent(server.engine))) > 1:
            answers.append(server.stream(max_tokens=2).read().endswith(b"data: [DONE]\n\n"))
        assert all(answers) and stream.read().endswith(b"data: [DONE]\n\n")
        assert first not in children(parent(server.engine))

        for spoil in (damaged, other_weights, without_task):
            second = server.engine
            shutil.rmtree(folder)
            shutil.copytree(good, folder)
            spoil(folder)
            capfd.readouterr()
            server.process.send_signal(signal.SIGHUP)
            until(lambda: "the bundles stay as they are" in capfd.readouterr().err)
            until(lambda: children(parent(second)) == [second])  # noqa: B023, the one that was refused ends soon after
            assert server.stream(max_tokens=2).read().endswith(b"data: [DONE]\n\n")


def damaged(folder: Path) -> None:
    weights = folder / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)


def other_weights(folder: Path) -> None:
    """With sums that fit, and answers that do not."""
    golden = json.loads((folder / NAME).read_text())
    [answer] = golden["answers"]
    golden["answers"] = [{name: -1.0 if isinstance(value, float) else value for name, value in answer.items()}]
    (folder / NAME).write_text(json.dumps(golden))
    write_sums(folder)


def without_task(folder: Path) -> None:
    (folder / "task.json").unlink()
    (folder / "SHA256SUMS").unlink()
