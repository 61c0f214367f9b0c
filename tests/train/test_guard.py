"""What is not finite or stands out is caught at its step, and the state afterwards is bit by bit what it was."""

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from characters import lines, make_run

from zhumo.run import Run
from zhumo.train import TrainError, loop, watch
from zhumo.train.guard import SEEN, Usual
from zhumo.train.loop import Training
from zhumo.train.ready import ready
from zhumo.train.stop import Stop

KINDS = ("output", "gradient", "weight", "input")
VALUES = (math.nan, math.inf, -math.inf)
STEPS = 1_000


def test_usual_is_a_matter_of_orders_of_magnitude() -> None:
    usual = Usual()
    for value in np.random.default_rng(0).normal(2.5, 0.1, SEEN):
        assert usual.allows(1e6)  # nothing is known yet
        usual.add(float(value))
    assert usual.mean == pytest.approx(2.5, abs=0.05)
    assert usual.allows(4) and not usual.allows(6) and usual.allows(0)
    assert not any(usual.allows(value) for value in VALUES)
    heavy = Usual()  # nearly always right, and now and then quite wrong
    for value in np.random.default_rng(0).lognormal(-5, 1.5, 500):
        assert heavy.allows(float(value))
        heavy.add(float(value))


def begun(folder: Path, **settings: Any) -> tuple[Training, Run]:
    recipe, run = make_run(folder, {"steps": STEPS, "ema": 0.9, **settings}, rows=lines(200), dropout=0.1)
    place = run.step("train")
    place.mkdir()
    training = ready(recipe, run.step("prepare"), run.step("build"), place)
    training.begin(time.monotonic())
    return training, run


def go_on(training: Training, steps: int = 1) -> None:
    """Make some steps more; the last one is saved."""
    training.learn(Stop(), False, (training.state.step + steps) / STEPS)


def state(training: Training) -> dict[str, torch.Tensor]:
    parts = {"weight": training.learner.weights(), "memory": training.learner.memory(), "average": training.average}
    return {f"{part}/{name}": tensor.clone() for part, found in parts.items() for name, tensor in found.items()}


@contextmanager
def damaged(training: Training, kind: str, value: float, dice: np.random.Generator) -> Iterator[None]:
    """One number on the way is `value`."""
    parameters = list(training.learner.parameters.values())
    chosen = parameters[dice.integers(len(parameters))]
    place = (0, *(int(dice.integers(size)) for size in chosen.shape[1:]))  # the first row of a table is always used

    def spoil(tensor: torch.Tensor, where: tuple[int, ...]) -> torch.Tensor:
        spoilt = tensor.clone()
        spoilt[where] = value
        return spoilt

    if kind == "weight":
        chosen.data[place] = value
        yield
        return
    if kind == "gradient":
        hook = chosen.register_hook(lambda gradient: spoil(gradient, place))
    elif kind == "input":
        hook = training.learner.model.stem.register_forward_hook(lambda *facts: spoil(facts[2], (0, 0, 0)))
    else:
        hook = training.learner.model.norm.register_forward_hook(lambda *facts: facts[2] * value)
    try:
        yield
    finally:
        hook.remove()


def campaign(folder: Path, count: int, seed: int) -> dict[str, int]:
    """Inject values one after the other; returns how many were caught at their step, and left the state as it was."""
    training, _ = begun(folder)
    go_on(training, 5)
    dice = np.random.default_rng(seed)
    found = {"injected": 0, "caught": 0, "equal": 0}
    for number in range(count):
        go_on(training)
        before, skipped = state(training), training.state.skipped
        with damaged(training, KINDS[number % 4], VALUES[number % 3], dice):
            go_on(training)
        after = state(training)
        found["injected"] += 1
        found["caught"] += training.state.skipped == skipped + 1
        found["equal"] += before.keys() == after.keys() and all(torch.equal(before[n], after[n]) for n in before)
    assert all(tensor.isfinite().all() for tensor in state(training).values())
    return found


@pytest.fixture(autouse=True)
def many(monkeypatch: pytest.MonkeyPatch) -> None:
    """It may go back as often as it has to; no TensorBoard, which is opened anew for each learn."""
    monkeypatch.setattr(loop, "BACK", 1_000)
    monkeypatch.setattr(watch, "TENSORBOARD", False)


@pytest.mark.usefixtures("shared")
def test_injected_values_are_caught_at_their_step(tmp_path: Path) -> None:
    assert campaign(tmp_path, 12, seed=1) == {"injected": 12, "caught": 12, "equal": 12}


@pytest.mark.long
@pytest.mark.usefixtures("shared")
def test_a_hundred_injected_values(tmp_path: Path) -> None:
    assert campaign(tmp_path, 100, seed=2) == {"injected": 100, "caught": 100, "equal": 100}


@pytest.mark.usefixtures("shared")
def test_damaged_weights_go_back_to_the_last_checkpoint(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    training, _ = begun(tmp_path)
    go_on(training, SEEN + 10)
    before, loss = state(training), training.state.loss.mean
    with torch.no_grad():
        for parameter in training.learner.parameters.values():
            parameter.mul_(20)
    go_on(training, 2)
    assert training.state.skipped == 2 and training.state.returns == 0
    go_on(training, 4)  # back to what was saved after step 62, damaged already, so back to the one before
    assert "back to the weights of step 62" in caplog.text and "back to the weights of step 60" in caplog.text
    after = state(training)
    assert all(torch.equal(before[name], after[name]) for name in before)
    go_on(training, 20)
    assert training.state.skipped == 6 and training.state.loss.mean < loss


@pytest.mark.usefixtures("shared")
def test_it_stops_where_going_back_does_not_help(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop, "BACK", 2)
    training, _ = begun(tmp_path)
    dice = np.random.default_rng(0)
    for _ in range(2):
        go_on(training)
        with damaged(training, "weight", math.nan, dice):
            go_on(training)
    go_on(training)
    with (
        pytest.raises(TrainError, match=r"going back 2 times did not help"),
        damaged(training, "weight", math.nan, dice),
    ):
        go_on(training)
