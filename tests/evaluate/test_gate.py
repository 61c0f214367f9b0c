"""The gate's grammar: it accepts what it should, means what it says, and nothing else gets through."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zhumo.errors import RecipeError
from zhumo.evaluate.gate import COMPARE, check, parse

numbers = st.floats(-1e9, 1e9, allow_nan=False)
compares = st.sampled_from(sorted(COMPARE))


@given(compares, numbers, numbers)
def test_a_number_is_compared_as_python_compares_it(compare: str, value: float, bound: float) -> None:
    expected = {">=": value >= bound, "<=": value <= bound, ">": value > bound, "<": value < bound}[compare]
    assert check(f"{compare} {bound!r}", value, {}) is expected


@given(compares, numbers, numbers, numbers, st.sampled_from("*+-"), st.sampled_from(["baseline", "old"]))
def test_a_changed_rival_is_the_bound(
    compare: str, value: float, other: float, by: float, change: str, rival: str
) -> None:
    bound = {"*": other * by, "+": other + by, "-": other - by}[change]
    values = {"baseline": 0.0, "old": 0.0} | {rival: other}
    assert parse(f"{compare}{rival} {change}{by!r}").bound(values) == bound
    assert check(f"{compare} {rival} {change} {by!r}", value, values) is COMPARE[compare](value, bound)


@given(compares, numbers)
def test_exactly_one_of_a_comparison_and_its_opposite_holds(compare: str, value: float) -> None:
    opposite = {">=": "<", "<": ">=", "<=": ">", ">": "<="}[compare]
    assert check(f"{compare} old", value, {"old": 0.5}) is not check(f"{opposite} old", value, {"old": 0.5})


@given(compares)
def test_what_is_no_number_holds_against_nothing(compare: str) -> None:
    assert not check(f"{compare} 0.5", math.nan, {})
    assert not check(f"{compare} baseline", 0.5, {"old": 0.5})


@given(st.text(max_size=40))
def test_any_text_is_a_rule_or_a_recipe_error(text: str) -> None:
    try:
        rule = parse(text)
    except RecipeError:
        return
    assert rule.compare in text and (rule.rival or "") in text


@pytest.mark.parametrize(
    "rule",
    ["", "0.9", "= 0.9", "== 0.9", ">= ", ">= nan", ">= inf", ">= baseline * ", ">= baseline / 2", ">= 2 * baseline",
     ">= baseline * baseline", ">= __import__('os')", ">= 0.9; 1", ">= 0.9 0.9", "≥ 0.9", ">= ０.９"],
)  # fmt: skip
def test_what_is_not_in_the_grammar_is_refused_in_both_languages(rule: str) -> None:
    with pytest.raises(RecipeError) as caught:
        parse(rule)
    for language in ("en", "zh"):
        assert rule in caught.value.say(language)
