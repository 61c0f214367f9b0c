"""Near-duplicates stay in one part, whatever the parts are; and what is called alike is."""

import gzip
import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from zhumo.errors import RecipeError
from zhumo.prepare import prepare, read_rows
from zhumo.prepare.near import RUN, alike, grouped
from zhumo.recipe import Recipe
from zhumo.run import Run, read_json

LEAST = 0.8


def shared_runs(one: str, other: str) -> float:
    """Jaccard's index, the long way."""
    runs = [{text[start : start + RUN] for start in range(max(1, len(text) - RUN + 1))} for text in (one, other)]
    return len(runs[0] & runs[1]) / len(runs[0] | runs[1])


@pytest.fixture
def reviews(shared: Path) -> list[str]:
    """Real reviews, and behind each third a version of it with a word more."""
    with gzip.open(shared / "chnsenticorp" / "train.jsonl.gz") as file:
        texts = [json.loads(next(file))["text"][:300] for _ in range(150)]
    draw = random.Random(0)
    cuts = [(text, draw.randrange(len(text))) for text in texts[::3]]
    return [*texts, *(f"{text[:cut]}真的{text[cut:]}" for text, cut in cuts)]


def test_all_that_is_alike_is_found_and_nothing_else(reviews: list[str], tmp_path: Path) -> None:
    found = {tuple(pair) for pair in alike(reviews.__getitem__, range(len(reviews)), LEAST, tmp_path).tolist()}
    slow = {
        (i, j) for j in range(len(reviews)) for i in range(j)
        if len(reviews[i]) * LEAST < len(reviews[j]) * 1.5 and shared_runs(reviews[i], reviews[j]) >= LEAST
    }  # fmt: skip
    assert len(slow) > 30 and found <= slow
    groups = grouped(np.arange(len(reviews)), np.array(sorted(found)))
    assert sum(groups[i] == groups[j] for i, j in slow) >= 0.98 * len(slow)
    assert not list(tmp_path.iterdir())


def prepared(folder: Path, texts: list[str], **section: Any) -> tuple[dict[str, list[str]], dict[str, Any]]:
    (folder / "rows.jsonl").write_text(
        "".join(json.dumps({"text": text, "label": "ab"[i % 2], "shop": i % 9}) + "\n" for i, text in enumerate(texts))
    )
    made = {"name": "x", "task": "classify", "prepare": {"source": str(folder / "rows.jsonl"), "vocabulary": 400}}
    made["prepare"] |= section  # type: ignore[operator]
    recipe = Recipe.check(made, "test")
    run = Run.of(recipe, folder / "runs")
    prepare(recipe, run)
    step = run.step("prepare")
    parts = {part: [row["text"] for row in read_rows(step / f"{part}.jsonl")] for part in ("train", "valid", "test")}
    return parts, read_json(step / "card.json")


def test_what_is_alike_stays_in_one_part(reviews: list[str], tmp_path: Path) -> None:
    parts, card = prepared(tmp_path, reviews, split={"near": LEAST, "valid": 0.3, "test": 0.3})
    where = {text: part for part, texts in parts.items() for text in texts}
    pairs = [(one, two) for one, two in zip(reviews[:150:3], reviews[150:], strict=True)
             if shared_runs(one, two) >= 0.9]  # fmt: skip
    assert len(pairs) > 15 and all(where[one.strip()] == where[two.strip()] for one, two in pairs)
    assert card["near"]["rows"] >= len(pairs) and card["near"]["groups"] >= len(pairs)
    assert card["rows"]["out"] == len(where) and min(map(len, parts.values())) > 20


def test_what_is_like_a_test_row_does_not_train(reviews: list[str], tmp_path: Path) -> None:
    (tmp_path / "test.jsonl").write_text(
        "".join(json.dumps({"text": text, "label": "a"}) + "\n" for text in reviews[150:])
    )
    parts, card = prepared(tmp_path, reviews[:150], test=str(tmp_path / "test.jsonl"), split={"near": LEAST})
    assert len(parts["test"]) == 50
    known = [*parts["train"], *parts["valid"]]
    assert not [one for one, two in zip(reviews[:150:3], reviews[150:], strict=True)
                if shared_runs(one, two) >= 0.9 and one.strip() in known]  # fmt: skip
    assert (
        card["leaks"] > 20 and card["rows"]["in"] == 200 == sum(card["parts"].values()) + card["rows"]["deduplicated"]
    )


def test_groups_and_what_is_alike_stay_together(reviews: list[str], tmp_path: Path) -> None:
    split = {"by": "group", "column": "shop", "valid": 0.3, "test": 0.3}
    apart, _ = prepared(tmp_path, reviews[:30], split=split)
    texts = [*reviews[:30], f"{reviews[0]}！！"]  # now shop 0 and shop 3 hold nearly the same text
    joined, _ = prepared(tmp_path, texts, split={**split, "near": LEAST})
    where = {text: part for part, found in joined.items() for text in found}
    shops = {shop: {where[text.strip()] for text in texts[shop::9]} for shop in range(9)}
    assert all(len(parts) == 1 for parts in shops.values()) and shops[0] == shops[3]
    assert sum(map(len, apart.values())) == 30


@pytest.mark.parametrize("by", ["time", "last"])
def test_a_split_by_time_cannot_keep_them_together(by: str) -> None:
    with pytest.raises(RecipeError, match="near"):
        Recipe.check({"task": "classify", "prepare": {"source": "x", "split": {"by": by, "near": 0.8}}}, "test")


def test_short_and_empty_texts(tmp_path: Path) -> None:
    texts = ["a", "", "ab", "a", "abcde", "abcdef"]
    found = alike(texts.__getitem__, range(len(texts)), LEAST, tmp_path)
    assert found.tolist() == [[0, 3]]
    assert alike(texts.__getitem__, [], LEAST, tmp_path).shape == (0, 2)
