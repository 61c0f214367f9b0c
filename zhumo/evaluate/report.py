"""The report: what was asked, what was measured and beside what, and what it cost. Plain data, in memory as in JSON.

`report.json` is this dictionary; its `format` grows when a field changes its meaning. A number that does not exist
(a measure of nothing, an overflow) is null.
"""

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal, TypedDict

import numpy as np

from zhumo.errors import RecipeError, nearest
from zhumo.evaluate.gate import check, parse
from zhumo.evaluate.voice import Voice, chance, figure
from zhumo.metrics.calibration import coverage_curve, reliability
from zhumo.metrics.measure import Measure
from zhumo.tasks import Row
from zhumo.words import LANGUAGES

FORMAT = 1
SURE = 0.05  # a difference counts where chance would show it less often than this
SHOWN = 12  # groups of a slice that are shown, the weakest of more; the others are counted
FEWEST = 20  # rows of a group worth showing, where there are many groups
CURVE = 100  # points of a curve
BANDS = (0, 5, 20, 100)  # where counts of people and things are divided: at most 5 is a cold user or a cold item
COMMON = frozenset(("the", "and", "to", "of", "a", "is", "i", "it"))  # a tenth of English and more
Kind = Literal["model", "variant", "baseline"]
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
    """The rows that share a value of a slice. weak: not too few to tell, and their whole interval is worse than the
    value over all rows."""

    value: str
    n: int
    score: Value
    baseline: float | None
    weak: bool


class Slice(TypedDict):
    """The leading measure apart for each value of a column; others: rows of groups that are not shown."""

    name: str
    automatic: bool
    groups: list[Group]
    others: int


class Protocol(TypedDict):
    """The leading measure of all contenders, the served answer first, when they are asked in one of several ways.

    p_better of a contender: of "the served answer is not better than it, asked this way".
    """

    name: str
    said: Said
    contenders: list[Rival]


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

    protocol: how everything was measured; protocols: the same question asked in several ways, the leading one first.
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


def gates(rules: Mapping[str, str], served: Contender, baselines: Sequence[Contender]) -> list[Gate]:
    """Every rule of the recipe held against what was measured.

    Raises:
        RecipeError: a rule names no measure of this task.
    """
    known = list(served.measures)
    for name in rules:
        if name not in known:
            raise RecipeError("gate.unknown", name=name, near=nearest(name, known) or known[0], known=", ".join(known))
    return [_gate(name, rule, served.measures[name].value, best(baselines, name)) for name, rule in rules.items()]


def _gate(name: str, rule: str, value: float, rival: Contender | None) -> Gate:
    baseline = rival.measures[name].value if rival else None
    return {
        "name": name,
        "rule": rule,
        "bound": number(parse(rule).bound(baseline)),
        "value": number(value),
        "holds": check(rule, value, baseline),
    }


def slices(
    rows: Sequence[Row],
    columns: Sequence[str],
    lead: Measure,
    rival: Measure | None,
    takers: Mapping[str, int] | None = None,
) -> list[Slice]:
    """The leading measure by the columns the recipe names, and by what the rows have anyway.

    takers: how many training rows hold an item. A measure that does not speak of every row has no slices.
    """
    if len(lead.values) != len(rows):
        return []
    looks: list[tuple[str, bool, dict[str, list[int]]]] = [
        (column, False, _members([row.get(column) for row in rows])) for column in columns
    ]
    if all(isinstance(row.get("text"), str) for row in rows):
        looks.append(("length", True, _members([len(row["text"]) for row in rows])))
    if all(isinstance(row.get("items"), list) for row in rows):
        looks.append(("history", True, _banded([len(row["items"]) for row in rows])))
    if takers and all(row.get("next") for row in rows):
        among = [float(np.median([takers.get(item, 0) for item in row["next"]])) for row in rows]
        looks.append(("target", True, _banded(among)))
    if all("label" in row for row in rows) and "label" not in columns:
        looks.append(("label", True, _members([row["label"] for row in rows])))
    found = [_slice(name, automatic, members, lead, rival) for name, automatic, members in looks]
    return [one for one in found if len(one["groups"]) > 1]


def _slice(name: str, automatic: bool, indices: Mapping[str, list[int]], lead: Measure, rival: Measure | None) -> Slice:
    members = {value: np.array(index) for value, index in indices.items()}
    shown = list(members)
    if len(members) > SHOWN:
        sign = 1 if lead.higher_is_better else -1
        able = [value for value, index in members.items() if len(index) >= FEWEST]
        shown = sorted(able, key=lambda value: sign * lead.reduce(lead.values[members[value]]))[:SHOWN]
    others = sum(len(index) for value, index in members.items() if value not in shown)
    groups = [_group(value, members[value], lead, rival) for value in shown]
    return {"name": name, "automatic": automatic, "groups": groups, "others": others}


def _members(values: Sequence[Any]) -> dict[str, list[int]]:
    """The rows of each value, in its order; numbers of many values in thirds; a row with a list has several."""
    numeric = all(isinstance(value, int | float) for value in values)
    groups = _thirds(values) if numeric and len(set(values)) > SHOWN else list(values)
    members: dict[Any, list[int]] = {}
    for index, group in enumerate(groups):
        for value in group if isinstance(group, list) else [group]:
            members.setdefault(value, []).append(index)
    order = sorted(members, key=lambda value: values[members[value][0]] if numeric else -len(members[value]))
    return {"–" if value is None else str(value): members[value] for value in order}


def _banded(counts: Sequence[float]) -> dict[str, list[int]]:
    """The rows of each band of counts, the smallest first."""
    names = [str(BANDS[0]), *(f"{low + 1} – {high}" for low, high in pairwise(BANDS)), f"> {BANDS[-1]}"]
    band = np.searchsorted(BANDS, counts)
    return {name: there.tolist() for index, name in enumerate(names) if len(there := np.flatnonzero(band == index))}


def _thirds(values: Sequence[float]) -> list[str]:
    """For each number the third it lies in, named by the numbers that are there."""
    array = np.array(values, dtype=float)
    part = np.searchsorted(np.quantile(array, [1 / 3, 2 / 3]), array, side="left")
    names = {one: f"{figure(array[part == one].min())} – {figure(array[part == one].max())}" for one in set(part)}
    return [names[one] for one in part]


def _group(value: str, index: np.ndarray, lead: Measure, rival: Measure | None) -> Group:
    score = value_of(Measure(lead.name, lead.values[index], lead.reduce, lead.higher_is_better))
    nearest_end, sign = (score["high"], 1) if lead.higher_is_better else (score["low"], -1)
    return {
        "value": value,
        "n": len(index),
        "score": score,
        "baseline": number(rival.reduce(rival.values[index])) if rival else None,
        "weak": len(index) >= FEWEST and nearest_end is not None and sign * (nearest_end - lead.value) < 0,
    }


def weak_groups(parts: Iterable[Slice], voice: Voice) -> list[str]:
    """The groups that are surely worse than the whole."""
    found = [(part, group) for part in parts for group in part["groups"] if group["weak"]]
    return [f"{voice.column(part['name'], part['automatic'])} {group['value']}" for part, group in found]


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
