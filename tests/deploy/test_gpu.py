"""A bundle that writes in 16 bits on a GPU: learned there, served as measured; elsewhere refused, or served in full."""

import json
import shutil
from pathlib import Path

import pytest
import torch

from zhumo.bundle import load
from zhumo.deploy import step
from zhumo.deploy.parity import served
from zhumo.deploy.reader import reader_of
from zhumo.engine import TorchModel
from zhumo.errors import GateError
from zhumo.make import make
from zhumo.recipe import Recipe
from zhumo.run import Run

GPU = torch.cuda.is_available()
RECIPE = """
task: write
prepare: {source: DATA, length: 64, vocabulary: 400, split: {test: 0.2, valid: 0.1}}
build: {width: 64, depth: 2, heads: 4, kv_heads: 2}
train: {steps: 120, batch: 16, threads: 1, lr: 0.003, device: DEVICE, precision: bf16}
deploy: {bits: BITS}
"""
REPLIES = {"soft?": "soft and warm", "does it fit?": "yes, it fits well", "布料如何？": "布料很好"}
Made = tuple[Recipe, Run]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    root = tmp_path_factory.mktemp("gpu")
    rows = [{"prompt": f"{number} {asked}", "response": reply}
            for number in range(30) for asked, reply in REPLIES.items()]  # fmt: skip
    (root / "chats.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    said = RECIPE.replace("DATA", str(root / "chats.jsonl")).replace("DEVICE", "cuda" if GPU else "cpu")
    (root / "recipe.yaml").write_text(said.replace("BITS", "16" if GPU else "32"), encoding="utf-8")
    recipe = Recipe.read(root / "recipe.yaml")
    return recipe, make(recipe, Run.of(recipe, root / "runs"))


@pytest.mark.gpu
def test_it_learns_and_writes_on_the_gpu_what_was_measured(made: Made) -> None:
    folder = made[1].step("deploy")
    found = json.loads((folder / "parity.json").read_text(encoding="utf-8"))
    assert found["bits"]["bits"] == 16 and found["bits"]["tokens"] > 100
    assert found["bits"]["top"] >= 0.95 and 0.99 <= found["bits"]["perplexity"] <= 1.01
    assert found["rows"] > 10 and found["largest_difference"] <= found["tolerance"]
    with served([folder]) as server:
        model = server.get("/v1/models")["data"][0]
        assert model["bits"] == 16
        body = {"model": model["id"], "messages": [{"role": "user", "content": "31 soft?"}]}
        choice = server.post("/v1/chat/completions", body, 0)["choices"][0]
        assert choice["finish_reason"] == "stop" and choice["message"]["content"] in REPLIES.values()


def test_where_there_is_no_gpu_there_is_no_such_bundle(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    recipe, run = made
    if run.step("deploy").is_dir():
        shutil.rmtree(run.step("deploy"))
    asked = recipe.model_copy(update={"deploy": recipe.deploy.model_copy(update={"bits": 16})})
    with pytest.raises(GateError, match="CUDA GPU"):
        step.deploy(asked, run)


def test_a_machine_without_a_gpu_serves_it_in_full(made: Made, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    reader = reader_of(load(made[1].step("train")).model, 16, 16)
    assert type(reader) is TorchModel and reader.bits == 32
