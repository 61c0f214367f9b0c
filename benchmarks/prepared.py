"""Prepare on its own: how fast, how much memory, beside the bare tokenizer and beside others.

python -m benchmarks.prepared TASK SOURCE RUNS measures one run in a process of its own.
"""

import gzip
import json
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Callable, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import orjson

import zhumo.prepare
from benchmarks.damage import account, damage
from benchmarks.harness import HERE, Bench, peer_python, shared
from zhumo.bundle import load_task
from zhumo.recipe import Recipe
from zhumo.run import Run
from zhumo.sources import Record, open_rows
from zhumo.tasks import Row

MEGABYTES = 1_000
TURNS, AT_ONCE = 20, 256  # rows, which are of 2 KB
PEERS = ("pandas==2.3.3", "datasets==4.4.1")


def damaged(bench: Bench) -> None:
    """200,000 rows, a hundredth of them damaged in twelve ways."""
    with tempfile.TemporaryDirectory(prefix="zhumo-bench-") as folder:
        found = account(damage(Path(folder) / "data", 200_000), Path(folder) / "runs")
    note = f"{found['rows']:,} rows, {found['bad']:,} bad ones of {found['kinds']} kinds"
    bench.row("prepare.damage.unaccounted", found["lost"] + found["strange"] + found["sum"], note=note)
    bench.row("prepare.damage.unrecovered", found["unrecovered"], note=note)


def gigabyte(bench: Bench) -> None:
    """A gigabyte of JSONL: to the tokenizer, through it, and the largest memory."""
    with tempfile.TemporaryDirectory(prefix="zhumo-bench-") as folder:
        source = corpus(Path(folder) / "big.jsonl", MEGABYTES)
        found = in_a_process("write", source, Path(folder))
        small = corpus(Path(folder) / "small.jsonl", MEGABYTES // 10)
        near = in_a_process("write", small, Path(folder), "near")
        pandas, datasets = (peer(name, small, Path(folder)) for name in ("pandas", "datasets"))
    tell(bench, found, near, pandas, datasets)


def tell(
    bench: Bench, found: dict[str, Any], near: dict[str, Any], pandas: dict[str, float], datasets: dict[str, float]
) -> None:
    """Rows and peers as they were measured."""
    note = f"{found['megabytes']:.0f} MB, {found['rows']['in']:,} rows in, {found['rows']['out']:,} out; CPU seconds"
    bench.row("prepare.rows", found["to_tokenizer"], " MB/s", peer="pandas", peer_value=pandas["rate"],
              ratio=found["to_tokenizer"] / pandas["rate"], note=note)  # fmt: skip
    bench.row("prepare.rows.datasets", found["to_tokenizer"], " MB/s", peer="datasets", peer_value=datasets["rate"],
              ratio=found["to_tokenizer"] / datasets["rate"], note="the peers on a tenth of the rows")  # fmt: skip
    bench.row("prepare.tokenizer", found["encode"], " MB/s", peer="tokenizers encode_batch, one thread",
              peer_value=found["bare"], ratio=found["encode"] / found["bare"],
              note=f"without offsets it makes {found['bare_fast']:.2f} MB/s")  # fmt: skip
    memory = f"pandas {pandas['peak']:.2f} GB, datasets {datasets['peak']:.2f} GB for a tenth of it"
    bench.row("prepare.memory", found["peak"], " GB", note=memory)
    facts = f"split.near 0.8 on {near['megabytes']:.0f} MB: {near['near']['rows']:,} rows like an earlier one"
    bench.row("prepare.near", near["to_tokenizer"], " MB/s", note=facts)


def corpus(path: Path, megabytes: int) -> Path:
    """JSONL of about 2 KB a row, of sentences of English and Chinese reviews put together anew; seeded."""
    texts = [str(row.row["Review Text"]) for row in open_rows(shared() / "clothing-reviews" / "data.csv.gz")
             if isinstance(row, Record) and row.row["Review Text"]]  # fmt: skip
    with gzip.open(shared() / "chnsenticorp" / "train.jsonl.gz") as file:
        texts += [orjson.loads(line)["text"] for line in file]
    draw = random.Random(0)
    size = 0
    with path.open("wb") as file:
        while size < megabytes * 1_000_000:
            text = " ".join(draw.choices(texts, k=6))
            size += file.write(orjson.dumps({"id": size, "text": text}, option=orjson.OPT_APPEND_NEWLINE))
    return path


def in_a_process(task: str, source: Path, folder: Path, *options: str) -> dict[str, Any]:
    """What one run of prepare takes, as the process that made it says."""
    command = [sys.executable, "-m", "benchmarks.prepared", task, str(source), str(folder / "runs"), *options]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "RAYON_NUM_THREADS": "1"}
    said = subprocess.run(command, cwd=HERE.parent, env=environment, check=True, stdout=subprocess.PIPE)
    found: dict[str, Any] = json.loads(said.stdout.splitlines()[-1])
    return found


def peer(name: str, source: Path, folder: Path) -> dict[str, float]:
    """The same by another library: read, NFC, drop equal rows, deal by a hash of the text, write; no account."""
    script = HERE / "peers" / "prepare_rows.py"
    command = [str(peer_python("prepare", *PEERS)), str(script), name, str(source), str(folder / name)]
    said = subprocess.run(command, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    found: dict[str, float] = json.loads(said.stdout.splitlines()[-1])
    return found


def measure(task: str, source: str, runs: str, *options: str) -> dict[str, Any]:
    """Prepare, with the CPU seconds of its two long parts and the largest memory before anything else is measured."""
    seconds: dict[str, float] = {}

    def timed(name: str) -> None:
        inner: Callable[..., Any] = getattr(zhumo.prepare, name)

        def outer(*arguments: Any) -> Any:
            began = time.process_time()
            try:
                return inner(*arguments)
            finally:
                seconds[name] = seconds.get(name, 0.0) + time.process_time() - began

        setattr(zhumo.prepare, name, outer)

    timed("deal")
    timed("encode")
    split = {"split": {"near": 0.8}} if "near" in options else {}
    recipe = Recipe.check({"name": "big", "task": task, "prepare": {"source": source, "length": 512, **split}}, "big")
    run = Run.of(recipe, Path(runs) / "-".join(options))
    zhumo.prepare.prepare(recipe, run)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    facts = run.facts("prepare")
    megabytes = Path(source).stat().st_size / 1e6
    return {
        "megabytes": megabytes,
        "rows": facts["rows"],
        "near": facts["near"],
        "peak": peak,
        "to_tokenizer": megabytes / seconds["deal"],
        "seconds": seconds,
        **beside_the_bare(run.step("prepare")),
    }


def beside_the_bare(prepared: Path) -> dict[str, float]:
    """Megabytes of rows a CPU second of `encode`, of the bare tokenizer as it is usually called, and as it is fastest.

    They take turns of half a megabyte, so that whatever else the machine does meets all three.
    """
    task = load_task(prepared)
    assert task.tokenizer is not None
    backend = task.tokenizer.backend
    rows = list(islice(zhumo.prepare.each_row(prepared / "train.jsonl"), TURNS * AT_ONCE))

    def ours(part: Sequence[Row]) -> None:
        zhumo.prepare.encode(task, part, prepared / "turn.safetensors")

    def bare(call: Callable[..., Any]) -> Callable[[Sequence[Row]], None]:
        return lambda part: deque((found.ids for found in call([row["text"] for row in part])), maxlen=0)

    calls = {"encode": ours, "bare": bare(backend.encode_batch), "bare_fast": bare(backend.encode_batch_fast)}
    seconds = dict.fromkeys(calls, 0.0)
    for start in range(0, len(rows), AT_ONCE):
        for name, call in calls.items():
            began = time.process_time()
            call(rows[start : start + AT_ONCE])
            seconds[name] += time.process_time() - began
    size = sum(len(orjson.dumps(row)) + 1 for row in rows) / 1e6
    return {name: size / taken for name, taken in seconds.items()}


if __name__ == "__main__":
    print(json.dumps(measure(*sys.argv[1:])))
