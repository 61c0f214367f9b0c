"""The server when things go wrong: more clients than it has room for, clients that go away, an engine that is killed, a
server that is told to stop. SmolLM2-135M in 8 bits, over HTTP on loopback, the clients on the same cores.

The clients of `overload` are wrk's, which send again at once what was refused: the worst there are.
"""

import http.client
import json
import os
import re
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from benchmarks.engines import MODEL
from benchmarks.harness import Bench
from benchmarks.load import Target, engine_of, serving
from zhumo.bundle import assemble, save
from zhumo.run import write_json
from zhumo.sources import fetch
from zhumo.tasks.write import Write
from zhumo.weights import read_weights

CAPACITY, CLIENTS, SECONDS, RUNS = 8, 256, 15, 5
NEW = 32  # tokens of a text under overload
LEAVERS, DRAINS, KILLS = 500, 50, 30
PATH = "/v1/completions"


def make_bundle(folder: Path) -> Path:
    """SmolLM2 as a bundle that writes in 8 bits."""
    weights = read_weights(fetch(MODEL))
    task = Write(weights.tokenizer, weights.config.length, {})
    save(folder, assemble(weights, task), weights.family, weights.tokenizer, task)
    write_json(folder / "run.json", {"name": "smollm2", "bits": 8})
    return folder


def body(new: int, stream: bool) -> bytes:
    """A request for a text that ends by its length alone."""
    asked = {"model": "smollm2", "prompt": "The history of the city", "max_tokens": new, "stream": stream, "seed": 1}
    return json.dumps({**asked, "temperature": 0}).encode()


def ask(target: Target, path: str, sent: bytes | None = None) -> http.client.HTTPResponse:
    """One response, over a connection of its own."""
    connection = http.client.HTTPConnection("127.0.0.1", target.port, timeout=300)
    headers = {"Authorization": f"Bearer {target.key}", "Content-Type": "application/json"}
    connection.request("GET" if sent is None else "POST", path, sent, headers)
    return connection.getresponse()


def begun(target: Target, new: int) -> http.client.HTTPResponse:
    """A stream whose first words have come."""
    response = ask(target, PATH, body(new, stream=True))
    response.readline()
    return response


def admitted(target: Target, clients: int, seconds: float) -> tuple[list[float], float]:
    """Seconds of each answer these clients got, asking again after 10 ms where refused; and the tokens a second
    that the server wrote for everybody meanwhile."""
    found, written, until = list[float](), tokens(target), time.monotonic() + seconds

    def client() -> None:
        while time.monotonic() < until:
            start = time.monotonic()
            response = ask(target, PATH, body(NEW, stream=False))
            response.read()
            if response.status == http.HTTPStatus.OK:
                found.append(time.monotonic() - start)
            else:
                time.sleep(0.01)

    threads = [threading.Thread(target=client) for _ in range(clients)]
    for thread in threads:
        thread.start()
    time.sleep(seconds)
    rate = (tokens(target) - written) / seconds
    for thread in threads:
        thread.join()
    return found, rate


def tokens(target: Target) -> float:
    """Written so far."""
    found = re.search(r'zhumo_tokens_total\{kind="completion".*\} (\S+)', ask(target, "/metrics").read().decode())
    return float(found[1]) if found else 0.0


def shed_beside(target: Target, seconds: int) -> Callable[[], float]:
    """Let wrk's clients in as well; what is returned waits for them and says how many a second were turned away."""
    with tempfile.NamedTemporaryFile("w", suffix=".lua", delete=False) as script:
        script.write(f"wrk.method = 'POST'\nwrk.body = [[{body(NEW, stream=False).decode()}]]\n"
                     f"wrk.headers['Authorization'] = 'Bearer {target.key}'\n"
                     "wrk.headers['Content-Type'] = 'application/json'\n")  # fmt: skip
    command = ["wrk", "-t1", f"-c{CLIENTS - CAPACITY}", f"-d{seconds}s", "-s", script.name,
               f"http://127.0.0.1:{target.port}{PATH}"]  # fmt: skip
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)

    def turned_away() -> float:
        told, _ = process.communicate()
        Path(script.name).unlink()
        refused = re.search(r"Non-2xx or 3xx responses: (\d+)", told)
        return int(refused[1]) / seconds if refused else 0.0

    return turned_away


def overload(bench: Bench, target: Target) -> None:
    """Eight clients alone, then the same eight among 256, by turns: single runs lie far apart."""
    admitted(target, CAPACITY, 3)
    answers, others = list[float](), list[float]()  # seconds of each, alone and among many
    alone, crowded, refused = list[float](), list[float](), list[float]()  # a second
    for _ in range(RUNS):
        found, rate = admitted(target, CAPACITY, SECONDS)
        answers += found
        alone.append(rate)
        turned_away = shed_beside(target, SECONDS)
        found, rate = admitted(target, CAPACITY, SECONDS)
        others += found
        crowded.append(rate)
        refused.append(turned_away())
    bench.row("overload.shed", median(refused), "/s", low=min(refused), high=max(refused),
              note=f"{CLIENTS} clients, {CAPACITY} texts at once; the middle one of {RUNS} runs")  # fmt: skip
    # Where nobody at all was let in, they waited at least as long as they asked.
    before, after = (float(np.percentile(found or [SECONDS], 99)) for found in (answers, others))
    bench.row("overload.p99", after, " s", peer=f"{CAPACITY} clients alone", peer_value=before, ratio=after / before,
              note=f"of {len(others)} answers to {CAPACITY} of the clients, {len(answers)} alone, in {RUNS} runs",
              )  # fmt: skip
    bench.row("overload.goodput", median(crowded), " tokens/s", low=min(crowded), high=max(crowded),
              peer=f"{CAPACITY} clients alone", peer_value=median(alone), ratio=median(crowded) / median(alone),
              note=f"alone {min(alone):.0f} to {max(alone):.0f}")  # fmt: skip


def leave(bench: Bench, target: Target) -> None:
    """Texts whose readers go away after the first words."""
    for _ in range(0, LEAVERS, CAPACITY):
        for stream in [begun(target, 400) for _ in range(CAPACITY)]:
            stream.close()
        while busy(target) and time.sleep(0.05) is None:
            pass
    bench.row("disconnects.leaked", busy(target), note=f"{LEAVERS} disconnects; waiting, running and cache after them")


def busy(target: Target) -> float:
    """What waits, runs or is kept, all together; 0 of an idle server."""
    told = ask(target, "/metrics").read().decode()
    return sum(map(float, re.findall(r"^zhumo_(?:queue_depth|running|kv_cache_usage_ratio)\{.*\} (\S+)", told, re.M)))


def kill(bench: Bench, target: Target) -> None:
    """Kill the engine in the middle of texts."""
    longest, failed = [], 0
    for _ in range(KILLS):
        stream, engine = begun(target, 400), engine_of(target.pid)
        os.kill(engine, signal.SIGKILL)
        start = time.monotonic()
        stream.read()
        while ask(target, "/health/ready").status != http.HTTPStatus.OK:
            failed += ask(target, "/health/live").status != http.HTTPStatus.OK
            time.sleep(0.02)
        longest.append(time.monotonic() - start)
    bench.row("kills.ready", max(longest), " s", low=min(longest), high=max(longest), note=f"the longest of {KILLS}")
    bench.row("kills.live_failed", failed, note=f"of all askings while the engine was gone, {KILLS} times")


def drain(bench: Bench, bundle: Path) -> None:
    """Stop servers in the middle of texts."""
    cut = 0
    for _ in range(DRAINS):
        with serving(bundle) as target:
            streams = [begun(target, 40 + 10 * place) for place in range(4)]
            os.kill(target.pid, signal.SIGTERM)
            cut += sum(not stream.read().endswith(b"data: [DONE]\n\n") for stream in streams)
    bench.row("drains.cut", cut, note=f"streams cut in {DRAINS} drains of 4 streams each")


def main() -> None:
    """Measure what is due."""
    bench = Bench("serving", "The server under too many clients, kills, drains and disconnects.")
    parts: dict[str, Callable[[Bench, Any], None]] = {
        "overload.shed": overload, "disconnects.leaked": leave, "kills.ready": kill, "drains.cut": drain,
    }  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        bundle = make_bundle(Path(folder))
        for name, part in parts.items():
            if not bench.due(name):
                continue
            if part is drain:
                drain(bench, bundle)
                continue
            with serving(bundle) as target:
                part(bench, target)
    bench.done()


if __name__ == "__main__":
    main()
