"""A bundle for desks."""

import json

import pytest

from zhumo.bundle import Bundle, load
from zhumo.make import make
from zhumo.recipe import Recipe
from zhumo.run import Run

RECIPE = """
task: embed
prepare: {source: DATA, length: 64, vocabulary: 400, split: {test: 0.2, valid: 0.0}}
build: {size: tiny}
train: {steps: 1, threads: 1}
deploy: {parity: 2}
"""


@pytest.fixture(scope="session")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """Small and hardly trained, which makes vectors."""
    root = tmp_path_factory.mktemp("desk")
    rows = [{"text": f"shoes {number}", "match": f"鞋子 {number} sent back"} for number in range(40)]
    (root / "pairs.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    (root / "recipe.yaml").write_text(RECIPE.replace("DATA", str(root / "pairs.jsonl")), encoding="utf-8")
    recipe = Recipe.read(root / "recipe.yaml")
    return load(make(recipe, Run.of(recipe, root / "runs")).step("deploy"))
