"""Hyper-parameters chosen on validation rows: random candidates (Bergstra & Bengio 2012), the better half of which go
on, round after round (successive halving, Jamieson & Talwalkar 2016). Test rows are never looked at.

- Every candidate is planned as though it were the one that wins. In the first round each is trained a little; the
  better half are then trained twice as far, and so on; the winner's last round is the training that follows.
- `search/table.json` and the candidates' checkpoints are all there is, so a search that is killed goes on where it was.
"""

import os
import shutil
import sys
import time
from math import inf, prod
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import JsonValue

from zhumo.build import build
from zhumo.errors import DataError, ModelError
from zhumo.recipe import Recipe, Train
from zhumo.run import Run, read_json, write_json
from zhumo.train.loop import State, TrainError
from zhumo.train.order import permute
from zhumo.train.ready import ready
from zhumo.train.stop import Stop
from zhumo.words import say

CANDIDATES = 8
SETTLING = 3.0  # seconds it may take to measure how fast a candidate learns

Entry = dict[str, Any]
"""Of a candidate: `values`; `looks`, what it was judged by after each round, the lower the better; `steps`, `seconds`;
`problem`, where it could not go on."""


def draw(train: Train, seed: int) -> list[dict[str, JsonValue]]:
    """Up to CANDIDATES different combinations, at random; no more than minutes, for one needs time to show itself."""
    values, most = train.search, CANDIDATES if train.minutes is None else max(2, min(CANDIDATES, int(train.minutes)))
    sizes = [len(choices) for choices in values.values()]
    places = permute(np.arange(min(prod(sizes), most)), prod(sizes), seed)
    chosen = np.stack(np.unravel_index(places, sizes), axis=1).tolist()
    return [
        {key: choices[place] for (key, choices), place in zip(values.items(), line, strict=True)} for line in chosen
    ]


def rounds(candidates: int) -> list[tuple[int, float]]:
    """How many are trained in each round, and to what share of all their steps; in the last it is one, to the end."""
    halvings = (candidates - 1).bit_length()
    return [(-(-candidates // 2**number), 2.0 ** (number - halvings)) for number in range(halvings + 1)]


def minutes_each(minutes: float, candidates: int) -> float:
    """Minutes of a candidate that wins, so that all of them together keep to `minutes`."""
    plan = rounds(candidates)
    cost = sum(number * (share - done) for (number, share), (_, done) in zip(plan, [(0, 0.0), *plan], strict=False))
    return max(0.0, minutes - candidates * SETTLING / 60) / cost


class Search:
    """A search in the folder of a training."""

    def __init__(self, recipe: Recipe, run: Run, folder: Path) -> None:
        self.recipe, self.run, self.folder = recipe, run, folder / "search"
        self.table: list[Entry] = [{"values": values, "looks": []} for values in draw(recipe.train, recipe.seed)]
        if (self.folder / "table.json").is_file():
            self.table = read_json(self.folder / "table.json")
        self.chosen: Entry = self.table[0]

    def choose(self, stop: Stop, progress: bool) -> tuple[Recipe, Path]:
        """The recipe of the winner and the folder of its first weights; what it has learned already is moved to where
        its training goes on.

        Raises:
            DataError: there are no validation rows to choose by.
            TrainError: no candidate could be trained.
        """
        plan = rounds(len(self.table))
        left = list(range(len(self.table)))
        for number, (_, share) in enumerate(plan[:-1]):
            for candidate in left:
                if len(self.table[candidate]["looks"]) <= number:
                    self._try(candidate, share, stop, progress)
            left.sort(key=lambda one: inf if (look := self.table[one]["looks"][number]) is None else look)
            for loser in left[plan[number + 1][0] :]:
                shutil.rmtree(self.folder / str(loser), ignore_errors=True)
            left = left[: plan[number + 1][0]]
        self.chosen = self.table[left[0]]
        if "problem" in self.chosen:
            raise TrainError("train.no_candidate", problem=self.chosen["problem"])
        place = self.folder / str(left[0]) / "train"
        for path in sorted(place.iterdir()) if place.is_dir() else ():
            path.rename(self.folder.parent / path.name)
        recipe = self._recipe(left[0])
        return recipe, self._built(left[0], recipe)

    def facts(self) -> dict[str, Any]:
        """The values of the winner, and the table with its looks as a person knows them, larger or smaller."""
        looks = [[look if look is None else abs(look) for look in entry["looks"]] for entry in self.table]
        told = [entry | {"looks": seen} for entry, seen in zip(self.table, looks, strict=True)]
        return {"chosen": self.chosen["values"], "search": told}

    def _try(self, candidate: int, share: float, stop: Stop, progress: bool) -> None:
        """Train one candidate to a share of its steps and enter how it did."""
        entry = self.table[candidate]
        if progress:
            values = ", ".join(f"{key} {value}" for key, value in entry["values"].items())
            told = say("cli.train.candidate", number=candidate + 1, all=len(self.table), values=values, share=share)
            print(told, file=sys.stderr, flush=True)
        look = None
        if "problem" not in entry:
            try:
                state = self._trained(candidate, share, stop, progress)
                look, entry["steps"], entry["seconds"] = state.best, state.step, state.seconds
            except (TrainError, ModelError) as error:
                entry["problem"] = str(error)
        entry["looks"].append(look)
        write_json(self.folder / "table.json", self.table)

    def _trained(self, candidate: int, share: float, stop: Stop, progress: bool) -> State:
        began = time.monotonic()
        recipe, folder = self._recipe(candidate), self.folder / str(candidate) / "train"
        folder.mkdir(parents=True, exist_ok=True)
        training = ready(recipe, self.run.step("prepare"), self._built(candidate, recipe), folder)
        training.begin(began, looks=len(rounds(len(self.table))))
        training.learn(stop, progress, share)
        if training.state.best is None:
            raise DataError("train.search_blind")
        return training.state

    def _recipe(self, candidate: int) -> Recipe:
        values = {**self.table[candidate]["values"], "train.search": {}}
        if self.recipe.train.minutes is not None:
            values["train.minutes"] = max(minutes_each(self.recipe.train.minutes, len(self.table)), 1e-3)
        plans = sorted(self.folder.glob("*/train/plan.json"))  # threads are measured once for all
        return self.recipe.changed(values | ({"train.threads": read_json(plans[0])["threads"]} if plans else {}))

    def _built(self, candidate: int, recipe: Recipe) -> Path:
        """The first weights: those of the run itself unless the candidate changes them."""
        if recipe.build == self.recipe.build:
            return self.run.step("build")
        own = Run(self.folder / str(candidate))
        link = own.step("prepare")
        if not link.is_symlink():
            own.folder.mkdir(parents=True, exist_ok=True)
            link.symlink_to(os.path.relpath(self.run.step("prepare"), own.folder), target_is_directory=True)
        build(recipe, own)
        return own.step("build")
