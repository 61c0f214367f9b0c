"""Translation from nothing in half an hour: multi30k English to German, tatoeba English and Chinese both ways."""

import time

from benchmarks.harness import HERE, Bench, shared
from zhumo.bundle import load
from zhumo.make import make
from zhumo.metrics.measure import Measure
from zhumo.prepare import read_rows
from zhumo.recipe import Recipe
from zhumo.run import Run
from zhumo.sources import cache_folder
from zhumo.tasks.translate import memory

TATOEBA = {"en-zh": ("en", "zh"), "zh-en": ("zh", "en")}


def multi30k(bench: Bench) -> None:
    """BLEU of test2016 (13a, cased), beside a translation memory."""
    ours, theirs, note = translator("multi30k", "test2016", "multi30k")
    bleu, known = ours["bleu"], theirs["bleu"]
    low, high = bleu.interval()
    note = f"chrF {ours['chrf'].value:.2f}; {note}"
    bench.row("multi30k.bleu", bleu.value, low=low, high=high, peer="memory", peer_value=known.value, note=note)


def tatoeba(bench: Bench) -> None:
    """How many points of chrF better than the translation of the most similar known sentence."""
    for name, columns in TATOEBA.items():
        asked = f"prepare.columns={{source: {columns[0]}, target: {columns[1]}}}"
        ours, theirs, note = translator("tatoeba", "test", f"tatoeba-{name}", asked)
        gain, known = ours["chrf"].value - theirs["chrf"].value, theirs["chrf"].value
        note = f"chrF {ours['chrf'].value:.2f}, BLEU {ours['bleu'].value:.2f}; {note}"
        bench.row(f"tatoeba.{name}.over_memory", gain, peer="memory", peer_value=known, note=note)


def translator(
    recipe: str, test: str, name: str, *overrides: str
) -> tuple[dict[str, Measure], dict[str, Measure], str]:
    """The measures of a model made by a recipe of this folder, and of the memory; and what it took."""
    data = HERE / "recipes" / f"{recipe}.yaml"
    folder = shared() / {"multi30k": "multi30k-en-de", "tatoeba": "tatoeba-en-zh"}[recipe]
    parts = {"source": "train", "valid": "dev", "test": test}
    sources = [f"prepare.{key}={folder / part}.jsonl.gz" for key, part in parts.items()]
    read = Recipe.read(data, [*sources, *overrides, f"name={name}"])
    run = Run.of(read, cache_folder() / "benchmarks")  # kept, so that it can go on
    for step in ("prepare", "build", "train"):
        make(read, run, only=step)
    rows, train = (read_rows(run.step("prepare") / f"{part}.jsonl") for part in ("test", "train"))
    bundle, facts = load(run.step("train")), run.facts("train")
    assert bundle.task is not None
    began = time.process_time()
    answers = bundle.answer(rows)
    pace = f"{facts['seconds'] / 60:.1f} min, {facts['epochs']:.1f} epochs, {facts['threads']} threads"
    note = f"{pace}; {(time.process_time() - began) / len(rows) * 1000:.0f} ms a translation"
    measured = (bundle.task.score(found, rows) for found in (answers, memory(bundle.task, train, rows)))
    ours, theirs = ({measure.name: measure for measure in measures} for measures in measured)
    return ours, theirs, note
