"""The flywheel: what agents corrected is what the encoder learns next, and a gate decides whether it may serve.

A fifth of the corrections, chosen by what they ask, is frozen: nothing is ever learned from them. A new encoder must
find the passages of those surely better than the one that serves, and the passages of a set of earlier questions not
surely worse, both by an exact sign test; and of the frozen ones that the desk then answers, most must be answered
rightly.
"""

import hashlib
import json
import math
import random
import shutil
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from zhumo.bundle import Bundle, load
from zhumo.compare import Change, change
from zhumo.errors import DataError
from zhumo.evaluate.report import SURE
from zhumo.evaluate.voice import chance, figure
from zhumo.make import Listener, make
from zhumo.metrics.measure import Measure
from zhumo.prepare import read_rows
from zhumo.recipe import Recipe
from zhumo.run import Run, write_json
from zhumo.support.desk import reply
from zhumo.support.exam import Question
from zhumo.support.opening import encoder_of, opened
from zhumo.support.passages import Passage
from zhumo.support.search import Search
from zhumo.support.tickets import Tickets
from zhumo.support.versions import Versions
from zhumo.words import LANGUAGES, say

Json = dict[str, Any]
FROZEN = 5  # one of so many corrections is never learned from
FEWEST = 10  # frozen ones, below which no difference is sure
REHEARSED = 5  # earlier pairs beside each correction, so that what was known is not forgotten
EPOCHS = 4


@dataclass(frozen=True)
class Lesson:
    """An accepted correction. match: what answers, as the encoder reads it; key: of the passage, None for an agent's
    own words, which are found by their question already and prove nothing."""

    text: str
    match: str
    key: str | None

    @property
    def frozen(self) -> bool:
        """Whether it is kept to judge by: the same for one question for ever."""
        digest = hashlib.sha256(self.text.encode()).digest()
        return self.key is not None and int.from_bytes(digest[:8], "big") % FROZEN == 0

    def answered_by(self, passage: Passage) -> bool:
        """Whether it is the passage."""
        return passage.key == self.key


@dataclass(frozen=True)
class Sat:
    """How a desk did on questions: which it found the right passage first for, which it answered; (questions,) bool."""

    right: np.ndarray
    answered: np.ndarray


def improve(
    versions: Versions, documents: Path, knowledge: Path, tickets: Tickets, old: Sequence[Question],
    listener: Listener = lambda *_: None,
) -> Json:  # fmt: skip
    """Learn from the accepted corrections, beginning with what serves, and say whether it may take its place.

    documents, knowledge: what the desk knows, a copy of which is read; old: the earlier questions. Gives what is then
    in `trial.json`.

    Raises:
        DataError: there are too few corrections, or no earlier questions.
        RunError: another process is at it.
    """
    if not old:
        raise DataError("support.no_questions")
    with Run(versions.home).lock():
        began, serving = _now(), versions.now
        with _scratch(versions.home / "work") as work:
            copy = work / knowledge.name
            with closing(sqlite3.connect(knowledge)) as source, closing(sqlite3.connect(copy)) as target:
                source.backup(target)
            bundle = load(versions.serving)
            search = opened(bundle, documents, copy)[0].search
            lessons = _lessons(tickets, search)
            learned, frozen = ([one for one in lessons if one.frozen is kept] for kept in (False, True))
            if len(frozen) < FEWEST:
                raise DataError("support.few_corrections", frozen=len(frozen), fewest=FEWEST, all=FEWEST * FROZEN)
            run = versions.begin()
            before = [sit(search, bundle, asked) for asked in (old, frozen)]
            make(_recipe(versions, run, bundle, learned, frozen, old), run, listener=listener)
            new = load(run.step("deploy"))
            search = opened(new, documents, copy)[0].search
            after = [sit(search, new, asked) for asked in (old, frozen)]
        trial = {
            "format": 1, "trial": int(run.folder.name), "against": serving, "began": began, "ended": _now(),
            "learned": len(learned), "frozen": len(frozen), **gate(before, after),
        }  # fmt: skip
        write_json(run.folder / "trial.json", trial)
    return trial


def sit(search: Search, bundle: Bundle, asked: Sequence[Question | Lesson]) -> Sat:
    """Ask a desk questions, each by itself."""
    vectors = encoder_of(bundle)([one.text for one in asked])
    said = [reply(search, [one.text], vector[None]) for one, vector in zip(asked, vectors, strict=True)]
    right = [bool(own.citations) and one.answered_by(own.citations[0].passage)
             for one, own in zip(asked, said, strict=True)]  # fmt: skip
    return Sat(np.array(right), np.array([own.kind == "answer" for own in said]))


def gate(before: Sequence[Sat], after: Sequence[Sat]) -> Json:
    """Whether it passes, why in each language, and how both did on the earlier and on the frozen questions."""
    old, new = (_change(one, other) for one, other in zip(before, after, strict=True))
    answered, wrong = (int(part.sum()) for part in (after[1].answered, after[1].answered & ~after[1].right))
    key = ("worse" if old["outcome"] == "worse" else "same" if new["outcome"] != "better"
           else "wrong" if 2 * wrong > answered else "passes")  # fmt: skip
    facts = {f"{name}_{part}": figure(one[part]["value"]) for name, one in (("earlier", old), ("frozen", new))
             for part in ("old", "new")}  # fmt: skip
    facts |= {"earlier_p": chance(old["p"]), "frozen_p": chance(new["p"])}
    counts = {"earlier": old["n"], "frozen": new["n"], "answered": answered, "wrong": wrong}
    return {
        "passes": key == "passes",
        "said": {language: say(f"desk.gate.{key}", language, **facts, **counts) for language in LANGUAGES},
        "questions": {"earlier": old, "frozen": new},
        "answered": {name: [float(one.answered.mean()), float(other.answered.mean())]
                     for name, one, other in zip(("earlier", "frozen"), before, after, strict=True)},
        "wrong": {name: [float((one.answered & ~one.right).mean()), float((other.answered & ~other.right).mean())]
                  for name, one, other in zip(("earlier", "frozen"), before, after, strict=True)},
    }  # fmt: skip


def _change(before: Sat, after: Sat) -> Change:
    """recall@1 of both. Of few questions a bootstrap is too sure (it lets 3 won and none lost pass), so `p` and
    `outcome` are of an exact sign test: won against lost, ties left out, one-sided (Dixon and Mood 1946)."""
    found = change(*(Measure("recall@1", one.right.astype(float)) for one in (before, after)))
    better, worse = _luck(before, after), _luck(after, before)
    found["outcome"] = "better" if better < SURE else "worse" if worse < SURE else "same"
    found["p"] = worse if found["outcome"] == "worse" else better
    return found


def _luck(before: Sat, after: Sat) -> float:
    """How likely at least so many of the questions that only one of both found right are won by a coin."""
    won, apart = int((after.right & ~before.right).sum()), int((after.right ^ before.right).sum())
    return sum(math.comb(apart, more) for more in range(won, apart + 1)) / (1 << apart)


def _lessons(tickets: Tickets, search: Search) -> list[Lesson]:
    """The accepted corrections whose passage still says what it said."""
    found = []
    for one in tickets.corrections("accepted"):
        if one["text"] is not None:
            found.append(Lesson(one["question"], one["text"], None))
        elif (passage := search.by_key.get(one["passage"]["digest"])) is not None:
            found.append(Lesson(one["question"], passage.full, passage.key))
    return found


def _recipe(
    versions: Versions, run: Run, bundle: Bundle, learned: Sequence[Lesson], frozen: Sequence[Lesson],
    old: Sequence[Question],
) -> Recipe:  # fmt: skip
    """What the encoder learns from: corrections and earlier pairs, none that ask what it is judged by. It learns at the
    pace at which it learned before."""
    assert bundle.task is not None
    judged = {*(one.text for one in frozen), *(one.text for one in old)}
    path = versions.bundle.parent / "prepare" / "train.jsonl"
    earlier = [row for row in (read_rows(path) if path.is_file() else []) if row["text"] not in judged]
    rehearsed = random.Random(0).sample(earlier, min(len(earlier), REHEARSED * len(learned)))
    new, test = ([{"text": one.text, "match": one.match} for one in part] for part in (learned, frozen))
    before = Recipe.read(versions.serving / "recipe.yaml")
    return Recipe.check({
        "task": "embed", "name": before.name, "seed": before.seed,
        "prepare": {
            "source": _rows(run.folder / "pairs.jsonl", [row for row in new if row["text"] not in judged] + rehearsed),
            "test": _rows(run.folder / "frozen.jsonl", test),
            "length": bundle.task.length, "split": {"valid": 0.0},
        },
        "build": {"start": str(versions.serving.resolve())},
        "train": {"epochs": EPOCHS, **before.train.model_dump(include={"lr", "batch", "threads"})},
        "deploy": {"bits": before.deploy.bits, "parity": before.deploy.parity},
    }, "improve")  # fmt: skip


@contextmanager
def _scratch(folder: Path) -> Iterator[Path]:
    """An empty folder that is gone afterwards: what is deleted from the knowledge must not stay in a copy of it."""
    shutil.rmtree(folder, ignore_errors=True)  # of a process that was killed
    folder.mkdir()
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


def _rows(path: Path, rows: Iterable[Json]) -> str:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return str(path)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
