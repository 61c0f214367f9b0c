"""The report of a recommender on real invoices: asked in every way, measured down the list, and honest about who was
not asked."""

import gzip
import re
from itertools import islice
from pathlib import Path

import numpy as np
import pytest

from zhumo.build import build
from zhumo.bundle import load
from zhumo.evaluate import Report, evaluate, read_report
from zhumo.evaluate.card import card
from zhumo.evaluate.page import blend, page
from zhumo.evaluate.slices import BANDS, looks, slices, weakness
from zhumo.evaluate.voice import Voice
from zhumo.metrics.measure import Measure
from zhumo.prepare import prepare, read_rows
from zhumo.recipe import Recipe
from zhumo.run import Run, read_json
from zhumo.tasks import Row
from zhumo.train import train
from zhumo.words import LANGUAGES

LINES = 30_000


@pytest.fixture(scope="module")
def run(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Ten days of a shop, a few steps of training."""
    folder = tmp_path_factory.mktemp("shop")
    with gzip.open(shared / "online-retail" / "transactions.csv.gz", "rt", encoding="utf-8") as file:
        (folder / "orders.csv").write_text("".join(islice(file, LINES + 1)), encoding="utf-8")
    recipe = Recipe.model_validate({
        "task": "recommend", "name": "shop",
        "prepare": {
            "source": str(folder / "orders.csv"), "length": 20, "max_bad": 0.5,
            "columns": {"user": "CustomerID", "item": "StockCode", "time": "InvoiceDate", "title": "Description"},
            "split": {"by": "time", "valid": "2010-12-08", "test": "2010-12-10"},
        },
        "build": {"size": "tiny"}, "train": {"steps": 3, "batch": 16, "threads": 1},
    })  # fmt: skip
    made = Run(folder / "run")
    for step in (prepare, build, train, evaluate):
        step(recipe, made)
    return made


@pytest.fixture(scope="module")
def report(run: Run) -> Report:
    """Its report."""
    return read_report(run)


def test_the_leading_way_is_what_was_asked_and_every_way_has_its_numbers(run: Run, report: Report) -> None:
    bundle = load(run.step("train"))
    assert bundle.task is not None
    lead, other = report["protocols"]
    assert lead["name"] == bundle.task.state.get("protocol", "new")
    assert {lead["name"], other["name"]} == {"new", "again"}
    for way in report["protocols"]:
        options = bundle.task.protocols[way["name"]]
        rows = [{**row, "k": 20, **options} for row in read_rows(run.step("prepare") / "test.jsonl")]
        found = bundle.task.score(bundle.answer(rows), rows)[0]
        assert way["contenders"][0]["measures"][0]["value"] == pytest.approx(found.value)
        assert {one["name"] for one in way["contenders"]} >= {"popularity", "neighbours", report["served"]}
        assert all(0 < (one["p_better"] or 0) <= 1 for one in way["contenders"][1:])
    assert lead["contenders"][0]["measures"][0] == report["measures"][0]
    asked = read_rows(run.step("evaluate") / "rows.jsonl")
    assert all(row["k"] == 20 and len(row["next"]) > 0 for row in asked)


def test_what_variety_costs_is_what_its_own_answers_lose(run: Run, report: Report) -> None:
    [dial] = report["dials"]
    assert dial["name"] == "diversity" and [one["value"] for one in dial["settings"]] == [0, 0.25, 0.5, 0.75, 1]
    bundle = load(run.step("train"))
    assert bundle.task is not None
    asked = [
        {key: value for key, value in row.items() if key != "k"}
        for row in read_rows(run.step("evaluate") / "rows.jsonl")
    ]
    plain, varied = (
        {measure.name: measure for measure in bundle.task.score(bundle.answer(rows), rows)}
        for rows in (asked, [{**row, "diversity": 0.5} for row in asked])
    )
    first, half = dial["settings"][0], dial["settings"][2]
    assert first["lead"]["value"] == pytest.approx(plain["ndcg@10"].value) and first["low"] == first["high"] == 0
    assert half["lead"]["value"] == pytest.approx(varied["ndcg@10"].value)
    assert (half["low"], half["high"]) == pytest.approx(varied["ndcg@10"].ahead(plain["ndcg@10"]))
    assert half["gain"]["name"] == "diversity_company@10"
    gains = [one["gain"]["value"] or 0.0 for one in dial["settings"]]
    assert gains[0] < gains[2] < gains[4]
    apart = (half["lead"]["value"] or 0.0) - (first["lead"]["value"] or 0.0)
    for language in LANGUAGES:
        assert all(f"{apart:+.4f}" in text for text in (page(report, language), card(report, language)))


def test_every_learned_weight_is_told(report: Report) -> None:
    model = {**report["model"], "weight": 0.55, "trend": 0.75, "again": 0.6}
    for language in LANGUAGES:
        told = "".join(blend({**report, "model": model}, Voice(language)))
        assert all(number in told for number in ("55%", "0.75", "60%"))


def test_lists_are_measured_down_to_twenty_and_for_what_they_are_like(report: Report) -> None:
    names = [value["name"] for value in report["measures"]]
    assert names[0] == report["lead"] == "ndcg@10"
    assert {f"{name}@{k}" for name in ("ndcg", "hit", "mrr", "recall") for k in (5, 10, 20)} < set(names)
    assert {"coverage@10", "novelty@10", "popularity@10", "diversity_company@10"} < set(names)
    value = {one["name"]: one["measures"] for one in report["rivals"]}["popularity"]
    bias = {one["name"]: one for one in value}["popularity@10"]
    assert bias["value"] is not None and bias["value"] > 1 and not bias["higher_is_better"]
    assert {rival["name"] for rival in report["rivals"] if rival["p_better"] is not None} >= {
        "popularity",
        "neighbours",
    }


def test_cold_users_and_cold_items_stand_apart_with_the_rival_beside_them(run: Run, report: Report) -> None:
    groups = {part["name"]: part["groups"] for part in report["slices"]}
    assert groups["history"][0]["value"] == f"1 – {BANDS[1]}"
    assert all(group["baseline"] is not None for part in groups.values() for group in part)
    asked = read_rows(run.step("evaluate") / "rows.jsonl")
    cold = sum(len(row["items"]) <= BANDS[1] for row in asked)
    assert groups["history"][0]["n"] == cold
    assert sum(group["n"] for group in groups["target"]) == len(asked)


def test_the_middle_taker_of_a_basket_names_its_band() -> None:
    rows: list[Row] = [
        {"items": ["a"], "next": ["never"]}, {"items": ["a"] * 9, "next": ["a", "b", "never"]},
        {"items": [], "next": ["a"]},
    ]  # fmt: skip
    parts, lead = looks(rows, takers={"a": 300, "b": 5}), Measure("ndcg@10", np.array([0.0, 1.0, 0.5]))
    found = slices(parts, lead, None, weakness(parts, lead))
    groups = {part["name"]: [(group["value"], group["score"]["value"]) for group in part["groups"]] for part in found}
    assert groups == {
        "history": [("0", 0.5), ("1 – 5", 0.0), ("6 – 20", 1.0)],
        "target": [("0", 0.0), ("1 – 5", 1.0), ("> 100", 0.5)],
    }
    assert not any(group["weak"] for part in found for group in part["groups"])  # one row says nothing surely


@pytest.mark.parametrize("language", LANGUAGES)
def test_page_and_card_say_how_it_was_asked_and_who_was_not(run: Run, report: Report, language: str) -> None:
    window = read_json(run.step("prepare") / "card.json")["interactions"]["test"]
    for text in (page(report, language), card(report, language)):
        assert "2010-12-10" in text and all(way["said"][language] in text for way in report["protocols"])
        assert f"{window['users']:,}" in text and f"{window['later']:,}" in text
        assert not re.search(r"\{\w+\}|report\.\w+\.", text)
