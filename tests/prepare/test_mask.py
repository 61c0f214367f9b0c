"""`prepare.mask`: what the rows say of people is covered before anything is learned from them."""

import json
from pathlib import Path
from typing import Any

import pytest

from zhumo.errors import RecipeError
from zhumo.prepare import prepare
from zhumo.recipe import Recipe
from zhumo.run import Run

SECRETS = ("13800138000", "11010519491231002X", "a@b.cn", "4111 1111 1111 1111")


def said(folder: Path, task: str, rows: list[dict[str, Any]], **section: Any) -> str:
    """All that `prepare` leaves of rows."""
    (folder / "rows.jsonl").write_text("\n".join(json.dumps(row) for row in rows), encoding="utf-8")
    source = {"source": str(folder / "rows.jsonl"), "vocabulary": 300, "split": {"valid": 0.0, "test": 0.3}}
    recipe = Recipe.check({"name": "x", "task": task, "prepare": source | section}, "test")
    run = Run.of(recipe, folder / "runs")
    prepare(recipe, run)
    return "".join(path.read_text(encoding="utf-8") for path in run.step("prepare").glob("*.json*"))


@pytest.mark.parametrize(("task", "row"), [
    ("classify", lambda secret, number: {"text": f"第{number}次，找{secret}", "label": "abc"[number % 3]}),
    ("embed", lambda secret, number: {"text": f"{number} {secret}", "match": f"{secret} 答{number}"}),
    ("write", lambda secret, number: {"messages": [{"role": "user", "content": f"{number} {secret}"},
                                                    {"role": "assistant", "content": secret}]}),
])  # fmt: skip
def test_nothing_of_it_is_left(tmp_path: Path, task: str, row: Any) -> None:
    rows = [row(SECRETS[number % 4], number) for number in range(24)]
    plain, covered = tmp_path / "plain", tmp_path / "covered"
    plain.mkdir()
    covered.mkdir()
    assert all(secret in said(plain, task, rows) for secret in SECRETS)
    left = said(covered, task, rows, mask=True)
    assert not any(secret in left for secret in SECRETS) and all(kind in left for kind in ("⟦phone1⟧", "⟦resident1⟧"))


@pytest.mark.parametrize("task", ["recommend", "tag"])
def test_rows_held_together_by_ids_or_places_refuse(tmp_path: Path, task: str) -> None:
    with pytest.raises(RecipeError, match=f"rows of {task}"):
        said(tmp_path, task, [{"text": "a"}], mask=True)
