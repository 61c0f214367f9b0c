"""Translation from nothing in half an hour: multi30k English to German, tatoeba English and Chinese both ways."""

import hashlib
import json
import os
import subprocess
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.harness import HERE, KEPT_MEMORY, RESULTS, Bench, peer_python, record_peer, shared
from zhumo.bundle import load
from zhumo.make import make
from zhumo.metrics.measure import Measure
from zhumo.prepare import read_rows
from zhumo.recipe import Recipe
from zhumo.run import Run
from zhumo.sources import cache_folder
from zhumo.tasks import Row, Task
from zhumo.tasks.translate import memory

TATOEBA = {"en-zh": ("en", "zh"), "zh-en": ("zh", "en")}
JOEYNMT = ("torch==2.13.0", "joeynmt==2.3.0", "sentencepiece==0.2.0", "importlib_metadata==8.7.0")
RECORD = "joeynmt-multi30k.json"


@dataclass(frozen=True)
class Translator:
    """A model made by a recipe of this folder, and what it and a translation memory reach on the test rows."""

    task: Task
    recipe: Recipe
    parts: dict[str, list[Row]]
    ours: dict[str, Measure]
    memory: dict[str, Measure]
    note: str


def multi30k(bench: Bench) -> None:
    """BLEU of test2016 (13a, cased), beside a translation memory and Joey NMT given as many minutes."""
    made = translator("multi30k", "test2016", "multi30k")
    bleu, known = made.ours["bleu"], made.memory["bleu"]
    low, high = bleu.interval()
    note = f"chrF {made.ours['chrf'].value:.2f}; {made.note}"
    bench.row("multi30k.bleu", bleu.value, low=low, high=high, peer="memory", peer_value=known.value, note=note)
    if (told := joeynmt(made, bench.options.peers)) is None:
        return
    theirs = measures(made.task, [{"text": text} for text in told["translations"]], made.parts["test"])["bleu"]
    note = f"p {bleu.beats(theirs):.4f}; {told['updates']} updates, {told['minutes']:g} min, {told['threads']} threads"
    bench.row("multi30k.over_joeynmt", bleu.value - theirs.value, peer=JOEYNMT[1], peer_value=theirs.value,
              note=f"{note}, load {told['load']}")  # fmt: skip


def tatoeba(bench: Bench) -> None:
    """How many points of chrF better than the translation of the most similar known sentence."""
    for name, columns in TATOEBA.items():
        asked = f"prepare.columns={{source: {columns[0]}, target: {columns[1]}}}"
        made = translator("tatoeba", "test", f"tatoeba-{name}", asked)
        chrf, known = made.ours["chrf"].value, made.memory["chrf"].value
        note = f"chrF {chrf:.2f}, BLEU {made.ours['bleu'].value:.2f}; {made.note}"
        bench.row(f"tatoeba.{name}.over_memory", chrf - known, peer="memory", peer_value=known, note=note)


def translator(recipe: str, test: str, name: str, *overrides: str) -> Translator:
    """A translator made from a recipe; one that stands is taken again."""
    data = HERE / "recipes" / f"{recipe}.yaml"
    folder = shared() / {"multi30k": "multi30k-en-de", "tatoeba": "tatoeba-en-zh"}[recipe]
    files = {"source": "train", "valid": "dev", "test": test}
    sources = [f"prepare.{key}={folder / part}.jsonl.gz" for key, part in files.items()]
    read = Recipe.read(data, [*sources, *overrides, f"name={name}"])
    run = Run.of(read, cache_folder() / "benchmarks")  # kept, so that it can go on
    for step in ("prepare", "build", "train"):
        make(read, run, only=step)
    parts = {part: read_rows(run.step("prepare") / f"{part}.jsonl") for part in ("train", "valid", "test")}
    bundle, facts = load(run.step("train")), run.facts("train")
    assert bundle.task is not None
    began = time.process_time()
    answers = bundle.answer(parts["test"])
    pace = f"{facts['seconds'] / 60:.1f} min, {facts['epochs']:.1f} epochs, {facts['threads']} threads"
    note = f"{pace}; {(time.process_time() - began) / len(parts['test']) * 1000:.0f} ms a translation"
    remembered = memory(bundle.task, parts["train"], parts["test"])
    ours, known = (measures(bundle.task, found, parts["test"]) for found in (answers, remembered))
    return Translator(bundle.task, read, parts, ours, known, note)


def measures(task: Task, answers: Sequence[dict[str, Any]], rows: Sequence[Row]) -> dict[str, Measure]:
    """What answers reach, by name."""
    return {measure.name: measure for measure in task.score(answers, rows)}


def joeynmt(made: Translator, again: bool) -> dict[str, Any] | None:
    """What Joey NMT answered after as long on the same rows; None where it was never asked.

    Raises:
        ValueError: it was asked about other rows.
    """
    if again:
        ask_joeynmt(made)
    if not (RESULTS / "peers" / RECORD).is_file():
        return None
    told: dict[str, Any] = json.loads((RESULTS / "peers" / RECORD).read_text(encoding="utf-8"))
    if told["rows"] != digest(made.parts["test"]):
        raise ValueError(f"{RECORD} answers other rows than today's; run it again with --peers")
    return told


def ask_joeynmt(made: Translator) -> None:
    """Let Joey NMT learn for the recipe's minutes on both threads, and keep its translations."""
    minutes, threads = made.recipe.train.minutes, os.cpu_count() or 1
    asked = {
        **{part: [[row["source"], row["target"]] for row in made.parts[part]] for part in ("train", "valid")},
        "test": [row["source"] for row in made.parts["test"]],
        "minutes": minutes, "threads": threads, "vocabulary": made.recipe.prepare.vocabulary,
    }  # fmt: skip
    with tempfile.TemporaryDirectory(prefix="zhumo-bench-") as scratch:
        into, out = Path(scratch) / "in.json", Path(scratch) / "out.json"
        into.write_text(json.dumps(asked), encoding="utf-8")
        script = str(HERE / "peers" / "joeynmt_translate.py")
        command = [str(peer_python("joeynmt", *JOEYNMT)), script, str(into), str(out)]
        kind = {**KEPT_MEMORY, "PYTHONWARNINGS": "ignore"}
        subprocess.run(command, env={**os.environ, **kind}, check=True)
        told = json.loads(out.read_text(encoding="utf-8"))
    facts = {"minutes": minutes, "threads": threads, "rows": digest(made.parts["test"])}
    record_peer(RECORD, command, {**facts, **told}, *JOEYNMT)


def digest(rows: Sequence[Row]) -> str:
    """What tells one test from another."""
    text = json.dumps([[row["source"], row["target"]] for row in rows], separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()
