"""A bundle that writes in 8 bits: measured against its weights, served as measured, refused where it is too far off."""

import json
import shutil
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest

from zhumo import bundle
from zhumo.bundle import load
from zhumo.deploy import golden, step
from zhumo.deploy.golden import WARMING
from zhumo.deploy.parity import difference, served
from zhumo.deploy.reader import reader_of, written
from zhumo.engine import library
from zhumo.errors import GateError, ModelError
from zhumo.make import make
from zhumo.prepare import read_rows
from zhumo.recipe import Recipe
from zhumo.run import Run
from zhumo.tasks import Row
from zhumo.tasks.write import Write

Made = tuple[Recipe, Run]
pytestmark = pytest.mark.skipif(library() is None, reason="no compiler")

RECIPE = """
task: write
prepare: {source: DATA, length: 64, vocabulary: 400, split: {test: 0.2, valid: 0.1}}
build: {width: 64, depth: 2, heads: 2}
train: {steps: 120, batch: 16, threads: 1, lr: 0.003}
deploy: {bits: 8, cache_bits: 8}
"""
ASKED = ["soft?", "does it fit?", "布料如何？"]
REPLIES = ["soft and warm", "yes, it fits well", "布料很好"]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    root = tmp_path_factory.mktemp("bits")
    lines = [
        json.dumps({"prompt": f"{number} {asked}", "response": reply})
        for number in range(30)
        for asked, reply in zip(ASKED, REPLIES, strict=True)
    ]
    (root / "chats.jsonl").write_text("\n".join(lines), encoding="utf-8")
    (root / "recipe.yaml").write_text(RECIPE.replace("DATA", str(root / "chats.jsonl")), encoding="utf-8")
    recipe = Recipe.read(root / "recipe.yaml")
    return recipe, make(recipe, Run.of(recipe, root / "runs"))


def test_the_gate_says_how_far_the_bits_are_from_the_weights(made: Made) -> None:
    found = json.loads((made[1].step("deploy") / "parity.json").read_text(encoding="utf-8"))
    assert found["bits"]["bits"] == found["bits"]["cache_bits"] == 8 and found["bits"]["tokens"] > 100
    assert found["bits"]["top"] >= 0.95 and 0.99 <= found["bits"]["perplexity"] <= 1.01
    assert 0 <= found["bits"]["divergence"] < 0.01
    assert found["rows"] > 10 and found["largest_difference"] <= found["tolerance"]


def test_the_server_says_in_how_many_bits_it_writes(made: Made) -> None:
    with served([made[1].step("deploy")]) as server:
        model = server.get("/v1/models")["data"][0]
        assert model["bits"] == 8
        body = {"model": model["id"], "messages": [{"role": "user", "content": "31 soft?"}]}
        choice = server.post("/v1/chat/completions", body, 0)["choices"][0]
        assert choice["finish_reason"] == "stop" and choice["message"]["content"] in REPLIES


def again(made: Made) -> None:
    """The last step once more."""
    shutil.rmtree(made[1].step("deploy"))
    step.deploy(*made)


def test_bits_that_are_too_far_apart_make_no_bundle(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(step, "TOP", 1.01)
    with pytest.raises(GateError, match=r"deploy\.bits: 32"):
        again(made)


def test_a_machine_without_the_core_makes_no_such_bundle(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(step, "narrows", lambda *_: False)
    with pytest.raises(GateError, match="native core"):
        again(made)


def test_of_texts_only_what_the_server_is_asked_is_written_in_its_order(
    made: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, write = list[Row](), Write.write
    monkeypatch.setattr(Write, "write", lambda self, row, length: (asked.append(row), write(self, row, length))[1])
    monkeypatch.setattr(step.parity, "check", lambda *_: {})
    step.ask_again(made[1], 3)
    rows = read_rows(made[1].step("evaluate") / "rows.jsonl")
    assert len(rows) > 3 and asked == [WARMING, *(rows[len(rows) * place // 3] for place in range(3))]


@pytest.mark.parametrize("steady", [True, False])
def test_texts_are_written_together_only_where_that_makes_no_difference(
    made: Made, steady: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle_, most = load(made[1].step("deploy")), list[int]()
    reader = reader_of(bundle_.model, 8, 16)
    step_ = reader.step
    monkeypatch.setattr(reader, "steady", steady)
    monkeypatch.setattr(reader, "step", lambda parts: (most.append(len(parts)), step_(parts))[1])
    assert isinstance(bundle_.task, Write)
    answers = written(reader, [bundle_.task.write({"prompt": asked}, reader.length) for asked in ASKED])
    assert len(answers) == 3 and max(most) == (3 if steady else 1)


READS = """
task: TASK
prepare: {source: DATA, length: 32, vocabulary: 400, split: {test: 0.4, valid: 0.1}}
build: {size: tiny}
train: {steps: 20, batch: 16, threads: 1}
deploy: {parity: 5, bits: 8}
"""


@pytest.fixture(scope="module", params=["classify", "embed"])
def reading(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Made:
    root = tmp_path_factory.mktemp(request.param)
    lines = [
        json.dumps({"text": f"{number} {asked}", "label": reply, "match": f"{reply} {number}"})
        for number in range(20)
        for asked, reply in zip(ASKED, REPLIES, strict=True)
    ]
    (root / "rows.jsonl").write_text("\n".join(lines), encoding="utf-8")
    said = READS.replace("TASK", request.param).replace("DATA", str(root / "rows.jsonl"))
    (root / "recipe.yaml").write_text(said, encoding="utf-8")
    recipe = Recipe.read(root / "recipe.yaml")
    return recipe, make(recipe, Run.of(recipe, root / "runs"))


def test_what_reads_in_8_bits_is_measured_and_served_so(reading: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = reading[1].step("deploy")
    found = json.loads((folder / "parity.json").read_text(encoding="utf-8"))
    assert found["bits"]["bits"] == 8 and found["bits"]["rows"] > 10 and found["rows"] == 5
    assert found["bits"]["least_alike"] <= found["bits"]["alike"] >= 0.95
    with served([folder]) as server:
        assert server.get("/v1/models")["data"][0]["bits"] == 8
    rows = [{"text": "soft?"}, {"text": "布料如何？"}]
    eight, full = load(folder), load(folder, bits=32)
    assert (eight.bits, full.bits) == (8, 32)
    assert 0 < difference(full.answer(rows), eight.answer(rows)) < 0.05
    monkeypatch.setattr(bundle, "library", lambda: None)
    assert load(folder).bits == 32, "a machine without the core serves it all the same"


def shifted(value: Any, by: float) -> Any:
    """The same answer with every number moved."""
    if isinstance(value, dict):
        return {name: shifted(part, by) for name, part in value.items()}
    if isinstance(value, list):
        return [shifted(part, by) for part in value]
    return value + by if isinstance(value, float) else value


def test_kinds_of_processor_may_round_8_bits_otherwise(reading: Made, tmp_path: Path) -> None:
    folder = tmp_path / "deploy"
    shutil.copytree(reading[1].step("deploy"), folder)
    known = json.loads((folder / "golden.json").read_text(encoding="utf-8"))
    for by, bits, damaged in ((0.03, 8, False), (0.1, 8, True), (0.005, 32, True)):
        answers = shifted(load(folder, bits=bits).answer([{"text": golden.TEXT}]), by)
        (folder / "golden.json").write_text(json.dumps({"bits": bits, "answers": answers}), encoding="utf-8")
        with pytest.raises(ModelError, match="does not answer") if damaged else nullcontext():
            golden.check_golden(load(folder, bits=bits))
    assert known["bits"] == 8


def test_answers_that_are_too_far_apart_make_no_bundle(reading: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("TOP", "ALIKE"):
        monkeypatch.setattr(step, name, 1.01)
    with pytest.raises(GateError, match=r"deploy\.bits: 32"):
        again(reading)


def test_a_shop_in_8_bits_is_held_to_its_lists(bundles: dict[str, Path], tmp_path: Path) -> None:
    run = Run(tmp_path)
    shutil.copytree(bundles["recommend"], run.step("deploy"))
    (run.step("deploy") / "run.json").write_text('{"bits": 8}', encoding="utf-8")
    eight, full = load(run.step("deploy")), load(bundles["recommend"])
    assert (eight.bits, full.bits) == (8, 32) and full.task is not None
    rows: list[Row] = [{"items": [str(item), str(item + 2)], "next": [str(item + 1)], "k": 3} for item in range(6)]
    rows += [{"items": [], "next": ["1"], "k": 3}, {"items": ["nobody knows it"], "next": ["2"], "k": 3}]
    said = full.answer(rows)
    assert 0 < difference(said[:6], eight.answer(rows)[:6]) < 0.05, "read in whole numbers"
    assert said[6:] == eight.answer(rows)[6:], "who is not known gets the bestsellers, which nobody reads"
    run.step("evaluate").mkdir()
    lines = "\n".join(map(json.dumps, said))
    (run.step("evaluate") / "answers.jsonl").write_text(lines, encoding="utf-8")
    found = step._answers_apart(run, full.task, 8, rows)
    assert (
        found["rows"] == 8
        and found["alike"] >= 0.95
        and len(found["ndcg@10"]) == 2
        and found["least_alike"] in (1, 2 / 3)
    )
    others = "\n".join(json.dumps({"items": [{"id": "another", "score": 0.5}]}) for _ in rows)
    (run.step("evaluate") / "answers.jsonl").write_text(others, encoding="utf-8")
    with pytest.raises(GateError, match=r"deploy\.bits: 32"):
        step._answers_apart(run, full.task, 8, rows)


def test_lists_are_as_alike_as_the_share_of_items_that_is_in_both() -> None:
    one, other = ({"items": [{"id": name} for name in names]} for names in ("abcd", "dcxa"))
    assert step._likeness(one, other) == 0.75
    assert step._likeness({"items": []}, {"items": []}) == 1.0
    assert step._likeness({"items": []}, one) == 0.0
