"""All five steps of a recipe, one after the other, in one run folder."""

import time
from collections.abc import Callable
from typing import Any

from zhumo.build import build
from zhumo.deploy.step import deploy
from zhumo.evaluate import evaluate
from zhumo.prepare import prepare
from zhumo.recipe import STEPS, Recipe
from zhumo.run import Run
from zhumo.train import train
from zhumo.train.trouble import explained

Listener = Callable[[str, dict[str, Any], float], None]
"""Called after each step with its name, the facts it left and the seconds it took; 0 seconds: it already stood."""

_STEPS: dict[str, Callable[[Recipe, Run], None]] = {
    "prepare": prepare,
    "build": build,
    "train": train,
    "evaluate": evaluate,
    "deploy": deploy,
}


def make(
    recipe: Recipe, run: Run | None = None, *, only: str | None = None, listener: Listener = lambda *_: None
) -> Run:
    """Run a recipe; a step that stands as it should is skipped.

    only: run just this step on what the step before it left.

    Raises:
        ZhumoError: a step cannot be done, and why.
    """
    run = run or Run.of(recipe)
    with explained(run.folder), run.lock():
        for name in STEPS if only is None else (only,):
            before = (run.step(name) / "step.json").is_file() and run.facts(name)
            start = time.perf_counter()
            _STEPS[name](recipe, run)
            facts = run.facts(name)
            listener(name, facts, 0.0 if facts == before else time.perf_counter() - start)
    return run
