"""embed on real questions and answers."""

import gzip
import json
import math
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from zhumo.errors import DataError
from zhumo.tasks import Row
from zhumo.tasks.embed import TEMPERATURE, Embed
from zhumo.tasks.examples import collate
from zhumo.tokenizer import learn_bpe
from zhumo.transformer import Config, Transformer, initialise


@cache
def _questions(folder: Path) -> list[Row]:
    with gzip.open(folder / "xquad" / "zh.jsonl.gz", "rt", encoding="utf-8") as lines:
        return [{"text": row["question"], "match": row["context"]} for row in map(json.loads, lines)][:120]


@pytest.fixture
def task(shared: Path) -> Embed:
    task = Embed(learn_bpe((row["text"] for row in _questions(shared)), 700), 48)
    task.learn(_questions(shared))
    return task


def _model(task: Embed, causal: bool = False) -> Transformer:
    config = Config(
        vocabulary=task.vocabulary, width=32, depth=2, heads=4, length=task.length, causal=causal, head="none"
    )
    return initialise(Transformer(config), 0).eval()


@pytest.mark.parametrize("causal", [False, True])
def test_vectors_have_length_one_and_do_not_depend_on_their_company(shared: Path, task: Embed, causal: bool) -> None:
    rows, model = _questions(shared), _model(task, causal)
    answers = task.answer(model, rows)
    for row, answer in zip(rows[:20], answers, strict=False):
        assert math.hypot(*answer["embedding"]) == pytest.approx(1, abs=1e-6)
        [alone] = task.answer(model, [{"text": row["text"]}])
        assert alone.keys() == {"embedding"}
        assert alone["embedding"] == pytest.approx(answer["embedding"], abs=1e-6)


def test_a_match_is_a_text_with_its_own_prefix(shared: Path, task: Embed) -> None:
    task.state |= {"prefix": "query: ", "match_prefix": "passage: "}
    model, row = _model(task), _questions(shared)[0]
    [answer] = task.answer(model, [row])
    plain = Embed(task.tokenizer, task.length)
    [query, passage] = plain.answer(model, [{"text": "query: " + row["text"]}, {"text": "passage: " + row["match"]}])
    assert answer["embedding"] == pytest.approx(query["embedding"], abs=1e-6)
    assert answer["match_embedding"] == pytest.approx(passage["embedding"], abs=1e-6)


def test_loss_is_cross_entropy_over_the_matches_of_the_batch(shared: Path, task: Embed) -> None:
    rows = list({row["match"]: row for row in _questions(shared)}.values())[:6]
    model = _model(task)
    answers = task.answer(model, rows)
    texts, matches = (torch.tensor([a[name] for a in answers]) for name in ("embedding", "match_embedding"))
    loss = task.loss(model, collate([example for row in rows for example in task.encode(row)]))
    expected = F.cross_entropy(texts @ matches.T / TEMPERATURE, torch.arange(len(rows)))
    assert loss.count == len(rows)
    assert loss.total.item() / loss.count == pytest.approx(float(expected), rel=1e-4)


def test_the_same_match_twice_is_no_wrong_answer(shared: Path, task: Embed) -> None:
    row = _questions(shared)[0]
    loss = task.loss(_model(task), collate([*task.encode(row), *task.encode({**row, "text": "?"})]))
    assert loss.total.item() == pytest.approx(0, abs=1e-6)  # each has but its own match to choose from


def test_another_answer_to_the_same_question_is_no_wrong_answer(shared: Path, task: Embed) -> None:
    one, two, *_ = {row["match"]: row for row in _questions(shared)}.values()
    rows = [one, {"text": one["text"], "match": two["match"]}]
    loss = task.loss(_model(task), collate([example for row in rows for example in task.encode(row)]))
    assert loss.total.item() == pytest.approx(0, abs=1e-6)


def test_learning_brings_texts_to_their_matches(shared: Path, task: Embed) -> None:
    rows, model = _questions(shared), _model(task)
    examples = [example for row in rows for example in task.encode(row)]
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    before = task.score(task.answer(model, rows), rows)
    for step in range(60):
        loss = task.loss(model, collate(examples[step * 30 % 120 : step * 30 % 120 + 30]))
        (loss.total / loss.count).backward()
        optimizer.step()
        optimizer.zero_grad()
    after = task.score(task.answer(model, rows), rows)
    assert [measure.name for measure in after] == ["recall@1", "recall@5", "mrr@10"]
    assert after[2].value > before[2].value + 0.3


def test_score_ranks_each_own_match_among_all(task: Embed) -> None:
    rows = [{"text": "a", "match": "x"}, {"text": "b", "match": "y"}, {"text": "c", "match": "x"}, {"text": "d"}]
    vectors = {"x": [1.0, 0.0], "y": [0.0, 1.0]}
    asked = [[0.9, 0.1], [0.9, 0.1], [1.0, 1.0]]  # right, wrong, undecided: which is not right
    own = [vectors[str(row["match"])] for row in rows[:3]]
    answers = [{"embedding": text, "match_embedding": match} for text, match in zip(asked, own, strict=True)]
    measures = task.score([*answers, {"embedding": [1.0, 0.0]}], rows)
    assert list(measures[0].values) == [1, 0, 0]
    assert measures[2].value == pytest.approx((1 + 1 / 2 + 1 / 2) / 3)


def test_the_rival_is_scored_in_the_same_way(shared: Path, task: Embed) -> None:
    rows = _questions(shared)
    measures = task.score(Embed.baselines["bm25"](task, rows, rows), rows)
    assert measures[2].value > 0.9
    assert np.isin(measures[0].values, (0, 1)).all()


def test_without_a_match_there_is_nothing_to_learn_or_score(task: Embed) -> None:
    assert task.encode({"text": "a"}) == []
    with pytest.raises(DataError, match="match"):
        task.score([{"embedding": [1.0]}], [{"text": "a"}])
