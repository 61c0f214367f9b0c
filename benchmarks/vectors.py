"""embed on medquad, from scratch: does a question find its answer, after learning from other questions with and without
wrong answers that look right, cut to an eighth of its width, and beside sentence-transformers from the same weights."""

import gzip
import json
import subprocess
import sys
import tempfile
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.harness import HERE, Bench, record_peer, shared
from zhumo.build import build
from zhumo.deploy.step import deploy
from zhumo.evaluate import evaluate, read_report
from zhumo.metrics.measure import Measure
from zhumo.metrics.retrieval import place_of, reciprocal_rank, right_documents
from zhumo.prepare import prepare, read_rows
from zhumo.recipe import Recipe
from zhumo.run import Run
from zhumo.tasks.pairs import mined
from zhumo.train import train

LEARNED, ASKED, LENGTH, BATCH, RATE, EPOCHS, SEED = 4_000, 600, 32, 32, 1e-3, 2, 0
WIDTHS = [128, 64, 16]


def sample(name: str, count: int) -> list[dict[str, str]]:
    """Rows spread over a file of medquad."""
    with gzip.open(shared() / "medquad" / f"{name}.jsonl.gz", "rt", encoding="utf-8") as file:
        rows = [json.loads(line) for line in file]
    some = islice(rows, 0, None, len(rows) // count)
    return [{"text": row["question"], "match": row["answer"]} for row in some][:count]


def made(folder: Path, name: str, **changes: Any) -> tuple[Run, Measure]:
    """A run from fresh weights, the same each time, and how early each question finds its answer."""
    recipe = Recipe.model_validate({
        "task": "embed", "name": name, "seed": SEED,
        "prepare": {"source": str(folder / "train.jsonl"), "test": str(folder / "test.jsonl"), "length": LENGTH,
                    "split": {"valid": 0}},
        "build": {"width": 128, "depth": 2, "heads": 4, "hidden": 256, "dropout": 0.0},
        "train": {"epochs": EPOCHS, "batch": BATCH, "lr": RATE, "threads": 1}, "deploy": {"parity": 2},
    }).changed(changes)  # fmt: skip
    run = Run(folder / name)
    for step in (prepare, build, train, evaluate, deploy):
        step(recipe, run)
    rows, answers = (read_rows(run.step("evaluate") / f"{kind}.jsonl") for kind in ("rows", "answers"))
    vectors = [[answer[key] for answer in answers] for key in ("embedding", "match_embedding")]
    return run, found(rows, *vectors)


def found(rows: list[dict[str, Any]], texts: list[list[float]], matches: list[list[float]]) -> Measure:
    """MRR@10 of vectors."""
    documents, right = right_documents([row["text"] for row in rows], [[row["match"]] for row in rows])
    of = dict(zip((row["match"] for row in rows), matches, strict=True))
    cosines = np.array(texts) @ np.array([of[document] for document in documents]).T
    return reciprocal_rank([place_of(line, own) for line, own in zip(cosines, right, strict=True)])


def peer(folder: Path, test: list[dict[str, Any]]) -> Measure:
    """sentence-transformers, in a process of its own, on the very rows and wrong answers that ours learned from."""
    train_rows = read_rows(folder / "hard" / "prepare" / "train.jsonl")
    wrong = mined(train_rows, 1)
    triples = [[row["text"], row["match"], *wrong[row["text"]]] for row in train_rows if wrong[row["text"]]]
    task = {"model": str(folder / "first" / "deploy"), "batch": BATCH, "lr": RATE, "epochs": EPOCHS, "seed": SEED,
            "triples": triples, "test": [[row["text"], row["match"]] for row in test]}  # fmt: skip
    (folder / "task.json").write_text(json.dumps(task), encoding="utf-8")
    out = folder / "peer.json"
    command = [sys.executable, str(HERE / "peers" / "sentence_vectors.py"), str(folder / "task.json"), str(out)]
    subprocess.run(command, check=True)
    told = json.loads(out.read_text(encoding="utf-8"))
    measure = found(test, told["texts"], told["matches"])
    facts = {"mrr@10": measure.value, "values": measure.values.tolist(), "seconds": told["seconds"]}
    record_peer("sentence-vectors.medquad.json", command, facts, f"sentence-transformers=={told['version']}")
    return measure


def vectors(bench: Bench) -> None:
    """The rows of this script."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        for name, count in (("train", LEARNED), ("test", ASKED)):
            lines = (json.dumps(row) + "\n" for row in sample(name, count))
            (folder / f"{name}.jsonl").write_text("".join(lines), encoding="utf-8")
        _, first = made(folder, "first", **{"train.epochs": 0})
        _, plain = made(folder, "plain")
        run, hard = made(folder, "hard", **{"prepare.negatives": 1})
        test = read_rows(run.step("evaluate") / "rows.jsonl")
        theirs = peer(folder, test)
        cut, whole = made(folder, "cut", **{"prepare.negatives": 1, "train.widths": WIDTHS})
        values = {value["name"]: value["value"] for value in read_report(cut)["measures"]}
    low, high = hard.interval()
    note = (f"before learning {first.value:.4f}, without wrong answers {plain.value:.4f} (p of no better "
            f"{hard.beats(plain):.3f}), than the peer {hard.beats(theirs):.3f}; "
            f"{LEARNED} rows, {EPOCHS} epochs")  # fmt: skip
    bench.row("vectors.hard_negatives", hard.value, low=low, high=high, peer="sentence-transformers",
              peer_value=theirs.value, ratio=hard.value / theirs.value, note=note)  # fmt: skip
    gain = plain.value
    bench.row("vectors.over_plain", hard.value, peer="in-batch only", peer_value=gain, ratio=hard.value / gain)
    narrow = values[f"mrr@10/{WIDTHS[-1]}"] or 0.0
    bench.row("vectors.cut", narrow, peer="all 128 numbers", peer_value=whole.value, ratio=narrow / whole.value,
              note=f"16 of 128 numbers; 64: {values['mrr@10/64']:.4f}")  # fmt: skip
