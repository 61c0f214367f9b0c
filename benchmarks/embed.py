"""MiniLM on 2,000 real sentences, tokenising included, beside sentence-transformers and onnxruntime: by turns, sorted
by length for all, the cosine to float32 beside every speed.

An onnxruntime in 8 bits that does not keep a cosine of .999 is printed and is no peer.
"""

import gzip
import json
import re
import sys
import tempfile
import time
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from statistics import median

import numpy as np

from benchmarks.engines import Engine
from benchmarks.harness import HERE, Bench, shared
from zhumo.bundle import assemble
from zhumo.sources import fetch
from zhumo.weights import read_weights, write_onnx

RUNS, SENTENCES, ALIKE = 5, 2_000, 0.999
OURS, THEIRS, GRAPH, SMALL = "zhumo", "sentence_transformers", "onnxruntime", "onnxruntime int8"


def sentences() -> list[str]:
    """Half of them what customers of a bank ask, half sentences of Wikipedia."""
    with gzip.open(shared() / "banking77" / "test.jsonl.gz", "rt", encoding="utf-8") as file:
        asked = [json.loads(line)["text"] for line in file]
    with gzip.open(shared() / "xquad" / "en.jsonl.gz", "rt", encoding="utf-8") as file:
        passages = dict.fromkeys(json.loads(line)["context"] for line in file)
    told = [one for passage in passages for one in re.split(r"(?<=[.?!]) (?=[A-Z])", passage)]
    half = SENTENCES // 2
    return asked[:: len(asked) // half][:half] + told[:half]


def graphs(folder: Path) -> dict[str, str]:
    """The graph of the model in float32, and what onnxruntime's own quantiser makes of it."""
    from onnxruntime.quantization import quantize_dynamic

    weights = read_weights(fetch("minilm"))
    model = assemble(weights, None)
    found = {GRAPH: str(folder / "model.onnx"), SMALL: str(folder / "model-int8.onnx")}
    write_onnx(Path(found[GRAPH]), model.state_dict(), model.config, "mean")
    quantize_dynamic(found[GRAPH], found[SMALL])
    return found


def multiply_rate(threads: int) -> float:
    """Products a second that torch multiplies in float32, the best of a few."""
    import torch

    torch.set_num_threads(threads)
    one, other, best = torch.randn(512, 1024), torch.randn(1024, 1024), 0.0
    for _ in range(8):
        began = time.perf_counter()
        one @ other
        best = max(best, 512 * 1024 * 1024 / (time.perf_counter() - began))
    return best


def measure(bench: Bench, folder: Path, threads: int, found: Mapping[str, str]) -> None:
    texts = folder / "texts.json"
    texts.write_text(json.dumps(sentences()), encoding="utf-8")
    model = str(fetch("minilm"))
    script = [sys.executable, str(HERE / "peers" / "embed_speed.py")]
    seconds: dict[str, list[float]] = {name: [] for name in (OURS, THEIRS, GRAPH, SMALL)}
    with ExitStack() as stack:
        engines = {
            name: stack.enter_context(Engine([*script, name.split()[0], model, found.get(name, "-")], threads))
            for name in seconds
        }
        task = {name: {"texts": str(texts), "out": str(folder / f"{name}.npy")} for name in seconds}
        for name, engine in engines.items():
            engine.ask(task[name])
        for _ in range(RUNS):
            for name, engine in engines.items():
                seconds[name].append(engine.ask(task[name])["seconds"])
    vectors = {name: np.load(folder / f"{name}.npy") for name in seconds}
    cosines = {name: (vectors[name] * vectors[THEIRS]).sum(1) for name in seconds}
    rates = {name: [SENTENCES / one for one in runs] for name, runs in seconds.items()}
    ours = rates[OURS]
    weights = read_weights(Path(model))
    assert weights.tokenizer is not None
    tokens = sum(len(weights.tokenizer.encode(text, length=256)) for text in sentences())
    products = sum(tensor.numel() for name, tensor in weights.tensors.items() if name.startswith("blocks"))
    ceiling = tokens / SENTENCES * products * median(ours) / multiply_rate(threads)
    note = (f"cosine {cosines[OURS].mean():.5f}, worst {cosines[OURS].min():.4f}; {ceiling:.0%} of what float32 "
            f"multiplies here; {SMALL} {median(rates[SMALL]):.0f} at cosine {cosines[SMALL].mean():.4f}")  # fmt: skip
    small = cosines[SMALL].mean() >= ALIKE
    best = max((name for name in (GRAPH, SMALL) if name == GRAPH or small), key=lambda name: median(rates[name]))
    for row, peer in ((THEIRS, THEIRS), (GRAPH, best)):
        bench.row(f"embed.{threads}.{row}", median(ours), " sentences/s", low=min(ours), high=max(ours), peer=peer,
                  peer_value=median(rates[peer]), ratio=median(ours) / median(rates[peer]), note=note)  # fmt: skip
    bench.row(f"embed.{threads}.cosine", float(cosines[OURS].mean()), note=f"worst {cosines[OURS].min():.5f}")


def main() -> None:
    """Measure what is due."""
    bench = Bench("embed", "MiniLM sentence vectors beside sentence-transformers and onnxruntime.")
    with tempfile.TemporaryDirectory() as scratch:
        found = graphs(Path(scratch))
        for threads in (1, 2):
            if bench.due(f"embed.{threads}.{THEIRS}"):
                measure(bench, Path(scratch), threads, found)
    bench.done()


if __name__ == "__main__":
    main()
