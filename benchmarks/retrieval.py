"""Does a question find its answer among all answers there are, before and after learning, beside BM25?

    python -m benchmarks.retrieval --only zh-medical-qa

Documents are the different answers of all parts; asked are the test questions, of which one answer is right, its own.
A document stands as high as the desk puts it: by the cosine and, for a little, by the words.
"""

import random
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.harness import HERE, Bench, shared
from benchmarks.support import read
from zhumo.baselines.retrieval import Bm25
from zhumo.bundle import Bundle, load
from zhumo.evaluate import answered
from zhumo.make import make
from zhumo.metrics.measure import Measure
from zhumo.metrics.retrieval import place_of, recall
from zhumo.recipe import Recipe
from zhumo.run import Run
from zhumo.support.search import fused
from zhumo.tasks.embed import Embed
from zhumo.tasks.pairs import WEIGHED

PARTS = ("train", "dev", "test")
ASKED_BY: Mapping[str, str] = {"medquad": "question", "zh-medical-qa": "title"}
FIRST = (1, 5)
RERANKED = 300  # questions


def found(bench: Bench, name: str) -> None:
    """recall@1 and @5 of the published weights, and of what they become."""
    documents, asked, right = questions(name)
    words = Bm25(documents).scores(asked)
    by_words = places(words, right)
    sizes = f"{len(documents)} documents, {len(asked)} questions"
    with tempfile.TemporaryDirectory(prefix="zhumo-bench-") as work:
        first, _ = learned(name, Path(work), "train.epochs=0")
        before = scores(first, documents, asked, words)
        tuned, facts = learned(name, Path(work))
        after = scores(tuned, documents, asked, words)
    for kind, scored in (("zero_shot.", before), ("", after)):
        ours = {way: places(one, right) for way, one in scored.items()}
        apart = scored["vectors"].std(axis=1).mean()
        for k in FIRST:
            mine, theirs = recall(ours["desk"], k), recall(by_words, k)
            low, high = mine.interval()
            note = f"{sizes}; vectors alone {recall(ours['vectors'], k).value:.4f}, cosines {apart:.3f} apart"
            note += f"; {_better(mine, theirs)}"
            bench.row(f"{name}.{kind}recall@{k}", mine.value, low=low, high=high, peer="BM25", peer_value=theirs.value,
                      ratio=mine.value / theirs.value, note=note)  # fmt: skip
    gain = recall(places(after["desk"], right), 1).value - recall(by_words, 1).value
    bench.row(f"{name}.over_bm25", gain, peer="BM25", peer_value=recall(by_words, 1).value,
              note=f"points of recall@1; {facts['seconds'] / 60:.1f} min of training")  # fmt: skip


def reranked(bench: Bench, name: str) -> None:
    """recall@1 of the published encoder, its first WEIGHED documents put in order by a reranker that has learned from
    the training rows. To read twenty documents a question takes long, so some are asked."""
    documents, asked, right = questions(name)
    some = sorted(random.Random(0).sample(range(len(asked)), RERANKED))
    asked, right = [asked[place] for place in some], [right[place] for place in some]
    words = Bm25(documents).scores(asked)
    with tempfile.TemporaryDirectory(prefix="zhumo-bench-") as work:
        first, _ = learned(name, Path(work), "train.epochs=0")
        desk = scores(first, documents, asked, words)["desk"]
        reranker, facts = learned(f"{name}-order", Path(work))
        ordered = in_order(reranker, documents, asked, desk)
    before, after, by_words = (recall(places(one, right), 1) for one in (desk, ordered, words))
    low, high = after.interval()
    among = np.mean([place <= WEIGHED for place in places(desk, right)])
    note = (
        f"{len(asked)} questions, {among:.4f} theirs among the {WEIGHED} read; BM25 {by_words.value:.4f}; "
        f"{_better(after, before)}; {facts['seconds'] / 60:.1f} min of training"
    )
    bench.row(f"{name}.reranked.recall@1", after.value, low=low, high=high, peer="the encoder's own order",
              peer_value=before.value, note=note)  # fmt: skip


def in_order(reranker: Bundle, documents: Sequence[str], asked: Sequence[str], first: np.ndarray) -> np.ndarray:
    """Scores by which the first WEIGHED documents of each question stand as the reranker says, above all others; of
    equals the one that stood first before."""
    best = np.argsort(-first, axis=1, kind="stable")[:, :WEIGHED]
    rows = [{"text": text, "documents": [documents[one] for one in own]} for text, own in zip(asked, best, strict=True)]
    found = first - first.max() - 1.0
    for line, own, answer in zip(found, best, answered(reranker.answer, rows), strict=True):
        line[own[np.argsort(-np.array(answer["scores"]), kind="stable")]] = np.arange(len(own), 0, -1)
    return found


def questions(name: str) -> tuple[list[str], list[str], list[int]]:
    """All different answers, the test questions, and the place of each one's own answer."""
    rows = {part: read(name, part) for part in PARTS}
    documents = list(dict.fromkeys(row["answer"] for part in PARTS for row in rows[part]))
    place = {document: number for number, document in enumerate(documents)}
    return documents, [row[ASKED_BY[name]] for row in rows["test"]], [place[row["answer"]] for row in rows["test"]]


def _better(ours: Measure, theirs: Measure) -> str:
    return f"p of no better {ours.beats(theirs):.4f}"


def learned(name: str, work: Path, *overrides: str) -> tuple[Bundle, dict[str, Any]]:
    """What the recipe makes of the start weights, and the facts of its training."""
    data = shared() / name.removesuffix("-order")
    sources = [f"prepare.{key}={data / part}.jsonl.gz" for key, part in (("source", "train"), ("valid", "dev"))]
    recipe = Recipe.read(HERE / "recipes" / f"{name}.yaml", [*sources, *overrides])
    run = Run.of(recipe, work / f"{name}{'-first' if overrides else ''}")
    for step in ("prepare", "build", "train"):
        make(recipe, run, only=step)
    return load(run.step("train")), run.facts("train")


def places(scored: np.ndarray, right: Sequence[int]) -> list[int]:
    """The place of each right document. scored: (questions, documents)."""
    return [place_of(line, [own]) for line, own in zip(scored, right, strict=True)]


def scores(bundle: Bundle, documents: Sequence[str], asked: Sequence[str], words: np.ndarray) -> dict[str, np.ndarray]:
    """How near each question comes to each document, by vectors alone and as the desk does it."""
    task = bundle.task
    assert isinstance(task, Embed)
    with torch.inference_mode():
        texts = np.array(task.vectors(bundle.model, [(text, "prefix") for text in asked]), dtype=np.float32)
        matches = np.array(task.vectors(bundle.model, [(one, "match_prefix") for one in documents]), dtype=np.float32)
    cosines = texts @ matches.T
    return {"vectors": cosines, "desk": fused(cosines, words)}


def main() -> None:
    bench = Bench("retrieval", __doc__ or "")
    for name in ASKED_BY:
        due = [row for row in bench.bars if row.startswith(f"{name}.") and bench.due(row)]
        if any("reranked" not in row for row in due):
            found(bench, name)
        if any("reranked" in row for row in due):
            reranked(bench, name)
    bench.done()


if __name__ == "__main__":
    main()
