"""translate on real pairs of sentences."""

import gzip
import json
from functools import cache
from itertools import islice
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from zhumo.build import build, fresh
from zhumo.bundle import load, save
from zhumo.errors import ModelError
from zhumo.prepare import prepare
from zhumo.recipe import Build, Recipe, Train
from zhumo.run import Run
from zhumo.tasks import Row
from zhumo.tasks.examples import collate
from zhumo.tasks.translate import SMOOTHING, Translate, memory
from zhumo.tokenizer import learn_bpe, learn_characters
from zhumo.train.optimizer import make_optimizers
from zhumo.transformer import Transformer, initialise


@cache
def _pairs(folder: Path) -> list[Row]:
    with gzip.open(folder / "multi30k-en-de" / "train.jsonl.gz", "rt", encoding="utf-8") as lines:
        return [{"source": row["en"], "target": row["de"]} for row in map(json.loads, islice(lines, 60))]


@pytest.fixture
def task(shared: Path) -> Translate:
    texts = (row[name] for row in _pairs(shared) for name in ("source", "target"))
    task = Translate(learn_bpe(texts, 500), 64)
    task.learn(_pairs(shared))
    return task


def _model(task: Translate, family: str = "marian", **sizes: int | float) -> Transformer:
    section = Build(family=family, width=32, depth=1, heads=2, dropout=0.0)
    return initialise(Transformer(fresh(section.model_copy(update=sizes), task)), 0).eval()


def test_a_pair_becomes_what_is_read_and_what_is_said(task: Translate, shared: Path) -> None:
    assert task.tokenizer is not None
    [example] = task.encode(_pairs(shared)[0])
    start, end = task.tokenizer.special("pad"), task.tokenizer.special("eos")
    assert task.tokenizer.decode(list(example["source"])) == _pairs(shared)[0]["source"]
    assert task.tokenizer.decode(list(example["targets"])) == _pairs(shared)[0]["target"]
    assert example["source"][-1] == example["targets"][-1] == end
    assert list(example["ids"]) == [start, *example["targets"][:-1]]


def test_a_pair_that_does_not_fit_is_not_learned_by_half(task: Translate) -> None:
    assert task.encode({"source": "a dog " * 99, "target": "ein Hund"}) == []
    assert task.encode({"source": "a dog", "target": "ein Hund " * 99}) == []


@pytest.mark.parametrize("family", ["marian", "t5", "bart"])
def test_the_loss_is_that_of_each_pair_alone(task: Translate, shared: Path, family: str) -> None:
    """Whatever is padded beside it; smoothed only while it is learned."""
    model, rows = _model(task, family), _pairs(shared)[:3]
    examples = [example for row in rows for example in task.encode(row)]
    together = task.loss(model, collate(examples))
    alone = [task.loss(model, collate([example])) for example in examples]
    assert together.count == sum(part.count for part in alone) == sum(len(example["ids"]) for example in examples)
    torch.testing.assert_close(together.total, sum(part.total for part in alone), rtol=1e-4, atol=0)
    model.train()
    batch = collate(examples)
    read = model.read(batch["source"], segments=batch["source_segments"])
    logits = model(batch["ids"], source=read).flatten(0, 1)
    wanted = F.cross_entropy(logits, batch["targets"].flatten(), reduction="sum", label_smoothing=SMOOTHING)
    torch.testing.assert_close(task.loss(model, batch).total, wanted, rtol=1e-4, atol=0)


@pytest.mark.timeout(120)
def test_it_learns_to_translate_what_it_has_seen(task: Translate, shared: Path, tmp_path: Path) -> None:
    """Eight sentences by heart, from the ids of a fresh model to the words of a bundle on disk."""
    rows = _pairs(shared)[:8]
    model = _model(task, depth=2, width=64).train()
    batch = collate([example for row in rows for example in task.encode(row)])
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for _ in range(60):
        optimizer.zero_grad()
        loss = task.loss(model, batch)
        (loss.total / loss.count).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    save(tmp_path, model, "marian", task.tokenizer, task)
    bundle = load(tmp_path)
    asked = [{"source": row["source"]} for row in rows[:4]]
    answers = bundle.answer(asked)
    assert [answer["text"] for answer in answers] == [row["target"] for row in rows[:4]]
    assert bundle.answer(asked[1:2]) == answers[1:2]
    bleu, chrf = task.score(answers, rows[:4])
    assert bleu.value == pytest.approx(100)
    assert chrf.value == pytest.approx(100)
    told = json.loads((tmp_path / "config.json").read_text(encoding="utf-8"))
    assert told["decoder_start_token_id"] == task.state["start"]


def test_encoder_and_decoder_learn_by_muon_alike(task: Translate) -> None:
    model = _model(task)
    muon = make_optimizers(model, Train(optimizer="muon", lr=1e-3))[-1]
    held = {id(parameter) for group in muon.param_groups for parameter in group["params"]}
    names = {name for name, parameter in model.named_parameters() if id(parameter) in held}
    assert {"blocks.0.cross.key.weight", "blocks.0.feed_forward.up.weight"} <= names
    assert {name.removeprefix("encoder.") for name in names if name.startswith("encoder.")} == {
        name for name in names if not name.startswith("encoder.") and "cross" not in name
    }


def test_a_source_too_long_is_read_from_its_beginning_and_says_so(task: Translate, shared: Path) -> None:
    model = _model(task)
    text = " ".join(row["source"] for row in _pairs(shared)[:8])
    [answer] = task.answer(model, [{"source": text}])
    assert answer["dropped"] > 0
    [empty] = task.answer(model, [{"source": ""}])
    assert "dropped" not in empty and empty["score"] < 0


def test_the_translation_memory_gives_what_it_knows(task: Translate, shared: Path) -> None:
    rows = _pairs(shared)
    answers = memory(task, rows[:40], [{"source": rows[7]["source"], "target": ""}, rows[45]])
    assert answers[0] == {"text": rows[7]["target"]}
    assert answers[1]["text"] in {row["target"] for row in rows[:40]}


def test_a_tokenizer_without_an_end_is_refused() -> None:
    tokenizer = learn_characters(["ab"])
    del tokenizer.config["eos_token"]
    task = Translate(tokenizer, 8)
    task.learn([])
    with pytest.raises(ModelError, match="eos"):
        task.encode({"source": "a", "target": "b"})


@pytest.mark.parametrize(("task", "family"), [("translate", "llama"), ("write", "t5")])
def test_a_model_of_the_wrong_kind_is_not_built(task: str, family: str, tmp_path: Path) -> None:
    data = tmp_path / "pairs.csv"
    lines = [f"{count} dogs,{count} Hunde" for count in range(20)]
    data.write_text("\n".join(["source,target", *lines]), encoding="utf-8")
    columns = {"text": "source"} if task == "write" else {}
    section = {"source": str(data), "vocabulary": 300, "columns": columns}
    recipe = Recipe.check({"task": task, "name": "x", "prepare": section, "build": {"family": family}}, "test")
    run = Run.of(recipe, tmp_path / "runs")
    prepare(recipe, run)
    with pytest.raises(ModelError, match="encoder"):
        build(recipe, run)


def test_translation_is_learned_by_an_encoder_decoder() -> None:
    recipe = Recipe.check({"task": "translate", "prepare": {"source": "x.csv"}}, "test")
    assert recipe.build.family == "marian"
