"""A small model with a teacher: the loss by hand, who may teach, and that it comes nearer to its teacher."""

import gzip
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from zhumo import bundle
from zhumo.build import build
from zhumo.build.teacher import TEACHER
from zhumo.errors import ModelError
from zhumo.prepare import prepare
from zhumo.recipe import Recipe
from zhumo.run import Run
from zhumo.tasks.examples import Examples, collate
from zhumo.tasks.taught import SHARE, TEMPERATURE, taught
from zhumo.train import train


def test_the_loss_by_hand() -> None:
    logits, wanted = torch.randn(2, 5, 7, generator=torch.Generator().manual_seed(0))
    right = torch.tensor(3.0)
    theirs, ours = (np.exp(x) / np.exp(x).sum(1, keepdims=True) for x in (wanted.numpy() / 2, logits.numpy() / 2))
    apart = (theirs * np.log(theirs / ours)).sum()
    assert TEMPERATURE == 2
    assert taught(right, logits, wanted).item() == pytest.approx((1 - SHARE) * 3 + SHARE * 4 * apart, rel=1e-5)
    assert taught(right, wanted, wanted).item() == pytest.approx((1 - SHARE) * 3, abs=1e-5)


def run_of(
    folder: Path, task: str, source: Path, rows: int, *steps: str, **sections: dict[str, Any]
) -> tuple[Recipe, Run]:
    with gzip.open(source, "rt", encoding="utf-8") as file:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "rows.jsonl").write_text("".join(islice(file, rows)), encoding="utf-8")
    section = {"source": str(folder / "rows.jsonl"), "length": 24, **sections.pop("prepare", {})}
    model = {"width": 32, "depth": 1, "heads": 2, "dropout": 0, **sections.pop("build", {})}
    learn = {"threads": 1, "batch": 16, "steps": 40, "lr": 3e-3, **sections.pop("train", {})}
    recipe = Recipe.check({"task": task, "prepare": section, "build": model, "train": learn}, "test")
    run = Run(folder / "run")
    for step in (prepare, build):
        step(recipe, run)
    train(recipe, run, progress=False)
    return recipe, run


def distance(run: Run) -> float:
    """Mean divergence from the teacher on the validation examples."""
    student, teacher = bundle.load(run.step("train")), bundle.load(run.step("build") / TEACHER)
    assert student.task is not None
    batch = collate(list(Examples(run.step("prepare") / "valid.safetensors"))[:32])
    with torch.no_grad():
        mixed = student.task.loss_beside(student.model, teacher.model, batch)
        plain = student.task.loss(student.model, batch)
    return (mixed.total - (1 - SHARE) * plain.total).item() / SHARE / mixed.count


@pytest.mark.parametrize(("task", "source"), [("classify", "banking77/train"), ("write", "tang-poetry/dev")])
def test_it_comes_nearer_to_its_teacher(task: str, source: str, tmp_path: Path, shared: Path) -> None:
    path = shared / f"{source}.jsonl.gz"
    prepared = {"vocabulary": 600, **({"split": {"test": 0.3}} if task == "classify" else {})}
    _, large = run_of(tmp_path / "large", task, path, 300, prepare=prepared, build={"width": 64})
    place = str(large.step("train"))
    found = {}
    for name, seen in (("alone", 0), ("taught", 40)):
        # The one that stands alone has a teacher too, whom it never heard: it makes no update with it.
        _, run = run_of(tmp_path / name, task, path, 300, prepare={"split": prepared.get("split", {})},
                        build={"teacher": place}, train={"steps": seen})  # fmt: skip
        found[name] = distance(run)
    assert found["taught"] < found["alone"]
    assert (tmp_path / "taught" / "run" / "build" / TEACHER / "model.safetensors").is_file()
    assert not (tmp_path / "taught" / "run" / "train" / TEACHER).exists()


def test_who_cannot_teach(tmp_path: Path, shared: Path) -> None:
    source = shared / "banking77" / "train.jsonl.gz"
    _, large = run_of(tmp_path / "large", "classify", source, 300, train={"steps": 1}, prepare={"vocabulary": 400})
    place = str(large.step("train"))
    with pytest.raises(ModelError, match="same labels"):
        run_of(tmp_path / "more", "classify", source, 900, build={"teacher": place})
    with pytest.raises(ModelError, match="other tokens"):
        run_of(tmp_path / "own", "classify", source, 300, build={"teacher": place}, prepare={"tokenizer": "char"})
