"""Preferences inside `write`: rows, examples, the loss of DPO against the plain formula, and that it learns them."""

import gzip
import json
import math
import time
from copy import deepcopy
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from zhumo import bundle
from zhumo.build import build
from zhumo.errors import DataError
from zhumo.prepare import prepare, read_rows
from zhumo.prepare.chats import judged, to_messages
from zhumo.recipe import Recipe
from zhumo.run import Run
from zhumo.tasks.examples import IGNORE, Example, Examples, collate, pack
from zhumo.tasks.write import BETA, Write, margins
from zhumo.train import train
from zhumo.train.loop import Training
from zhumo.train.ready import ready as prepared
from zhumo.train.stop import Stop
from zhumo.transformer import Transformer

Row = dict[str, Any]
SAID = [{"role": "user", "content": "q"}, {"role": "assistant", "content": "good"}]


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": "q", "chosen": "good", "rejected": "bad"},
        {"messages": SAID[:1], "chosen": "good", "rejected": "bad"},
        {"conversations": [{"from": "human", "value": "q"}], "chosen": {"from": "gpt", "value": "good"},
         "rejected": {"from": "gpt", "value": "bad"}},
        {"messages": SAID[:1], "chosen": SAID, "rejected": [*SAID[:1], {"role": "assistant", "content": "bad"}]},
    ],
)  # fmt: skip
def test_the_forms_of_a_preference(row: Row) -> None:
    assert to_messages(row) == (SAID, "preference")
    assert judged(row, "rejected") == "bad"


def short(shared: Path, count: int) -> list[Row]:
    """Real preferences short enough for a test."""
    with gzip.open(shared / "preference-and-tools-demo" / "dpo_zh_demo.jsonl.gz", "rt", encoding="utf-8") as file:
        rows = map(json.loads, file)
        small = (row for row in rows if max(len(row[name]["value"]) for name in ("chosen", "rejected")) < 150
                 and len(row["conversations"]) == 1 and len(row["conversations"][0]["value"]) < 80)  # fmt: skip
        return list(islice(small, count))


def made(folder: Path, rows: list[Row], **settings: Any) -> tuple[Recipe, Run]:
    (folder / "judged.jsonl").write_text("\n".join(json.dumps(row, ensure_ascii=False) for row in rows))
    sections = {
        "prepare": {"source": str(folder / "judged.jsonl"), "vocabulary": 600, "length": 160, "split": {"test": 0.2}},
        "build": {"width": 32, "depth": 1, "heads": 2, "dropout": 0},
        "train": {"threads": 1, "batch": 4, "steps": 12, "lr": 3e-3, **settings},
    }
    recipe, run = Recipe.check({"task": "write", **sections}, "test"), Run(folder / "run")
    prepare(recipe, run)
    build(recipe, run)
    return recipe, run


@pytest.fixture(scope="module")
def started(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Recipe, Run]:
    return made(tmp_path_factory.mktemp("preferences"), short(shared, 24))


def ready(run: Run) -> tuple[Transformer, Write, list[Example]]:
    loaded = bundle.load(run.step("build"))
    assert isinstance(loaded.task, Write)
    return loaded.model, loaded.task, list(Examples(run.step("prepare") / "train.safetensors"))


def test_a_row_becomes_one_example_of_two_replies(started: tuple[Recipe, Run]) -> None:
    _, task, examples = ready(started[1])
    rows = read_rows(started[1].step("prepare") / "train.jsonl")
    assert len(examples) == len(rows) and task.keeps_start and task.metric == "preferred"
    for row, example in zip(rows, examples, strict=True):
        assert row["messages"][-1]["role"] == "assistant"
        replies = {"": row["messages"][-1]["content"], "rejected_": row["rejected"]}
        for kind, reply in replies.items():
            assert len(example[f"{kind}ids"]) == len(example[f"{kind}targets"]) <= task.length
            learned = [int(target) for target in example[f"{kind}targets"] if target != IGNORE]
            assert task.tokenizer is not None and reply.startswith(task.tokenizer.decode(learned)[:20])


def test_what_is_too_long_loses_the_beginning_of_its_prompt(started: tuple[Recipe, Run]) -> None:
    task = ready(started[1])[1]
    chat = [{"role": "user", "content": "的" * 99}, {"role": "assistant", "content": "是"}]
    [example] = Write(task.tokenizer, 24, task.state).encode({"messages": chat, "rejected": "不" * 99})
    assert len(example["ids"]) == 24 and list(example["targets"]).count(IGNORE) > 12
    assert len(example["rejected_ids"]) == 24 and list(example["rejected_targets"]).count(IGNORE) == 0


def test_preferences_are_not_packed() -> None:
    pair: Example = {"ids": [1], "targets": [2], "rejected_ids": [1, 1], "rejected_targets": [3, 4]}
    plain: Example = {"ids": [1], "targets": [2]}
    found = list(pack([pair, plain, pair, plain], 8))
    assert found[:2] == [pair, pair] and list(found[2]["segments"]) == [1, 2] and len(found) == 3


def test_the_loss_is_that_of_the_paper(started: tuple[Recipe, Run]) -> None:
    model, task, examples = ready(started[1])
    start = deepcopy(model)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(1.5)
    batch = collate(examples[:3])
    found = task.loss_beside(model, start, batch)

    def likelihood(one: Transformer, example: Example, kind: str) -> torch.Tensor:
        targets = torch.as_tensor(np.asarray(example[f"{kind}targets"])).long()
        chances = F.log_softmax(one(torch.as_tensor(np.asarray(example[f"{kind}ids"])).long()[None])[0], 1)
        return chances[targets != IGNORE].gather(1, targets[targets != IGNORE][:, None]).sum()

    total = 0.0
    for example in examples[:3]:
        ratios = [likelihood(model, example, kind) - likelihood(start, example, kind) for kind in ("", "rejected_")]
        total += -F.logsigmoid(BETA * (ratios[0] - ratios[1])).item()
    assert found.count == 3 and found.total.item() == pytest.approx(total, rel=1e-4)
    at_start = task.loss_beside(start, start, batch)
    assert at_start.total.item() == pytest.approx(3 * math.log(2), rel=1e-5)


def test_it_learns_what_people_liked_better(started: tuple[Recipe, Run], tmp_path: Path) -> None:
    recipe, run = started
    train(recipe, run, progress=False)
    before = bundle.load(run.step("build")).model
    after = bundle.load(run.step("train"))
    batch = collate(ready(run)[2])
    with torch.no_grad():
        moved = margins(after.model, batch) - margins(before, batch)
    assert (moved > 0).double().mean() > 0.8
    rows = read_rows(run.step("prepare") / "train.jsonl")[:3]
    answers = after.answer([{**row, "max_tokens": 2} for row in rows])
    assert after.task is not None
    [measure] = [one for one in after.task.score(answers, rows) if one.name == "preferred"]
    for right, answer in zip(measure.values, answers, strict=True):
        assert right == (answer["nll"] / answer["tokens"] < answer["rejected_nll"] / answer["rejected_tokens"])


@pytest.mark.parametrize("lora", [None, {"rank": 2}])
def test_exact_resume(started: tuple[Recipe, Run], tmp_path: Path, lora: dict[str, Any] | None) -> None:
    """Stopped at three steps and gone on with: the same bits, and the same reference."""
    recipe = started[0].changed({"build.lora": lora, "train.validate_every": 3, "train.save_every": 0.001})
    folder = tmp_path / "run"

    def fresh(name: str) -> Training:
        place = folder / name
        place.mkdir(parents=True, exist_ok=True)
        training = prepared(recipe, started[1].step("prepare"), started[1].step("build"), place)
        training.begin(time.monotonic())
        return training

    whole = fresh("whole")
    whole.learn(Stop(), False)
    assert whole.state.step == 12 and whole.learner.elder is not None
    for stop in (1, 5, 8):
        for until in (stop / 12, 1.0):
            cut = fresh(f"cut {stop}")
            cut.learn(Stop(), False, until)
        for name, tensor in whole.learner.weights().items():
            assert torch.equal(tensor, cut.learner.weights()[name])


def test_preferences_and_plain_chats_do_not_mix(shared: Path, tmp_path: Path) -> None:
    rows = short(shared, 8)
    with pytest.raises(DataError, match="recipe of their own"):
        made(tmp_path, [*rows, *({"prompt": f"问{n}", "reply": "答"} for n in range(8))])
