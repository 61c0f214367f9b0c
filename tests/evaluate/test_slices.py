"""Where it is worst: what is planted is found, what is chance is not, whatever the measure."""

from pathlib import Path

import numpy as np
import pytest
from banking import HOSTILE, rows

from zhumo.evaluate.report import SURE
from zhumo.evaluate.slices import FEWEST, SHUFFLES, corrected, looks, weakness, words, worst
from zhumo.metrics.measure import Measure
from zhumo.metrics.text import ratio
from zhumo.tasks import Row


@pytest.fixture(scope="module")
def texts(shared: Path) -> list[Row]:
    """Ten intents of banking77, 400 rows."""
    return list(rows(shared, "test"))


def right(count: int, share: float = 0.9) -> np.ndarray:
    return (np.random.default_rng(1).random(count) < share).astype(float)


def test_a_word_on_which_it_fails_is_found_and_named_once(texts: list[Row]) -> None:
    values, parts = right(len(texts)), [*looks(texts, ["<b>channel</b>"]), words(texts)]
    values[words(texts).members["refund"]] = 0.0
    found = worst(parts, Measure("accuracy", values), weakness(parts, Measure("accuracy", values)))
    assert found["looked"] > 50 and found["fewest"] == FEWEST
    first = found["groups"][0]
    assert first["n"] >= FEWEST and first["score"]["value"] < first["rest"] and first["p"] < SURE
    named = [(group["name"], group["value"]) for group in found["groups"]]
    # The intent of nearly the same rows says the same, so one of the two is named.
    assert len({("word", "refund"), ("label", HOSTILE)} & set(named)) == 1
    assert ("<b>channel</b>", "app") not in named


def test_chance_is_hardly_ever_named(texts: list[Row]) -> None:
    parts = [*looks(texts, ["<b>channel</b>"]), words(texts)]
    alarms = 0
    for seed in range(20):
        values = (np.random.default_rng(seed).random(len(texts)) < 0.95).astype(float)
        lead = Measure("accuracy", values)
        alarms += bool(worst(parts, lead, weakness(parts, lead))["groups"])
    assert alarms <= 3  # of 20, where one is expected


def test_without_correction_chance_would_be_named_often(texts: list[Row]) -> None:
    """The reason for all this: the strongest of a hundred groups looks sure by itself."""
    part, lead = words(texts), Measure("accuracy", right(len(texts)))
    together = weakness([part], lead)
    word = min(together, key=lambda key: together[key])
    alone = weakness([type(part)("word", True, {word[1]: part.members[word[1]]})], lead)
    assert alone[word] < together[word]


def test_a_ratio_is_held_to_the_same(texts: list[Row]) -> None:
    """Bits per byte is no mean over rows, and less is better."""
    sizes = np.array([len(row["text"]) for row in texts], dtype=float)
    bits = sizes * np.random.default_rng(2).normal(2.0, 0.2, len(sizes))
    label = texts[0]["label"]
    there = np.array([row["label"] == label for row in texts])
    bits[there] *= 1.3
    lead = Measure("bits_per_byte", np.column_stack([bits, sizes]), ratio, higher_is_better=False)
    parts = looks(texts)
    found = worst(parts, lead, weakness(parts, lead))
    assert [(group["name"], group["value"]) for group in found["groups"]] == [("label", label)]
    assert found["groups"][0]["score"]["value"] > found["groups"][0]["rest"]


def test_shares_of_a_mean_are_its_values_and_of_a_ratio_add_up_to_it() -> None:
    table = np.random.default_rng(3).random((50, 2)) + 1
    assert (Measure("mean", table[:, 0]).shares() == table[:, 0]).all()
    lead = Measure("ratio", table, ratio)
    assert lead.shares().mean() == pytest.approx(lead.value, rel=1e-3)


def test_too_few_rows_are_not_tested_and_equal_ones_are_not_worse(texts: list[Row]) -> None:
    parts = looks(texts[:10])
    assert weakness(parts, Measure("accuracy", right(10))) == {}
    assert weakness(looks(texts), Measure("accuracy", np.ones(len(texts)))) == {}


def test_corrected_chances_rise_with_the_statistics_and_count_every_draw() -> None:
    generator = np.random.default_rng(4)
    p = corrected(np.array([9.0, 2.0, 2.5]), iter([generator.normal(size=(3, SHUFFLES))]))
    assert p[0] == 1 / (SHUFFLES + 1) and p[0] < p[2] <= p[1]


def test_what_a_wanted_item_is_parts_the_rows_and_titles_do_not() -> None:
    catalogue = {f"i{index}": {"title": f"title {index}", "category": ["drama", "war"][: 1 + index % 2], "price": index}
                 for index in range(60)}  # fmt: skip
    asked: list[Row] = [{"items": ["x"], "next": [f"i{index}"]} for index in range(60)]
    found = {look.name: look.members for look in looks(asked, takers={"i1": 3}, catalogue=catalogue)}
    assert {value: len(index) for value, index in found["next.category"].items()} == {"drama": 60, "war": 30}
    assert len(found["next.price"]) == 3 and "next.title" not in found
