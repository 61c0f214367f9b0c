"""Starting from yesterday's bundle: what was known of an item or a label is known of it today, wherever it stands."""

import gzip
import json
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import torch

from zhumo import bundle
from zhumo.build import build
from zhumo.errors import ModelError
from zhumo.prepare import prepare
from zhumo.recipe import Recipe
from zhumo.run import Run
from zhumo.tasks import Row
from zhumo.tasks.classify import Classify
from zhumo.tasks.recommend import Recommend
from zhumo.transformer import Config, Transformer, initialise

SIZES = {"width": 32, "depth": 1, "heads": 2}


@pytest.fixture(scope="module")
def users(shared: Path) -> list[list[str]]:
    with gzip.open(shared / "amazon-beauty" / "sequences.txt.gz", "rt") as file:
        return [line.split()[1:] for line in islice(file, 300)]


def learned(folder: Path, task: Recommend | Classify, config: Config) -> bundle.Bundle:
    """A bundle of weights that are anything but fresh."""
    model = initialise(Transformer(config), 5)
    model.head = task.head(config.width) or model.head
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(torch.randn(weight.shape, generator=torch.Generator().manual_seed(weight.numel())))
    bundle.save(folder, model, "llama" if config.head == "tied" else "bert", task.tokenizer, task)
    return bundle.load(folder)


def shop(folder: Path, users: list[list[str]], start: Path | None, **sizes: Any) -> tuple[Recipe, Run]:
    """A run of recommend whose rows are prepared."""
    orders = folder / "orders.jsonl"
    folder.mkdir(exist_ok=True)
    rows = [{"user": number, "item": item} for number, items in enumerate(users) for item in items]
    orders.write_text("".join(json.dumps(row) + "\n" for row in rows))
    section = {"start": str(start), **sizes} if start else SIZES
    recipe = Recipe.check(
        {"task": "recommend", "prepare": {"source": str(orders), "length": 16}, "build": section}, "x"
    )
    run = Run(folder / "run")
    prepare(recipe, run)
    return recipe, run


def yesterday(folder: Path, users: list[list[str]]) -> bundle.Bundle:
    task = Recommend(None, 16)
    task.learn([{"items": items[:-2]} for items in users])
    shape = {"positions": "rotary", "norm": "rms", "activation": "silu", "gated": True, "bias": "none"}
    return learned(folder, task, Config(vocabulary=task.vocabulary, length=16, **SIZES, **shape))  # type: ignore[arg-type]


def test_items_are_known_by_their_name(tmp_path: Path, users: list[list[str]]) -> None:
    before = yesterday(tmp_path / "deploy", users[:150])
    recipe, run = shop(tmp_path / "today", users, tmp_path / "deploy")
    build(recipe, run)
    now = bundle.load(run.step("build"))
    assert before.task is not None and now.task is not None
    known, items = before.task.state["items"], now.task.state["items"]
    assert set(items) > set(known) and items[: len(known)] != known
    old, new = before.model.state_dict(), now.model.state_dict()
    for name in old.keys() - {"stem.tokens.weight", "head.weight"}:
        assert torch.equal(old[name], new[name]), name
    places = torch.tensor([items.index(item) + 1 for item in known])
    assert torch.equal(new["stem.tokens.weight"][places], old["stem.tokens.weight"][1:])
    assert torch.equal(new["stem.tokens.weight"][0], old["stem.tokens.weight"][0])
    assert torch.equal(new["head.weight"], new["stem.tokens.weight"])
    assert now.model.config.vocabulary == len(items) + 1
    # What was known is said as before: the scores of the old items for an old history.
    history = [item for item in users[0] if item in known]
    ids = [
        torch.tensor([[task.state["items"].index(item) + 1 for item in history]]) for task in (before.task, now.task)
    ]
    scores = [model(one)[0, -1] for model, one in zip((before.model, now.model), ids, strict=True)]
    torch.testing.assert_close(scores[1][places], scores[0][1:], atol=1e-4, rtol=1e-4)


def test_a_new_item_begins_where_it_would_seen_from_the_known_ones(tmp_path: Path, users: list[list[str]]) -> None:
    """Had nothing been learned since, new items would stand exactly where a fresh model puts them, turned."""
    recipe, fresh_run = shop(tmp_path / "fresh", users, None)
    build(recipe, fresh_run)
    fresh = bundle.load(fresh_run.step("build"))
    assert fresh.task is not None
    turn, _ = torch.linalg.qr(torch.randn(32, 32, generator=torch.Generator().manual_seed(1)))
    with torch.no_grad():
        fresh.model.stem.tokens.weight.copy_(fresh.model.stem.tokens.weight @ turn)
    gone = Recommend(None, 16, dict(fresh.task.state), fresh.task.arrays)
    kept = gone.state["items"][:-40]
    gone.state["items"] = kept
    config = fresh.model.config
    small = Transformer(Config(**{**vars(config), "vocabulary": len(kept) + 1}))
    state = fresh.model.state_dict()
    cut = {name: state[name][: len(kept) + 1] if name in ("stem.tokens.weight", "head.weight") else state[name]
           for name in state}  # fmt: skip
    small.load_state_dict(cut)
    bundle.save(tmp_path / "deploy", small, "llama", None, gone)
    recipe, run = shop(tmp_path / "today", users, tmp_path / "deploy")
    build(recipe, run)
    now = bundle.load(run.step("build")).model
    torch.testing.assert_close(now.stem.tokens.weight, fresh.model.stem.tokens.weight, atol=1e-4, rtol=1e-3)


def test_other_sizes_are_refused(tmp_path: Path, users: list[list[str]]) -> None:
    yesterday(tmp_path / "deploy", users[:150])
    recipe, run = shop(tmp_path / "today", users[:150], tmp_path / "deploy", width=64)
    with pytest.raises(ModelError, match=r"build\.width is 64.*have 32"):
        build(recipe, run)


def test_items_start_from_items_only(tmp_path: Path, users: list[list[str]]) -> None:
    before = yesterday(tmp_path / "deploy", users[:150])
    bundle.save(tmp_path / "bare", before.model, "llama", None, None)
    recipe, run = shop(tmp_path / "today", users[:150], tmp_path / "bare")
    with pytest.raises(ModelError, match="bundle of the same task"):
        build(recipe, run)


def test_labels_are_known_by_their_name(shared: Path, tmp_path: Path) -> None:
    with gzip.open(shared / "banking77" / "train.jsonl.gz", "rt") as file:
        rows: list[Row] = [
            {"text": row["text"], "label": row["label"]} for row in map(json.loads, islice(file, 0, None, 60))
        ]
    labels = sorted({row["label"] for row in rows})
    shown = [row for row in rows if row["label"] in labels[5:20]]
    path = tmp_path / "tickets.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    recipe = Recipe.check(
        {"task": "classify", "prepare": {"source": str(path), "vocabulary": 400}, "build": SIZES}, "x"
    )
    first = Run(tmp_path / "first")
    prepare(recipe, first)
    tokenizer = bundle.load_task(first.step("prepare")).tokenizer
    task = Classify(tokenizer, 128, {"prefix": "query: "})
    task.learn(shown)
    shape = {"causal": False, "head": "none", "norm_first": False, "types": 2, "activation": "gelu"}
    config = Config(vocabulary=task.vocabulary, length=128, **SIZES, **shape)  # type: ignore[arg-type]
    before = learned(tmp_path / "deploy", task, config)
    recipe = Recipe.check({"task": "classify", "prepare": {"source": str(path)},
                           "build": {"start": str(tmp_path / "deploy")}}, "x")  # fmt: skip
    run = Run(tmp_path / "today")
    prepare(recipe, run)
    build(recipe, run)
    now = bundle.load(run.step("build"))
    assert isinstance(now.task, Classify) and now.task.state["prefix"] == "query: "
    assert isinstance(before.task, Classify) and before.model.head is not None and now.model.head is not None
    weight = now.model.head.state_dict()["weight"]
    for label, row in zip(before.task.labels, before.model.head.state_dict()["weight"], strict=True):
        assert torch.equal(weight[now.task.labels.index(label)], row)
    fresh = [place for place, label in enumerate(now.task.labels) if label not in before.task.labels]
    assert fresh and weight[fresh].abs().max() == 0
    assert torch.equal(now.model.stem.tokens.weight, before.model.stem.tokens.weight)
