"""The deploy step: a bundle that holds everything and fits its sums, and none where one answer is not as evaluated."""

import hashlib
import json
import re
import shutil
from pathlib import Path

import pytest
from safetensors.numpy import load_file, save_file

from zhumo.deploy.parity import TOLERANCE, difference, served
from zhumo.deploy.step import deploy
from zhumo.deploy.sums import check_sums
from zhumo.errors import GateError, ModelError
from zhumo.recipe import Recipe
from zhumo.run import Run

Made = tuple[Recipe, Run]
FILES = {
    "config.json",
    "model.safetensors",
    "tokenizer.json",
    "tokenizer_config.json",
    "README.md",
    "README.zh-CN.md",
    "LICENSE",
    "task.json",
    "recipe.yaml",
    "run.json",
    "report.json",
    "report.en.html",
    "report.zh.html",
    "parity.json",
    "SHA256SUMS",
}


def copied(made: Made, folder: Path) -> Made:
    """The run again, to be spoilt; its deploy step has not happened."""
    recipe, run = made
    shutil.copytree(run.folder, folder / "run")
    shutil.rmtree(folder / "run" / "deploy")
    return recipe, Run(folder / "run")


def test_the_bundle_holds_everything(made: Made) -> None:
    folder = made[1].step("deploy")
    assert {path.name for path in folder.iterdir()} >= FILES
    facts = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    assert facts["name"] == "评论" and facts["versions"]["torch"] and facts["data"]
    assert all(re.search(r"[0-9a-f]{64}", str(source["sha256"])) for source in facts["data"].values())
    assert Recipe.read(folder / "recipe.yaml") == made[0]
    assert "belong to whoever made them" in (folder / "LICENSE").read_text(encoding="utf-8")
    parity = json.loads((folder / "parity.json").read_text(encoding="utf-8"))
    assert parity["rows"] == 20 and parity["largest_difference"] <= TOLERANCE


def test_every_file_fits_its_sum(made: Made) -> None:
    folder = made[1].step("deploy")
    sums = dict(line.split("  ")[::-1] for line in (folder / "SHA256SUMS").read_text().splitlines())
    assert FILES - {"SHA256SUMS"} <= sums.keys()
    assert all(hashlib.sha256((folder / name).read_bytes()).hexdigest() == sum_ for name, sum_ in sums.items())


def test_a_second_run_does_nothing(made: Made) -> None:
    before = (made[1].step("deploy") / "step.json").stat().st_mtime_ns
    deploy(*made)
    assert (made[1].step("deploy") / "step.json").stat().st_mtime_ns == before


def test_a_changed_file_is_not_served(made: Made, tmp_path: Path) -> None:
    shutil.copytree(made[1].step("deploy"), tmp_path / "b")
    text = (tmp_path / "b" / "task.json").read_text(encoding="utf-8")
    (tmp_path / "b" / "task.json").write_text(text.replace("good", "gold"), encoding="utf-8")
    with pytest.raises(ModelError, match=r"task\.json is not what it was"):
        check_sums(tmp_path / "b")
    with pytest.raises(GateError, match="did not start"), served([tmp_path / "b"]):
        pass
    (tmp_path / "b" / "task.json").unlink()
    with pytest.raises(ModelError, match=r"task\.json is missing"):
        check_sums(tmp_path / "b")


@pytest.mark.parametrize(
    "change",
    [
        lambda answer: {**answer, "label": "nobody said that"},
        lambda answer: {**answer, "scores": {k: v + 2e-4 for k, v in answer["scores"].items()}},
    ],
)
def test_one_answer_that_is_not_as_evaluated_stops_it(made: Made, tmp_path: Path, change: object) -> None:
    recipe, run = copied(made, tmp_path)
    path = run.step("evaluate") / "answers.jsonl"
    answers = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    assert callable(change)
    answers[0] = change(answers[0])
    path.write_text("\n".join(json.dumps(answer) for answer in answers) + "\n", encoding="utf-8")
    with pytest.raises(GateError, match="The served answer to test row 1 is not the evaluated one"):
        deploy(recipe, run)
    assert not (run.step("deploy") / "step.json").exists()


def test_a_model_that_was_exchanged_after_evaluation_stops_it(made: Made, tmp_path: Path) -> None:
    recipe, run = copied(made, tmp_path)
    path = run.step("train") / "task.safetensors"  # where the linear part of the answer lies
    save_file({name: -array if name == "linear.weights" else array for name, array in load_file(path).items()}, path)
    with pytest.raises(GateError, match="is not the evaluated one"):
        deploy(recipe, run)


def ranking(*items: tuple[str, float]) -> dict[str, object]:
    return {"items": [{"id": name, "score": score} for name, score in items]}


def test_only_near_ties_may_swap() -> None:
    said = ranking(("a", 0.5), ("b", 0.3), ("c", 0.29995), ("d", 0.1))
    assert difference(said, ranking(("a", 0.5), ("c", 0.29999), ("b", 0.29996), ("d", 0.1))) <= TOLERANCE
    assert (
        difference(said, ranking(("a", 0.5), ("b", 0.3), ("c", 0.29995), ("e", 0.1))) <= TOLERANCE
    )  # a tie at the end
    assert difference(said, ranking(("b", 0.5), ("a", 0.3), ("c", 0.29995), ("d", 0.1))) > TOLERANCE
    assert difference(said, ranking(("a", 0.5), ("b", 0.3), ("e", 0.29995), ("d", 0.1))) > TOLERANCE
    assert difference(said, ranking(("a", 0.5), ("b", 0.3), ("c", 0.29995))) > TOLERANCE
    assert difference(said, ranking(("a", 0.5), ("b", 0.3), ("c", 0.299), ("d", 0.1))) > TOLERANCE


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ({"text": "a"}, {"text": "a"}, True),
        ({"text": "a"}, {"text": "b"}, False),
        ({"x": 1.0}, {"x": 1.00005}, True),
        ({"x": 1.0}, {"x": 1.01}, False),
        ({"nll": 5000.0}, {"nll": 5000.1}, True),
        ({"x": [1.0, 2.0]}, {"x": [1.0]}, False),
        ({"x": True}, {"x": 1}, True),
        ({"x": None}, {"x": 0.0}, False),
        ({"x": 1.0}, {}, False),
        ({"x": 0.0}, {"x": float("nan")}, False),
    ],
)
def test_numbers_may_differ_a_little_and_words_not(one: object, other: object, same: bool) -> None:
    assert (difference(one, other) <= TOLERANCE) is same


def test_a_sentence_encoder_loads_in_sentence_transformers(bundles: dict[str, Path], tmp_path: Path) -> None:
    from sentence_transformers import SentenceTransformer

    from zhumo.bundle import load
    from zhumo.deploy.step import _write_sentence_transformer

    shutil.copytree(bundles["embed"], tmp_path / "e")
    bundle = load(tmp_path / "e")
    assert bundle.task is not None
    _write_sentence_transformer(tmp_path / "e", bundle.task)
    theirs = SentenceTransformer(str(tmp_path / "e"), device="cpu").encode(["布料很好", "soft"])
    ours = [answer["embedding"] for answer in bundle.answer([{"text": "布料很好"}, {"text": "soft"}])]
    assert abs(theirs - ours).max() < 1e-5
