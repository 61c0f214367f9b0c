"""weibo-ner: names in Chinese posts, from multilingual-e5-small, beside conditional random fields."""

import gzip
import json
import subprocess
import tempfile
from pathlib import Path
from statistics import mean

from benchmarks.harness import HERE, Bench, peer_python, shared
from zhumo.bundle import load
from zhumo.make import make
from zhumo.metrics.spans import entity_f1, from_bio, spans_of, to_bio, units
from zhumo.prepare import read_rows
from zhumo.prepare.spans import to_spans
from zhumo.recipe import Recipe
from zhumo.run import Run
from zhumo.tasks import Row

SEEDS = (0, 1, 2)
CRFSUITE = "python-crfsuite==0.9.12"
PARTS = {"train": "train", "valid": "dev", "test": "test"}


def weibo_ner(bench: Bench) -> None:
    """F1 of whole spans on the official test rows, mean of three seeds."""
    with tempfile.TemporaryDirectory(prefix="zhumo-bench-") as folder:
        found = [tagger(seed, Path(folder)) for seed in SEEDS]
        theirs = crfsuite(Path(folder))
    f1 = mean(value for value, _ in found)
    note = (
        f"seeds {', '.join(f'{100 * value:.2f}' for value, _ in found)}; {max(minutes for _, minutes in found):.1f} min"
    )
    bench.row("weibo-ner.f1", f1, low=min(found)[0], high=max(found)[0], peer=CRFSUITE, peer_value=theirs, note=note)
    bench.row("weibo-ner.over_crf", f1 - theirs, peer=CRFSUITE, peer_value=theirs)


def tagger(seed: int, work: Path) -> tuple[float, float]:
    """F1 on the test rows and minutes of training."""
    data = shared() / "weibo-ner"
    sources = [f"prepare.source={data / 'train.jsonl.gz'}", f"prepare.valid={data / 'dev.jsonl.gz'}"]
    sources += [f"prepare.test={data / 'test.jsonl.gz'}", f"seed={seed}", f"name=weibo-ner-{seed}"]
    recipe = Recipe.read(HERE / "recipes" / "weibo-ner.yaml", sources)
    run = Run.of(recipe, work)
    for step in ("prepare", "build", "train"):
        make(recipe, run, only=step)
    rows = read_rows(run.step("prepare") / "test.jsonl")
    bundle = load(run.step("train"))
    assert bundle.task is not None
    return bundle.task.score(bundle.answer(rows), rows)[0].value, run.facts("train")["seconds"] / 60


def crfsuite(work: Path) -> float:
    """F1 on the test rows of CRFsuite with the penalties that were best on the dev rows."""
    rows = {part: _rows(name) for part, name in PARTS.items()}
    cuts = {part: [units(row["text"]) for row in rows[part]] for part in PARTS}
    asked = {
        part: [
            {"units": [row["text"][start:end] for start, end in cut], "tags": to_bio(spans_of(row), cut)}
            for row, cut in zip(rows[part], cuts[part], strict=True)
        ]
        for part in PARTS
    }
    given, answered = work / "crfsuite.json", work / "crfsuite.out.json"
    given.write_text(json.dumps(asked, ensure_ascii=False), encoding="utf-8")
    script = HERE / "peers" / "crfsuite_tags.py"
    subprocess.run([peer_python("crfsuite", CRFSUITE), script, given, answered], check=True)
    tags = json.loads(answered.read_text(encoding="utf-8"))["tags"]
    said = [from_bio(one, cut) for one, cut in zip(tags, cuts["test"], strict=True)]
    return entity_f1(said, [spans_of(row) for row in rows["test"]])[0].value


def _rows(name: str) -> list[Row]:
    with gzip.open(shared() / "weibo-ner" / f"{name}.jsonl.gz", "rt", encoding="utf-8") as lines:
        return [to_spans({"tokens": row["chars"], "tags": row["tags"]}, str) for row in map(json.loads, lines)]
