"""Step 1 on real files and on damaged ones: every row is accounted for, nothing of the test leaks into the training."""

import base64
import gzip
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from zhumo.bundle import load_task
from zhumo.errors import DataError, RecipeError
from zhumo.prepare import prepare, read_rows
from zhumo.prepare.columns import Unusable, as_time
from zhumo.prepare.split import by_hash, by_time, cluster, key_of
from zhumo.recipe import Recipe
from zhumo.run import Run, read_json
from zhumo.sources.lines import LONGEST
from zhumo.tasks.examples import Examples

ORDERS = "会员号,商品,商品名称,下单时间\n"


def run_of(folder: Path, **recipe: Any) -> tuple[Recipe, Run]:
    made = Recipe.check({"name": "x", **recipe}, "test")
    return made, Run.of(made, folder / "runs")


def prepared(folder: Path, **recipe: Any) -> Run:
    made, run = run_of(folder, **recipe)
    prepare(made, run)
    return run


def orders(folder: Path, lines: list[str]) -> Path:
    path = folder / "orders.csv"
    path.write_text(ORDERS + "".join(f"{line}\n" for line in lines), encoding="utf-8")
    return path


COLUMNS = {"user": "会员号", "item": "商品", "time": "下单时间", "title": "商品名称"}


def test_official_splits_stay_and_their_texts_leave_the_training(shared: Path, tmp_path: Path) -> None:
    folder = shared / "banking77"
    run = prepared(
        tmp_path,
        task="classify",
        prepare={"source": str(folder / "train.jsonl.gz"), "test": str(folder / "test.jsonl.gz"), "vocabulary": 2000},
    )
    card = read_json(run.step("prepare") / "card.json")
    rows = card["rows"]
    assert rows["in"] == 10_003 + 3_080 == rows["out"] + rows["quarantined"] + rows["deduplicated"]
    assert card["leaks"] == 19  # 11 that are the same to the letter, 8 but for case and punctuation
    test = {cluster(row) for row in read_rows(run.step("prepare") / "test.jsonl")}
    for part in ("train", "valid"):
        assert not test & {cluster(row) for row in read_rows(run.step("prepare") / f"{part}.jsonl")}
    assert len(card["labels"]) == 77
    assert len(Examples(run.step("prepare") / "train.safetensors")) == card["parts"]["train"]


def test_histories_are_dealt_by_time_with_ties_in_file_order(tmp_path: Path) -> None:
    lines = [
        "甲,a,苹果,2024-01-02",
        "甲,b,书,2024-01-01",
        "甲,c,茶,2024-01-02",
        "甲,d,灯,2024-01-03",
        "乙,a,苹果,2024-01-01",
    ]
    source = orders(tmp_path, lines)
    run = prepared(tmp_path, task="recommend", prepare={"source": str(source), "columns": COLUMNS})
    folder = run.step("prepare")
    assert [row["items"] for row in read_rows(folder / "train.jsonl")] == [["b", "a"], ["a"]]
    [valid], [test] = read_rows(folder / "valid.jsonl"), read_rows(folder / "test.jsonl")
    assert (valid["items"], valid["next"]) == (["b", "a"], ["c"])
    assert (test["items"], test["next"]) == (["b", "a", "c"], ["d"])
    state = load_task(folder).state
    assert dict(zip(state["items"], state["catalogue"]["title"], strict=True))["b"] == "书"


def test_every_damaged_row_is_kept_byte_for_byte(tmp_path: Path) -> None:
    good = [f"u{i % 40},i{i % 17},t,2024-01-{1 + i % 28:02}" for i in range(2_000)]
    bad = ["u1,,t,2024-01-01", "u1,i1,t,gestern", ",i1,t,2024-01-01", "u1,i1,t,2024-01-01,extra,more", "u1"]
    source = tmp_path / "orders.csv"
    lines = good[:500] + bad + good[500:] + good[:3]
    source.write_bytes(ORDERS.encode() + "\n".join(lines).encode() + b"\n\xff\xfe,i1,t,2024-01-01\n")
    run = prepared(tmp_path, task="recommend", prepare={"source": str(source), "columns": COLUMNS})
    rows = read_json(run.step("prepare") / "card.json")["rows"]
    kept = [json.loads(line) for line in (run.step("prepare") / "quarantine.jsonl").read_text().splitlines()]
    assert rows["quarantined"] == len(bad) + 1 == len(kept)
    assert rows["in"] == len(lines) + 1 == rows["out"] + rows["quarantined"] + rows["deduplicated"]
    found = {base64.b64decode(entry["bytes"]).rstrip(b"\r\n") for entry in kept}
    assert found == {line.encode() for line in bad} | {b"\xff\xfe,i1,t,2024-01-01"}
    assert Counter(entry["reason"] for entry in kept)["not_time"] == 1
    assert all(source.read_bytes().splitlines()[entry["line"] - 1] in found for entry in kept)


def test_a_row_that_is_too_long_is_one_row_and_comes_back_whole(tmp_path: Path) -> None:
    long = b'{"text": "' + b"x" * (2 * LONGEST) + b'", "label": "a"}\n'
    good = [f'{{"text": "t{i}", "label": "{"ab"[i % 2]}"}}\n'.encode() for i in range(40)]
    (tmp_path / "a.jsonl").write_bytes(b"".join([*good[:20], long, *good[20:]]))
    run = prepared(tmp_path, task="classify", prepare={"source": str(tmp_path / "a.jsonl"), "vocabulary": 300})
    assert read_json(run.step("prepare") / "card.json")["rows"] == {
        "in": 41, "out": 40, "quarantined": 1, "deduplicated": 0, "filtered": 0
    }  # fmt: skip
    kept = read_rows(run.step("prepare") / "quarantine.jsonl")
    assert [entry.get("piece", 0) for entry in kept] == [0, 1, 2]
    assert b"".join(base64.b64decode(entry["bytes"]) for entry in kept) == long


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"text": {"is": "x"}, "label": "a"}, "not_text"),
        ({"text": ["x"], "label": "a"}, "not_text"),
        ({"text": "x", "label": None}, "no_value"),
        ({"text": "x", "label": {"a": 1}}, "not_text"),
        ({"text": "x", "label": ["a", None]}, "not_text"),
        ({"text": "x", "label": ["a", {"b": 1}]}, "not_text"),
        ({"text": " \x07 ", "label": "a"}, "no_value"),
    ],
)
def test_values_of_the_wrong_kind_are_put_aside(tmp_path: Path, row: dict[str, Any], reason: str) -> None:
    path = tmp_path / "a.jsonl"
    good = [{"text": f"t{i}", "label": "ab"[i % 2]} for i in range(20)]
    path.write_text("".join(json.dumps(one) + "\n" for one in [*good, row]), encoding="utf-8")
    run = prepared(tmp_path, task="classify", prepare={"source": str(path), "vocabulary": 300})
    [entry] = read_rows(run.step("prepare") / "quarantine.jsonl")
    assert (entry["line"], entry["reason"]) == (21, reason)
    assert json.loads(base64.b64decode(entry["bytes"])) == row


def test_too_many_bad_rows_end_the_run_with_the_reason(tmp_path: Path) -> None:
    source = orders(tmp_path, [f"u{i},i{i},t,nie" for i in range(50)] + ["u,i,t,2024-01-01"] * 3)
    made, run = run_of(tmp_path, task="recommend", prepare={"source": str(source), "columns": COLUMNS})
    with pytest.raises(DataError, match="50 of 53"):
        prepare(made, run)
    assert not (run.step("prepare") / "step.json").exists()


@pytest.mark.parametrize(("column", "near"), [
    ({"user": "会员"}, "会员号"), ({"user": "user_id"}, "会员号"), ({"item": "sku"}, "商品"),
])  # fmt: skip
def test_a_missing_column_names_the_one_spelt_or_meant_alike(column: dict[str, str], near: str, tmp_path: Path) -> None:
    source = orders(tmp_path, ["u,i,t,2024-01-01"])
    made, run = run_of(tmp_path, task="recommend", prepare={"source": str(source), "columns": {**COLUMNS, **column}})
    with pytest.raises(DataError, match=f"nearest: {near}"):
        prepare(made, run)


def test_a_missing_column_that_nothing_is_like_names_none(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("甲,乙\n1,2\n", encoding="utf-8")
    made, run = run_of(tmp_path, task="recommend", prepare={"source": str(path)})
    with pytest.raises(DataError, match="nearest: -"):
        prepare(made, run)


def test_an_unknown_field_is_named(tmp_path: Path) -> None:
    source = orders(tmp_path, ["u,i,t,2024-01-01"])
    made, run = run_of(tmp_path, task="recommend", prepare={"source": str(source), "columns": {"usr": "会员号"}})
    with pytest.raises(DataError, match="did you mean user"):
        prepare(made, run)


@pytest.fixture
def reviews(tmp_path: Path) -> Path:
    path = tmp_path / "reviews.jsonl"
    rows = [
        {
            "text": f"review {i // 2} {'!' * (i % 2)}",
            "label": "ab"[i % 3 == 0],
            "shop": i % 7,
            "day": f"2024-02-{1 + i // 30:02}",
        }
        for i in range(600)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("split", "key"),
    [({"by": "random"}, cluster), ({"by": "group", "column": "shop"}, lambda row: row["shop"])],
)
def test_what_belongs_together_stays_in_one_part(reviews: Path, tmp_path: Path, split: Any, key: Any) -> None:
    run = prepared(tmp_path, task="classify", prepare={"source": str(reviews), "split": {**split, "test": 0.3}})
    parts = {
        part: {key(row) for row in read_rows(run.step("prepare") / f"{part}.jsonl")}
        for part in ("train", "valid", "test")
    }
    assert parts["train"] and parts["test"]
    assert (
        not parts["train"] & parts["test"]
        and not parts["train"] & parts["valid"]
        and not parts["valid"] & parts["test"]
    )


def test_a_split_by_time_tests_on_the_newest(reviews: Path, tmp_path: Path) -> None:
    run = prepared(
        tmp_path,
        task="classify",
        prepare={"source": str(reviews), "split": {"by": "time", "column": "day", "test": 0.2}},
    )
    days = {
        part: [row["day"] for row in read_rows(run.step("prepare") / f"{part}.jsonl")]
        for part in ("train", "valid", "test")
    }
    assert max(days["train"]) < min(days["valid"]) <= max(days["valid"]) < min(days["test"])


def test_a_split_without_its_column_says_so(reviews: Path, tmp_path: Path) -> None:
    made, run = run_of(tmp_path, task="classify", prepare={"source": str(reviews), "split": "time"})
    with pytest.raises(RecipeError, match="column"):
        prepare(made, run)


def test_exact_duplicates_are_counted(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    rows = [{"text": f"t{i}", "label": "x" if i % 2 else "y"} for i in range(100)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows + rows[:10]), encoding="utf-8")
    run = prepared(tmp_path, task="classify", prepare={"source": str(path)})
    assert read_json(run.step("prepare") / "card.json")["rows"] == {
        "in": 110,
        "out": 100,
        "quarantined": 0,
        "deduplicated": 10,
        "filtered": 0,
    }


def test_a_text_loses_nothing_on_its_way_to_examples(shared: Path, tmp_path: Path) -> None:
    text = gzip.decompress((shared / "tiny-shakespeare" / "input.txt.gz").read_bytes()).decode()[:60_000]
    (tmp_path / "input.txt").write_text(text, encoding="utf-8")
    run = prepared(
        tmp_path,
        task="write",
        prepare={
            "source": str(tmp_path / "input.txt"),
            "tokenizer": "char",
            "normalise": "none",
            "dedupe": False,
            "length": 64,
        },
    )
    folder = run.step("prepare")
    task = load_task(folder)
    assert task.tokenizer is not None
    learned = Counter[str]()
    examples = Examples(folder / "train.safetensors")
    for index in range(len(examples)):
        learned.update(task.tokenizer.decode([t for t in examples[index]["targets"] if t >= 0]))
    there = Counter("".join(row["text"] for row in read_rows(folder / "train.jsonl")))
    assert learned == there


def test_the_same_data_make_the_same_folder(reviews: Path, tmp_path: Path) -> None:
    hashes = []
    for name in ("one", "two"):
        run = prepared(tmp_path / name, task="classify", prepare={"source": str(reviews)})
        hashes.append(
            [(run.step("prepare") / file).read_bytes() for file in ("train.jsonl", "train.safetensors", "task.json")]
        )
    assert hashes[0] == hashes[1]


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (1_000_000, 1e6),
        ("1000000", 1e6),
        ("1970-01-02", 86_400.0),
        ("1970-01-02T00:00:00+08:00", 57_600.0),
        ("1970/1/2 1:00", 90_000.0),
        ("1970年01月02日", 86_400.0),
    ],
)
def test_times_as_people_write_them(value: Any, seconds: float) -> None:
    assert as_time(value) == seconds


@pytest.mark.parametrize("value", ["gestern", "", "2024-13-01", None, "nan"])
def test_what_is_no_time_is_unusable(value: Any) -> None:
    with pytest.raises(Unusable):
        as_time(value)


def test_shares_of_a_hash_split() -> None:
    counts = Counter(by_hash(key_of(str(i)), 0.1, 0.2) for i in range(20_000))
    assert abs(counts["test"] - 4_000) < 200 and abs(counts["valid"] - 2_000) < 150


def test_rows_of_one_moment_are_not_cut_apart() -> None:
    parts = by_time([1, 2, 2, 2, 2, 3, 3, 3, 4, 4], 0.2, 0.2)
    for moment in (2, 3, 4):
        assert (
            len({part for part, time in zip(parts, [1, 2, 2, 2, 2, 3, 3, 3, 4, 4], strict=True) if time == moment}) == 1
        )
