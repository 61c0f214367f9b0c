"""The spine's numbers: the demo beside its rivals, classifiers beside their floors, time to a loss, kills, parity."""

import gzip
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import mean, median
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from benchmarks.harness import HERE, Bench, peer_python, record_peer, shared
from benchmarks.rivals import textbook
from zhumo.bundle import load
from zhumo.evaluate import read_report
from zhumo.make import make
from zhumo.metrics import rank
from zhumo.metrics.measure import Measure
from zhumo.prepare import read_rows
from zhumo.recipe import Recipe
from zhumo.run import Run

SEEDS = (0, 1, 2)
QUIET = {
    "cwd": HERE.parent,
    "env": {**os.environ, "ZHUMO_LANG": "en"},
    "check": True,
    "stdout": subprocess.PIPE,
    "stderr": subprocess.DEVNULL,
}


@contextmanager
def folder() -> Iterator[Path]:
    """A place for runs that nobody needs afterwards."""
    with tempfile.TemporaryDirectory(prefix="zhumo-bench-") as path:
        yield Path(path)


def place(recipe: str, runs: Path, *overrides: str) -> tuple[Recipe, Run]:
    """A recipe of this folder and the folder of its run."""
    read = Recipe.read(recipe if Path(recipe).exists() else HERE / "recipes" / recipe, overrides)
    return read, Run.of(read, runs)


def demo(bench: Bench) -> None:
    """MovieLens-100K, leave-one-out by time, all items ranked, seen items removed; the other protocol in the notes."""
    with folder() as runs:
        recipe = Recipe.read(HERE.parent / "zhumo" / "recipes" / "recommend.yaml")
        run = make(recipe, Run.of(recipe, runs))
        rows = read_rows(run.step("evaluate") / "rows.jsonl")
        bundle = load(run.step("deploy"))
        assert bundle.task is not None
        train = read_rows(run.step("prepare") / "train.jsonl")
        with torch.inference_mode():
            alone = bundle.task.variants(bundle.model, rows)["transformer"]
            kept = [{**row, "seen": True} for row in rows]
            alone_kept = bundle.task.variants(bundle.model, kept)["transformer"]
        served = read_rows(run.step("evaluate") / "answers.jsonl")
        popular = bundle.task.baselines["popularity"](bundle.task, train, rows)
        seconds = run.facts("train")["seconds"]
    measures = {name: places(answers, rows) for name, answers in
                {"alone": alone, "served": served, "popular": popular, "kept": alone_kept}.items()}  # fmt: skip
    value, (low, high) = ndcg(measures["alone"]).value, ndcg(measures["alone"]).interval()
    other = (
        f"seen items kept: {ndcg(measures['kept']).value:.4f}; HR@10 {hit(measures['alone']).value:.4f}; "
        f"{seconds:.0f} s of training"
    )
    popularity = ndcg(measures["popular"])
    bench.row(
        "demo.transformer.ndcg@10",
        value,
        low=low,
        high=high,
        peer="popularity",
        peer_value=popularity.value,
        note=other,
    )
    p = ndcg(measures["alone"]).beats(popularity)
    bench.row("demo.transformer.p_over_popularity", p)
    if bench.options.peers:
        rectools(rows)
    peers = {"textbook_neighbours": textbook(train, rows).new, "rectools": recorded("rectools-movielens.json", rows)}
    for name, theirs in peers.items():
        if theirs is None:
            continue
        served_ndcg, peer = ndcg(measures["served"]), ndcg(theirs)
        below = min(peer.beats(served_ndcg), hit(theirs).beats(hit(measures["served"])))
        note = (
            f"served NDCG@10 {served_ndcg.value:.4f} HR@10 {hit(measures['served']).value:.4f}; "
            f"peer HR@10 {hit(theirs).value:.4f}"
        )
        bench.row(f"demo.blend.p_below_{name}", below, peer=name, peer_value=peer.value, note=note)


def places(answers: list[dict[str, Any]], rows: list[dict[str, Any]]) -> np.ndarray:
    """Where each row's next item stands in its answer."""
    return rank.places([[item["id"] for item in answer["items"]] for answer in answers], [row["next"] for row in rows])


def ndcg(where: np.ndarray) -> Measure:
    return rank.ndcg(where, 10)


def hit(where: np.ndarray) -> Measure:
    return rank.hit(where, 10)


def rectools(rows: list[dict[str, Any]]) -> None:
    """Run RecTools' SASRec on the same histories and record what it answers."""
    packages = ("torch==2.13.0", "rectools[torch]==0.19.0")
    python = peer_python("rectools", *packages)
    with folder() as place_:
        # The history a user is asked with; the script learns from it less its last item.
        (place_ / "rows.json").write_text(json.dumps({row["user"]: row["items"] for row in rows}), encoding="utf-8")
        command = [
            str(python),
            "benchmarks/peers/rectools_movielens.py",
            str(place_ / "rows.json"),
            str(place_ / "out.json"),
        ]
        subprocess.run(command, cwd=HERE.parent, check=True)
        found = json.loads((place_ / "out.json").read_text(encoding="utf-8"))
    record_peer("rectools-movielens.json", command, found, *packages)


def recorded(name: str, rows: list[dict[str, Any]]) -> np.ndarray | None:
    """The places a slow peer gave the same users' items, from its recorded run."""
    path = HERE / "results" / "peers" / name
    if not path.is_file():
        return None
    found = json.loads(path.read_text(encoding="utf-8"))["answers"]
    return places([{"items": [{"id": item} for item in found[row["user"]]]} for row in rows], rows)


def classifiers(bench: Bench) -> None:
    """Test accuracy, mean of three seeds, and the minutes of training of the slowest."""
    if bench.due("banking77.accuracy"):
        accuracies, minutes = zip(*(classifier("banking77", ("train", "test"), seed) for seed in SEEDS), strict=True)
        values = [100 * value for value in accuracies]
        note = f"seeds {', '.join(f'{value:.2f}' for value in values)}"
        bench.row("banking77.accuracy", mean(accuracies), low=min(accuracies), high=max(accuracies),
                  peer="TF-IDF + linear SVM", peer_value=0.8938, note=note)  # fmt: skip
        bench.row("banking77.minutes", max(minutes), " min")
    if bench.due("chnsenticorp.accuracy"):
        accuracies, minutes = zip(
            *(classifier("chnsenticorp", ("train", "dev", "test_unseen"), seed) for seed in SEEDS), strict=True
        )
        note = f"seeds {', '.join(f'{100 * value:.2f}' for value in accuracies)}; {max(minutes):.1f} min"
        bench.row("chnsenticorp.accuracy", mean(accuracies), low=min(accuracies), high=max(accuracies),
                  peer="TF-IDF + linear SVM", peer_value=0.916, note=note)  # fmt: skip


def classifier(name: str, parts: tuple[str, ...], seed: int) -> tuple[float, float]:
    """Accuracy on the test rows and minutes of training."""
    data = shared() / name
    sources = [f"prepare.source={data / f'{parts[0]}.jsonl.gz'}", f"prepare.test={data / f'{parts[-1]}.jsonl.gz'}"]
    if len(parts) == 3:
        sources.append(f"prepare.valid={data / f'{parts[1]}.jsonl.gz'}")
    with folder() as runs:
        recipe, run = place(f"{name}.yaml", runs, f"seed={seed}", *sources)
        for step in ("prepare", "build", "train", "evaluate"):
            make(recipe, run, only=step)
        report = read_report(run)
        accuracy = next(measure["value"] for measure in report["measures"] if measure["name"] == "accuracy")
        return accuracy, run.facts("train")["seconds"] / 60


def shakespeare(bench: Bench) -> None:
    """Wall time, start-up included, to a loss of 1.88 over the whole validation split; alternating runs."""
    path = shared() / "tiny-shakespeare" / "input.txt.gz"
    text = gzip.decompress(path.read_bytes()).decode()
    cut = int(0.9 * len(text))
    ours, theirs, losses, their_losses, size = [], [], [], [], 0
    with folder() as runs:
        for name, part in (("train", text[:cut]), ("test", text[cut:])):
            (runs / f"{name}.jsonl").write_text(json.dumps({"text": part}) + "\n", encoding="utf-8")
        for number in range(1 if bench.options.quick else 3):
            overrides = [
                f"seed={number}",
                f"name=shakespeare-{number}",
                f"prepare.source={runs / 'train.jsonl'}",
                f"prepare.test={runs / 'test.jsonl'}",
            ]
            began = time.perf_counter()
            recipe_path = str(HERE / "recipes" / "shakespeare.yaml")
            subprocess.run([sys.executable, "-m", "benchmarks.trained", recipe_path, str(runs), *overrides], **QUIET)  # type: ignore[call-overload]
            ours.append(time.perf_counter() - began)
            loss, size = character_loss(runs / f"shakespeare-{number}" / "train", text[cut:])
            losses.append(loss)
            began = time.perf_counter()
            done = subprocess.run([sys.executable, str(HERE / "peers" / "nanogpt.py"), str(path), "1"], **QUIET)  # type: ignore[call-overload]
            peer = json.loads(done.stdout)
            theirs.append(time.perf_counter() - began)
            their_losses.append(peer["loss"])
    ratios = [mine / yours for mine, yours in zip(ours, theirs, strict=True)]
    ratio = median(ratios) if max(losses) <= 1.88 else float("inf")
    note = (
        f"loss {max(losses):.3f} (largest of 3) with {size:,} parameters; the peer's {min(their_losses):.3f} (its best)"
    )
    bench.row("shakespeare.wall", median(ours), " s", low=min(ours), high=max(ours), peer="nanoGPT's CPU setting",
              peer_value=median(theirs), ratio=ratio, note=note)  # fmt: skip


def character_loss(model: Path, text: str) -> tuple[float, int]:
    """Nats a character over a whole text in windows of 64, and the parameters."""
    bundle = load(model)
    assert bundle.tokenizer is not None
    data = torch.tensor(bundle.tokenizer.encode(text, special=False))
    count = (len(data) - 1) // 64
    ids, targets = data[: count * 64].view(count, 64), data[1 : count * 64 + 1].view(count, 64)
    total = 0.0
    with torch.inference_mode():
        for start in range(0, count, 128):
            logits = bundle.model(ids[start : start + 128])
            total += F.cross_entropy(
                logits.flatten(0, 1), targets[start : start + 128].flatten(), reduction="sum"
            ).item()
    return total / targets.numel(), bundle.model.parameter_count()


def kills(bench: Bench) -> None:
    """200 random SIGKILLs of a training; the final weights are compared with those of one that was left alone."""
    command = [sys.executable, "-m", "pytest", "-n", "0", "-q", "-m", "long", "tests/train/test_kills.py"]
    done = subprocess.run(command, cwd=HERE.parent, capture_output=True, text=True, check=False)
    bench.row("kills.mismatches", 0 if done.returncode == 0 else 1, note=done.stdout.strip().splitlines()[-1])


def parity(bench: Bench) -> None:
    """The largest differences of the parity table."""
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.parity", "--json"], capture_output=True, text=True, check=True
    )
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    for name, published in (("parity.random", False), ("parity.published", True)):
        found = [row["value"] for row in rows if ("published" in row["name"]) == published and row["unit"] != "cosine"]
        if found:
            bench.row(name, max(found), note=f"{len(found)} comparisons; python -m benchmarks.parity lists them")


if __name__ == "__main__":
    bench = Bench("spine", __doc__ or "")
    leading = {
        "demo.transformer.ndcg@10": demo,
        "banking77.accuracy": classifiers,
        "chnsenticorp.accuracy": classifiers,
        "shakespeare.wall": shakespeare,
        "kills.mismatches": kills,
        "parity.random": parity,
    }
    for measure_ in dict.fromkeys(function for name, function in leading.items() if bench.due(name)):
        measure_(bench)
    bench.done()
