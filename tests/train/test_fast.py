"""torch.compile: where there is no compiler nothing changes but a warning; where there is one, the same losses."""

import subprocess
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from characters import LLAMA, lines, make_run
from safetensors.torch import load_file
from torch._inductor import config

from zhumo.run import Run, read_json
from zhumo.train import train
from zhumo.train.attention import QuickAttention
from zhumo.transformer import Config, Transformer, initialise, key_dropout
from zhumo.transformer.fast import hasten, slow_down

SMALL = 10  # a single call, which torch may look at by itself
pytestmark = pytest.mark.usefixtures("shared")


def made(folder: Path, *, compiled: bool) -> Run:
    settings = {"steps": 6, "compile": compiled, "save_every": 0.001}
    recipe, run = make_run(folder, settings, rows=lines(60), valid=lines(10, 100), dropout=0.1)
    train(recipe, run, progress=False)
    return run


def weights(run: Run) -> dict[str, torch.Tensor]:
    return load_file(run.step("train") / "model.safetensors")


def test_without_a_compiler_it_goes_on_as_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("PATH", "")
    _goes_on(tmp_path, caplog)


def test_blocks_are_compiled_and_only_while_they_learn(monkeypatch: pytest.MonkeyPatch) -> None:
    model = initialise(Transformer(Config(vocabulary=9, width=8, depth=3, heads=2, length=8)), 0)
    ids, called = torch.tensor([[1, 2, 3]]), list[int]()

    def compiled(forward: Callable[..., torch.Tensor], **_: object) -> Callable[..., torch.Tensor]:
        def counted(*args: Any, **kwargs: Any) -> torch.Tensor:
            called.append(len(called))
            return forward(*args, **kwargs)

        return counted

    monkeypatch.setattr(torch, "compile", compiled)
    plain = model.train()(ids)
    assert hasten(model, lambda: model(ids)) is None and len(called) == 3
    assert torch.equal(model(ids), plain) and len(called) == 6
    model.eval()(ids)
    slow_down(model)
    model.train()(ids)
    assert len(called) == 6
    hasten(model, lambda: model(ids), learning=False)
    assert len(called) == 6
    assert torch.equal(model.eval()(ids), plain) and len(called) == 9


def test_what_cannot_be_compiled_stays_plain_and_says_why() -> None:
    model = initialise(Transformer(Config(vocabulary=9, width=8, depth=1, heads=2, length=8)), 0)

    def fails() -> None:
        raise subprocess.CalledProcessError(1, "gcc")

    problem = hasten(model, fails)
    assert problem is not None and "gcc" in problem and "forward" not in vars(model.blocks[0])


@pytest.mark.parametrize("kv_heads", [1, 2, 4])
def test_a_block_is_compiled_in_one_piece(kv_heads: int) -> None:
    model = Transformer(replace(LLAMA, width=16, heads=4, kv_heads=kv_heads, head_dim=4, depth=1))
    pieces = list[int]()

    def counting(graph: torch.fx.GraphModule, _: object) -> Callable[..., Any]:
        pieces.append(len(graph.graph.nodes))
        return graph.forward

    torch.compile(model.blocks[0], dynamic=True, backend=counting)(torch.zeros(2, 5, 16))
    assert len(pieces) == 1


@pytest.mark.parametrize("bf16", [False, True])
def test_blocks_that_drop_each_their_own_share_their_code(bf16: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    model = initialise(Transformer(replace(LLAMA, width=16, heads=4, head_dim=4, depth=10, dropout=0.1)), 0).train()
    pieces, real = list[int](), torch.compile

    def counting(graph: torch.fx.GraphModule, _: object) -> Callable[..., Any]:
        pieces.append(len(graph.graph.nodes))
        return graph.forward

    monkeypatch.setattr(torch, "compile", lambda forward, **_: real(forward, dynamic=True, backend=counting))

    def learn(rows: int, time: int) -> None:
        key_dropout(model, torch.arange(rows))
        with QuickAttention() if bf16 else nullcontext(), torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            said = model(torch.ones(rows, time, dtype=torch.int64))
        said.float().sum().backward()

    assert hasten(model, lambda: learn(2, 5)) is None
    learn(3, 4), learn(6, 9), learn(7, 300)
    assert len([size for size in pieces if size > SMALL]) == 1


@pytest.mark.long
def test_with_a_broken_compiler_too(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with config.patch({"cpp.cxx": ("/nowhere/c++",)}):
        _goes_on(tmp_path, caplog)


def _goes_on(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    ours, plain = made(tmp_path / "asked", compiled=True), made(tmp_path / "plain", compiled=False)
    assert "torch.compile does not work here" in caplog.text
    assert read_json(ours.step("train") / "plan.json")["compiled"] is False
    assert all(torch.equal(weights(ours)[name], tensor) for name, tensor in weights(plain).items())


@pytest.mark.long
def test_compiled_code_learns_the_same(tmp_path: Path) -> None:
    ours, plain = made(tmp_path / "asked", compiled=True), made(tmp_path / "plain", compiled=False)
    assert read_json(ours.step("train") / "plan.json")["compiled"] is True
    assert ours.facts("train")["best_loss"] == pytest.approx(plain.facts("train")["best_loss"], abs=0.05)
