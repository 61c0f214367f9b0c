"""The rows of the desk and of intents: every bar has its measure, and overlap is counted as its source counts it."""

import tomllib

import pytest

from benchmarks import intents, retrieval, support
from benchmarks.harness import HERE


def test_every_bar_has_its_measure() -> None:
    bars = tomllib.loads((HERE / "bars.toml").read_text(encoding="utf-8"))
    assert set(support.LEADING) == set(bars["support"]) and set(intents.LEADING) == set(bars["intents"])
    rows = [f"{kind}recall@{k}" for kind in ("zero_shot.", "") for k in retrieval.FIRST]
    assert set(bars["retrieval"]) == {
        f"{name}.{row}" for name in retrieval.ASKED_BY for row in [*rows, "over_bm25", "reranked.recall@1"]
    }


@pytest.mark.parametrize(("said", "answer", "overlap"), [
    ("The Broncos won.", "the broncos", 2 / 3),  # articles are no words: {broncos, won} and {broncos}
    ("in 1998 in Paris", "in 1998", 2 / 3),  # a word counts as often as both say it
    ("北京大学", "北京", 2 / 3),
    ("2008年", "2008 年", 1.0),
    ("nothing", "at all", 0.0),
])  # fmt: skip
def test_overlap_is_counted_as_squad_and_cmrc_do(said: str, answer: str, overlap: float) -> None:
    assert support.f1(said, answer) == support.f1(answer, said) == pytest.approx(overlap)


def test_shots_are_ten_of_each_label_and_the_same_for_a_seed() -> None:
    rows = [{"text": f"{label} {number}", "label": label} for label in ("b", "a") for number in range(30)]
    drawn = intents.shots(rows, 1)
    assert [row["label"] for row in drawn] == ["a"] * 10 + ["b"] * 10 and len({row["text"] for row in drawn}) == 20
    assert drawn == intents.shots(rows, 1) != intents.shots(rows, 2)
