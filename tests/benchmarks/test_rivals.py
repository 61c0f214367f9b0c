"""What rivals are measured by: the textbook against plain loops, and answers kept as what they hit."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from benchmarks import report, rivals, speed
from zhumo.metrics import rank
from zhumo.tasks import Row


def some_rows(seed: int, users: int, items: int) -> list[Row]:
    chance = np.random.default_rng(seed)
    rows = []
    for _ in range(users):
        taken = [str(item) for item in chance.permutation(items)[: chance.integers(4, 9)]]
        rows.append({"items": taken[:-2], "next": taken[-2:] if chance.random() < 0.3 else taken[-1:]})
    return rows


def plainly(train: list[Row], row: Row, *, new: bool) -> list[str]:
    """Markov and cosine item-kNN, as one would write them down."""
    items = sorted({item for one in train for item in one["items"]})
    owners = {item: {user for user, one in enumerate(train) if item in one["items"]} for item in items}
    steps = [pair for one in train for pair in pairwise(one["items"])]
    known = [item for item in row["items"] if item in owners]
    markov = np.array([steps.count((known[-1], item)) for item in items], dtype=float)
    near = np.zeros(len(items))
    for place, item in enumerate(items):
        for other in set(known) - {item}:
            near[place] += len(owners[item] & owners[other]) / np.sqrt(len(owners[item]) * len(owners[other]))
    scores = markov / max(markov.max(), 1e-9) + near / max(near.max(), 1e-9)
    if new:
        scores[[items.index(item) for item in known]] = -1
    return [items[place] for place in np.argsort(-scores, kind="stable")[:10]]


@pytest.mark.parametrize("new", [True, False])
def test_textbook_is_that_of_plain_loops(new: bool) -> None:
    rows = some_rows(0, 40, 30)
    expected = rivals.places([plainly(rows, row, new=new) for row in rows], rows)
    found = rivals.textbook(rows, rows)
    np.testing.assert_array_equal(found.new if new else found.again, expected)


def test_hits_keep_every_measure() -> None:
    rows = some_rows(1, 200, 30)
    chance = np.random.default_rng(2)
    where = rivals.places([[str(item) for item in chance.permutation(30)[:10]] for _ in rows], rows)
    kept = rivals.to_hits(where)
    assert len(kept) == 3 * len(rows)
    again = rivals.from_hits(kept, rows)
    for measure in (rank.ndcg, rank.hit, rank.mrr):
        np.testing.assert_array_equal(measure(again, 10).values, measure(where, 10).values)


def test_a_recorded_run_answers_only_the_rows_it_was_asked(tmp_path: object, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = some_rows(3, 20, 12)
    monkeypatch.setattr(rivals, "RESULTS", tmp_path)
    monkeypatch.setattr("benchmarks.harness.RESULTS", tmp_path)
    lists = [[*row["next"], "x"] for row in rows]
    curve = [
        {"epoch": 1, "wall": 2.0, "cpu": 1.5, "ndcg@10": 0.5},
        {"epoch": 2, "wall": 4.0, "cpu": 3.0, "ndcg@10": 0.4},
    ]
    found = {"answers": {"new": lists, "again": lists}, "curve": curve, "ended": "epochs", "threads": 1}
    rivals.keep("beauty", "rectools-sasrec", found, rows, ["python", "script"])
    kept = rivals.recorded("beauty", "rectools-sasrec", rows)
    assert kept is not None
    assert kept.ndcg.value == 1.0
    assert kept.seconds == (2.0, 1.5)
    assert kept.facts["epochs"] == "1 of 2"
    with pytest.raises(ValueError, match="other rows"):
        rivals.recorded("beauty", "rectools-sasrec", rows[1:])
    assert rivals.recorded("beauty", "rectools-esasrec", rows) is None


def test_a_run_ended_by_hand_counts_as_none_where_more_minutes_are_asked(
    tmp_path: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = some_rows(3, 20, 12)
    monkeypatch.setattr(rivals, "RESULTS", tmp_path)
    monkeypatch.setattr("benchmarks.harness.RESULTS", tmp_path)
    lists = [row["next"] for row in rows]
    found = {"answers": {"new": lists, "again": lists}, "ended": "minutes", "minutes": 30.0}
    assert rivals.given("beauty", "rectools-sasrec") == 0
    rivals.keep("beauty", "rectools-sasrec", found, rows, ["python", "script"])
    assert rivals.given("beauty", "rectools-sasrec") == 30
    rivals.keep("beauty", "rectools-sasrec", {**found, "ended": "hand"}, rows, ["python", "script"])
    assert rivals.given("beauty", "rectools-sasrec") == 0


@pytest.mark.parametrize("name", report.pages())
def test_a_page_shows_what_was_measured(name: str) -> None:
    docs = Path(report.__file__).parents[1] / "docs"
    assert (docs / name).read_text(encoding="utf-8") == report.pages()[name], "run python -m benchmarks.report"


@pytest.mark.parametrize(
    ("ratio", "name", "times"), [(2.0, "decode", 2.0), (0.5, "learn.wall", 2.0), (0.5, "decode", 0.5)]
)
def test_time_is_turned_into_speed(ratio: float, name: str, times: float) -> None:
    row = {"name": name, "value": 1.0, "unit": " s", "peer": "a & b", "peer_value": 2.0, "ratio": ratio,
           "at_least": 0.8, "date": "2026-11-24", "cpu": "x"}  # fmt: skip
    found = speed.faster(("what", "什么"), row)
    assert found.times == times and found.asked == pytest.approx(1.25 if name == "learn.wall" else 0.8)
    drawn = speed.plot([found], "zh")
    assert "不用它" in speed.table([speed.faster(("what", "什么"), {**row, "peer": "ourselves without"})], "zh")
    assert "什么 · a &amp; b" in drawn and ('class="behind"' in drawn) == (times < 1)


def test_the_report_shows_how_a_library_learned() -> None:
    curve = [
        {"epoch": epoch, "wall": 120.0 * epoch, "cpu": 60.0 * epoch, "ndcg@10": 0.01 * epoch} for epoch in range(1, 21)
    ]
    run = {"curve": curve, "settings": {"n_factors": 64}, "version": "1", "ended": "minutes", "threads": 1, "load": 2.0,
           "date": "2026-11-23"}  # fmt: skip
    said = report.libraries({"beauty-rectools-sasrec": run})
    assert "| beauty-rectools-sasrec | 1 | n_factors 64 | 0.0100 at 1.0 (2.0) min, " in said
    assert "0.2000 at 20.0 (40.0) min | 20 of 20: 0.2000 | minutes | 2026-11-23, 1 threads, load 2.0 |" in said
    assert said.count(" min,") <= report.CURVE + 1
