"""How training learns and what it survives: Muon beside AdamW, cross-entropy without all logits, a small model with a
teacher and alone, preferences, and the campaigns of `tests/train`."""

import gzip
import json
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.harness import HERE, Bench, shared
from zhumo.bundle import Bundle, load
from zhumo.make import make
from zhumo.prepare import read_rows
from zhumo.recipe import Recipe
from zhumo.run import Run
from zhumo.tasks.examples import collate
from zhumo.tasks.write import margins
from zhumo.train.loop import Training
from zhumo.train.ready import ready
from zhumo.transformer import linear_cross_entropy

SHARES = (0.5, 0.6, 0.7)  # of AdamW's steps that Muon is given, the fewest first
RATES = (1e-3, 3e-3, 6e-3)  # AdamW has the best of them
TURNS = 30
POSITIONS, TOKENS, WIDTH = 4_096, 49_152, 576


@contextmanager
def folder() -> Iterator[Path]:
    """A place for runs that nobody needs afterwards."""
    with tempfile.TemporaryDirectory(prefix="zhumo-bench-") as path:
        yield Path(path)


def trained(recipe: Recipe, runs: Path) -> Run:
    """The first three steps of a recipe."""
    run = Run.of(recipe, runs)
    for step in ("prepare", "build", "train"):
        make(recipe, run, only=step)
    return run


# -- Muon and AdamW


def muon_steps(bench: Bench) -> None:
    """The least share of AdamW's steps in which Muon has its validation loss."""
    with folder() as runs:
        for name, (recipe, steps, rate) in _races(runs).items():
            if not bench.due(f"train.muon.{name}.steps"):
                continue
            wanted = min(_loss(recipe, runs, f"{name}-{lr}", steps=steps, lr=lr, optimizer="adamw") for lr in RATES)
            for share in SHARES:
                given = int(share * steps)
                loss = _loss(recipe, runs, f"{name}-muon-{share}", steps=given, lr=rate, optimizer="muon")
                if loss <= wanted:
                    break
            note = f"loss {loss:.4f} in {given} steps, {wanted:.4f} in {steps}, the best of {len(RATES)} rates"
            found = share if loss <= wanted else 1.0
            bench.row(f"train.muon.{name}.steps", found, peer="AdamW", peer_value=1.0, note=note)


def muon_wall(bench: Bench) -> None:
    """Seconds of .7 of the steps with Muon and of all of them with AdamW. Updates take turns: a machine that others use
    is not the same a minute later."""
    with folder() as runs:
        for name, (recipe, steps, _) in _races(runs).items():
            run = Run.of(recipe, runs)
            for step in ("prepare", "build"):
                make(recipe, run, only=step)
            rivals = [_training(recipe, run, optimizer) for optimizer in ("adamw", "muon")]
            times = [[_seconds(training, turn) for training in rivals] for turn in range(TURNS)]
            adamw, muon = (median(column) for column in zip(*times[2:], strict=True))
            spent, seconds = SHARES[-1] * steps * muon, steps * adamw
            note = f"{1e3 * muon:.1f} ms an update, {1e3 * adamw:.1f} ms"
            bench.row(f"train.muon.{name}.wall", spent, " s", peer="AdamW", peer_value=seconds,
                      ratio=spent / seconds, note=note)  # fmt: skip


def _races(runs: Path) -> dict[str, tuple[Recipe, int, float]]:
    """Recipes, the steps AdamW makes, and Muon's learning rate: characters of Shakespeare, films of MovieLens."""
    text = gzip.decompress((shared() / "tiny-shakespeare" / "input.txt.gz").read_bytes()).decode()
    for name, part in (("train", text[: int(0.9 * len(text))]), ("valid", text[int(0.9 * len(text)) :])):
        (runs / f"{name}.jsonl").write_text(json.dumps({"text": part}) + "\n", encoding="utf-8")
    at_the_end = "train.validate_every=100000"
    write = Recipe.read(HERE / "recipes" / "shakespeare.yaml", [
        f"prepare.source={runs / 'train.jsonl'}", f"prepare.valid={runs / 'valid.jsonl'}",
        f"prepare.test={runs / 'valid.jsonl'}", at_the_end])  # fmt: skip
    recommend = Recipe.read(HERE.parent / "zhumo" / "recipes" / "recommend.yaml", [
        "train.metric=loss", "train.epochs=null", "train.steps=150", "train.threads=1", at_the_end])  # fmt: skip
    return {"write": (write, 600, 6e-3), "recommend": (recommend, 150, 3e-3)}


def _loss(recipe: Recipe, runs: Path, name: str, **values: Any) -> float:
    changed = recipe.changed({f"train.{key}": value for key, value in values.items()})
    loss: float = trained(changed.model_copy(update={"name": name}), runs).facts("train")["best_loss"]
    return loss


def _training(recipe: Recipe, run: Run, optimizer: str) -> Training:
    torch.set_num_threads(1)
    changed = recipe.changed({"train.optimizer": optimizer})
    return ready(changed, run.step("prepare"), run.step("build"), run.folder / optimizer)


def _seconds(training: Training, turn: int) -> float:
    samples = training.order.after(turn * training.train.batch)
    began = time.perf_counter()
    training.learner.update(samples, 1e-3)
    return time.perf_counter() - began


# -- cross-entropy without the table of logits


def logits(bench: Bench) -> None:
    """Peak of loss and logits at 4,096 positions of 49,152 tokens, each form in a process of its own; and how far apart
    losses and gradients are."""
    peaks = {}
    for form in ("ours", "plain"):
        done = subprocess.run([sys.executable, "-m", "benchmarks.training", form], cwd=HERE.parent, check=True,
                              capture_output=True, text=True)  # fmt: skip
        peaks[form] = int(done.stdout)
    bench.row("train.logits.memory", peaks["ours"] / 2**20, " MB", peer="F.cross_entropy of all logits",
              peer_value=peaks["plain"] / 2**20, ratio=peaks["ours"] / peaks["plain"])  # fmt: skip
    ours, plain = (_computed(form, 512) for form in ("ours", "plain"))
    apart = max(((one - other).abs().max() / other.abs().max()).item() for one, other in zip(ours, plain, strict=True))
    bench.row("train.logits.difference", apart, note="relative to the largest; loss, gradients of states and weights")


def _computed(form: str, positions: int) -> tuple[Tensor, Tensor, Tensor]:
    """Loss and both gradients."""
    generator = torch.Generator().manual_seed(0)
    states = torch.randn(positions, WIDTH, generator=generator).requires_grad_()
    weight = (0.05 * torch.randn(TOKENS, WIDTH, generator=generator)).requires_grad_()
    targets = torch.randint(0, TOKENS, (positions,), generator=generator)
    if form == "ours":
        total = linear_cross_entropy(states, weight, targets)
    else:
        total = F.cross_entropy(F.linear(states, weight), targets, reduction="sum")
    (total / positions).backward()  # type: ignore[no-untyped-call]
    assert states.grad is not None and weight.grad is not None
    return total.detach() / positions, states.grad, weight.grad


def _peak(form: str) -> int:
    """Bytes above what the inputs and their gradients take."""
    torch.set_num_threads(1)
    _computed(form, 8)  # whatever is loaded only once
    status = Path("/proc/self/clear_refs")
    status.write_text("5")  # the peak begins anew
    _computed(form, POSITIONS)
    peak = re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())
    held = re.search(r"VmRSS:\s+(\d+)", Path("/proc/self/status").read_text())
    assert peak and held
    inputs = 4 * WIDTH * 2 * (POSITIONS + TOKENS)
    return int(peak[1]) * 1024 - int(held[1]) * 1024 - inputs


# -- a teacher


def teacher(bench: Bench) -> None:
    """Accuracy on banking77 of a small fresh Transformer alone, and with fine-tuned published weights as its teacher;
    without the linear model that is blended into the answers."""
    data = shared() / "banking77"
    sources = [f"prepare.source={data / 'train.jsonl.gz'}", f"prepare.test={data / 'test.jsonl.gz'}"]
    with folder() as runs:
        large = trained(Recipe.read(HERE / "recipes" / "banking77.yaml", [*sources, "train.epochs=2"]), runs)
        place = large.step("train")
        small = [*sources, f"prepare.tokenizer={place}", "prepare.length=40", "build.start=null",
                 "build.family=bert", "build.depth=2", "train.epochs=4", "train.lr=1e-3"]  # fmt: skip
        found = {}
        for name, more in (("alone", []), ("taught", [f"build.teacher={place}"])):
            recipe = Recipe.read(HERE / "recipes" / "banking77.yaml", [*small, *more, f"name={name}"])
            found[name] = _accuracy(trained(recipe, runs))
        of_teacher = _accuracy(large)
    gain = 100 * (found["taught"] - found["alone"])
    note = f"taught {found['taught']:.4f}, its teacher {of_teacher:.4f}"
    bench.row("train.teacher.gain", gain, " points", peer="the same alone", peer_value=found["alone"], note=note)


def _accuracy(run: Run) -> float:
    bundle, rows = load(run.step("train")), read_rows(run.step("prepare") / "test.jsonl")
    assert bundle.task is not None
    with torch.inference_mode():
        answers = bundle.task.variants(bundle.model, rows)["transformer"]
    return next(measure.value for measure in bundle.task.score(answers, rows) if measure.name == "accuracy")


# -- preferences


def preferences(bench: Bench) -> None:
    """Of unseen real preferences, the share whose chosen reply gained on the rejected one over the start weights."""
    source = shared() / "preference-and-tools-demo" / "dpo_en_demo.jsonl.gz"
    with folder() as runs:
        recipe = Recipe.check({
            "task": "write", "name": "liked",
            "prepare": {"source": str(source), "length": 128, "split": {"valid": 0.1, "test": 0.25}},
            "build": {"start": "smollm2-135m-instruct", "lora": 8},
            "train": {"steps": 12, "batch": 8, "accumulate": 4, "lr": 1e-4, "validate_every": 12},
        }, "preferences")  # fmt: skip
        run = trained(recipe, runs)
        rows = read_rows(run.step("prepare") / "test.jsonl")
        before, after = (_margins(load(run.step(step)), rows) for step in ("build", "train"))
        facts = run.facts("train")
    right = (after > before).double()
    bench.row("train.preferences.accuracy", right.mean().item(), peer="the start weights", peer_value=0.5,
              note=f"{len(rows)} rows; validation loss {facts['best_loss']:.4f} at step {facts['best_step']}, "
                   f"{facts['seconds'] / 60:.1f} min")  # fmt: skip


def _margins(bundle: Bundle, rows: list[dict[str, Any]]) -> Tensor:
    assert bundle.task is not None
    with torch.no_grad():
        return torch.cat([margins(bundle.model, collate(bundle.task.encode(row))) for row in rows])


# -- faults


CAMPAIGNS = {
    "train.faults.lost": "tests/train/test_faults.py::test_a_fault_at_every_call_of_a_save",
    "train.full_disk.lost": "tests/train/test_faults.py::test_a_full_disk_twenty_times",
    "train.flips.missed": "tests/train/test_faults.py::test_a_thousand_flipped_bits",
    "train.injected.missed": "tests/train/test_guard.py::test_a_hundred_injected_values",
}


def campaigns(bench: Bench) -> None:
    """The long campaigns of the tests: 0 where one passes."""
    for name, test in CAMPAIGNS.items():
        if bench.due(name):
            command = [sys.executable, "-m", "pytest", "-n", "0", "-q", "-m", "long", test]
            done = subprocess.run(command, cwd=HERE.parent, capture_output=True, text=True, check=False)
            bench.row(name, 0 if done.returncode == 0 else 1, note=done.stdout.strip().splitlines()[-1])


if __name__ == "__main__":
    print(_peak(sys.argv[1]))
