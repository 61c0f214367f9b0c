"""classify from rows to measures, on real rows and a model small enough to learn in seconds."""

import gzip
import json
import math
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load, save
from sklearn.metrics import f1_score
from torch import nn

from zhumo.errors import DataError
from zhumo.tasks import Answer, Row
from zhumo.tasks.classify import Classify, best_threshold, energy, temperature
from zhumo.tasks.examples import collate
from zhumo.tokenizer import learn_bpe
from zhumo.transformer import Config, Transformer, initialise

INTENTS = ("card_arrival", "exchange_rate", "lost_or_stolen_phone", "change_pin", "age_limit")


@cache
def _intents(folder: Path, part: str) -> list[Row]:
    with gzip.open(folder / "banking77" / f"{part}.jsonl.gz", "rt", encoding="utf-8") as lines:
        return [row for row in map(json.loads, lines) if row["label"] in INTENTS]


@cache
def _reviews(folder: Path) -> list[Row]:
    """Reviews that carry two labels: what was bought, and whether it pleased."""
    with gzip.open(folder / "online-shopping-10-cats" / "dev.jsonl.gz", "rt", encoding="utf-8") as lines:
        read = [json.loads(line) for line in lines][::16]
    return [{"text": row["text"], "label": [row["category"], "good" if row["label"] else "bad"]} for row in read]


def _task(rows: list[Row]) -> Classify:
    task = Classify(learn_bpe((row["text"] for row in rows), 600), 32)
    task.learn(rows)
    return task


def _model(task: Classify, causal: bool = False) -> Transformer:
    config = Config(
        vocabulary=task.vocabulary, width=48, depth=2, heads=4, length=task.length, causal=causal, head="none"
    )
    model = initialise(Transformer(config), 0)
    model.head = task.head(config.width)
    # The head starts at zero, where every answer is the same; drawn at random, untrained models differ.
    nn.init.normal_(model.head.get_parameter("weight"), std=0.02, generator=torch.Generator().manual_seed(1))
    return model.eval()


def _fit(task: Classify, model: Transformer, rows: list[Row], steps: int) -> None:
    examples = [example for row in rows for example in task.encode(row)]
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
    generator = np.random.default_rng(0)
    for _ in range(steps):
        batch = collate([examples[i] for i in generator.integers(0, len(examples), 32)])
        loss = task.loss(model, batch)
        (loss.total / loss.count).backward()
        optimizer.step()
        optimizer.zero_grad()


def _measured(task: Classify, answers: list[Answer], rows: list[Row]) -> dict[str, float]:
    return {measure.name: measure.value for measure in task.score(answers, rows)}


@pytest.mark.parametrize("causal", [False, True])
def test_learns_real_intents(shared: Path, causal: bool) -> None:
    train, test = _intents(shared, "train"), _intents(shared, "test")
    task = _task(train)
    model = _model(task, causal)
    _fit(task, model, train, 120)
    measures = _measured(task, task.answer(model, test), test)
    assert measures["accuracy"] >= 0.85  # a guess is right in 1 of 5
    assert measures["macro_f1"] >= 0.85
    assert {"log_loss", "ece", "error@80%"} <= measures.keys()
    assert measures["error@80%"] <= 1 - measures["accuracy"]


@pytest.mark.parametrize("causal", [False, True])
def test_an_answer_does_not_depend_on_its_company(shared: Path, causal: bool) -> None:
    rows = _intents(shared, "test")[::5]
    task = _task(rows)
    model = _model(task, causal)
    together = task.answer(model, rows)
    for row, answer in zip(rows, together, strict=True):
        [alone] = task.answer(model, [row])
        assert alone["scores"] == pytest.approx(answer["scores"], abs=1e-6)


def test_answers_say_every_label_most_likely_first(shared: Path) -> None:
    rows = _intents(shared, "test")[:10]
    task = _task(_intents(shared, "train"))
    for answer in task.answer(_model(task), rows):
        scores = list(answer["scores"].values())
        assert sorted(answer["scores"]) == task.labels == sorted(INTENTS)
        assert scores == sorted(scores, reverse=True)
        assert next(iter(answer["scores"])) == answer["label"]
        assert sum(scores) == pytest.approx(1)
        assert json.loads(json.dumps(answer)) == answer
    assert task.answer(_model(task), []) == []


def test_calibration_lowers_the_log_loss_and_keeps_the_labels(shared: Path) -> None:
    train, test = _intents(shared, "train"), _intents(shared, "test")
    task = _task(train)
    model = _model(task)
    _fit(task, model, train[::8], 120)  # few rows, learned by heart: too sure of itself
    before = task.variants(model, test)["transformer"]
    task.calibrate(model, test[::2])
    alone, after = task.variants(model, test)["transformer"], task.answer(model, test)
    losses = [_measured(task, answers, test)["log_loss"] for answers in (before, alone, after)]
    assert task.state["alone"] > 1.1
    assert losses[0] > losses[1] >= losses[2]
    assert [answer["label"] for answer in before] == [answer["label"] for answer in alone]
    again = Classify(task.tokenizer, task.length, json.loads(json.dumps(task.state)), load(save(task.arrays)))
    assert again.answer(model, test) == after  # all it needs lies in its state and its arrays


def test_the_answer_is_a_blend_with_a_linear_model_that_is_a_rival_by_itself(shared: Path) -> None:
    """A Transformer that has learned nothing leaves the answer to it; one that says the truth is left alone."""
    train, test = _intents(shared, "train"), _intents(shared, "test")
    task = _task(train)
    model = _model(task)
    task.calibrate(model, test)
    assert task.state["weight"] < 0.3
    linear = task.baselines["tfidf"](task, train, test)
    same = [ours["label"] == theirs["label"] for ours, theirs in zip(task.answer(model, test), linear, strict=True)]
    assert np.mean(same) > 0.95
    task.state["weight"] = 1.0
    said, alone = task.answer(model, test), task.variants(model, test)["transformer"]
    assert [answer["label"] for answer in said] == [answer["label"] for answer in alone]


def test_calibration_without_rows_changes_nothing(shared: Path) -> None:
    task = _task(_intents(shared, "train"))
    before = dict(task.state)
    task.calibrate(_model(task), [])
    task.calibrate(_model(task), [{"text": "?", "label": "never seen"}])
    assert task.state == before


def test_temperature_is_where_the_log_loss_is_least() -> None:
    generator = np.random.default_rng(0)
    truth = np.eye(3)[generator.integers(0, 3, 400)]
    logits = 3 * (truth + generator.normal(size=truth.shape))

    def link(x: np.ndarray) -> np.ndarray:
        powers: np.ndarray = np.exp(x)
        return powers / powers.sum(1, keepdims=True)

    def loss(divisor: float) -> float:
        return float(-(truth * np.log(link(logits / divisor))).sum())

    found = temperature(logits, truth, link)
    assert 1.5 < found < 6
    assert loss(found) < min(loss(found * 1.05), loss(found / 1.05))
    assert temperature(truth, truth, link) == pytest.approx(0.1)  # all right: as sure as allowed, not endlessly


def test_threshold_has_the_best_micro_f1() -> None:
    generator = np.random.default_rng(1)
    truth = (generator.random((100, 4)) < 0.2).astype(float)
    scores = (0.3 * truth + generator.random(truth.shape)).round(2)  # rounded, so that there are ties
    found = best_threshold(scores, truth)
    tried = [f1_score(truth, scores >= at, average="micro") for at in np.linspace(0, 1.3, 400)]
    assert f1_score(truth, scores >= found, average="micro") >= max(tried) - 1e-12


def test_a_text_may_carry_several_labels(shared: Path) -> None:
    rows = _reviews(shared)
    task = _task(rows)
    model = _model(task)
    assert task.multi
    assert task.encode({"text": "好", "label": []})[0]["labels"] == [0] * len(task.labels)
    _fit(task, model, rows, 200)
    task.calibrate(model, rows)
    assert 0 < task.state["threshold"] < 1
    answers = task.answer(model, rows)
    measures = _measured(task, answers, rows)
    assert measures["micro_f1"] >= 0.6
    for answer in answers:
        assert answer["labels"] == list(answer["scores"])[: len(answer["labels"])]


def test_a_label_never_trained_on_is_wrong_and_said(shared: Path) -> None:
    task = _task(_intents(shared, "train"))
    row = {"text": "My account was hacked", "label": "hacked"}
    assert task.encode(row) == []
    measures = _measured(task, task.answer(_model(task), [row]), [row])
    assert (measures["accuracy"], measures["unseen_labels"]) == (0, 1)


def test_what_belongs_to_no_label_is_less_familiar(shared: Path) -> None:
    """Questions of other intents of the same bank; the known ones lie below a level as often as it says."""
    rows, known = _intents(shared, "train"), _intents(shared, "test")
    with gzip.open(shared / "clinc150" / "test.jsonl.gz", "rt", encoding="utf-8") as lines:
        strange = [row for row in map(json.loads, lines) if row["label"] == "oos"][::10]
    task = _task(rows)
    model = _model(task)
    assert "familiar" not in task.answer(model, known)[0]
    _fit(task, model, rows, 150)
    task.calibrate(model, known[::2])
    asked = known[1::2] + strange
    answers = task.answer(model, asked)
    measures = _measured(task, answers, asked)
    assert measures["unseen_auc"] > 0.9 and measures["unseen_labels"] == len(strange) / len(asked)
    below = np.mean([answer["familiar"] < 0.2 for answer in answers[: len(known[1::2])]])
    assert 0.1 < below < 0.3
    assert "unseen_auc" not in _measured(task, answers[:3], asked[:3])


def test_energy_is_the_logarithm_of_the_sum() -> None:
    logits = np.array([[1.0, 2.0, 3.0], [900.0, 900.0, -900.0]])
    assert energy(logits) == pytest.approx([math.log(math.e + math.e**2 + math.e**3), 900 + math.log(2)])


def test_one_label_is_nothing_to_learn() -> None:
    with pytest.raises(DataError, match="at least two labels"):
        Classify(None, 8).learn([{"text": "a", "label": "x"}, {"text": "b", "label": "x"}])


def test_long_and_empty_texts_are_answered(shared: Path) -> None:
    task = _task(_intents(shared, "train"))
    model = _model(task)
    answers = task.answer(model, [{"text": "card " * 500}, {"text": ""}])
    assert all(math.isfinite(score) for answer in answers for score in answer["scores"].values())
    assert len(task.encode({"text": "card " * 500, "label": "change_pin"})[0]["ids"]) == task.length


def test_prefix_and_pooling_of_the_start_weights_are_used(shared: Path) -> None:
    rows = _intents(shared, "test")[:3]
    task = _task(_intents(shared, "train"))
    model = _model(task)
    plain = task.answer(model, rows)
    prefixed = [{"text": "query: " + row["text"]} for row in rows]
    expected = task.answer(model, prefixed)
    task.state["prefix"] = "query: "
    assert task.answer(model, rows) == expected != plain
    task.state["pooling"] = "cls"
    assert task.answer(model, rows) != expected
