"""The gate: what must hold before a model may be deployed, in a grammar small enough to read at a glance.

    rule  = (">=" | "<=" | ">" | "<") bound
    bound = number | ("baseline" | "old") [("*" | "+" | "-") number]

`baseline` is the best baseline's value of the same measure, `old` that of the bundle it is to replace. A rule is parsed
by hand and never run as code.
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
_RULE = re.compile(rf"\s*(>=|<=|>|<)\s*(?:({_NUMBER})|(baseline|old)(?:\s*([*+-])\s*({_NUMBER}))?)\s*", re.ASCII)


@dataclass(frozen=True)
class Rule:
    """One rule, understood. number: the bound itself, or by what `change` alters the value of `rival`; None: as it
    is."""

    compare: str
    number: float | None
    change: str | None
    rival: str | None

    def bound(self, values: Mapping[str, float]) -> float:
        """The number a value is held against. values: of the rivals a rule may name; not a number where the rule names
        one that is not there."""
        if self.rival is None:
            return self.number or 0.0
        value = values.get(self.rival, float("nan"))
        return value if self.change is None else CHANGE[self.change](value, self.number or 0.0)


def parse(rule: str) -> Rule:
    """Understand a rule.

    Raises:
        RecipeError: it is not in the grammar.
    """
    found = _RULE.fullmatch(rule)
    if found is None:
        raise RecipeError("gate.bad_rule", rule=rule[:80])
    compare, number, rival, change, by = found.groups()
    digits = by if number is None else number
    return Rule(compare, float(digits) if digits else None, change, rival)


def check(rule: str, value: float, values: Mapping[str, float]) -> bool:
    """Whether `value` holds against the rule. What is not a number holds against nothing."""
    understood = parse(rule)
    return COMPARE[understood.compare](value, understood.bound(values))
