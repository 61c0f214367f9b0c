"""Does a question find its answer among all answers there are, before and after learning, beside BM25?

    python -m benchmarks.retrieval --only zh-medical-qa

Documents are the different answers of all parts; asked are the test questions, of which one answer is right, its own.
A document stands as high as the desk puts it: by the cosine and, for a little, by the words.
"""

import tempfile
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.harness import HERE, Bench, shared
from benchmarks.support import read
from zhumo.baselines.retrieval import Bm25
from zhumo.bundle import Bundle, load
from zhumo.make import make
from zhumo.metrics.measure import Measure
from zhumo.metrics.retrieval import place_of, recall
from zhumo.recipe import Recipe
from zhumo.run import Run
from zhumo.support.search import LEAST, WORDS
from zhumo.tasks.embed import Embed

PARTS = ("train", "dev", "test")
ASKED_BY: Mapping[str, str] = {"medquad": "question", "zh-medical-qa": "title"}
FIRST = (1, 5)


def found(bench: Bench, name: str) -> None:
    """recall@1 and @5 of the published weights, and of what they become."""
    rows = {part: read(name, part) for part in PARTS}
    documents = list(dict.fromkeys(row["answer"] for part in PARTS for row in rows[part]))
    place = {document: number for number, document in enumerate(documents)}
    asked = [row[ASKED_BY[name]] for row in rows["test"]]
    right = [place[row["answer"]] for row in rows["test"]]
    words = Bm25(documents).scores(asked)
    by_words = [place_of(line, [own]) for line, own in zip(words, right, strict=True)]
    sizes = f"{len(documents)} documents, {len(asked)} questions"
    with tempfile.TemporaryDirectory(prefix="zhumo-bench-") as work:
        first, _ = learned(name, Path(work), "train.epochs=0")
        before = places(first, documents, asked, right, words)
        tuned, facts = learned(name, Path(work))
        after = places(tuned, documents, asked, right, words)
    for kind, ours in (("zero_shot.", before), ("", after)):
        for k in FIRST:
            mine, theirs = recall(ours["desk"], k), recall(by_words, k)
            low, high = mine.interval()
            note = f"{sizes}; vectors alone {recall(ours['vectors'], k).value:.4f}; {_better(mine, theirs)}"
            bench.row(f"{name}.{kind}recall@{k}", mine.value, low=low, high=high, peer="BM25", peer_value=theirs.value,
                      ratio=mine.value / theirs.value, note=note)  # fmt: skip
    gain = recall(after["desk"], 1).value - recall(by_words, 1).value
    bench.row(f"{name}.over_bm25", gain, peer="BM25", peer_value=recall(by_words, 1).value,
              note=f"points of recall@1; {facts['seconds'] / 60:.1f} min of training")  # fmt: skip


def _better(ours: Measure, theirs: Measure) -> str:
    return f"p of no better {ours.beats(theirs):.4f}"


def learned(name: str, work: Path, *overrides: str) -> tuple[Bundle, dict[str, Any]]:
    """What the recipe makes of the start weights, and the facts of its training."""
    sources = [
        f"prepare.{key}={shared() / name / part}.jsonl.gz" for key, part in (("source", "train"), ("valid", "dev"))
    ]
    recipe = Recipe.read(HERE / "recipes" / f"{name}.yaml", [*sources, *overrides])
    run = Run.of(recipe, work / ("first" if overrides else "tuned"))
    for step in ("prepare", "build", "train"):
        make(recipe, run, only=step)
    return load(run.step("train")), run.facts("train")


def places(
    bundle: Bundle, documents: Sequence[str], asked: Sequence[str], right: Sequence[int], words: np.ndarray
) -> dict[str, list[int]]:
    """The place of each right document, by vectors alone and as the desk does it."""
    task = bundle.task
    assert isinstance(task, Embed)
    with torch.inference_mode():
        texts = np.array(task.vectors(bundle.model, [(text, "prefix") for text in asked]), dtype=np.float32)
        matches = np.array(task.vectors(bundle.model, [(one, "match_prefix") for one in documents]), dtype=np.float32)
    cosines = texts @ matches.T
    joined = cosines + WORDS * words / np.maximum(words.max(axis=1, keepdims=True), LEAST)
    return {name: [place_of(line, [own]) for line, own in zip(scores, right, strict=True)]
            for name, scores in (("vectors", cosines), ("desk", joined))}  # fmt: skip


def main() -> None:
    bench = Bench("retrieval", __doc__ or "")
    leading: Mapping[str, Callable[[Bench], None]] = {name: partial(found, name=name) for name in ASKED_BY}
    for name, measure in leading.items():
        if any(bench.due(row) for row in bench.bars if row.startswith(f"{name}.")):
            measure(bench)
    bench.done()


if __name__ == "__main__":
    main()
