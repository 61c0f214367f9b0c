"""Where a model is weaker: the leading measure apart for groups of rows, and which of the groups are surely worse.

Groups are the values of columns, labels, bands of lengths and of counts, and the rows that hold a word. They overlap
and there are hundreds, so all are tested at once: values are shuffled over the rows, and a group counts only where
chance makes hardly any group stand so far out (Westfall & Young 1993, maxT step-down, which leaves a chance of 5% that
any group at all is named wrongly).
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import scipy.sparse as sparse

from zhumo.baselines.retrieval import terms
from zhumo.evaluate.report import SURE, Group, Slice, Weakest, Worst, number, value_of
from zhumo.evaluate.voice import Voice, figure
from zhumo.metrics.measure import Measure
from zhumo.tasks import Row

SHOWN = 12  # groups of a slice that are shown, the weakest of more; the others are counted
FEWEST = 20  # rows of a group that can be tested, and that is worth showing where there are many
BANDS = (0, 5, 20, 100)  # where counts of people and things are divided: at most 5 is a cold user or a cold item
WORDS = 2_000  # words that are looked at, the most frequent
NAMED = 8  # groups that are named as the worst
ALIKE = 0.5  # share of rows in common from which two groups say the same
SHUFFLES = 1_000
AT_ONCE = 100  # shuffles computed together
SEED = 20_241


@dataclass(frozen=True)
class Look:
    """One way of parting the rows: which rows have each value. automatic: our way, not a column of the user's."""

    name: str
    automatic: bool
    members: Mapping[str, np.ndarray]


Chances = Mapping[tuple[str, str], float]
"""For (name of a look, value) the corrected p of "no worse than the other rows"."""


def looks(
    rows: Sequence[Row],
    columns: Sequence[str] = (),
    takers: Mapping[str, int] | None = None,
    catalogue: Mapping[str, Mapping[str, Any]] | None = None,
) -> list[Look]:
    """By the columns the recipe names, and by what the rows have anyway; only what parts them.

    takers: how many training rows hold an item; catalogue: the columns of each item.
    """
    found: list[tuple[str, bool, dict[str, list[int]]]] = [
        (column, False, _members([row.get(column) for row in rows])) for column in columns
    ]
    if all(isinstance(row.get("text"), str) for row in rows):
        found.append(("length", True, _members([len(row["text"]) for row in rows])))
    if all(isinstance(row.get("items"), list) for row in rows):
        found.append(("history", True, _banded([len(row["items"]) for row in rows])))
    if takers and all(row.get("next") for row in rows):
        among = [float(np.median([takers.get(item, 0) for item in row["next"]])) for row in rows]
        found.append(("target", True, _banded(among)))
        found += [(f"next.{column}", False, _members(values)) for column, values in _wanted(rows, catalogue or {})]
    if all("label" in row for row in rows) and "label" not in columns:
        found.append(("label", True, _members([row["label"] for row in rows])))
    made = [
        Look(name, automatic, {value: np.array(index) for value, index in members.items()})
        for name, automatic, members in found
    ]
    return [look for look in made if len(look.members) > 1]


def words(rows: Sequence[Row]) -> Look:
    """The rows that hold each word, of words that are neither rare nor everywhere."""
    members: dict[str, list[int]] = {}
    for index, row in enumerate(rows):
        for word in set(terms(_text(row))):
            members.setdefault(word, []).append(index)
    able = {word: index for word, index in members.items() if FEWEST <= len(index) <= len(rows) / 2}
    frequent = sorted(able, key=lambda word: (-len(able[word]), word))[:WORDS]
    return Look("word", True, {word: np.array(able[word]) for word in frequent})


def weakness(parts: Iterable[Look], lead: Measure) -> Chances:
    """How sure it is of each group that it is worse than the other rows, all groups looked at together."""
    rows = len(lead.values)
    values = lead.shares() * (-1 if lead.higher_is_better else 1)
    values = values - values.mean()
    groups = {
        (look.name, value): index
        for look in parts
        for value, index in look.members.items()
        if FEWEST <= len(index) < rows
    }
    if not groups or not values.any():
        return {}
    matrix = incidence(groups.values(), rows)
    sizes = matrix.sum(axis=1)
    # The variance of a sum drawn without replacement.
    spread = np.sqrt(values.var() * sizes * (rows - sizes) / max(rows - 1, 1))
    generator = np.random.default_rng(SEED)
    shuffled = (
        matrix @ np.stack([generator.permutation(values) for _ in range(AT_ONCE)], axis=1) / spread[:, None]
        for _ in range(SHUFFLES // AT_ONCE)
    )
    return dict(zip(groups, corrected(matrix @ values / spread, shuffled).tolist(), strict=True))


def incidence(groups: Iterable[np.ndarray], rows: int) -> sparse.csr_array:
    """Which rows are in which group, (groups, rows)."""
    indices = list(groups)
    offsets = np.cumsum([0, *map(len, indices)])
    return sparse.csr_array((np.ones(offsets[-1]), np.concatenate(indices), offsets), shape=(len(indices), rows))


def corrected(observed: np.ndarray, by_chance: Iterable[np.ndarray]) -> np.ndarray:
    """p of each of many statistics (the larger the surer), corrected for all of them.

    by_chance: parts of (statistics, draws), the same statistics where nothing but chance is at work.
    """
    order = np.argsort(-observed)
    reached, draws = np.zeros(len(observed)), 0
    for part in by_chance:
        # What chance makes of this statistic or of any less sure one.
        highest = np.maximum.accumulate(part[order][::-1], axis=0)[::-1]
        reached += (highest >= observed[order, None]).sum(axis=1)
        draws += part.shape[1]
    p = np.empty(len(observed))
    p[order] = np.maximum.accumulate((reached + 1) / (draws + 1))
    return p


def slices(parts: Sequence[Look], lead: Measure, rival: Measure | None, sure: Chances) -> list[Slice]:
    """The leading measure by every look, the rival's beside it."""
    return [_slice(look, lead, rival, sure) for look in parts]


def worst(parts: Sequence[Look], lead: Measure, sure: Chances) -> Worst:
    """The groups that are surely worse than the other rows, the surest first."""
    able = [(look, value) for look in parts for value in look.members if sure.get((look.name, value), 1.0) < SURE]
    sign = 1 if lead.higher_is_better else -1

    def first(one: tuple[Look, str]) -> tuple[float, float]:
        """The surest; of equally sure ones the one that costs most: how far below, times how many."""
        index = one[0].members[one[1]]
        return sure[one[0].name, one[1]], sign * (lead.of(index).value - lead.value) * len(index)

    found = [_weakest(look, value, lead, sure) for look, value in distinct(sorted(able, key=first))]
    return {"looked": len(sure), "fewest": FEWEST, "groups": found}


def distinct(groups: Iterable[tuple[Look, str]]) -> list[tuple[Look, str]]:
    """The first groups; of those that share most of their rows, the first alone."""
    kept: list[tuple[Look, str]] = []
    taken: list[set[int]] = []
    for look, value in groups:
        here = set(look.members[value].tolist())
        if len(kept) < NAMED and all(len(here & other) <= ALIKE * len(here | other) for other in taken):
            kept.append((look, value))
            taken.append(here)
    return kept


def _weakest(look: Look, value: str, lead: Measure, sure: Chances) -> Weakest:
    index = look.members[value]
    others = np.setdiff1d(np.arange(len(lead.values)), index)
    return {
        "name": look.name,
        "automatic": look.automatic,
        "value": value,
        "n": len(index),
        "score": value_of(lead.of(index)),
        "rest": number(lead.of(others).value),
        "p": sure[look.name, value],
    }


def named(found: Worst, voice: Voice) -> list[str]:
    """The worst groups by name."""
    return [called(group["name"], group["automatic"], group["value"], voice) for group in found["groups"]]


def called(name: str, automatic: bool, value: str, voice: Voice) -> str:
    """What a group is called in a sentence or a list."""
    return voice("word", word=value) if automatic and name == "word" else f"{voice.column(name, automatic)}: {value}"


def _slice(look: Look, lead: Measure, rival: Measure | None, sure: Chances) -> Slice:
    shown = list(look.members)
    if len(shown) > SHOWN:
        sign = 1 if lead.higher_is_better else -1
        able = [value for value, index in look.members.items() if len(index) >= FEWEST]
        shown = sorted(able, key=lambda value: sign * lead.of(look.members[value]).value)[:SHOWN]
    others = sum(len(index) for value, index in look.members.items() if value not in shown)
    groups = [_group(look, value, lead, rival, sure) for value in shown]
    return {"name": look.name, "automatic": look.automatic, "groups": groups, "others": others}


def _group(look: Look, value: str, lead: Measure, rival: Measure | None, sure: Chances) -> Group:
    index = look.members[value]
    p = sure.get((look.name, value))
    return {
        "value": value,
        "n": len(index),
        "score": value_of(lead.of(index)),
        "baseline": number(rival.of(index).value) if rival else None,
        "weak": p is not None and p < SURE,
        "p": p,
    }


def _text(row: Row) -> str:
    """What a row says, to look for words in: its text, or all that is said in a chat."""
    if isinstance(row.get("text"), str):
        return str(row["text"])
    return " ".join(str(message.get("content", "")) for message in row.get("messages", ()))


def _wanted(rows: Sequence[Row], catalogue: Mapping[str, Mapping[str, Any]]) -> Iterator[tuple[str, list[Any]]]:
    """For each column of the catalogue what it says of the items each row wants; a column of nearly as many values as
    rows (a title) parts nothing."""
    columns = dict.fromkeys(name for about in catalogue.values() for name in about)
    for column in columns:
        values = [
            [catalogue[item][column] for item in row["next"] if column in catalogue.get(item, {})] for row in rows
        ]
        if all(isinstance(one, int | float) for line in values for one in line):
            yield column, [float(np.median(line)) if line else None for line in values]
            continue
        flat = [
            list(dict.fromkeys(str(one) for value in line for one in (value if isinstance(value, list) else [value])))
            for line in values
        ]
        counts = Counter(one for line in flat for one in line)
        if sum(count for count in counts.values() if count >= FEWEST) > len(rows) / 2:
            yield column, flat


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
