"""Interactions as integers: the same histories as plain lists would give, dealt without a look past the cut."""

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zhumo.bundle import load_task
from zhumo.errors import DataError, RecipeError
from zhumo.prepare import prepare, read_rows
from zhumo.prepare.histories import Dealt, Interactions, Taken, by_moment, gather, leave_one_out
from zhumo.recipe import Recipe
from zhumo.run import Run, read_json
from zhumo.tasks import Row

MOMENT = st.one_of(st.none(), st.integers(0, 3).map(float))
EVENTS = st.lists(st.tuples(st.sampled_from("甲乙丙"), st.sampled_from("abc"), MOMENT), max_size=30)


def rows_of(events: Sequence[tuple[str, str, float | None]]) -> list[Row]:
    return [
        {"user": user, "item": item, **({} if time is None else {"time": time})} for user, item, time in events
    ]  # fmt: skip


def taken(rows: list[Row], columns: Sequence[str] = (), *, dedupe: bool = True) -> Taken:
    stream = Interactions(columns)
    for row in rows:
        stream.add(row)
    return Taken(stream, dedupe=dedupe)


def plain(rows: list[Row], *, dedupe: bool) -> list[Row]:
    """The same in the plainest words."""
    users: dict[str, list[Row]] = {}
    for row in rows:
        own = users.setdefault(row["user"], [])
        if not dedupe or "time" not in row or row not in own:
            own.append(row)
    histories = []
    for user, own in users.items():
        own.sort(key=lambda row: row.get("time", 0.0))
        history: Row = {"user": user, "items": [row["item"] for row in own]}
        if all("time" in row for row in own):
            history["times"] = [row["time"] for row in own]
        histories.append(history)
    return histories


@given(EVENTS, st.booleans())
def test_integers_give_what_plain_lists_give(events: list[tuple[str, str, float | None]], dedupe: bool) -> None:
    rows = rows_of(events)
    if not rows:
        return
    found = taken(rows, dedupe=dedupe)
    wanted = plain(rows, dedupe=dedupe)
    assert [row["items"] for row in leave_one_out(found).parts["test"]] == [
        row["items"][:-1] for row in wanted if len(row["items"]) > 2
    ]
    assert len(found) + found.duplicates == len(rows)
    assert list(gather(rows)) == plain(rows, dedupe=False)


BY_HAND = [
    ("ann", "a", 1.0), ("ann", "b", 5.0), ("ann", "c", 5.0), ("ann", "b", 5.0), ("ann", "d", 6.0), ("ann", "e", 8.0),
    ("ben", "a", 2.0), ("ben", "e", 9.0), ("ben", "a", 9.0), ("ben", "f", 10.0),
    ("cho", "b", 6.0), ("cho", "c", 8.0),
    ("dan", "d", 9.0), ("eva", "c", 3.0),
]  # fmt: skip


def test_after_a_moment_the_first_basket_is_asked_for() -> None:
    found = taken(rows_of(BY_HAND))
    dealt = by_moment(found, 5.0, 8.0)
    assert found.duplicates == 1
    assert [(row["user"], row["items"]) for row in dealt.parts["train"]] == [
        ("ann", ["a"]), ("ben", ["a"]), ("eva", ["c"]),
    ]  # fmt: skip
    assert list(dealt.parts["valid"]) == [
        {"user": "ann", "items": ["a"], "times": [1.0], "next": ["b", "c"], "at": 5.0}
    ]
    assert [(row["user"], row["items"], row["next"]) for row in dealt.parts["test"]] == [
        ("ann", ["a", "b", "c", "d"], ["e"]),
        ("ben", ["a"], ["e", "a"]),
        ("cho", ["b"], ["c"]),
    ]
    assert dealt.windows == {
        "valid": {"asked": 1, "next": 2, "later": 1, "users": 1, "new": 1},
        "test": {"asked": 3, "next": 4, "later": 1, "users": 1, "new": 1},
    }


def everything(dealt: Dealt) -> int:
    trained = sum(len(row["items"]) for row in dealt.parts["train"])
    return trained + sum(window[name] for window in dealt.windows.values() for name in ("next", "later", "new"))


@given(EVENTS, st.integers(0, 4), st.integers(0, 4))
def test_every_interaction_is_accounted_for(
    events: list[tuple[str, str, float | None]], first: int, second: int
) -> None:
    rows = [row for row in rows_of(events) if "time" in row]
    if rows:
        found = taken(rows)
        dealt = by_moment(found, min(first, second), max(first, second))
        assert everything(dealt) == len(found)
        for part, cut in (("valid", min(first, second)), ("test", max(first, second))):
            rows_ = list(dealt.parts[part])  # type: ignore[index]
            assert all(max(row["times"]) < cut for row in rows_) and all(row["next"] for row in rows_)


COLUMNS = {"user": "会员", "item": "商品", "time": "时间", "title": "名称", "price": "单价", "category": "类别"}


def write(folder: Path, rows: Sequence[Sequence[Any]]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "orders.csv"
    lines = ["会员,商品,时间,名称,单价,类别,渠道", *(",".join(map(str, row)) for row in rows)]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def prepared(folder: Path, rows: Sequence[Sequence[Any]], **changed: Any) -> Path:
    source = write(folder, rows)
    section = {"source": str(source), "columns": COLUMNS, "split": {"by": "time", "test": "2024-03-01"}} | changed
    recipe = Recipe.check({"name": "x", "task": "recommend", "prepare": section,
                           "evaluate": {"slices": ["渠道"]}}, "test")  # fmt: skip
    run = Run.of(recipe, folder / "runs")
    prepare(recipe, run)
    return run.step("prepare")


def orders() -> list[tuple[Any, ...]]:
    """Forty people, one thing on each of ninety days."""
    return [
        (f"u{day * 7 % 40}", f"i{day * 5 % 23}", f"2024-{1 + day // 28:02}-{1 + day % 28:02}", f"物{day * 5 % 23}",
         day % 9 + 1, "甲|乙" if day % 2 else "丙", "网" if day % 3 else "店")
        for day in range(90)
    ]  # fmt: skip


LEARNED = ("train.jsonl", "valid.jsonl", "train.safetensors", "valid.safetensors", "task.json", "task.safetensors")


def test_nothing_after_the_cut_is_seen_in_training(tmp_path: Path) -> None:
    rows = orders()
    one = prepared(tmp_path / "one", rows)
    other = prepared(
        tmp_path / "other",
        [row if row[2] < "2024-03-01" else (row[0], "i99", row[2], "新", 1000, "丁", "?") for row in rows],
    )
    for name in LEARNED:
        assert (one / name).read_bytes() == (other / name).read_bytes(), name
    assert (one / "test.jsonl").read_bytes() != (other / "test.jsonl").read_bytes()


def test_the_card_says_where_every_interaction_went_and_why(tmp_path: Path) -> None:
    card = read_json(prepared(tmp_path, orders()) / "card.json")
    went = card["interactions"]
    assert card["since"]["test"] == "2024-03-01" and card["since"]["valid"] < card["since"]["test"]
    assert card["rows"]["in"] == 90 == card["rows"]["out"] + card["rows"]["quarantined"] + card["rows"]["deduplicated"]
    assert (
        went["train"] + sum(went[part][name] for part in ("valid", "test") for name in ("next", "later", "new")) == 90
    )
    assert went["test"]["asked"] == card["parts"]["test"] > 0


def test_a_column_to_slice_by_is_that_of_the_newest_interaction(tmp_path: Path) -> None:
    rows = [("u", "a", "2024-01-01", "", "", "", "网"), ("u", "b", "2024-02-01", "", "", "", "店"),
            ("u", "c", "2024-03-01", "", "", "", "新")]  # fmt: skip
    [test] = read_rows(
        prepared(tmp_path, rows, split={"by": "time", "valid": 0.0, "test": "2024-03-01"}) / "test.jsonl"
    )
    assert test["渠道"] == "店" and test["next"] == ["c"]


def test_what_cannot_be_divided_by_time_says_why(tmp_path: Path) -> None:
    rows = [*orders(), ("u1", "i1", "", "物", 1, "丙", "店")]
    card = read_json(prepared(tmp_path / "a", rows, max_bad=0.1) / "card.json")
    assert card["quarantined"] == {"no_value": 1} and card["rows"]["in"] == 91
    with pytest.raises(DataError, match="time"):
        prepared(tmp_path / "b", rows, columns={"user": "会员", "item": "商品"})
    with pytest.raises(RecipeError, match="group"):
        prepared(tmp_path / "c", rows, split={"by": "group", "column": "渠道"})
    with pytest.raises(RecipeError, match=r"columns: \{time: '时间'\}"):
        prepared(tmp_path / "d", rows, split={"by": "time", "column": "时间"})
    with pytest.raises(RecipeError, match="divides by time only"):
        prepared(tmp_path / "e", rows, split={"by": "last", "test": "2024-03-01"})


MEASURE = """
import json, resource, sys
from zhumo.prepare.histories import Interactions, Taken, leave_one_out

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)

count = int(sys.argv[1])
users, items = [f"user{n}" for n in range(count // 150)], [f"item{n}" for n in range(20_000)]
before = peak()
stream = Interactions()
for n in range(count):
    user, item = users[n * 7919 % len(users)], items[n * n % len(items)]
    stream.add({"user": user, "item": item, "time": float(n * 31 % count)})
rows = leave_one_out(Taken(stream, dedupe=True)).parts["train"]
kept = sum(len(row["items"]) for row in rows)
print(json.dumps({"items": kept, "bytes": (peak() - before) / count}))
"""


def test_twenty_five_million_interactions_would_fit_in_four_gigabytes() -> None:
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, "1000000"], capture_output=True, text=True, check=True
    )  # fmt: skip
    found = json.loads(done.stdout)
    assert found["items"] > 980_000
    assert found["bytes"] * 25e6 < 4e9


def test_titles_beside_interactions_are_those_of_the_training(tmp_path: Path) -> None:
    state = load_task(prepared(tmp_path, orders())).state
    assert dict(zip(state["items"], state["catalogue"]["title"], strict=True))["i5"] == "物5"


def test_a_column_may_begin_late_or_never() -> None:
    rows = [{**row, "shop": None, "town": "港" if row["item"] == "d" else ""} for row in rows_of(BY_HAND)]
    found = taken(rows, ["shop", "town"])
    dealt = by_moment(found, 7.0, 11.0, ["shop", "town"])
    assert [(row["user"], row["shop"], row["town"]) for row in dealt.parts["train"]] == [
        ("ann", None, "港"), ("ben", None, None), ("cho", None, None), ("eva", None, None),
    ]  # fmt: skip
    assert dealt.parts["train"].last("shop") == {} and dealt.parts["train"].last("town") == {"d": "港"}
