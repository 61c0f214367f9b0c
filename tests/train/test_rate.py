"""A learning rate looked for: near the best of a grid, drawn, kept, and the weights as they were."""

import json
from pathlib import Path

import pytest
import torch
from characters import lines, make_run
from safetensors.torch import load_file

from zhumo import bundle
from zhumo.tasks.examples import Examples
from zhumo.train import train
from zhumo.train.learner import Learner
from zhumo.train.order import Order
from zhumo.train.rate import HIGH, LOW, look_for_rate

pytestmark = pytest.mark.usefixtures("shared")


def test_it_rises_until_the_loss_does_and_leaves_the_weights(tmp_path: Path) -> None:
    recipe, run = make_run(tmp_path, {"steps": 1}, rows=lines(200))
    loaded = bundle.load(run.step("build"))
    assert loaded.task is not None
    learner = Learner(loaded.model, loaded.task, Examples(run.step("prepare") / "train.safetensors"), recipe.train)
    before = {name: tensor.clone() for name, tensor in learner.weights().items()}
    rate, tried = look_for_rate(learner, Order(learner.examples.lengths(), 8, 0), 60)
    assert all(torch.equal(before[name], tensor) for name, tensor in learner.weights().items())
    assert tried[0].rate == pytest.approx(LOW) and tried[-1].rate <= HIGH
    lowest = min(tried, key=lambda one: one.loss)
    assert tried[0].loss > lowest.loss < tried[-1].loss and rate <= lowest.rate
    assert 3e-4 < rate < 3e-2


def test_what_was_found_is_kept_and_learns(tmp_path: Path) -> None:
    rows, valid = lines(400), lines(40, 500)
    losses = {}
    for rate in ("find", 1e-5, 3e-3):
        recipe, run = make_run(tmp_path / str(rate), {"steps": 40, "lr": rate}, rows=rows, valid=valid)
        train(recipe, run, progress=False)
        losses[rate] = run.facts("train")["best_loss"]
        if rate == "find":
            plan = json.loads((run.step("train") / "plan.json").read_text())
            assert "<text" in (run.step("train") / "rates.svg").read_text()
            again, told = make_run(tmp_path / "told", {"steps": 40, "lr": plan["rate"]}, rows=rows, valid=valid)
            train(again, told, progress=False)
            weights = [load_file(one.step("train") / "model.safetensors") for one in (run, told)]
            assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    assert losses["find"] - losses[3e-3] < (losses[1e-5] - losses[3e-3]) / 5  # as good as the best of a grid, or nearly
