"""What somebody wants: intents of a bank's customers and of ten domains, what is none of them, patients' departments.

    python -m benchmarks.intents --only clinc150

All from published weights. banking77 from ten questions an intent beside SetFit (Tunstall et al. 2022), from the same
MiniLM and the same questions; its recorded runs, or new ones with --peers. Nothing is learned from questions out of
scope.
"""

import json
import random
import subprocess
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np

from benchmarks.harness import HERE, RESULTS, Bench, peer_python, record_peer, shared
from benchmarks.spine import SEEDS, classifier
from benchmarks.support import read
from zhumo.bundle import Bundle, load
from zhumo.make import make
from zhumo.metrics import calibration
from zhumo.metrics.classify import accuracy, macro_f1, unseen_auc
from zhumo.metrics.measure import Measure
from zhumo.prepare import read_rows
from zhumo.recipe import Recipe
from zhumo.run import Run
from zhumo.sources import fetch
from zhumo.tasks import Row

SHOTS = 10
SETFIT = ("torch==2.13.0", "setfit==1.2.0")
RECORD = "setfit-banking77-10.json"
FALSE_ALARMS = 0.05  # of known questions, at which those out of scope are to be noticed
LINEAR = "TF-IDF + linear SVM"


def full(bench: Bench) -> None:
    """All training questions of banking77, mean of three seeds."""
    values, minutes = zip(*(classifier("banking77", ("train", "test"), seed) for seed in SEEDS), strict=True)
    bench.row("banking77.accuracy", mean(values), low=min(values), high=max(values), peer=LINEAR, peer_value=0.8938,
              note=f"seeds {_hundredths(values)}; {max(minutes):.1f} min")  # fmt: skip


def ten_shot(bench: Bench) -> None:
    """Ten training questions an intent, the same for both, mean of three seeds; and how long each learned."""
    drawn = {seed: shots(read("banking77", "train"), seed) for seed in SEEDS}
    found = [few(rows, seed) for seed, rows in drawn.items()]
    if bench.options.peers or not (RESULTS / "peers" / RECORD).is_file():
        setfit(drawn)
    theirs = json.loads((RESULTS / "peers" / RECORD).read_text(encoding="utf-8"))["runs"]
    ours, seconds = zip(*found, strict=True)
    peer, peer_seconds = zip(*((run["accuracy"], run["seconds"]) for run in theirs), strict=True)
    bench.row("banking77.10_shot", mean(ours), low=min(ours), high=max(ours), peer=SETFIT[-1], peer_value=mean(peer),
              ratio=mean(ours) / mean(peer), note=f"seeds {_hundredths(ours)}; theirs {_hundredths(peer)}")  # fmt: skip
    bench.row("banking77.10_shot.seconds", mean(seconds), " s", low=min(seconds), high=max(seconds), peer=SETFIT[-1],
              peer_value=mean(peer_seconds), ratio=mean(seconds) / mean(peer_seconds), note="of training")  # fmt: skip


def shots(rows: Sequence[Row], seed: int) -> list[Row]:
    """Ten rows of each label."""
    chance = random.Random(seed)
    labels = sorted({row["label"] for row in rows})
    return [row for label in labels for row in chance.sample([one for one in rows if one["label"] == label], SHOTS)]


def few(rows: Sequence[Row], seed: int) -> tuple[float, float]:
    """Accuracy on all test rows, and seconds of training."""
    with tempfile.TemporaryDirectory(prefix="zhumo-bench-") as work:
        source = written(Path(work) / "train.jsonl", rows)
        test = shared() / "banking77" / "test.jsonl.gz"
        bundle, run = learned("banking77-10", Path(work), f"prepare.source={source}", f"prepare.test={test}",
                              f"seed={seed}")  # fmt: skip
        asked = read_rows(run.step("prepare") / "test.jsonl")
        said = [answer["label"] for answer in bundle.answer(asked)]
        return accuracy(said, [row["label"] for row in asked]).value, run.facts("train")["seconds"]


def setfit(drawn: Mapping[int, Sequence[Row]]) -> None:
    """SetFit with its paper's settings, in an environment of its own."""
    command = [str(peer_python("setfit", *SETFIT)), str(HERE / "peers" / "setfit_intents.py")]
    with tempfile.TemporaryDirectory(prefix="zhumo-bench-") as work:
        task = {"model": str(fetch("minilm")), "test": read("banking77", "test"),
                "shots": [{"seed": seed, "rows": rows} for seed, rows in drawn.items()]}  # fmt: skip
        asked, out = Path(work) / "task.json", Path(work) / "out.json"
        asked.write_text(json.dumps(task), encoding="utf-8")
        subprocess.run([*command, str(asked), str(out)], check=True)
        record_peer(RECORD, command, json.loads(out.read_text(encoding="utf-8")), *SETFIT)


def clinc(bench: Bench) -> None:
    """Questions of 150 intents, and those of none: learned without any of them, noticed by how familiar they are."""
    rows = {part: read("clinc150", part) for part in ("train", "val", "test")}
    known = {part: [row for row in own if row["label"] != "oos"] for part, own in rows.items()}
    strange = [row for row in rows["test"] if row["label"] == "oos"]
    with tempfile.TemporaryDirectory(prefix="zhumo-bench-") as work:
        named = {"source": "train", "valid": "val", "test": "test"}
        files = [f"prepare.{key}={written(Path(work) / f'{part}.jsonl', known[part])}" for key, part in named.items()]
        bundle, run = learned("clinc150", Path(work), *files)
        answers, others = bundle.answer(known["test"]), bundle.answer(strange)
        minutes = run.facts("train")["seconds"] / 60
    said = accuracy([answer["label"] for answer in answers], [row["label"] for row in known["test"]])
    low, high = said.interval()
    bench.row("clinc150.accuracy", said.value, low=low, high=high, peer=LINEAR, peer_value=0.9102,
              note=f"in scope; {minutes:.1f} min of training")  # fmt: skip
    familiar = [answer["familiar"] for answer in answers + others]
    [auc] = unseen_auc(familiar, [True] * len(answers) + [False] * len(others))
    low, high = auc.interval()
    bench.row("clinc150.out_of_scope.auroc", auc.value, low=low, high=high,
              note=f"{len(others)} questions out of scope, none learned from")  # fmt: skip
    bound = sorted(familiar[: len(answers)])[int(FALSE_ALARMS * len(answers))]
    noticed = Measure("recall", 1.0 * _below(others, bound))
    bench.row("clinc150.out_of_scope.recall", noticed.value, low=noticed.interval()[0], high=noticed.interval()[1],
              note=f"at {FALSE_ALARMS:.0%} false alarms; as it is served {_below(others, 0.05).mean():.3f} of them lie "
              f"below .05, of the known {_below(answers, 0.05).mean():.3f}")  # fmt: skip


def triage(bench: Bench) -> None:
    """To which department a patient's question goes, beside the linear model on the same rows."""
    files = {"source": "train", "valid": "dev", "test": "test"}
    sources = [f"prepare.{key}={shared() / 'zh-medical-qa' / f'{part}.jsonl.gz'}" for key, part in files.items()]
    with tempfile.TemporaryDirectory(prefix="zhumo-bench-") as work:
        bundle, run = learned("triage", Path(work), *sources)
        train, asked = (read_rows(run.step("prepare") / f"{part}.jsonl") for part in ("train", "test"))
        answers = bundle.answer(asked)
        assert bundle.task is not None
        theirs = bundle.task.baselines["tfidf"](bundle.task, train, asked)
        minutes = run.facts("train")["seconds"] / 60
    truth = [row["label"] for row in asked]
    said, linear = ([answer["label"] for answer in own] for own in (answers, theirs))
    f1, other = macro_f1(said, truth), macro_f1(linear, truth)
    low, high = f1.interval()
    note = f"{minutes:.1f} min of training; p of no better {f1.beats(other):.4f}"
    bench.row(
        "triage.macro_f1", f1.value, low=low, high=high, peer="TF-IDF + linear", peer_value=other.value, note=note
    )
    right, others = accuracy(said, truth), accuracy(linear, truth)
    sure, hits = np.array([answer["scores"][answer["label"]] for answer in answers]), right.values > 0
    surest = calibration.error_at(sure, hits, 0.9)
    bench.row("triage.p_below_linear", others.beats(right), peer="TF-IDF + linear", peer_value=others.value,
              note=f"accuracy {right.value:.4f}; calibration error {calibration.expected_error(sure, hits).value:.4f}; "
              f"{surest.value:.4f} wrong of the surest 90%")  # fmt: skip


def learned(name: str, work: Path, *overrides: str) -> tuple[Bundle, Run]:
    """What a recipe of this folder learns."""
    recipe = Recipe.read(HERE / "recipes" / f"{name}.yaml", overrides)
    run = Run.of(recipe, work / "runs")
    for step in ("prepare", "build", "train"):
        make(recipe, run, only=step)
    return load(run.step("train")), run


def written(path: Path, rows: Sequence[Row]) -> Path:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


def _below(answers: Sequence[Mapping[str, Any]], bound: float) -> np.ndarray:
    return np.array([answer["familiar"] < bound for answer in answers])


def _hundredths(values: Sequence[float]) -> str:
    return ", ".join(f"{100 * value:.2f}" for value in values)


LEADING: Mapping[str, Callable[[Bench], None]] = {
    "banking77.accuracy": full,
    **dict.fromkeys(("banking77.10_shot", "banking77.10_shot.seconds"), ten_shot),
    **dict.fromkeys(("clinc150.accuracy", "clinc150.out_of_scope.auroc", "clinc150.out_of_scope.recall"), clinc),
    **dict.fromkeys(("triage.macro_f1", "triage.p_below_linear"), triage),
}


def main() -> None:
    bench = Bench("intents", __doc__ or "")
    for measure in dict.fromkeys(measure for name, measure in LEADING.items() if bench.due(name)):
        measure(bench)
    bench.done()


if __name__ == "__main__":
    main()
