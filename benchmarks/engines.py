"""Who a causal model's speed is measured against: engines that each run in a process of their own and answer by turns.

Processes, so that no engine's threads or memory are another's, and lines, so that runs alternate: A, B, A, B. What may
be asked: `peers/lines.py`. Every engine gets the same ids, and its weights out of the same GGUF file.
"""

import gzip
import json
import math
import os
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np

from benchmarks.harness import HERE, KEPT_MEMORY, peer_python, shared
from zhumo.sources import cache_folder, fetch
from zhumo.support.writers import messages
from zhumo.weights import read_weights

MODEL = "smollm2-135m-instruct"
SPINNING = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")
LLAMA_CPP = "llama-cpp-python==0.3.36"
# The package without its library, which is compiled apart, with its server.
PEER = (LLAMA_CPP, "-Ccmake.define.LLAMA_BUILD=OFF", "numpy==2.4.6", "cmake==4.4.5", "ninja==1.13.2")
# GCC 12 believes that of AMX's settings only the first eight bytes are read, and leaves out the rest; nothing of a page
# or of certificates is needed.
DEFINED = {"CMAKE_BUILD_TYPE": "Release", "CMAKE_CXX_FLAGS": "-fno-dse -fno-tree-dse", "LLAMA_BUILD_TESTS": "OFF",
           "LLAMA_BUILD_EXAMPLES": "OFF", "LLAMA_BUILD_APP": "OFF", "LLAMA_USE_PREBUILT_UI": "OFF",
           "LLAMA_OPENSSL": "OFF"}  # fmt: skip


class Engine:
    """A process that answers a task a line.

    Its threads wait as its OpenMP does by default, spinning for a bounded time before they sleep: an engine that spun
    on (OMP_WAIT_POLICY=active) would burn a core while another is asked.
    """

    def __init__(self, command: Sequence[str], threads: int) -> None:
        own = {**KEPT_MEMORY, "OMP_NUM_THREADS": str(threads), "PYTHONWARNINGS": "ignore", "TQDM_DISABLE": "1"}
        inherited = {name: value for name, value in os.environ.items() if name not in SPINNING}
        self.threads, self.began = threads, time.perf_counter()
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env={**inherited, **own}
        )

    def ask(self, task: Mapping[str, Any]) -> dict[str, Any]:
        """Its answer, once it is there.

        Raises:
            RuntimeError: it ended instead; why stands in its standard error.
        """
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.write(json.dumps({**task, "threads": self.threads}) + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"{self.process.args!r} ended with {self.process.wait()}")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def first(self, task: Mapping[str, Any]) -> tuple[float, float]:
        """Seconds to the first token: of an engine just started since its process began, and without its imports."""
        answer = self.ask({"kind": "first", **task})
        return time.perf_counter() - self.began, answer["seconds"]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.communicate()


def llama_cpp_compiled() -> Path:
    """The folder of llama.cpp's library and server for this processor, compiled on first use from what the package is
    made of: both are of one version."""
    folder = cache_folder() / "peers" / "llama_cpp_compiled"
    if not (folder / "ready").is_file():
        python = peer_python("llama_cpp", *PEER)
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        kept = [str(python), "-m", "pip", "download", "--quiet", "--no-deps", "--no-binary", ":all:", "--dest"]
        subprocess.run([*kept, str(folder), LLAMA_CPP], check=True)
        [archive] = folder.glob("*.tar.gz")
        shutil.unpack_archive(archive, folder, filter="data")
        [source] = folder.glob("*/vendor/llama.cpp")
        cmake, defined = str(python.parent / "cmake"), [f"-D{name}={value}" for name, value in DEFINED.items()]
        made = {**os.environ, "PATH": f"{python.parent}{os.pathsep}{os.environ['PATH']}"}
        with (folder / "log").open("wb") as log:
            for command in (["-G", "Ninja", "-S", str(source), "-B", str(folder / "build"), *defined],
                            ["--build", str(folder / "build"), "--target", "llama-server"]):  # fmt: skip
                subprocess.run([cmake, *command], check=True, env=made, stdout=log)
        (folder / "ready").write_text(LLAMA_CPP + "\n", encoding="utf-8")
    return folder / "build" / "bin"


def llama_cpp_python() -> list[str]:
    """What starts a Python that finds llama.cpp."""
    return ["env", f"LLAMA_CPP_LIB_PATH={llama_cpp_compiled()}", str(peer_python("llama_cpp", *PEER))]


def llama_cpp(threads: int) -> Engine:
    """llama.cpp by its library."""
    return Engine([*llama_cpp_python(), str(HERE / "peers" / "llama_cpp_speed.py")], threads)


def hugging_face(threads: int) -> Engine:
    """transformers, out of this environment."""
    return Engine([sys.executable, str(HERE / "peers" / "hugging_face_speed.py")], threads)


def formats(engine: Engine) -> dict[str, str]:
    """The model's files in the formats of an engine, made out of the wheel's on first use and kept in the cache."""
    folder = cache_folder() / "benchmarks" / "formats"
    folder.mkdir(parents=True, exist_ok=True)
    return engine.ask({"kind": "formats", "file": str(fetch(MODEL)), "folder": str(folder)})


def prose(count: int = 16, size: int = 120) -> list[list[int]]:
    """The beginnings of paragraphs, each of another article: the English half of XQuAD, Wikipedia as people wrote it.

    size: ids of each; a paragraph that has fewer is passed over.
    """
    tokenizer = read_weights(fetch(MODEL)).tokenizer
    assert tokenizer is not None
    with gzip.open(shared() / "xquad" / "en.jsonl.gz", "rt", encoding="utf-8") as file:
        rows = [json.loads(line) for line in file]
    found: dict[str, list[int]] = {}
    for row in rows:
        if len(found) < count and row["title"] not in found:
            ids = tokenizer.encode(row["context"])
            if len(ids) >= size:
                found[row["title"]] = ids[:size]
    return list(found.values())


@dataclass(frozen=True)
class Asked:
    """A question about a passage. ids: of the chat in which the desk asks a generator for its answer."""

    ids: list[int]
    passage: str


def questions(each: int = 2, size: int = 600) -> tuple[list[Asked], list[int]]:
    """Questions about paragraphs of Wikipedia, the English half of XQuAD, and the ids that end an answer.

    each: of every paragraph. size: the most ids of a chat; one that has more is passed over.
    """
    tokenizer = read_weights(fetch(MODEL)).tokenizer
    assert tokenizer is not None
    with gzip.open(shared() / "xquad" / "en.jsonl.gz", "rt", encoding="utf-8") as file:
        rows = [json.loads(line) for line in file]
    found, told = list[Asked](), Counter[str]()
    for row in rows:
        passage = row["context"]
        told[passage] += 1
        chat = tokenizer.encode_chat(messages(row["question"], [passage]), prompt=True)
        if told[passage] <= each and len(chat) <= size:
            found.append(Asked([token for token, _ in chat], passage))
    return found, tokenizer.encode_trusted("<|im_end|>")


@dataclass(frozen=True)
class Quality:
    """How near an engine comes to a reference, over all places of the same texts.

    agreement: part of the places where both have the same likeliest id. kl: mean of KL(reference || other) in nats;
    perplexity: the other's own.
    """

    agreement: float
    kl: float
    perplexity: float


def quality(reference: Mapping[str, Any], other: Mapping[str, Any]) -> Quality:
    """Of two answers to `quality` with the path of the log-probabilities, `out`, beside them."""
    ours, theirs = (np.load(answer["out"], mmap_mode="r") for answer in (reference, other))
    divergences = []
    for place in range(len(ours)):
        log_p = ours[place].astype(np.float32)
        divergences.append(float(np.exp(log_p) @ (log_p - theirs[place].astype(np.float32))))
    agreement = np.mean(np.array(reference["best"]) == np.array(other["best"]))
    return Quality(float(agreement), float(np.mean(divergences)), math.exp(float(np.mean(other["nll"]))))
