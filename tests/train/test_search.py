"""Hyper-parameters by successive halving: who goes on, that it is exact, and that a kill changes nothing."""

import json
from pathlib import Path
from typing import Any

import characters
import numpy as np
import pytest
from characters import Characters, lines, make_run
from safetensors.numpy import load_file

from zhumo import bundle
from zhumo.errors import DataError, RecipeError
from zhumo.plan import plan
from zhumo.recipe import Recipe, Train
from zhumo.run import Run
from zhumo.tasks import Loss
from zhumo.tasks.examples import Batch
from zhumo.train import TrainError, train
from zhumo.train.search import CANDIDATES, SETTLING, draw, minutes_each, rounds
from zhumo.transformer import Transformer

pytestmark = pytest.mark.usefixtures("shared")
VALUES: dict[str, list[Any]] = {"build.dropout": [0.0, 0.3], "build.width": [32, 16], "train.lr": [1e-5, 3e-3, 1e-2]}
SETTINGS: dict[str, Any] = {"steps": 24, "validate_every": 3, "search": VALUES}


def made(folder: Path, settings: dict[str, Any], valid: int = 10) -> tuple[Recipe, Run]:
    return make_run(folder, settings, rows=lines(60), valid=lines(valid, 100))


def weights(run: Run) -> dict[str, np.ndarray]:
    return load_file(run.step("train") / "model.safetensors")


def same(a: dict[str, np.ndarray], b: dict[str, np.ndarray]) -> bool:
    return a.keys() == b.keys() and all(np.array_equal(a[name], b[name]) for name in a)


def timeless(run: Run) -> list[dict[str, Any]]:
    found = run.facts("train")["search"]
    return [{key: value for key, value in entry.items() if key != "seconds"} for entry in found]


def test_combinations_are_drawn_by_the_seed() -> None:
    asked = Train(search=VALUES)
    some = draw(asked, 1)
    assert some == draw(asked, 1) != draw(asked, 2)
    assert len(some) == CANDIDATES == len({json.dumps(values) for values in some})
    assert all(values[key] in VALUES[key] for values in some for key in VALUES)
    assert len(draw(Train(search={"train.lr": [1, 2, 3]}), 0)) == 3
    few = [len(draw(Train(search=VALUES, minutes=minutes), 1)) for minutes in (0.5, 5, 60)]
    assert few == [2, 5, CANDIDATES]


def test_the_better_half_goes_twice_as_far() -> None:
    assert rounds(8) == [(8, 1 / 8), (4, 1 / 4), (2, 1 / 2), (1, 1)]
    assert rounds(5) == [(5, 1 / 8), (3, 1 / 4), (2, 1 / 2), (1, 1)]
    assert rounds(1) == [(1, 1)]
    each = minutes_each(10, 8)
    assert 8 * each / 8 + 4 * each / 8 + 2 * each / 4 + each / 2 == pytest.approx(10 - 8 * SETTLING / 60)


def test_the_winner_is_trained_as_if_it_had_been_alone(tmp_path: Path) -> None:
    recipe, run = made(tmp_path / "search", SETTINGS)
    assert plan(recipe, run)["search"] == [{"values": values, "looks": []} for values in draw(recipe.train, 7)]
    train(recipe, run, progress=False)
    facts = run.facts("train")
    table = facts["search"]
    assert plan(recipe, run)["search"] == table
    assert sorted(len(entry["looks"]) for entry in table) == [1, 1, 1, 1, 2, 2, 3, 3]
    best = min((entry for entry in table if len(entry["looks"]) == 3), key=lambda entry: entry["looks"][-1])
    assert facts["chosen"] == best["values"] and best["steps"] == 12 and facts["steps"] == 24
    assert facts["chosen"]["train.lr"] != 1e-5
    for number in range(2):  # whoever went on had been better than whoever did not
        on, out = ([entry["looks"][number] for entry in table if len(entry["looks"]) > number
                    and (len(entry["looks"]) > number + 1) is further] for further in (True, False))  # fmt: skip
        assert max(on) <= min(out)
    metrics = (run.step("train") / "metrics.jsonl").read_text().splitlines()
    assert [line["step"] for line in map(json.loads, metrics) if "loss" in line] == list(range(1, 25))
    assert bundle.load(run.step("train")).model.config.width == facts["chosen"]["build.width"]

    alone = recipe.changed({**facts["chosen"], "train.search": {}})
    own = {"steps": 24, "validate_every": 3, "lr": alone.train.lr}
    _, other = make_run(tmp_path / "alone", own, rows=lines(60), valid=lines(10, 100),
                        build=alone.build.model_dump())  # fmt: skip
    train(alone, other, progress=False)
    assert same(weights(run), weights(other))


class Crashing(Characters):
    """Characters during whose training the power goes at certain calls of `loss`."""

    calls = 0
    crash: tuple[int, ...] = ()

    def loss(self, model: Transformer, batch: Batch) -> Loss:
        """That of the class above, unless the power goes."""
        if model.training:
            Crashing.calls += 1
            if Crashing.calls in self.crash:
                raise ConnectionError("the power is gone")
        return super().loss(model, batch)


def test_a_search_that_is_killed_goes_on_where_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = {**SETTINGS, "search": {"train.lr": [1e-4, 3e-3, 1e-2]}, "save_every": 0.001, "steps": 12}
    recipe, whole = made(tmp_path / "whole", settings)
    train(recipe, whole, progress=False)
    monkeypatch.setattr(characters, "Characters", Crashing)
    monkeypatch.setitem(characters.TASKS, "characters", "test_search:Crashing")  # type: ignore[misc]
    recipe, cut = made(tmp_path / "cut", settings)
    # In the first candidate, in another of the first round, in the second round, and in the winner's own training.
    crashes = (2, 4, 3, 2, 5)
    for crash in crashes:
        Crashing.calls, Crashing.crash = 0, (crash,)
        with pytest.raises(ConnectionError):
            train(recipe, cut, progress=False)
    Crashing.crash = ()
    train(recipe, cut, progress=False)
    assert same(weights(whole), weights(cut))
    assert timeless(whole) == timeless(cut)


def test_a_candidate_that_cannot_learn_drops_out(tmp_path: Path) -> None:
    settings = {**SETTINGS, "steps": 8, "search": {"train.lr": [1e38, 3e-3], "train.clip": [1e38]}}
    recipe, run = made(tmp_path / "one", settings)
    train(recipe, run, progress=False)
    assert run.facts("train")["chosen"]["train.lr"] == 3e-3
    [bad] = [entry for entry in run.facts("train")["search"] if entry["values"]["train.lr"] == 1e38]
    assert "went wrong again and again" in bad["problem"]
    recipe, run = made(tmp_path / "all", {**settings, "search": {"build.heads": [3, 5]}})
    with pytest.raises(TrainError, match="multiple of"):
        train(recipe, run, progress=False)


def test_without_validation_rows_nothing_can_be_chosen(tmp_path: Path) -> None:
    recipe, run = made(tmp_path, SETTINGS, valid=0)
    with pytest.raises(DataError, match="validation rows"):
        train(recipe, run, progress=False)


@pytest.mark.parametrize(
    ("search", "said"),
    [
        ({"build.dropout": [0.1, 7]}, "build.dropout"),
        ({"build.drop": [0.1]}, "build.drop"),
        ({"train.epochs": [1, 2]}, "train.epochs"),
        ({"prepare.length": [8]}, "prepare.length"),
        ({"train.lr": []}, "train.search"),
    ],
)
def test_what_cannot_be_searched_is_said_at_once(search: dict[str, list[Any]], said: str) -> None:
    with pytest.raises(RecipeError, match=said):
        Recipe.check({"task": "write", "prepare": {"source": "-"}, "train": {"search": search}}, "test")
