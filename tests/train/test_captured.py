"""Batches that are alike: computed as any others, and on a GPU captured once and run again."""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from tests.engine.test_native import LLAMA
from zhumo.recipe import Train
from zhumo.tasks import Loss
from zhumo.tasks.examples import IGNORE, Batch, Example, collate, whole
from zhumo.tasks.write import Write
from zhumo.train import captured
from zhumo.train.learner import Learner, Outcome
from zhumo.train.order import Samples
from zhumo.transformer import Transformer, initialise

TIME = 24


def example(seed: int, length: int = TIME, texts: int = 1) -> Example:
    ids = np.random.default_rng(seed).integers(0, LLAMA.vocabulary, length + 1).astype(np.int32)
    segments = np.repeat(np.arange(1, texts + 1, dtype=np.int32), length // texts)
    return {"ids": ids[:-1], "targets": ids[1:], "segments": segments}


def learner(count: int, device: str = "cpu", dropout: float = 0.0, **train: object) -> Learner:
    model = initialise(Transformer(replace(LLAMA, dropout=dropout)), 0)
    settings = Train.model_validate({"device": device, "batch": 4, "lr": 1e-3, **train})
    return Learner(model, Write(None, TIME), [example(seed) for seed in range(count)], settings)  # type: ignore[arg-type]


def updates(one: Learner, count: int) -> list[Outcome]:
    places = [np.arange(step * 4, step * 4 + 4) % len(one.examples) for step in range(count)]
    return [one.update(Samples(0, place, place + 100), 1e-3) for place in places]


def test_a_whole_batch_is_all_targets_and_nothing_else() -> None:
    first, second = example(0), example(1)
    found = whole([first, second])
    assert found is not None and found.keys() == {"ids", "targets"}
    assert found["ids"].tolist() == [first["ids"].tolist(), second["ids"].tolist()]  # type: ignore[union-attr]
    unasked = {**second, "targets": np.where(np.arange(TIME) == 3, IGNORE, second["targets"])}
    for other in (example(1, TIME - 1), example(1, texts=2), unasked, {**second, "types": second["ids"]}):
        assert whole([first, other]) is None


def test_a_whole_batch_learns_the_same_bits_as_any_other() -> None:
    found = []
    for made in (whole, collate):
        one = learner(4)
        batch = made([one.examples[index] for index in range(4)])
        assert batch is not None
        loss = one.task.loss(one.model, batch)
        loss.total.backward()  # type: ignore[no-untyped-call]
        found.append((loss.total.detach(), loss.count, [p.grad for p in one.parameters.values()]))
    assert torch.equal(found[0][0], found[1][0]) and found[0][1] == found[1][1] == 4 * TIME
    assert all(map(torch.equal, found[0][2], found[1][2]))


def pretend(monkeypatch: pytest.MonkeyPatch, **others: object) -> None:
    """There is a GPU, which does nothing when what was captured is run again."""
    stream = SimpleNamespace(wait_stream=lambda _: None)
    graph = SimpleNamespace(pool=lambda: None, replay=lambda: None)
    fakes = {"Stream": lambda: stream, "current_stream": lambda: stream, "synchronize": lambda: None,
             "stream": lambda _: nullcontext(), "CUDAGraph": lambda: graph,
             "graph": lambda *_, **__: nullcontext()}  # fmt: skip
    for name, fake in (fakes | others).items():
        monkeypatch.setattr(captured.torch.cuda, name, fake)


def test_a_second_size_leaves_the_gradients_of_the_first_where_they_lie(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch)
    one, wanted, places = learner(4), learner(4), list[list[torch.Tensor | None]]()
    for size in (4, 3):
        batch, keys = whole([one.examples[index] for index in range(size)]), torch.arange(size)
        assert batch is not None
        for _ in range(captured.AGAIN + 1):
            one.captured.gradient(batch, keys)
        for _ in range(captured.AGAIN):
            wanted.task.loss(wanted.model, batch).total.backward()  # type: ignore[no-untyped-call]
        places.append([parameter.grad for parameter in one.parameters.values()])
    assert one.captured.holds_gradients
    for first, second, parameter in zip(*places, wanted.parameters.values(), strict=True):
        assert first is second and first is not None and parameter.grad is not None
        torch.testing.assert_close(first, parameter.grad)


@pytest.mark.parametrize("after", ["a part", "all"])
def test_what_cannot_be_captured_is_computed_plainly_and_said_once(
    after: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    @contextmanager
    def refusing(*_: object, **__: object) -> Iterator[None]:
        if after == "all":
            yield
        raise RuntimeError("CUDA out of memory.\nTried to allocate much")

    pretend(monkeypatch, graph=refusing)
    one, wanted = learner(4), learner(4)
    batch, keys = whole([one.examples[index] for index in range(4)]), torch.arange(4)
    assert batch is not None
    for _ in range(captured.AGAIN + 3):
        one.captured.gradient(batch, keys)
        wanted.task.loss(wanted.model, batch).total.backward()  # type: ignore[no-untyped-call]
    assert not one.captured.holds_gradients
    assert [record.message for record in caplog.records] == [
        "Batches cannot be captured as CUDA graphs, so training goes on without, a little slower: CUDA out of memory."
    ]
    for parameter, other in zip(one.parameters.values(), wanted.parameters.values(), strict=True):
        assert parameter.grad is not None and other.grad is not None
        torch.testing.assert_close(parameter.grad, other.grad)


@pytest.mark.gpu
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("accumulate", [1, 2])
def test_what_is_captured_learns_what_is_not(precision: str, accumulate: int, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = {"precision": precision, "accumulate": accumulate, "dropout": 0.1}
    quick = learner(12, "cuda", **settings)  # type: ignore[arg-type]
    fast = updates(quick, 12)
    assert quick.captured.holds_gradients
    monkeypatch.setattr(captured, "AGAIN", 1_000)
    plain = learner(12, "cuda", **settings)  # type: ignore[arg-type]
    wanted = updates(plain, 12)
    assert not plain.captured.holds_gradients
    for one, other in zip(fast, wanted, strict=True):
        assert one.loss == pytest.approx(other.loss, rel=1e-2) and one.norm == pytest.approx(other.norm, rel=5e-2)
    assert fast[-1].loss < fast[0].loss - 0.05


@pytest.mark.gpu
def test_another_size_is_computed_plainly_and_gradients_do_not_pile_up() -> None:
    one = learner(8, "cuda")
    updates(one, 8)
    assert one.captured.holds_gradients
    few = Samples(0, np.arange(3), np.arange(3))
    before = one.update(few, 0.0)
    for _ in range(captured.AGAIN + 2):  # it is captured too by then
        assert one.update(few, 0.0) == pytest.approx(before, rel=1e-4)
    full = Samples(0, np.arange(4), np.arange(4))
    before = one.update(full, 0.0)
    assert one.update(full, 0.0) == pytest.approx(before, rel=1e-4)
    one.renew()
    assert not one.captured.holds_gradients and one.update(full, 0.0) == pytest.approx(before, rel=1e-4)


@pytest.mark.gpu
def test_a_gpu_that_refuses_a_capture_goes_on_computing(caplog: pytest.LogCaptureFixture) -> None:
    one, plain = learner(8, "cuda"), learner(8, "cuda")
    loss = one.captured.loss

    def waits(batch: Batch) -> Loss:
        batch["ids"].sum().item()  # asks the GPU for a number, which no capture allows
        return loss(batch)

    one.captured.loss = waits
    found, wanted = updates(one, 8), updates(plain, 8)
    assert plain.captured.holds_gradients and not one.captured.holds_gradients
    assert len(caplog.records) == 1 and "captured" in caplog.records[0].message
    assert torch.cuda.current_stream() == torch.cuda.default_stream()
    for mine, other in zip(found, wanted, strict=True):
        assert mine.loss == pytest.approx(other.loss, rel=1e-3)
