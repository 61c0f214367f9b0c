"""What a recipe will make, before it is made: parameters, steps, and the recipe with every default filled in."""

import math
from typing import Any

import torch

from zhumo.build import fresh
from zhumo.bundle import load_task
from zhumo.errors import RunError
from zhumo.recipe import Recipe
from zhumo.run import Run, read_json
from zhumo.sources import fetch
from zhumo.train.search import draw
from zhumo.transformer import Transformer
from zhumo.weights import read_weights


def plan(recipe: Recipe, run: Run) -> dict[str, Any]:
    """The resolved recipe, the model's size and the number of updates.

    A fresh model's vocabulary and the number of examples are known only once `prepare` has run; until then those
    entries are None.
    """
    try:
        examples: dict[str, int] | None = run.facts("prepare")["examples"]
    except RunError:
        examples = None
    parameters = None
    if recipe.build.start is not None:
        with torch.device("meta"):
            parameters = Transformer(read_weights(fetch(recipe.build.start)).config).parameter_count()
    elif examples is not None:
        task = load_task(run.step("prepare"))
        with torch.device("meta"):
            parameters = Transformer(fresh(recipe.build, task)).parameter_count()
    train = recipe.train
    steps = train.steps
    if examples is not None and train.epochs is not None:
        steps = math.ceil(train.epochs * math.ceil(examples["train"] / train.batch))
    return {
        "recipe": recipe.model_dump(mode="json", exclude_none=True),
        "parameters": parameters,
        "examples": examples,
        "steps": steps,
        "minutes": train.minutes,
        "search": _search(recipe, run),
    }


def _search(recipe: Recipe, run: Run) -> list[dict[str, Any]]:
    """The combinations of values that are drawn; where a training has tried just these, how each did."""
    values = draw(recipe.train, recipe.seed) if recipe.train.search else []
    path = run.step("train") / "step.json"
    tried: list[dict[str, Any]] = read_json(path).get("search", []) if path.is_file() else []
    same = [entry["values"] for entry in tried] == values
    return tried if same else [{"values": combination, "looks": []} for combination in values]
