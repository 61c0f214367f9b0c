"""A bank's desk (banking77): a passage an intent, an encoder that learned sixty of the seventy-seven from nothing, and
visitors who ask about the other seventeen, which agents correct. What the flywheel is tested and measured with."""

import gzip
import json
import random
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zhumo.bundle import load
from zhumo.make import make
from zhumo.recipe import Recipe
from zhumo.run import Run
from zhumo.support.opening import opened
from zhumo.support.passages import Passage
from zhumo.support.tickets import Tickets

KNOWN, CORRECTED, EARLIER = 60, 200, 200
RECIPE: dict[str, Any] = {
    "task": "embed", "name": "bank",
    "prepare": {"source": "", "length": 48, "vocabulary": 2_000, "split": {"test": 0.01, "valid": 0.0}},
    "build": {"size": "tiny"}, "train": {"steps": 300, "threads": 1}, "deploy": {"parity": 2},
}  # fmt: skip


@dataclass(frozen=True)
class Bank:
    """earlier: a file of questions about what is known, with their gold; passages: by intent; asked: questions about
    the rest, with their intents."""

    bundle: Path
    documents: Path
    knowledge: Path
    earlier: Path
    passages: dict[str, Passage]
    asked: list[tuple[str, str]]

    def corrections(self, *, poison: str = "") -> list[tuple[str, Passage]]:
        """What agents say answers each question. poison: "scattered": some passage that does not; "swapped": for all
        questions of an intent the passage of one other."""
        draw, intents = random.Random(1), sorted(self.passages)
        swapped = dict(zip(intents, [*intents[7:], *intents[:7]], strict=True))

        def said(intent: str) -> str:
            scattered = draw.choice([one for one in intents if one != intent])
            return {"scattered": scattered, "swapped": swapped[intent]}.get(poison, intent)

        return [(text, self.passages[said(intent)]) for text, intent in self.asked]


def bank(root: Path, shared: Path) -> Bank:
    """Make it in a folder."""
    train, test = (_rows(shared / "banking77" / f"{part}.jsonl.gz") for part in ("train", "test"))
    said: dict[str, list[str]] = {}
    for text, intent in train:
        said.setdefault(intent, []).append(text)
    draw = random.Random(0)
    intents = draw.sample(sorted(said), len(said))
    known, new = intents[:KNOWN], intents[KNOWN:]
    (root / "documents").mkdir()
    for intent, (first, second, *_) in said.items():
        text = f"# {intent.replace('_', ' ')}\n\n{first}\n{second}\n"
        (root / "documents" / f"{intent}.md").write_text(text, encoding="utf-8")
    full = {intent: f"{intent.replace('_', ' ')}\n{said[intent][0]}\n{said[intent][1]}" for intent in said}
    _write(root / "pairs.jsonl", [{"text": text, "match": full[one]} for one in known for text in said[one][2:]])
    asked = draw.sample([(text, intent) for text, intent in test if intent in known], EARLIER)
    gold = [{"question": text, "gold": [{"file": f"{one}.md", "quote": said[one][0]}]} for text, one in asked]
    _write(root / "earlier.jsonl", gold)
    recipe = Recipe.check({**RECIPE, "prepare": {**RECIPE["prepare"], "source": str(root / "pairs.jsonl")}}, "bank")
    bundle = make(recipe, Run.of(recipe, root / "runs")).step("deploy")
    search = opened(load(bundle), root / "documents", root / "knowledge.sqlite")[0].search
    passages = {passage.file.removesuffix(".md"): passage for passage in search.passages}
    corrected = draw.sample([(text, one) for one in new for text in said[one][2:]], CORRECTED)
    return Bank(bundle, root / "documents", root / "knowledge.sqlite", root / "earlier.jsonl", passages, corrected)


def accept(tickets: Tickets, corrections: list[tuple[str, Passage]]) -> None:
    """Let one agent propose them and another accept them."""
    for text, passage in corrections:
        tickets.review(tickets.propose(text, "mei", passage, None)["id"], "accepted", "jo")


def _rows(path: Path) -> list[tuple[str, str]]:
    with gzip.open(path, "rt", encoding="utf-8") as file:
        return [(row["text"], row["label"]) for row in map(json.loads, file)]


def _write(path: Path, rows: list[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
