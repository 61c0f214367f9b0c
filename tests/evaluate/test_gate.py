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
    assert check(f"{compare} {bound!r}", value, None) is expected


@given(compares, numbers, numbers, numbers, st.sampled_from("*+-"))
def test_a_changed_baseline_is_the_bound(compare: str, value: float, baseline: float, by: float, change: str) -> None:
    bound = {"*": baseline * by, "+": baseline + by, "-": baseline - by}[change]
    assert parse(f"{compare}baseline {change}{by!r}").bound(baseline) == bound
    assert check(f"{compare} baseline {change} {by!r}", value, baseline) is COMPARE[compare](value, bound)


@given(compares, numbers)
def test_exactly_one_of_a_comparison_and_its_opposite_holds(compare: str, value: float) -> None:
    opposite = {">=": "<", "<": ">=", "<=": ">", ">": "<="}[compare]
    assert check(f"{compare} baseline", value, 0.5) is not check(f"{opposite} baseline", value, 0.5)


@given(compares)
def test_what_is_no_number_holds_against_nothing(compare: str) -> None:
    assert not check(f"{compare} 0.5", math.nan, None)
    assert not check(f"{compare} baseline", 0.5, None)


@given(st.text(max_size=40))
def test_any_text_is_a_rule_or_a_recipe_error(text: str) -> None:
    try:
        rule = parse(text)
    except RecipeError:
        return
    assert rule.compare in text and ("baseline" in text) is rule.relative


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
