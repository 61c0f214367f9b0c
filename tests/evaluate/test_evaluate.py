"""The step on a real run: what it leaves, that it is honest about rows, and that its gate holds back what it should."""

import json
import shutil
from pathlib import Path

import orjson
import pytest
from banking import CHANNELS, HOSTILE, trained
from rich.console import Console

from zhumo.bundle import load
from zhumo.errors import GateError, ModelError, RecipeError
from zhumo.evaluate import evaluate, read_report, summary
from zhumo.evaluate.lines import Lines
from zhumo.evaluate.report import FORMAT
from zhumo.recipe import Recipe
from zhumo.run import Run

FILES = {"rows.jsonl", "answers.jsonl", "report.json", "report.en.html", "report.zh.html", "card.en.md", "card.zh.md"}


@pytest.fixture(scope="module")
def run(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Recipe, Run]:
    """A trained run; tests evaluate copies of it."""
    return trained(tmp_path_factory.mktemp("intents"), shared)


@pytest.fixture
def mine(run: tuple[Recipe, Run], tmp_path: Path) -> tuple[Recipe, Run]:
    """A copy of the run for one test."""
    shutil.copytree(run[1].folder, tmp_path / "run")
    return run[0], Run(tmp_path / "run")


def changed(recipe: Recipe, **evaluate_: object) -> Recipe:
    """The recipe with another evaluate section."""
    data = recipe.model_dump()
    return Recipe.model_validate({**data, "evaluate": {**data["evaluate"], **evaluate_}})


def lines(path: Path) -> list[dict[str, object]]:
    return [orjson.loads(line) for line in path.read_bytes().splitlines()]


def test_the_step_leaves_its_files_and_stands(mine: tuple[Recipe, Run]) -> None:
    recipe, run = mine
    evaluate(recipe, run)
    folder = run.step("evaluate")
    assert {path.name for path in folder.iterdir()} == FILES | {"begun.json", "step.json"}
    before = {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}
    evaluate(recipe, run)
    assert {path.name: path.stat().st_mtime_ns for path in folder.iterdir()} == before


def test_rows_are_the_test_rows_and_answers_are_what_the_model_says_of_them(mine: tuple[Recipe, Run]) -> None:
    recipe, run = mine
    evaluate(recipe, run)
    rows, answers = lines(run.step("evaluate") / "rows.jsonl"), lines(run.step("evaluate") / "answers.jsonl")
    assert rows == lines(run.step("prepare") / "test.jsonl")
    for row, answer in zip(rows[:5], load(run.step("train")).answer(rows[:5]), strict=True):
        assert answers[rows.index(row)]["label"] == answer["label"]
    right = sum(answer["label"] == row["label"] for row, answer in zip(rows, answers, strict=True))
    assert read_report(run)["measures"][0]["value"] == pytest.approx(right / len(rows))


def test_training_rows_stay_on_disk_and_are_all_there(run: tuple[Recipe, Run]) -> None:
    path = run[1].step("prepare") / "train.jsonl"
    rows, stored = lines(path), Lines(path)
    assert list(stored) == rows == list(stored) and len(stored) == len(rows)
    assert [stored[0], stored[17], stored[-1]] == [rows[0], rows[17], rows[-1]]
    with pytest.raises(IndexError):
        stored[len(rows)]


def test_the_report_stands_every_number_beside_its_rivals(mine: tuple[Recipe, Run]) -> None:
    recipe, run = mine
    evaluate(recipe, run)
    report = json.loads((run.step("evaluate") / "report.json").read_text(), parse_constant=pytest.fail)
    lead = report["measures"][0]
    assert (report["format"], report["task"], lead["name"]) == (FORMAT, "classify", "accuracy")
    assert lead["low"] <= lead["value"] <= lead["high"] and lead["n"] == report["data"]["tested"]
    assert [rival["kind"] for rival in report["rivals"]][-2:] == ["baseline", "baseline"]
    values = {rival["name"]: rival["measures"][0]["value"] for rival in report["rivals"]}
    values[report["served"]] = lead["value"]
    assert {"transformer", "tfidf", "majority"} <= values.keys()
    assert values[report["winner"]] == max(values.values())
    assert report["reproduce"]["steps"]["train"] == run.facts("train")["hash"]
    rows = report["data"]["rows"]
    assert rows["in"] == rows["out"] + rows["quarantined"] + rows["deduplicated"]


def test_slices_part_the_rows_by_what_the_recipe_names(mine: tuple[Recipe, Run]) -> None:
    recipe, run = mine
    evaluate(recipe, run)
    report = read_report(run)
    slices = {part["name"]: part for part in report["slices"]}
    assert {group["value"] for group in slices["<b>channel</b>"]["groups"]} == set(CHANNELS)
    assert HOSTILE in {group["value"] for group in slices["label"]["groups"]}
    for part in report["slices"]:
        assert sum(group["n"] for group in part["groups"]) + part["others"] == report["data"]["tested"]


def test_fewer_rows_are_drawn_from_all_and_keep_their_order(mine: tuple[Recipe, Run]) -> None:
    recipe, run = mine
    evaluate(changed(recipe, rows=40), run)
    asked, all_ = lines(run.step("evaluate") / "rows.jsonl"), lines(run.step("prepare") / "test.jsonl")
    places = [all_.index(row) for row in asked]
    assert len(places) == 40 and places == sorted(places) and places[-1] > len(all_) / 2


def test_an_unmet_gate_leaves_the_report_but_not_a_finished_step(mine: tuple[Recipe, Run]) -> None:
    recipe, run = mine
    strict = changed(recipe, gate={"accuracy": "> 1.0", "ece": "<= 1.0"})
    for _ in range(2):
        with pytest.raises(GateError, match="accuracy"):
            evaluate(strict, run)
        assert [gate["holds"] for gate in read_report(run)["gate"]] == [False, True]
        assert not (run.step("evaluate") / "step.json").exists()
    written = (run.step("evaluate") / "answers.jsonl").stat().st_mtime_ns
    with pytest.raises(GateError):
        evaluate(strict, run)
    assert (run.step("evaluate") / "answers.jsonl").stat().st_mtime_ns == written  # nothing is asked again
    evaluate(changed(recipe, gate={"accuracy": ">= baseline * 0.0"}), run)
    assert run.facts("evaluate")["verdict"] == read_report(run)["verdict"]


def test_a_gate_nobody_can_hold_is_refused_before_a_row_is_asked(mine: tuple[Recipe, Run]) -> None:
    recipe, run = mine
    with pytest.raises(RecipeError, match="baseline squared"):
        evaluate(changed(recipe, gate={"accuracy": ">= baseline squared"}), run)
    assert not run.step("evaluate").exists()
    with pytest.raises(RecipeError, match="did you mean accuracy"):
        evaluate(changed(recipe, gate={"acuracy": ">= 0.1"}), run)


@pytest.mark.parametrize("language", ["en", "zh"])
def test_the_summary_shows_the_table_the_sentence_and_the_gate(
    mine: tuple[Recipe, Run], language: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe, run = mine
    evaluate(changed(recipe, gate={"accuracy": ">= 0.0"}), run)
    monkeypatch.setenv("ZHUMO_LANG", language)
    console = Console(width=400, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    console.print(summary(read_report(run)))
    text = console.export_text()
    report = read_report(run)
    assert report["sentence"][language] in text and "TF-IDF" in text and "✓" in text


def test_a_bundle_to_be_replaced_is_asked_the_same_rows_and_bounds_the_gate(mine: tuple[Recipe, Run]) -> None:
    recipe, run = mine
    old = str(run.step("train"))
    evaluate(changed(recipe, old=old, gate={"accuracy": ">= old", "ece": "<= old + 0.01"}), run)
    report = read_report(run)
    (before,) = [one for one in report["rivals"] if one["kind"] == "old"]
    assert before["measures"][0] == report["measures"][0] and before["p_better"] == 1.0  # it is the very same
    with pytest.raises(GateError, match="accuracy"):
        evaluate(changed(recipe, old=old, gate={"accuracy": "> old"}), run)
    with pytest.raises(RecipeError, match=r"evaluate\.old"):
        evaluate(changed(recipe, gate={"accuracy": "> old"}), run)
    with pytest.raises(ModelError, match="task classify"):
        evaluate(changed(recipe, old=str(run.folder)), run)
