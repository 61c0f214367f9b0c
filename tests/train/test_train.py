"""Training as a whole: it learns, it goes on exactly where it was, it does not depend on how a batch is cut."""

import json
import os
import signal
from pathlib import Path
from typing import Any

import characters
import numpy as np
import pytest
import torch
from characters import Characters, lines, make_run
from safetensors.torch import load_file

from zhumo import bundle
from zhumo.errors import DataError, Interrupted, ModelError, RunError
from zhumo.recipe import Recipe
from zhumo.run import Run
from zhumo.tasks import TASKS, Loss
from zhumo.tasks.examples import Batch, Examples
from zhumo.train import TrainError, attention, loop, pace, train
from zhumo.train.learner import Learner
from zhumo.train.order import Order, sample_keys
from zhumo.transformer import Transformer
from zhumo.transformer.lora import LoraLinear, add_lora
from zhumo.weights.adapter import read_adapter

pytestmark = pytest.mark.usefixtures("shared")


def metrics(run: Run) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run.step("train") / "metrics.jsonl").read_text().splitlines()]


def weights(run: Run, step: str = "train") -> dict[str, torch.Tensor]:
    return load_file(run.step(step) / "model.safetensors")


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


class Eventful(Characters):
    """Characters to whom something happens at certain calls of `loss` in training mode."""

    name = "eventful"
    calls = 0
    nan: tuple[int, ...] = ()
    signals: tuple[int, ...] = ()
    crash: tuple[int, ...] = ()
    greedy: tuple[int, ...] = ()

    def loss(self, model: Transformer, batch: Batch) -> Loss:
        """That of the class above, after the event."""
        total, count = super().loss(model, batch)
        if model.training:
            Eventful.calls += 1
            if Eventful.calls in self.signals:
                os.kill(os.getpid(), signal.SIGTERM)
            if Eventful.calls in self.crash:
                raise ConnectionError("the power is gone")
            if Eventful.calls in self.greedy:
                torch.empty(2**52, dtype=torch.uint8)
            if Eventful.calls in self.nan:
                total = total * float("nan")
        return Loss(total, count)


@pytest.fixture()
def eventful(monkeypatch: pytest.MonkeyPatch) -> type[Eventful]:
    """The class, with nothing planned, in the place of `Characters`."""
    monkeypatch.setitem(TASKS, "eventful", "test_train:Eventful")
    monkeypatch.setattr(characters, "Characters", Eventful)
    monkeypatch.setattr(loop, "SAVING", 1.0)  # save as often as `save_every` says, however long it takes
    for name, value in {"calls": 0, "nan": (), "signals": (), "crash": (), "greedy": ()}.items():
        monkeypatch.setattr(Eventful, name, value)
    return Eventful


def test_it_learns_and_leaves_a_model_folder(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    recipe, run = make_run(tmp_path, {"epochs": 6}, rows=lines(400), valid=lines(40, 400))
    train(recipe, run)
    seen = [line["loss"] for line in metrics(run) if "loss" in line]
    valid = [line["valid_loss"] for line in metrics(run) if "valid_loss" in line]
    assert seen[0] > 4.5 and np.mean(seen[-20:]) < 2.7 and valid[-1] < 2.7
    facts = run.facts("train")
    assert facts["steps"] == len(seen) == 300 and len(valid) == 6 and facts["epochs"] == 6
    assert facts["best_loss"] == min(valid) and facts["threads"] == 1 and facts["skipped"] == 0
    assert facts["tokens_per_second"] > 0 and facts["seconds"] > 0 and facts["predicted_seconds"] is None
    made = bundle.load(run.step("train"))
    assert isinstance(made.task, Characters)
    # The best weights were saved, and calibrated on the validation rows.
    assert made.task.state["calibrated"] == pytest.approx(min(valid), abs=1e-4)
    picture = (run.step("train") / "loss.svg").read_text()
    assert "<text" in picture and "validation" in picture
    assert len(list((run.step("train") / "checkpoints").iterdir())) == 1
    assert list((run.step("train") / "tensorboard").glob("events*"))
    assert "step 300/300" in capfd.readouterr().err
    stamp = (run.step("train") / "step.json").stat().st_mtime_ns
    train(recipe, run)  # it stands
    assert (run.step("train") / "step.json").stat().st_mtime_ns == stamp


@pytest.mark.parametrize(("bf16", "fp32", "pays"), [(1.0, 2.0, True), (2.0, 1.0, False)])
def test_bf16_pays_where_its_products_take_less_time(
    bf16: float, fp32: float, pays: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the first product costs, which loads code, and some that had to wait; asked of one thread."""
    clock, costs, threads, before = [0.0], {torch.bfloat16: bf16, torch.float32: fp32}, set(), torch.get_num_threads()
    torch.set_num_threads(2)

    class Matrix:
        def __init__(self, *_: int, dtype: torch.dtype) -> None:
            self.cost, self.asked, self.quick = costs[dtype], 0, costs[dtype] == min(costs.values())

        def __matmul__(self, _: object) -> None:
            clock[0] += 100.0 if self.quick and self.asked % 3 == 0 else self.cost
            self.asked += 1
            threads.add(torch.get_num_threads())

    with monkeypatch.context() as patched:
        patched.setattr(torch, "ones", Matrix)
        patched.setattr("time.perf_counter", lambda: clock[0])
        found = pace.bf16_pays()
    left = torch.get_num_threads()
    torch.set_num_threads(before)
    assert found == pays and threads == {1} and left == 2


@pytest.mark.parametrize(("pays", "used"), [(True, "bf16"), (False, "fp32")])
def test_bf16_is_taken_where_it_pays(
    tmp_path: Path, pays: bool, used: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("zhumo.train.pace.bf16_pays", lambda: pays)
    recipe, run = make_run(tmp_path, {"precision": "bf16", "epochs": 1}, rows=lines(20))
    train(recipe, run, progress=False)
    assert run.facts("train")["precision"] == used
    assert ("in fp32" in caplog.text) == (not pays)
    recipe, plain = make_run(tmp_path / "fp32", {"epochs": 1}, rows=lines(20))
    train(recipe, plain, progress=False)
    assert same(weights(run), weights(plain)) == (not pays)


MATRIX: dict[str, dict[str, Any]] = {
    "plain": {},
    "dropout": {"dropout": 0.2},
    "accumulate": {"accumulate": 3, "dropout": 0.1},
    "bf16": {"precision": "bf16", "dropout": 0.1},
    "ema": {"ema": 0.9, "dropout": 0.1},
    "recompute": {"recompute": True, "precision": "bf16", "dropout": 0.1},
    "packing": {"packed": True, "dropout": 0.1},
    "linear": {"schedule": "linear", "validate_every": 3},
    "lora": {"family": "llama", "lora": {"rank": 4}},
    "muon": {"optimizer": "muon", "dropout": 0.1},
    "muon and lora": {"optimizer": "muon", "family": "llama", "lora": {"rank": 4}},
}


@pytest.mark.parametrize("case", MATRIX)
def test_exact_resume(tmp_path: Path, eventful: type[Eventful], case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Interrupted by a signal at one step and by a crash soon after: the same bits, and no line of metrics twice."""
    monkeypatch.setattr("zhumo.train.pace.bf16_pays", lambda: True)  # whatever this processor is good at
    settings = {**MATRIX[case], "epochs": 2.2, "save_every": 0.001}
    given = ("dropout", "family", "lora", "packed")
    model: dict[str, Any] = {name: settings.pop(name) for name in given if name in settings}
    # 11 batches an epoch, the last of 4 or 5
    model |= {"rows": lines(84 if "packed" not in model else 120), "valid": lines(10, 100)}
    parts = settings.get("accumulate", 1)
    recipe, whole = make_run(tmp_path / "whole", settings, **model)
    train(recipe, whole, progress=False)
    for stop in (1, 7, 20):
        recipe, cut = make_run(tmp_path / f"cut {stop}", settings, **model)
        eventful.calls, eventful.signals, eventful.crash = 0, (stop * parts,), ((stop + 3) * parts,)
        with pytest.raises(Interrupted, match=f"step {stop} of 25"):
            train(recipe, cut, progress=False)
        with pytest.raises(ConnectionError):
            train(recipe, cut, progress=False)
        train(recipe, cut, progress=False)
        assert same(weights(whole), weights(cut))
        assert timeless(metrics(whole)) == timeless(metrics(cut))


def timeless(found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{key: value for key, value in line.items() if key != "seconds"} for line in found]


def test_accumulation_changes_nothing_but_rounding(tmp_path: Path) -> None:
    results = []
    for parts in (1, 2, 4):
        settings = {"steps": 15, "accumulate": parts, "lr": 1e-3}
        recipe, run = make_run(tmp_path / str(parts), settings, rows=lines(84), dropout=0.2)
        train(recipe, run, progress=False)
        results.append(weights(run))
    start = weights(Run(tmp_path / "1"), "build")
    for other in results[1:]:
        for name, tensor in results[0].items():
            assert (tensor - start[name]).abs().max() > 1e-3 or name.endswith("bias")
            torch.testing.assert_close(other[name], tensor, atol=2e-4, rtol=0)


def learner(run: Run, recipe: Recipe) -> Learner:
    loaded = bundle.load(run.step("build"))
    assert loaded.task is not None
    return Learner(loaded.model, loaded.task, Examples(run.step("prepare") / "train.safetensors"), recipe.train)


def test_in_bf16_attention_is_quick_and_exact_weights_beside_adapters_are_halved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe, run = make_run(tmp_path, {"steps": 1, "precision": "bf16"}, rows=lines(84), family="llama")
    one = learner(run, recipe)
    with torch.no_grad():
        for parameter in one.model.parameters():
            parameter.copy_(parameter.bfloat16())
    add_lora(one.model, 4, 8, ["query"], seed=0)
    held = [module.base.weight for module in one.model.modules() if isinstance(module, LoraLinear)]
    looks: list[torch.dtype] = []

    def attend(query: torch.Tensor, *args: Any, **options: Any) -> torch.Tensor:
        looks.append(query.dtype)
        return plain(query, *args, **options)

    plain = attention.attend
    monkeypatch.setattr(attention, "attend", attend)
    for pays, kind in ((False, torch.float32), (True, torch.bfloat16)):
        looks.clear()
        one.renew(pays)
        one.gradient(np.arange(4), sample_keys(7, 0, np.arange(4)), 1)
        assert {weight.dtype for weight in held} == {kind}
        assert looks == [torch.bfloat16] * len(held) * pays


def test_workers_add_up_to_the_global_batch(tmp_path: Path) -> None:
    """One worker with 8 samples, or three with 3, 3 and 2, parted in their own ways: the same gradient."""
    recipe, run = make_run(tmp_path, {"steps": 1}, rows=lines(84), dropout=0.3)
    one, many = learner(run, recipe), learner(run, recipe)
    indices = np.arange(20, 28)
    keys = sample_keys(7, 0, indices)
    whole = one.gradient(indices, keys, 1)
    shares = [many.gradient(indices[part], keys[part], parts) for part, parts in
              ((slice(0, 3), 1), (slice(3, 6), 2), (slice(6, 8), 2))]  # fmt: skip
    assert sum(total for total, _ in shares) == pytest.approx(whole[0], rel=1e-6)
    assert sum(count for _, count in shares) == whole[1]
    for name, parameter in one.parameters.items():
        assert parameter.grad is not None
        torch.testing.assert_close(many.parameters[name].grad, parameter.grad, rtol=1e-4, atol=2e-4)
    # Without the keys of the samples dropout would differ: the same samples under other keys do.
    one.model.zero_grad()
    assert one.gradient(indices, keys + 1, 1)[0] != pytest.approx(whole[0], rel=1e-6)


def test_a_single_nan_is_skipped_and_counted(tmp_path: Path, eventful: type[Eventful]) -> None:
    recipe, run = make_run(tmp_path, {"steps": 8}, rows=lines(84))
    eventful.nan = (3, 4, 6)
    train(recipe, run, progress=False)
    assert run.facts("train")["skipped"] == 3
    assert [line["step"] for line in metrics(run) if line["loss"] is None] == [3, 4, 6]
    assert all(tensor.isfinite().all() for tensor in weights(run).values())


def test_a_skipped_update_leaves_everything_as_it_was(tmp_path: Path, eventful: type[Eventful]) -> None:
    recipe, run = make_run(tmp_path, {"steps": 8}, rows=lines(84))
    made = learner(run, recipe)
    samples = Order(made.examples.lengths(), 8, 0).after(0)
    assert made.update(samples, 0.1).finite
    before, memory = ({name: t.clone() for name, t in part.items()} for part in (made.weights(), made.memory()))
    eventful.nan = (2,)
    assert not made.update(samples, 0.1).finite
    assert same(before, made.weights()) and same(memory, made.memory())
    assert all(parameter.grad is None for parameter in made.parameters.values())


def test_nan_three_times_in_a_row_stops(tmp_path: Path, eventful: type[Eventful]) -> None:
    recipe, run = make_run(tmp_path, {"steps": 20}, rows=lines(84))
    eventful.nan = tuple(range(5, 20))
    with pytest.raises(TrainError, match="Step 10"):
        train(recipe, run, progress=False)


def test_out_of_memory_is_said_and_can_go_on(tmp_path: Path, eventful: type[Eventful]) -> None:
    settings = {"steps": 12, "save_every": 0.001, "validate_every": 4}
    model: dict[str, Any] = {"rows": lines(60), "valid": lines(10, 100), "dropout": 0.1}
    recipe, whole = make_run(tmp_path / "whole", settings, **model)
    train(recipe, whole, progress=False)
    recipe, cut = make_run(tmp_path / "cut", settings, **model)
    eventful.calls, eventful.greedy = 0, (7,)
    with pytest.raises(RunError, match=r"train\.recompute"):
        train(recipe, cut, progress=False)
    assert sorted((cut.step("train") / "checkpoints").iterdir())[-1].name < "step-00000007"
    train(recipe, cut, progress=False)
    assert same(weights(whole), weights(cut))


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_measuring_changes_nothing(tmp_path: Path, optimizer: str) -> None:
    """With the threads measured, and under a time budget: the same weights as with the outcome given."""
    rows, valid = lines(84), lines(10, 100)
    budget = {"minutes": 0.1, "threads": None, "optimizer": optimizer}
    recipe, measured = make_run(tmp_path / "a", budget, rows=rows, valid=valid, dropout=0.1)
    train(recipe, measured, progress=False)
    plan = json.loads((measured.step("train") / "plan.json").read_text())
    assert 1 <= plan["threads"] <= len(os.sched_getaffinity(0)) and plan["steps"] >= 1
    assert 0 < plan["predicted_seconds"] <= 6 and plan["steps"] == measured.facts("train")["steps"]
    given = {"steps": plan["steps"], "threads": plan["threads"], "optimizer": optimizer}
    recipe, told = make_run(tmp_path / "b", given, rows=rows, valid=valid, dropout=0.1)
    train(recipe, told, progress=False)
    assert same(weights(measured), weights(told))


def test_the_plan_is_kept(tmp_path: Path, eventful: type[Eventful]) -> None:
    recipe, run = make_run(tmp_path, {"steps": 400, "threads": None}, rows=lines(84))
    eventful.crash = (200,)  # well after whatever is measured
    with pytest.raises(ConnectionError):
        train(recipe, run, progress=False)
    path = run.step("train") / "plan.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "steps": 30}))  # which nobody would measure
    train(recipe, run, progress=False)
    assert run.facts("train")["steps"] == 30


def test_no_epochs_copies_the_model_and_calibrates(tmp_path: Path) -> None:
    recipe, run = make_run(tmp_path, {"epochs": 0}, rows=lines(20), valid=lines(10, 100))
    train(recipe, run, progress=False)
    assert same(weights(run), weights(run, "build"))
    task = bundle.load(run.step("train")).task
    assert task is not None and task.state["calibrated"] > 4
    recipe, empty = make_run(tmp_path / "empty", {"epochs": 0}, rows=[])
    train(recipe, empty, progress=False)
    assert same(weights(empty), weights(empty, "build"))


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    recipe, run = make_run(tmp_path, {"epochs": 1, "device": "cuda"}, rows=lines(20))
    with pytest.raises(RunError, match=r"train\.device"):
        train(recipe, run, progress=False)


def test_nothing_to_learn_from_is_an_error(tmp_path: Path) -> None:
    recipe, run = make_run(tmp_path, {"epochs": 1}, rows=[])
    with pytest.raises(DataError, match="nothing to learn"):
        train(recipe, run, progress=False)


def test_adapters_are_saved_and_folded_in(tmp_path: Path) -> None:
    settings = {"epochs": 3, "lr": 1e-2}
    lora = {"rank": 4, "targets": ["query", "down"]}
    recipe, run = make_run(tmp_path, settings, rows=lines(84), valid=lines(10, 100), family="llama", lora=lora)
    train(recipe, run, progress=False)
    before, after = weights(run, "build"), weights(run)
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed == {
        f"model.layers.{layer}.{name}.weight" for layer in (0, 1) for name in ("self_attn.q_proj", "mlp.down_proj")
    }
    seen = [line["loss"] for line in metrics(run) if "loss" in line]
    assert np.mean(seen[-5:]) < np.mean(seen[:5]) - 0.05  # little can be learned beside random weights
    loaded = bundle.load(run.step("build"))
    adapted = read_adapter(run.step("train") / "adapter", loaded.model, "llama")
    ids = torch.arange(20).view(1, 20)
    torch.testing.assert_close(adapted.eval()(ids), bundle.load(run.step("train")).model(ids), atol=1e-5, rtol=0)


def test_a_family_without_adapters_is_refused_before_it_learns(tmp_path: Path) -> None:
    recipe, run = make_run(tmp_path, {"epochs": 3}, rows=lines(84), family="gpt2", lora={"rank": 4})
    with pytest.raises(ModelError, match="gpt2"):
        train(recipe, run, progress=False)
    assert not (run.step("train") / "metrics.jsonl").exists()
    recipe, run = make_run(tmp_path / "typo", {"epochs": 3}, rows=lines(84), lora={"rank": 4, "targets": ["quary"]})
    with pytest.raises(ModelError, match="quary"):
        train(recipe, run, progress=False)


def test_what_is_frozen_stays_and_the_rest_learns(tmp_path: Path) -> None:
    recipe, run = make_run(tmp_path, {"epochs": 2}, rows=lines(84), build={"freeze": 1})
    train(recipe, run, progress=False)
    before, after = weights(run, "build"), weights(run)
    held = {name for name in before if torch.equal(before[name], after[name])}
    assert held == {name for name in before if name.startswith(("model.embed_tokens", "model.layers.0."))}
    recipe, run = make_run(tmp_path / "more", {"epochs": 2}, rows=lines(84), build={"freeze": 9})
    with pytest.raises(ModelError, match="9 blocks"):
        train(recipe, run, progress=False)


def test_patience_stops_and_the_best_weights_stay(tmp_path: Path) -> None:
    """Twelve lines are soon known by heart, and the loss on others rises."""
    settings = {"epochs": 200, "lr": 1e-2, "patience": 3, "schedule": "constant"}
    recipe, run = make_run(tmp_path, settings, rows=lines(12), valid=lines(30, 100))
    train(recipe, run, progress=False)
    valid = [line["valid_loss"] for line in metrics(run) if "valid_loss" in line]
    facts = run.facts("train")
    assert facts["steps"] < 400 and facts["steps"] == facts["best_step"] + 3 * 2
    assert facts["best_loss"] == min(valid) < valid[-1]
    task = bundle.load(run.step("train")).task
    assert task is not None and task.state["calibrated"] == pytest.approx(min(valid), abs=1e-4)


def test_without_validation_rows_the_last_weights_stay(tmp_path: Path) -> None:
    recipe, run = make_run(tmp_path, {"steps": 5}, rows=lines(84))
    train(recipe, run, progress=False)
    assert run.facts("train")["best_loss"] is None
    assert "calibrated" not in json.loads((run.step("train") / "task.json").read_text())["state"]


def test_nothing_is_left_behind(tmp_path: Path, eventful: type[Eventful]) -> None:
    handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    recipe, run = make_run(tmp_path, {"steps": 10, "threads": 2}, rows=lines(84), dropout=0.1)
    random, threads = torch.get_rng_state(), torch.get_num_threads()
    eventful.signals = (4,)
    with pytest.raises(Interrupted):
        train(recipe, run, progress=False)
    train(recipe, run, progress=False)
    assert torch.equal(torch.get_rng_state(), random) and torch.get_num_threads() == threads
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == handlers


def test_a_training_that_makes_published_weights_worse_leaves_them(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    settings = {"steps": 6, "validate_every": 2, "lr": 3.0, "clip": 100.0}
    recipe, run = make_run(tmp_path, settings, rows=lines(60), valid=lines(10, 100), start="elsewhere")
    train(recipe, run, progress=False)
    assert run.facts("train")["best_step"] == 0 and run.facts("train")["steps"] == 6
    assert same(weights(run), weights(run, "build"))
    looks = [(line["step"], line["valid_loss"]) for line in metrics(run) if "valid_loss" in line]
    assert [step for step, _ in looks] == [0, 2, 4, 6]
    assert looks[0][1] == min(loss for _, loss in looks) == run.facts("train")["best_loss"]
    assert "never did better" in caplog.text


def test_the_look_before_the_first_step_survives_a_kill(tmp_path: Path, eventful: type[Eventful]) -> None:
    settings = {"steps": 12, "validate_every": 4, "save_every": 0.001}
    model: dict[str, Any] = {"rows": lines(60), "valid": lines(10, 100), "start": "elsewhere"}
    recipe, whole = make_run(tmp_path / "whole", settings, **model)
    train(recipe, whole, progress=False)
    recipe, cut = make_run(tmp_path / "cut", settings, **model)
    for crash in (1, 3):
        eventful.calls, eventful.crash = 0, (crash,)
        with pytest.raises(ConnectionError):
            train(recipe, cut, progress=False)
    train(recipe, cut, progress=False)
    assert same(weights(whole), weights(cut))
    assert timeless(metrics(whole)) == timeless(metrics(cut))


def test_the_measure_of_the_task_can_choose_the_weights(tmp_path: Path) -> None:
    settings = {"steps": 180, "validate_every": 15, "lr": 1e-2, "metric": "task"}
    recipe, run = make_run(tmp_path, settings, rows=lines(200), valid=lines(20, 400))
    train(recipe, run, progress=False)
    right = {line["step"]: line["right"] for line in metrics(run) if "right" in line}
    facts = run.facts("train")
    assert len(right) == 12 and facts["best"] == max(right.values()) == right[facts["best_step"]] > min(right.values())
    losses = {line["step"]: line["valid_loss"] for line in metrics(run) if "valid_loss" in line}
    assert facts["best_loss"] == losses[facts["best_step"]]
    made = bundle.load(run.step("train"))
    answers = made.answer(lines(20, 400))
    assert np.mean([answer["right"] for answer in answers]) == pytest.approx(facts["best"], abs=1e-6)


def test_two_processes_do_not_train_one_run(tmp_path: Path) -> None:
    recipe, run = make_run(tmp_path, {"steps": 2}, rows=lines(20))
    with Run(tmp_path).lock(), pytest.raises(RunError, match="Another process"):
        train(recipe, run, progress=False)
    with run.lock():  # who holds it may train
        train(recipe, run, progress=False)
    assert run.facts("train")["steps"] == 2
