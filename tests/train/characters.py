"""A small real task for the tests of this room: the next character of Shakespeare."""

import dataclasses
import gzip
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch.nn.functional as F
from torch import nn

from zhumo import bundle
from zhumo.build import build as make_weights
from zhumo.metrics.measure import Measure
from zhumo.recipe import Recipe
from zhumo.run import Run
from zhumo.tasks import TASKS, Answer, Loss, Row, Task
from zhumo.tasks.examples import IGNORE, Batch, Example, Examples, collate, pack
from zhumo.transformer import Config, Transformer, initialise

TASKS["characters"] = "characters:Characters"  # type: ignore[index]


class Characters(Task):
    """A text of bytes; each position says the next one."""

    name = "characters"
    metric = "right"

    def learn(self, rows: Iterable[Row]) -> None:
        """Nothing."""

    def encode(self, row: Row) -> list[Example]:
        """One example, its length taken from the text."""
        ids = list(row["text"].encode("ascii"))
        return [{"ids": ids[:-1], "targets": ids[1:]}]

    @property
    def vocabulary(self) -> int:
        """ASCII."""
        return 128

    def head(self, width: int) -> nn.Module | None:
        """The language model's own."""
        return None

    def loss(self, model: Transformer, batch: Batch) -> Loss:
        """Cross-entropy of each next character."""
        logits = model(batch["ids"], segments=batch["segments"])
        total = F.cross_entropy(logits.flatten(0, 1).float(), batch["targets"].flatten(), reduction="sum")
        return Loss(total, int((batch["targets"] != IGNORE).sum()))

    def calibrate(self, model: Transformer, rows: Sequence[Row]) -> None:
        """Remember the loss of the rows: proof of which weights were asked."""
        total, count = self.loss(model, collate([self.encode(row)[0] for row in rows]))
        self.state["calibrated"] = total.item() / count

    def answer(self, model: Transformer, rows: Sequence[Row]) -> list[Answer]:
        """How many of the characters after the first the model would have said itself."""
        answers: list[Answer] = []
        for row in rows:
            batch = collate(self.encode(row))
            right = model(batch["ids"]).argmax(-1) == batch["targets"]
            answers.append({"right": right.double().mean().item()})
        return answers

    def score(self, answers: Sequence[Answer], rows: Sequence[Row]) -> list[Measure]:
        """The share that is right."""
        return [Measure("right", np.array([answer["right"] for answer in answers]))]


def lines(count: int, skip: int = 0) -> list[Row]:
    """Lines of Shakespeare, each 12 to 64 characters long."""
    text = gzip.decompress((Path(os.environ["ZHUMO_DATA"]) / "tiny-shakespeare" / "input.txt.gz").read_bytes()).decode()
    return [{"text": line} for line in text.splitlines() if 12 <= len(line) <= 64][skip : skip + count]


GPT2 = Config(vocabulary=128, width=32, depth=2, heads=2, length=64, activation="gelu_tanh")
LLAMA = Config(vocabulary=128, width=32, depth=2, heads=4, kv_heads=2, hidden=48, length=64, positions="rotary",
               norm="rms", activation="silu", gated=True, bias="none")  # fmt: skip


def make_run(
    folder: Path,
    train: dict[str, Any],
    *,
    rows: Sequence[Row],
    valid: Sequence[Row] = (),
    dropout: float = 0.0,
    family: str = "gpt2",
    lora: dict[str, Any] | None = None,
    start: str | None = None,
    build: dict[str, Any] | None = None,
    packed: bool = False,
) -> tuple[Recipe, Run]:
    """A run whose first two steps stand: encoded rows, and a model of 30 thousand parameters."""
    settings = {"threads": 1, "lr": 3e-3, "batch": 8, **train}
    sections = {"prepare": {"source": "-"}, "build": {"lora": lora, "start": start, **(build or {})}, "train": settings}
    recipe = Recipe.check({"task": "write", "seed": 7, **sections}, "test")
    run = Run(folder)
    task = Characters(None, 64)
    if not (run.step("build") / "step.json").is_file():
        step = run.begin("prepare", recipe)
        examples = {}
        for name, part in (("train", rows), ("valid", valid)):
            encoded: Iterable[Example] = (example for row in part for example in task.encode(row))
            encoded = pack(encoded, 64) if packed else encoded
            examples[name] = Examples.write(step.folder / f"{name}.safetensors", encoded)
            content = b"".join(b'{"text": "%s"}\n' % row["text"].encode() for row in part)
            (step.folder / f"{name}.jsonl").write_bytes(content)
        bundle.save_task(step.folder, task)
        step.finish(examples=examples)
        if build is not None:
            make_weights(recipe, run)
            return recipe, run
        step = run.begin("build", recipe)
        config = dataclasses.replace({"gpt2": GPT2, "llama": LLAMA}[family], dropout=dropout)
        bundle.save(step.folder, initialise(Transformer(config), 7), family, None, task)
        step.finish()
    return recipe, run
