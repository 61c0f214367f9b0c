"""Two real models on the same rows: what is said of them, in both languages, and whether one may replace the other."""

import json
import re
import shutil
from html import unescape
from pathlib import Path

import numpy as np
import orjson
import pytest
from typer.testing import CliRunner

from tests.evaluate.banking import recipe as intents
from zhumo.build import build
from zhumo.cli import app
from zhumo.compare import change, compare, moved
from zhumo.compare.shown import page, text
from zhumo.errors import DataError, GateError, ModelError, RecipeError
from zhumo.evaluate import evaluate
from zhumo.evaluate.slices import words
from zhumo.metrics.measure import Measure
from zhumo.prepare import prepare, read_rows
from zhumo.run import Run
from zhumo.tasks import Row
from zhumo.train import train
from zhumo.words import LANGUAGES


@pytest.fixture(scope="module")
def runs(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A classifier that saw only the first intents, and one that saw all ten; only this one was measured."""
    folder = tmp_path_factory.mktemp("both")
    made = intents(folder, shared)
    old, new = Run(folder / "old"), Run(folder / "new")
    for run, limit in ((old, 250), (new, None)):
        this = made.changed({"prepare.limit": limit})
        for step in (prepare, build, train):
            step(this, run)
        if run is new:
            evaluate(this, run)
    return old.folder, new.folder


def rows_file(runs: tuple[Path, Path]) -> Path:
    return runs[1] / "evaluate" / "rows.jsonl"


def test_the_one_that_saw_all_is_better_and_only_what_was_not_measured_is_asked(runs: tuple[Path, Path]) -> None:
    found = compare(*runs)
    assert (found["outcome"], found["passes"], found["measures"][0]["name"]) == ("better", True, "accuracy")
    assert (found["old"]["measured"], found["new"]["measured"]) == (False, True)
    assert found["old"]["learned"] == found["new"]["learned"] == 0 and found["notes"] == []
    lead = found["measures"][0]
    report = json.loads((runs[1] / "evaluate" / "report.json").read_text())
    assert lead["new"] == report["measures"][0]
    low, high = lead["difference"]["low"], lead["difference"]["high"]
    assert low is not None and high is not None and 0 < low <= lead["difference"]["value"] <= high
    assert {line["name"] for line in found["measures"]} >= {"macro_f1", "log_loss", "ece"}
    assert found["looked"] > 50 and {group["outcome"] for group in found["groups"]} == {"better"}


def test_the_other_way_round_it_is_worse_and_there_are_groups_that_say_so(runs: tuple[Path, Path]) -> None:
    there, back = compare(*runs), compare(runs[1], runs[0])
    assert (back["outcome"], back["passes"]) == ("worse", False)
    assert back["measures"][0]["difference"]["value"] == -there["measures"][0]["difference"]["value"]
    assert back["groups"] and all(group["outcome"] == "worse" and group["p"] < 0.05 for group in back["groups"])


def test_a_model_is_no_better_than_itself(runs: tuple[Path, Path]) -> None:
    found = compare(runs[1], runs[1])
    assert (found["outcome"], found["passes"], found["groups"]) == ("same", True, [])
    assert all(line["difference"]["value"] == 0 for line in found["measures"])


def test_a_gate_decides_in_place_of_the_usual(runs: tuple[Path, Path]) -> None:
    assert compare(runs[1], runs[0], gate=["accuracy >= old - 1.0"])["passes"]
    found = compare(*runs, gate=["accuracy > old + 1", "ece <= 1"])
    assert not found["passes"] and [rule["holds"] for rule in found["gate"]] == [False, True]
    for rule in ("accuracy", "accuracy >= baseline", "accuracy >= old old"):
        with pytest.raises(RecipeError):
            compare(*runs, gate=[rule])


def test_rows_it_learned_from_are_counted_and_said(runs: tuple[Path, Path], tmp_path: Path) -> None:
    known = read_rows(runs[1] / "prepare" / "train.jsonl")[:30]
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b"".join(orjson.dumps(row) + b"\n" for row in [*read_rows(rows_file(runs))[:30], *known]))
    found = compare(*runs, rows=path)
    assert found["rows"] == 60 and found["new"]["learned"] == 30
    assert all("30" in note["en"] and "30" in note["zh"] for note in found["notes"]) and len(found["notes"]) == 2
    alone = tmp_path / "bundle"
    shutil.copytree(runs[1] / "train", alone)
    notes = compare(alone, runs[1], rows=path)["notes"]
    assert len(notes) == 2 and "nobody can say" in notes[0]["en"]


def test_what_cannot_be_compared_is_refused(runs: tuple[Path, Path], tmp_path: Path) -> None:
    alone = tmp_path / "bundle"
    shutil.copytree(runs[0] / "train", alone)
    with pytest.raises(ModelError, match="no model that knows a task"):
        compare(tmp_path, runs[0])
    with pytest.raises(DataError, match="--rows"):
        compare(alone, alone)
    with pytest.raises(DataError, match=r"rows\.jsonl"):
        compare(*runs, rows=tmp_path / "none.jsonl")
    task = json.loads((alone / "task.json").read_text())
    (alone / "task.json").write_text(json.dumps({**task, "task": "write", "state": {}}))
    with pytest.raises(ModelError, match="write"):
        compare(runs[1], alone)


@pytest.mark.parametrize("language", LANGUAGES)
def test_page_and_markdown_say_all_of_it_and_nothing_in_them_is_alive(runs: tuple[Path, Path], language: str) -> None:
    found = compare(runs[1], runs[0], gate=["ece <= 1"])
    html, markdown = page(found, language), text(found, language)
    assert found["sentence"][language] in unescape(html) and "<script>" not in html
    assert not re.search(r"https?://|url\(|\{\w+\}|report\.\w+\.", html)
    assert html.count("<tr") > len(found["measures"]) + len(found["groups"])
    assert markdown.count("\n| ") >= len(found["measures"]) + len(found["groups"]) and "▼" in markdown


def test_the_command_prints_writes_and_ends_as_it_found(
    runs: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    good = CliRunner().invoke(app, ["compare", *map(str, runs), "-o", str(tmp_path / "card.html")])
    assert good.exit_code == 0 and "better" in good.output and "accuracy" in good.output
    assert (tmp_path / "card.html").read_text(encoding="utf-8").startswith("<!doctype html>")
    bad = CliRunner().invoke(app, ["compare", *map(str, reversed(runs)), "--json"])
    assert isinstance(bad.exception, GateError) and bad.exit_code == 1
    assert json.loads(bad.output)["passes"] is False
    for suffix in ("md", "json"):
        CliRunner().invoke(app, ["compare", *map(str, runs), "-o", str(tmp_path / f"card.{suffix}")])
    assert (tmp_path / "card.md").read_text(encoding="utf-8").startswith("# ")
    assert json.loads((tmp_path / "card.json").read_text())["rows"] == len(read_rows(rows_file(runs)))


def test_better_on_the_whole_and_worse_on_a_word_is_seen(runs: tuple[Path, Path]) -> None:
    rows: list[Row] = read_rows(rows_file(runs))
    part, generator = words(rows), np.random.default_rng(0)
    old = (generator.random(len(rows)) < 0.7).astype(float)
    new = np.maximum(old, generator.random(len(rows)) < 0.7)
    new[part.members["refund"]], old[part.members["refund"]] = 0.0, 1.0
    one, other = Measure("accuracy", old), Measure("accuracy", new)
    looked, found = moved([part], one, other)
    assert looked == len(part.members) and found[0]["value"] == "refund" and found[0]["outcome"] == "worse"
    assert change(one, other)["outcome"] != "worse"


def test_where_the_two_differ_by_chance_no_group_is_named(runs: tuple[Path, Path]) -> None:
    rows: list[Row] = read_rows(rows_file(runs))
    alarms = 0
    for seed in range(10):
        generator = np.random.default_rng(seed)
        old, new = ((generator.random(len(rows)) < 0.8).astype(float) for _ in range(2))
        alarms += bool(moved([words(rows)], Measure("accuracy", old), Measure("accuracy", new))[1])
    assert alarms <= 2
