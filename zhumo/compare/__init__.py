"""Two bundles, or two runs, on the same test rows: is the new one better, where is it worse, may it replace the old?

Every measure is compared row by row (paired bootstrap), every group of rows by swapping who said what (approximate
randomization, Noreen 1989), corrected for all groups. Answers that were measured are taken as they were measured; what
was not is asked now.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Literal, TypedDict

import numpy as np

from zhumo.bundle import load, load_task
from zhumo.errors import DataError, ModelError, RecipeError
from zhumo.evaluate import answered, weights_sum
from zhumo.evaluate.gate import parse
from zhumo.evaluate.report import SURE, Contender, Gate, Said, Value, gates, number, value_of
from zhumo.evaluate.slices import (
    AT_ONCE,
    FEWEST,
    SEED,
    SHUFFLES,
    Look,
    corrected,
    distinct,
    incidence,
    looks,
    words,
)
from zhumo.evaluate.voice import Voice, chance, figure
from zhumo.metrics.measure import Measure
from zhumo.prepare import each_row, read_rows
from zhumo.tasks import Answer, Row, Task
from zhumo.words import LANGUAGES

FORMAT = 1
Outcome = Literal["better", "same", "worse"]
_GATE = re.compile(r"([^<>=\s]+)\s*([<>].*)")


class Side(TypedDict):
    """One of the two. measured: its answers are those of its own evaluation; learned: how many of the rows it was
    trained on, null where its training rows are not at hand."""

    name: str
    folder: str
    weights: str
    measured: bool
    learned: int | None


class Change(TypedDict):
    """A measure of both, over all rows or over those of a group (`name` and `value` as in a slice of the report).

    difference: new less old. p: of "not better", or "not worse" where it is worse; of a group of "no difference",
    corrected for all groups looked at.
    """

    name: str
    automatic: bool
    value: str | None
    n: int
    old: Value
    new: Value
    difference: Value
    p: float
    outcome: Outcome


class Comparison(TypedDict):
    """All of it; the leading measure first. passes: the new one may replace the old."""

    format: int
    task: str
    created: str
    old: Side
    new: Side
    rows: int
    measures: list[Change]
    looked: int
    groups: list[Change]
    gate: list[Gate]
    outcome: Outcome
    passes: bool
    sentence: Said
    notes: list[Said]


@dataclass(frozen=True)
class Model:
    """A bundle, and the run it belongs to where that is at hand."""

    folder: Path
    run: Path | None

    @classmethod
    def at(cls, path: Path) -> "Model":
        """The model of a run folder, or of a bundle.

        Raises:
            ModelError: there is none.
        """
        for folder in (path / "deploy", path / "train"):
            if (folder / "task.json").is_file():
                return cls(folder, path)
        if not (path / "task.json").is_file():
            raise ModelError("compare.no_model", path=path)
        inside = path.resolve().name in ("deploy", "train") and (path.resolve().parent / "prepare").is_dir()
        return cls(path, path.resolve().parent if inside else None)

    @cached_property
    def task(self) -> Task:
        """What it learned."""
        return load_task(self.folder)

    def measured(self) -> list[Row]:
        """The rows its own evaluation asked; none where there was none."""
        path = self.run / "evaluate" / "rows.jsonl" if self.run else None
        return read_rows(path) if path is not None and path.is_file() else []

    def answers(self, rows: Sequence[Row]) -> tuple[list[Answer], bool]:
        """What it says of the rows, and whether that was measured before."""
        if self.run is not None and rows == self.measured():
            return read_rows(self.run / "evaluate" / "answers.jsonl"), True
        return answered(load(self.folder).answer, rows), False

    def learned(self, rows: Sequence[Row]) -> int | None:
        """How many of the rows it was trained on: the same text, or a history that goes beyond the row's."""
        path = self.run / "prepare" / "train.jsonl" if self.run else None
        if path is None or not path.is_file():
            return None
        if all("items" in row for row in rows):
            known = {row["user"]: len(row["items"]) for row in each_row(path) if "user" in row}
            return sum(known.get(row.get("user"), 0) > len(row["items"]) for row in rows)
        asked = [_content(row) for row in rows]
        seen = set(asked)
        found = {content for row in each_row(path) if (content := _content(row)) in seen}
        return sum(content in found for content in asked)


def compare(old: Path, new: Path, rows: Path | None = None, gate: Sequence[str] = ()) -> Comparison:
    """Hold a new model against an old one.

    rows: test rows as `evaluate` leaves them (rows.jsonl); None: those the old one was measured on, else the new one.
    gate: rules that decide whether it passes, "MEASURE RULE", e.g. "accuracy >= old - 0.01"; none: it must not be
        surely worse on the leading measure, nor in any group of rows.

    Raises:
        ModelError: one is no bundle, or they do not do the same.
        DataError: there are no rows to compare them on.
        RecipeError: a rule is not in the grammar or names what is not there.
    """
    rules = dict(map(_rule, gate))
    before, after = Model.at(old), Model.at(new)
    if before.task.name != after.task.name:
        raise ModelError("compare.tasks", old=before.folder, does=before.task.name, new=after.folder,
                         other=after.task.name)  # fmt: skip
    asked = _rows(before, after, rows)
    sides: list[Side] = []
    contenders: list[Contender] = []
    for name, model in (("old", before), ("new", after)):
        answers, measured = model.answers(asked)
        scores = {measure.name: measure for measure in model.task.score(answers, asked)}
        contenders.append(Contender(name, "model", scores))
        sides.append({
            "name": (model.run or model.folder).resolve().name, "folder": str(model.folder),
            "weights": weights_sum(model.folder),
            "measured": measured, "learned": model.learned(asked),
        })  # fmt: skip
    one, other = contenders
    lead = after.task.metric
    changes = [
        change(one.measures[name], other.measures[name])
        for name in sorted(other.measures, key=lambda name: name != lead)
        if name in one.measures and len(one.measures[name].values) == len(other.measures[name].values)
    ]
    parts = [*looks(asked, _columns(after.task, asked)), words(asked)] if changes[0]["n"] == len(asked) else []
    looked, groups = moved(parts, one.measures[lead], other.measures[lead])
    held = gates(rules, other, [], one)
    outcome = changes[0]["outcome"]
    fine = outcome != "worse" and all(group["outcome"] != "worse" for group in groups)
    return {
        "format": FORMAT,
        "task": after.task.name,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "old": sides[0],
        "new": sides[1],
        "rows": len(asked),
        "measures": changes,
        "looked": looked,
        "groups": groups,
        "gate": held,
        "outcome": outcome,
        "passes": all(rule["holds"] for rule in held) if held else fine,
        "sentence": _sentence(changes[0]),
        "notes": [*_notes("old", sides[0]), *_notes("new", sides[1])],
    }


def change(old: Measure, new: Measure) -> Change:
    """One measure of both, and what chance makes of the difference."""
    better, worse = new.beats(old), old.beats(new)
    outcome: Outcome = "better" if better < SURE else "worse" if worse < SURE else "same"
    return _change(new.name, True, None, old, new, worse if outcome == "worse" else better, outcome)


def moved(parts: Sequence[Look], old: Measure, new: Measure) -> tuple[int, list[Change]]:
    """How many groups of rows were looked at, and those on which the two surely differ, the worse ones first.

    Where nothing but chance is at work, each row's two answers might as well have come from the other model.
    """
    groups = [(look, value) for look in parts for value, index in look.members.items() if len(index) >= FEWEST]
    if not groups:
        return 0, []
    apart = (new.shares() - old.shares()) * (1 if new.higher_is_better else -1)
    matrix = incidence([look.members[value] for look, value in groups], len(apart))
    spread = np.sqrt(np.maximum(matrix @ apart**2, np.finfo(float).tiny))
    observed = matrix @ apart / spread
    generator = np.random.default_rng(SEED)
    swapped = (
        np.abs(matrix @ (generator.choice([-1.0, 1.0], (len(apart), AT_ONCE)) * apart[:, None])) / spread[:, None]
        for _ in range(SHUFFLES // AT_ONCE)
    )
    p = corrected(np.abs(observed), swapped)
    found: list[Change] = []
    outcomes: tuple[tuple[Outcome, int], ...] = (("worse", -1), ("better", 1))
    for outcome, sign in outcomes:
        sure = sorted(np.flatnonzero((p < SURE) & (sign * observed > 0)), key=lambda place: -abs(observed[place]))
        chances = {(groups[place][0].name, groups[place][1]): float(p[place]) for place in sure}
        for look, value in distinct(groups[place] for place in sure):
            before, after = (measure.of(look.members[value]) for measure in (old, new))
            found.append(_change(look.name, look.automatic, value, before, after, chances[look.name, value], outcome))
    return len(groups), found


def _change(
    name: str, automatic: bool, value: str | None, old: Measure, new: Measure, p: float, outcome: Outcome
) -> Change:
    apart = number(new.value - old.value)
    low, high = (None, None) if apart is None else map(number, new.ahead(old))
    rows, higher = len(new.values), new.higher_is_better
    difference: Value = {
        "name": new.name, "value": apart, "low": low, "high": high, "n": rows, "higher_is_better": higher
    }  # fmt: skip
    return {
        "name": name, "automatic": automatic, "value": value, "n": rows, "old": value_of(old), "new": value_of(new),
        "difference": difference, "p": p, "outcome": outcome,
    }  # fmt: skip


def _rule(text: str) -> tuple[str, str]:
    """Measure and rule of "accuracy >= old - 0.01"."""
    found = _GATE.fullmatch(text.strip())
    if found is None or parse(found[2]).rival == "baseline":
        raise RecipeError("compare.bad_gate", rule=text[:80])
    return found[1], found[2]


def _rows(old: Model, new: Model, path: Path | None) -> list[Row]:
    if path is not None and not path.is_file():
        raise DataError("compare.no_file", path=path)
    rows = read_rows(path) if path is not None else old.measured() or new.measured()
    if not rows:
        raise DataError("compare.no_rows", old=old.folder, new=new.folder)
    return rows


def _columns(task: Task, rows: Sequence[Row]) -> list[str]:
    """The columns that were kept in the rows besides what the task asks for."""
    names = dict.fromkeys(name for row in rows for name in row if name not in task.fields)
    return [name for name in names if not any(isinstance(row.get(name), list | dict) for row in rows)]


def _content(row: Row) -> str:
    return str(row.get("text") or row.get("messages"))


def _sentence(lead: Change) -> Said:
    facts = {
        "old": figure(lead["old"]["value"]), "new": figure(lead["new"]["value"]),
        "p": chance(lead["p"]).removeprefix("= "), "rows": figure(lead["n"]),
    }  # fmt: skip
    key = f"compare.{lead['outcome']}"
    return {voice.language: voice(key, metric=voice.metric(lead["name"]), **facts) for voice in _voices()}


def _notes(name: str, side: Side) -> Iterable[Said]:
    """What a reader must know of a side before believing the numbers."""
    if side["learned"] is None:
        yield _told("compare.unknown", name)
    elif side["learned"]:
        yield _told("compare.learned", name, rows=figure(side["learned"]))


def _told(key: str, side: str, **facts: str) -> Said:
    return {voice.language: voice(key, who=voice(f"compare.{side}"), **facts) for voice in _voices()}


def _voices() -> list[Voice]:
    return [Voice(language) for language in LANGUAGES]
