"""The gate: what must hold before a model may be deployed, in a grammar small enough to read at a glance.

    rule  = (">=" | "<=" | ">" | "<") bound
    bound = number | "baseline" [("*" | "+" | "-") number]

`baseline` is the best baseline's value of the same measure. A rule is parsed by hand and never run as code.
"""

import operator
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from zhumo.errors import RecipeError

COMPARE: Mapping[str, Callable[[float, float], bool]] = {
    ">=": operator.ge, "<=": operator.le, ">": operator.gt, "<": operator.lt,
}  # fmt: skip
CHANGE: Mapping[str, Callable[[float, float], float]] = {"*": operator.mul, "+": operator.add, "-": operator.sub}
_NUMBER = r"[-+]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][-+]?\d+)?"
_RULE = re.compile(rf"\s*(>=|<=|>|<)\s*(?:({_NUMBER})|baseline(?:\s*([*+-])\s*({_NUMBER}))?)\s*", re.ASCII)


@dataclass(frozen=True)
class Rule:
    """One rule, understood. number: the bound itself, or by what `change` alters the baseline; None: as it is."""

    compare: str
    number: float | None
    change: str | None
    relative: bool

    def bound(self, baseline: float | None) -> float:
        """The number a value is held against; not a number where the rule needs a baseline and there is none."""
        if not self.relative:
            return self.number or 0.0
        if baseline is None:
            return float("nan")
        return baseline if self.change is None else CHANGE[self.change](baseline, self.number or 0.0)


def parse(rule: str) -> Rule:
    """Understand a rule.

    Raises:
        RecipeError: it is not in the grammar.
    """
    found = _RULE.fullmatch(rule)
    if found is None:
        raise RecipeError("gate.bad_rule", rule=rule[:80])
    compare, number, change, by = found.groups()
    digits = by if number is None else number
    return Rule(compare, float(digits) if digits else None, change, relative=number is None)


def check(rule: str, value: float, baseline: float | None) -> bool:
    """Whether `value` holds against the rule. What is not a number holds against nothing."""
    understood = parse(rule)
    return COMPARE[understood.compare](value, understood.bound(baseline))
