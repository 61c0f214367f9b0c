"""A small real run for the tests of this room: ten of banking77's intents, some with names an attacker would choose."""

import csv
import gzip
import json
from pathlib import Path

from zhumo.build import build
from zhumo.prepare import prepare
from zhumo.recipe import Recipe
from zhumo.run import Run
from zhumo.train import train

HOSTILE = '<script>alert("x")</script>'
CHANNELS = ("app", "<img src=x onerror=alert(1)>", "电话|&amp;")
INTENTS = 10


def rows(shared: Path, name: str) -> list[dict[str, str]]:
    """The rows of ten intents, with a channel each; one intent is renamed to markup."""
    with gzip.open(shared / "banking77" / f"{name}.jsonl.gz", "rt", encoding="utf-8") as file:
        found = [json.loads(line) for line in file]
    labels = sorted({row["label"] for row in found})[:INTENTS]
    called = {label: label for label in labels} | {labels[0]: HOSTILE}
    kept = [row for row in found if row["label"] in called]
    return [
        {"text": row["text"], "label": called[row["label"]], "<b>channel</b>": CHANNELS[index % 3]}
        for index, row in enumerate(kept)
    ]


def write_csv(path: Path, table: list[dict[str, str]]) -> Path:
    """A CSV file as a business would hand it over."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(table[0]))
        writer.writeheader()
        writer.writerows(table)
    return path


def recipe(folder: Path, shared: Path, **evaluate: object) -> Recipe:
    """A classifier of a few seconds."""
    sources = {name: str(write_csv(folder / f"{name}.csv", rows(shared, name))) for name in ("train", "test")}
    return Recipe.model_validate({
        "task": "classify",
        "name": "intents",
        "prepare": {"source": sources["train"], "test": sources["test"], "length": 24, "vocabulary": 500},
        "build": {"family": "bert", "size": "tiny"},
        "train": {"steps": 30, "batch": 16, "threads": 1},
        "evaluate": {"slices": ["<b>channel</b>"], **evaluate},
    })  # fmt: skip


def trained(folder: Path, shared: Path) -> tuple[Recipe, Run]:
    """A run up to `train`."""
    made = recipe(folder, shared)
    run = Run(folder / "run")
    prepare(made, run)
    build(made, run)
    train(made, run)
    return made, run
