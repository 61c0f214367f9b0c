"""tag from rows to spans, on real Chinese posts and a model small enough to learn in seconds."""

import gzip
import json
from functools import cache
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from zhumo.errors import DataError
from zhumo.metrics.spans import spans_of, units
from zhumo.prepare.spans import to_spans
from zhumo.recipe import Recipe
from zhumo.tasks import Row
from zhumo.tasks.examples import IGNORE, collate
from zhumo.tasks.tag import Tag, windows
from zhumo.tokenizer import Tokenizer, learn_bpe, learn_characters
from zhumo.transformer import Config, Transformer, initialise


@cache
def _posts(folder: Path, count: int = 40) -> list[Row]:
    with gzip.open(folder / "weibo-ner" / "train.jsonl.gz", "rt", encoding="utf-8") as lines:
        rows = [to_spans({"tokens": row["chars"], "tags": row["tags"]}, str) for row in map(json.loads, lines)]
    return [row for row in rows if row["spans"]][:count]


def _task(rows: list[Row], length: int = 64, tokenizer: Tokenizer | None = None) -> Tag:
    task = Tag(tokenizer or learn_characters(row["text"] for row in rows), length)
    task.learn(rows)
    return task


def _model(task: Tag) -> Transformer:
    config = Config(
        vocabulary=task.vocabulary, width=48, depth=2, heads=4, length=task.length, causal=False, head="none"
    )
    model = initialise(Transformer(config), 0)
    model.head = task.head(config.width)
    nn.init.normal_(model.head.get_parameter("weight"), std=0.02, generator=torch.Generator().manual_seed(1))
    return model.eval()


def _fit(task: Tag, model: Transformer, rows: list[Row], steps: int) -> None:
    examples = [example for row in rows for example in task.encode(row)]
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
    chance = np.random.default_rng(0)
    for _ in range(steps):
        loss = task.loss(model, collate([examples[place] for place in chance.integers(0, len(examples), 8)]))
        optimizer.zero_grad()
        (loss.total / loss.count).backward()
        optimizer.step()


@torch.no_grad()
def test_it_learns_the_names_of_real_posts(shared: Path) -> None:
    rows = _posts(shared, 12)
    task = _task(rows)
    model = _model(task)
    before = task.score(task.answer(model, rows), rows)[0].value
    with torch.enable_grad():
        _fit(task, model, rows, 120)
    answers = task.answer(model, rows)
    f1, precision, recall = task.score(answers, rows)
    assert before < 0.3 < 0.9 < f1.value
    assert f1.value == pytest.approx(2 * precision.value * recall.value / (precision.value + recall.value))
    for row, answer in zip(rows, answers, strict=True):
        assert all(span["text"] == row["text"][span["start"] : span["end"]] for span in answer["spans"])
        assert all(0 < span["score"] <= 1 for span in answer["spans"])
        assert all(one.end <= two.start for one, two in pairwise(spans_of(answer)))


@torch.no_grad()
def test_the_weight_of_both_parts_is_learned_and_each_answers_alone(shared: Path) -> None:
    rows = _posts(shared, 30)
    train, valid = rows[:20], [*rows[20:], {"text": "无", "spans": [{"start": 0, "end": 1, "label": "never seen"}]}]
    task = _task(train)
    model = _model(task)
    task.calibrate(model, valid)
    assert task.state["weight"] < 0.5  # a model that knows nothing beside a field that learned something
    by_heart = task.baselines["crf"](task, train, train)
    assert task.score(by_heart, train)[0].value > 0.8
    assert task.variants(model, train)["transformer"] != task.answer(model, train)
    again = Tag(task.tokenizer, task.length, task.state, task.arrays)
    assert again.answer(model, valid) == task.answer(model, valid)
    task.state["weight"] = 1.0
    assert task.variants(model, train)["transformer"] == task.answer(model, train)
    task.state["weight"] = 0.0
    assert task.answer(model, train) == by_heart


@torch.no_grad()
def test_an_answer_does_not_depend_on_its_neighbours(shared: Path) -> None:
    rows = _posts(shared)
    task = _task(rows)
    model = _model(task)
    alone = [task.answer(model, [row])[0] for row in rows]
    for one, other in zip(alone, task.answer(model, rows), strict=True):
        assert spans_of(one) == spans_of(other)
        assert [s["score"] for s in one["spans"]] == pytest.approx([s["score"] for s in other["spans"]], abs=1e-5)
    assert task.answer(model, []) == []


@pytest.mark.parametrize("length", [64, 16, 8])
def test_each_unit_is_asked_for_once_in_windows_that_fit(shared: Path, length: int) -> None:
    rows = _posts(shared)
    task = _task(rows, length)
    for row in rows:
        examples = task.encode(row)
        assert all(len(example["ids"]) == len(example["targets"]) <= length for example in examples)
        asked = sum(int((np.asarray(example["targets"]) != IGNORE).sum()) for example in examples)
        assert asked == len(units(row["text"]))


@pytest.mark.parametrize(("pieces", "room"), [(1, 2), (7, 7), (8, 7), (50, 7), (51, 8), (23, 2), (24, 3)])
def test_windows_cover_all_and_ask_once(pieces: int, room: int) -> None:
    cut = list(windows(pieces, room))
    assert [place for window in cut for place in range(*window.asked.indices(pieces))] == list(range(pieces))
    assert all(window.start <= window.asked.start <= window.asked.stop <= window.end for window in cut)
    assert all(window.end - window.start <= room for window in cut)
    assert list(windows(0, room)) == []


@torch.no_grad()
def test_long_texts_are_answered_to_their_end(shared: Path) -> None:
    rows = _posts(shared, 12)
    task = _task(rows, 32)
    model = _model(task)
    with torch.enable_grad():
        _fit(task, model, rows, 150)
    long = "".join(row["text"] for row in rows)
    found = {span["text"] for span in task.answer(model, [{"text": long}])[0]["spans"]}
    wanted = [row["text"][span["start"] : span["end"]] for row in rows for span in row["spans"]]
    assert sum(word in found for word in wanted) > 0.7 * len(wanted)


def test_a_word_has_the_label_of_the_piece_it_begins_with() -> None:
    rows = [{"text": "Mr. Abramovich flew to Chelsea.", "spans": [{"start": 4, "end": 14, "label": "PER"}]}]
    tokenizer = learn_bpe(["Mr. flew to Chelsea"] * 3, 300)
    task = _task(rows, 64, tokenizer)
    (example,) = task.encode(rows[0])
    asked = [place for place, target in enumerate(example["targets"]) if target != IGNORE]
    assert len(asked) == 7  # Mr . Abramovich flew to Chelsea .
    assert len(example["ids"]) > len(asked)
    assert [example["targets"][place] for place in asked] == [0, 0, 1, 0, 0, 0, 0]


def test_a_piece_of_several_chinese_characters_is_spelled_out() -> None:
    text = "北京大学在北京"
    spans = [{"start": 0, "end": 4, "label": "ORG"}, {"start": 5, "end": 7, "label": "GPE"}]
    tokenizer = learn_bpe([text] * 50, 400)
    assert len(tokenizer.encode(text)) < len(text)
    (example,) = _task([{"text": text, "spans": spans}], 64, tokenizer).encode({"text": text, "spans": spans})
    asked = [target for target in example["targets"] if target != IGNORE]
    assert asked == [3, 4, 4, 4, 0, 1, 2]  # B-ORG I-ORG I-ORG I-ORG O B-GPE I-GPE


def test_no_spans_teach_nothing() -> None:
    with pytest.raises(DataError, match="marks anything"):
        _task([{"text": "nothing here", "spans": []}], tokenizer=learn_bpe(["nothing"], 300))


@torch.no_grad()
def test_texts_without_a_word_have_no_spans(shared: Path) -> None:
    task = _task(_posts(shared))
    assert task.answer(_model(task), [{"text": ""}, {"text": "  "}]) == [{"spans": []}, {"spans": []}]


def test_labels_are_known_by_their_names(shared: Path) -> None:
    task = _task(_posts(shared))
    assert task.legend["head.weight"][:3] == ["O", f"B-{task.labels[0]}", f"I-{task.labels[0]}"]
    assert len(task.legend["head.bias"]) == task.head(8).get_parameter("bias").numel()


def test_a_fresh_tagger_reads_both_ways() -> None:
    assert Recipe.check({"task": "tag", "prepare": {"source": "marked.jsonl"}}, "test").build.family == "bert"
