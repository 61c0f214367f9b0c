"""The report: what was asked, what was measured and beside what, and what it cost. Plain data, in memory as in JSON.

`report.json` is this dictionary; its `format` grows when a field changes its meaning. A number that does not exist
(a measure of nothing, an overflow) is null.
"""

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypedDict

import numpy as np

from zhumo.errors import RecipeError, nearest
from zhumo.evaluate.gate import check, parse
from zhumo.evaluate.voice import Voice, chance, figure
from zhumo.metrics.calibration import coverage_curve, reliability
from zhumo.metrics.measure import Measure
from zhumo.words import LANGUAGES

FORMAT = 2
SURE = 0.05  # a difference counts where chance would show it less often than this
CURVE = 100  # points of a curve
COMMON = frozenset(("the", "and", "to", "of", "a", "is", "i", "it"))  # a tenth of English and more
Kind = Literal["model", "variant", "baseline", "old"]
Verdict = Literal["better", "same", "worse", "alone"]
Said = dict[str, str]
"""A sentence by language."""
Chances = dict[str, dict[str, float]]
"""p of "not better" by contender and by whom it is held against."""


class Value(TypedDict):
    """A measure with its 95% interval over n rows."""

    name: str
    value: float | None
    low: float | None
    high: float | None
    n: int
    higher_is_better: bool


class Rival(TypedDict):
    """Something the served answer is compared with.

    p_better: on the leading measure, of "the served answer is not better than it"; null where it has no such measure.
    """

    name: str
    kind: Kind
    measures: list[Value]
    p_better: float | None


class Group(TypedDict):
    """The rows that share a value of a slice. weak: surely worse than the other rows; p: of "no worse", corrected for
    all groups that were looked at, null where they are too few to tell."""

    value: str
    n: int
    score: Value
    baseline: float | None
    weak: bool
    p: float | None


class Slice(TypedDict):
    """The leading measure apart for each value of a column; others: rows of groups that are not shown."""

    name: str
    automatic: bool
    groups: list[Group]
    others: int


class Weakest(TypedDict):
    """A group that is surely worse than the rest: what the other rows reach, and the corrected p."""

    name: str
    automatic: bool
    value: str
    n: int
    score: Value
    rest: float | None
    p: float


class Worst(TypedDict):
    """Where it is worst: of `looked` groups of at least `fewest` rows, those surely worse, the surest first."""

    looked: int
    fewest: int
    groups: list[Weakest]


class Protocol(TypedDict):
    """The leading measure of all contenders, the served answer first, when they are asked in one of several ways.

    p_better of a contender: of "the served answer is not better than it, asked this way".
    """

    name: str
    said: Said
    contenders: list[Rival]


class Setting(TypedDict):
    """A dial at a value: the leading measure, how far it is from where the dial is at its usual value (95%, paired),
    and what the dial is turned for."""

    value: float
    lead: Value
    low: float
    high: float
    gain: Value


class Dial(TypedDict):
    """What an option of the request costs: some of its values, the usual one first."""

    name: str
    settings: list[Setting]


class Bin(TypedDict):
    """Answers of about the same confidence, and how often they were right."""

    confidence: float
    accuracy: float
    n: int


class Calibration(TypedDict):
    """Whether a confidence of 0.8 is right 8 times in 10, and the error left when only the surest rows are answered."""

    error: Value
    bins: list[Bin]
    abstention: list[dict[str, float]]  # coverage, error


class Gate(TypedDict):
    """One rule of the recipe, and whether it holds."""

    name: str
    rule: str
    bound: float | None
    value: float | None
    holds: bool


class Report(TypedDict):
    """All of it.

    protocol: how everything was measured; protocols: the same question asked in several ways, the leading one first;
    dials: what is given up for what.
    served: the name of what answers; measures: its own, the leading one first; parts: a sentence for each variant;
    winner, tied: the best of all, and those it does not surely beat; chances: for each contender the p of "not better
    on the leading measure" than each of the others.
    """

    format: int
    task: str
    name: str
    created: str
    lead: str
    protocol: Said
    protocols: list[Protocol]
    dials: list[Dial]
    served: str
    measures: list[Value]
    rivals: list[Rival]
    winner: str
    tied: list[str]
    chances: Chances
    verdict: Verdict
    sentence: Said
    parts: list[Said]
    gate: list[Gate]
    slices: list[Slice]
    worst: Worst
    calibration: Calibration | None
    data: dict[str, Any]
    cost: dict[str, Any]
    model: dict[str, Any]
    curve: dict[str, list[list[float]]]
    reproduce: dict[str, Any]
    limits: list[Said]


@dataclass(frozen=True)
class Contender:
    """Who answered the test rows, and how well."""

    name: str
    kind: Kind
    measures: Mapping[str, Measure]

    def values(self, lead: str) -> list[Value]:
        """Its measures as the report holds them, the leading one first."""
        return sorted(map(value_of, self.measures.values()), key=lambda value: value["name"] != lead)


def said(sentence: str, **facts: object) -> Said:
    """A sentence of the report in every language."""
    return {language: Voice(language)(sentence, **facts) for language in LANGUAGES}


def number(value: float) -> float | None:
    """A number as JSON can hold it."""
    return float(value) if math.isfinite(value) else None


def value_of(measure: Measure) -> Value:
    """A measure with its interval."""
    value = number(measure.value)
    low, high = (math.nan, math.nan) if value is None else measure.interval()
    return {
        "name": measure.name,
        "value": value,
        "low": number(low),
        "high": number(high),
        "n": len(measure.values),
        "higher_is_better": measure.higher_is_better,
    }


def ranked(contenders: Iterable[Contender], lead: str) -> list[Contender]:
    """Best first on a measure; those without it last, in their order."""
    return sorted(contenders, key=lambda one: _goodness(one, lead), reverse=True)


def best(contenders: Iterable[Contender], lead: str) -> Contender | None:
    """The best of those that have the measure."""
    return next((one for one in ranked(contenders, lead) if _goodness(one, lead) > -math.inf), None)


def _goodness(one: Contender, lead: str) -> float:
    measure = one.measures.get(lead)
    if measure is None or math.isnan(measure.value):
        return -math.inf
    return measure.value if measure.higher_is_better else -measure.value


def chances(contenders: Sequence[Contender], lead: str) -> Chances:
    """Everyone with the leading measure against everyone else who has it for the same rows."""
    able = {one.name: one.measures[lead] for one in contenders if lead in one.measures}
    return {
        name: {
            other: mine.beats(theirs)
            for other, theirs in able.items()
            if other != name and len(theirs.values) == len(mine.values)
        }
        for name, mine in able.items()
    }


def verdict(
    one: Contender, baselines: Sequence[Contender], lead: str, found: Chances, *, part: bool = False
) -> tuple[Verdict, Said]:
    """The honest sentence: is it better than the best baseline, here, on these rows? part: more than it answers."""
    mine = one.measures[lead]
    rival = best([other for other in baselines if other.name in found[one.name]], lead)
    facts = {"value": figure(mine.value), "rows": figure(len(mine.values))}
    if rival is None:
        return "alone", _sentence("alone", one, lead, facts, part)
    p_better, p_worse = found[one.name][rival.name], found[rival.name][one.name]
    result: Verdict = "better" if p_better < SURE else "worse" if p_worse < SURE else "same"
    facts |= {"other": figure(rival.measures[lead].value), "p": chance(p_worse if result == "worse" else p_better)}
    beaten = [other.name for other in baselines if other is not rival and found[one.name].get(other.name, 1.0) < SURE]
    return result, _sentence(result, one, lead, facts, part, rival.name, beaten)


def _sentence(
    result: Verdict, one: Contender, lead: str, facts: Mapping[str, str], part: bool, rival: str = "",
    beaten: Sequence[str] = (),
) -> Said:  # fmt: skip
    told = {}
    for voice in map(Voice, LANGUAGES):
        who = voice("verdict.part" if part else "verdict.whole", who=voice.who(one.name))
        names = {"who": who, "metric": voice.metric(lead), "baseline": voice.who(rival)}
        also = (
            voice("verdict.also", others=voice.join([voice.who(name) for name in beaten]))
            if beaten and result != "better"
            else ""
        )
        told[voice.language] = voice(f"verdict.{result}", **facts, **names) + also
    return told


def gates(
    rules: Mapping[str, str], served: Contender, baselines: Sequence[Contender], old: Contender | None = None
) -> list[Gate]:
    """Every rule of a gate held against what was measured. old: the bundle that is to be replaced.

    Raises:
        RecipeError: a rule names no measure of this task.
    """
    known = list(served.measures)
    for name in rules:
        if name not in known:
            raise RecipeError("gate.unknown", name=name, near=nearest(name, known) or known[0], known=", ".join(known))
    return [_gate(name, rule, served, {"baseline": best(baselines, name), "old": old}) for name, rule in rules.items()]


def _gate(name: str, rule: str, served: Contender, rivals: Mapping[str, Contender | None]) -> Gate:
    value = served.measures[name].value
    values = {who: one.measures[name].value for who, one in rivals.items() if one and name in one.measures}
    return {
        "name": name,
        "rule": rule,
        "bound": number(parse(rule).bound(values)),
        "value": number(value),
        "holds": check(rule, value, values),
    }


def calibration(error: Measure | None) -> Calibration | None:
    """Calibration from the `ece` measure, which keeps confidence and hit of every row; None where a task has none."""
    if error is None:
        return None
    confidence, right = error.values[:, 0], error.values[:, 1]
    covered, wrong = coverage_curve(confidence, right)
    points = np.unique(np.linspace(0, len(covered) - 1, CURVE).astype(int))
    bins = reliability(confidence, right)
    return {
        "error": value_of(error),
        "bins": [{"confidence": one.confidence, "accuracy": one.accuracy, "n": one.rows} for one in bins],
        "abstention": [{"coverage": float(covered[point]), "error": float(wrong[point])} for point in points],
    }


def languages(texts: Iterable[str], chinese: float) -> list[str]:
    """The languages that are surely in the data: Chinese by its characters, English by its commonest words."""
    counts = Counter(word for text in texts for word in text.lower().split())
    total = sum(counts.values())
    english = total > 0 and sum(counts[word] for word in COMMON) / total > 0.1
    return [*(["zh"] if chinese > 0.2 else []), *(["en"] if english else [])]
