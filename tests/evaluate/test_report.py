"""What the report concludes: verdicts, groups and digits, from real answers of the baselines on banking77."""

import math
from pathlib import Path

import numpy as np
import pytest
from banking import rows
from hypothesis import given
from hypothesis import strategies as st

from zhumo.evaluate.plots import Axis, axis, lines, strip
from zhumo.evaluate.report import Contender, best, chances, languages, ranked, value_of, verdict
from zhumo.evaluate.slices import SHOWN, looks, slices, weakness
from zhumo.evaluate.voice import Voice, chance, figure
from zhumo.metrics.measure import Measure
from zhumo.tasks.classify import Classify

finite = st.floats(-1e9, 1e9, allow_nan=False)


def contender(name: str, values: list[float], *, higher: bool = True, lead: str = "accuracy") -> Contender:
    return Contender(name, "baseline", {lead: Measure(lead, np.array(values), higher_is_better=higher)})


@pytest.fixture(scope="module")
def real(shared: Path) -> dict[str, Contender]:
    """The baselines of classify on ten intents."""
    train, test = rows(shared, "train"), rows(shared, "test")
    task = Classify(None, 16)
    task.learn(train)
    answers = {name: fit(task, train, test) for name, fit in task.baselines.items()}
    return {
        name: Contender(name, "baseline", {measure.name: measure for measure in task.score(said, test)})
        for name, said in answers.items()
    }


def test_the_verdict_on_real_answers(real: dict[str, Contender]) -> None:
    good, poor = real["tfidf"], real["majority"]
    found = chances([good, poor], "accuracy")
    assert verdict(good, [poor], "accuracy", found)[0] == "better"
    worse, said = verdict(poor, [good], "accuracy", found)
    assert worse == "worse" and "not better" in said["en"] and "不优于" in said["zh"]
    assert verdict(good, [], "accuracy", found)[0] == "alone"
    assert ranked([poor, good], "accuracy") == [good, poor] and best([poor, good], "log_loss") == good


def test_a_difference_chance_could_make_is_not_called_better() -> None:
    some = [1.0] * 52 + [0.0] * 48
    other = [1.0] * 30 + [0.0] * 20 + [1.0] * 20 + [0.0] * 30
    one, two = contender("one", some), contender("two", other)
    found = chances([one, two], "accuracy")
    assert verdict(one, [two], "accuracy", found)[0] == "same"
    assert found["one"]["two"] + found["two"]["one"] >= 1.0


def test_less_is_better_where_the_measure_says_so() -> None:
    generator = np.random.default_rng(0)
    low, high = (
        contender(name, list(base + generator.random(50)), higher=False) for name, base in (("low", 1.0), ("high", 2.0))
    )
    found = chances([high, low], "accuracy")
    assert ranked([high, low], "accuracy") == [low, high]
    assert verdict(low, [high], "accuracy", found)[0] == "better"
    assert verdict(high, [low], "accuracy", found)[0] == "worse"


def test_rivals_without_the_measure_or_on_other_rows_are_not_compared() -> None:
    one, few, other = (
        contender("one", [1.0, 0.0, 1.0]),
        contender("few", [1.0]),
        contender("other", [1.0] * 3, lead="f1"),
    )
    found = chances([one, few, other], "accuracy")
    assert found == {"one": {}, "few": {}}
    assert verdict(one, [few, other], "accuracy", found)[0] == "alone"


@given(st.lists(st.integers(0, 10_000), min_size=1, max_size=200))
def test_every_row_is_in_exactly_one_group_of_a_number(ages: list[int]) -> None:
    lead = Measure("accuracy", np.ones(len(ages)))
    parts = looks([{"age": age} for age in ages], ["age"])
    for part in slices(parts, lead, None, weakness(parts, lead)):
        assert sum(group["n"] for group in part["groups"]) == len(ages) and part["others"] == 0
        assert len(part["groups"]) <= SHOWN and not any(group["weak"] for group in part["groups"])


def test_of_many_groups_the_weakest_are_shown_and_the_others_counted(real: dict[str, Contender]) -> None:
    cities = [f"city {index % 40}" for index in range(2000)]
    right = np.array([0.0 if city == "city 7" else 1.0 for city in cities])
    parts, lead = looks([{"city": city} for city in cities], ["city"]), Measure("accuracy", right)
    (part,) = slices(parts, lead, None, weakness(parts, lead))
    assert part["groups"][0]["value"] == "city 7" and part["groups"][0]["weak"]
    assert len(part["groups"]) == SHOWN and part["others"] == 2000 - SHOWN * 50


def test_a_row_with_several_labels_is_in_each_of_their_groups() -> None:
    table = [{"label": ["a", "b"]}, {"label": ["b"]}, {"label": []}]
    (part,) = slices(looks(table), Measure("accuracy", np.array([1.0, 0.0, 1.0])), None, {})
    assert {group["value"]: (group["n"], group["score"]["value"]) for group in part["groups"]} == {
        "a": (1, 1.0),
        "b": (2, 0.5),
    }


def test_numbers_json_cannot_hold_are_null() -> None:
    value = value_of(Measure("loss", np.array([1.0, math.inf]), higher_is_better=False))
    assert value["value"] is None and value["n"] == 2
    assert "circle" not in strip(value, Axis(0, 1, (0, 1)), "model", None)


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "–"), (math.nan, "–"), (0, "0"), (3, "3"), (3080, "3,080"), (0.0831, "0.0831"), (0.9068, "0.907"),
     (1.0, "1.000"), (12.345, "12.35"), (940.0, "940"), (123.45, "123.5"), (-0.5, "-0.500"), (1234567.8, "1,234,568")],
)  # fmt: skip
def test_a_number_has_as_many_digits_as_it_is_worth(value: float | None, text: str) -> None:
    assert figure(value) == text


def test_chances_times_and_names_are_said() -> None:
    assert (chance(None), chance(0.000999), chance(0.04995)) == ("–", "< 0.001", "= 0.050")
    english, chinese = Voice("en"), Voice("zh")
    assert (english.time(0.0034), english.time(83.2), english.time(180.0)) == ("3.40 ms", "83.20 s", "3 min")
    assert (english.metric("ndcg@10"), chinese.metric("hit@5"), english.metric("nobody_knows")) == (
        "NDCG@10",
        "命中率@5",
        "nobody_knows",
    )


def test_languages_are_told_only_where_they_are_sure(shared: Path) -> None:
    english = [row["text"] for row in rows(shared, "test")]
    assert languages(english, 0.0) == ["en"]
    assert languages(["这件衣服很好"], 1.0) == ["zh"] and languages(["Das Kleid passt mir nicht"], 0.0) == []


@given(st.lists(finite, min_size=1, max_size=20))
def test_an_axis_holds_every_value_and_its_ticks_are_round_and_rising(values: list[float]) -> None:
    found = axis(values)
    assert all(0 <= found.at(value) <= 1 for value in values)
    assert list(found.ticks) == sorted(found.ticks) and len(found.ticks) <= 8
    assert all(-1e-9 <= found.at(tick) <= 1 + 1e-9 for tick in found.ticks)


def test_a_curve_is_drawn_inside_its_frame() -> None:
    drawn = lines([("curve", [(1.0, 5.0), (50.0, 0.1)]), ("faint", [(2.0, 4.0)])], "loss", from_zero=True)
    assert drawn.count("<path") == 2 and 'role="img"' in drawn and "nan" not in drawn
