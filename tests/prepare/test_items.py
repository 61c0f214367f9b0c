"""What is known of items: from a catalogue file, from beside the interactions, and in whatever form a cell has it."""

import gzip
import json
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from zhumo.errors import DataError
from zhumo.prepare import prepare
from zhumo.prepare.guess import guess
from zhumo.prepare.histories import Interactions, Taken, leave_one_out
from zhumo.prepare.items import beside, divided, merged, read_items
from zhumo.recipe import Recipe
from zhumo.run import Run, read_json

COLUMNS = {"user": "会员", "item": "货号", "title": "名称", "category": "类别", "price": "单价"}
HEADING = "货号,名称,类别,单价,年份,编码,厂家\n"


def recipe_of(folder: Path, **section: Any) -> Recipe:
    given = {"source": str(folder / "orders.csv"), "columns": COLUMNS, **section}
    return Recipe.check({"name": "x", "task": "recommend", "prepare": given}, "test")


def read(folder: Path, lines: str) -> tuple[dict[str, dict[str, Any]], dict[str, int], list[str]]:
    (folder / "items.csv").write_text(HEADING + lines, encoding="utf-8")
    aside: list[str] = []
    about, counts = read_items(
        str(folder / "items.csv"),
        recipe_of(folder),
        lambda bad, field: aside.append(f"{bad.line} {bad.reason} {field}"),
    )
    return about, counts, aside


def test_every_row_of_a_catalogue_is_accounted_for(tmp_path: Path) -> None:
    lines = (
        "a,茶,饮品,3.5,1999,007,\nb,书,,贵,2001,010,甲\n,灯,家居,2,2001,011,\na,绿茶,饮品|茶,4,2000,012,乙\nc,,,,,,\n"
    )
    about, counts, aside = read(tmp_path, lines + "d\n")
    assert counts == {"in": 6, "out": 2, "quarantined": 3, "deduplicated": 1}
    assert aside == ["3 not_number price", "4 no_value item", "7 fields item"]
    assert about == {
        "a": {"年份": "2000", "编码": "012", "厂家": "乙", "title": "绿茶", "category": ["饮品|茶"], "price": 4.0},
        "c": {},
    }
    assert merged(about, {"a": {"price": 9.0, "title": "?"}, "z": {"price": 1.0}}) == {
        "a": {"年份": 2000, "编码": "012", "厂家": "乙", "title": "绿茶", "category": ["饮品", "茶"], "price": 4.0},
        "z": {"price": 1.0},
        "c": {},
    }


def test_a_catalogue_without_items_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="0 rows"):
        read(tmp_path, ",茶,饮品,3.5,1999,007,\n")
    with pytest.raises(DataError, match="货号"):
        (tmp_path / "items.csv").write_text("商品,名称\na,茶\n", encoding="utf-8")
        read_items(str(tmp_path / "items.csv"), recipe_of(tmp_path), lambda bad, field: None)


def test_categories_are_divided_where_that_makes_fewer_of_them() -> None:
    genres = ["Action", "Comedy", "Drama", "War", "Sci-Fi"]
    films = {f"{a}{b}": [f"{a} {b}"] for a in genres for b in genres if a < b}
    assert divided(films)["ActionDrama"] == ["Action", "Drama"]
    shelves = {"1": ["Health, Beauty"], "2": ["Toys, Games"], "3": ["Fresh food"]}
    assert divided(shelves) == shelves
    assert divided({"1": ["茶；饮品"], "2": ["茶"], "3": [7, "x"]}) == {
        "1": ["茶", "饮品"],
        "2": ["茶"],
        "3": ["7", "x"],
    }


def test_beside_interactions_the_last_title_and_the_middle_price_count() -> None:
    stream = Interactions(["title", "price", "category"])
    for time, title, price, category in ((3.0, "old", 5.0, ["x"]), (9.0, "new", 1.0, []), (4.0, "", 3.0, None)):
        stream.add({"user": str(time), "item": "a", "time": time, "title": title, "price": price, "category": category})
    stream.add({"user": "9.0", "item": "b", "time": 1.0})
    train = leave_one_out(Taken(stream, dedupe=True)).parts["train"]
    assert beside(train, ["title", "price", "category"]) == {"a": {"title": "new", "price": 3.0, "category": ["x"]}}


def test_a_shops_own_file_is_guessed_and_describes_its_items(shared: Path, tmp_path: Path) -> None:
    with gzip.open(shared / "online-retail" / "transactions.csv.gz", "rt", encoding="utf-8") as file:
        lines = [line for line in islice(file, 20_000) if not line.endswith(",,United Kingdom\n")]
    source = tmp_path / "orders.csv"
    source.write_text("".join(lines), encoding="utf-8")
    guessed = guess("recommend", str(source))
    assert "time: InvoiceDate, title: Description, price: UnitPrice}" in guessed.recipe
    (tmp_path / "orders.yaml").write_text(guessed.recipe, encoding="utf-8")
    recipe = Recipe.read(tmp_path / "orders.yaml", ["prepare.max_bad=0.3", "prepare.split=time"])
    run = Run.of(recipe, tmp_path / "runs")
    prepare(recipe, run)
    card = read_json(run.step("prepare") / "card.json")
    assert card["rows"]["in"] == len(lines) - 1 == sum(card["rows"].values()) - card["rows"]["in"]
    assert card["rows"]["deduplicated"] > 0  # the same article twice on one invoice
    tests = [json.loads(line) for line in (run.step("prepare") / "test.jsonl").read_text().splitlines()]
    assert tests and max(len(row["next"]) for row in tests) > 5


def test_a_chinese_heading_goes_by_its_last_word(tmp_path: Path) -> None:
    source = tmp_path / "orders.csv"
    rows = [f"物{n % 9},类{n % 3},{n % 9},{n % 5},{n % 7 + 0.5},2024-01-{n % 28 + 1:02}" for n in range(200)]
    source.write_text("商品名称,商品类别,商品编号,会员号,单价,下单时间\n" + "\n".join(rows) + "\n", encoding="utf-8")
    recipe = guess("recommend", str(source)).recipe
    assert (
        "columns: {user: 会员号, item: 商品编号, time: 下单时间, title: 商品名称, category: 商品类别, price: 单价}"
        in recipe
    )
