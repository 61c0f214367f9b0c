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
from zhumo.tasks.examples import Examples, batches, collate
from zhumo.tasks.pairs import mined
from zhumo.tokenizer import learn_bpe
from zhumo.transformer import Config, Transformer, initialise, key_dropout


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


def test_wrong_answers_of_a_row_are_told_from_its_match(shared: Path, task: Embed) -> None:
    one, two, three, *_ = {row["match"]: row for row in _questions(shared)}.values()
    model = _model(task)
    alone = collate(task.encode(one))
    assert task.loss(model, alone).total.item() == pytest.approx(0, abs=1e-6)
    wrong = [two["match"], three["match"]]
    loss = task.loss(model, collate(task.encode({**one, "negatives": wrong})))
    answers = task.answer(model, [one, *({"text": "", "match": match} for match in wrong)])
    cosines = [float(np.dot(answers[0]["embedding"], answer["match_embedding"])) / TEMPERATURE for answer in answers]
    assert loss.total.item() == pytest.approx(math.log(sum(map(math.exp, cosines))) - cosines[0], rel=1e-3)
    copied = task.encode({**one, "negatives": [one["match"]]})  # a copy of the right one is not wrong
    assert task.loss(model, collate(copied)).total.item() == pytest.approx(0, abs=1e-6)


def test_all_texts_of_an_example_count_as_read(shared: Path, task: Embed, tmp_path: Path) -> None:
    rows = [{**row, "negatives": ["完全不对", "也不对"][:count]} for count, row in enumerate(_questions(shared)[:3])]
    examples = [example for row in rows for example in task.encode(row)]
    Examples.write(tmp_path / "made.safetensors", examples)
    wanted = [len(one["ids"]) + len(one["match"]) + len(one["negatives"]) for one in examples]
    assert Examples(tmp_path / "made.safetensors").lengths().tolist() == wanted
    [(order, _)] = batches(examples, 3)
    assert order == sorted(range(3), key=wanted.__getitem__)


def test_rows_with_and_without_wrong_answers_share_a_batch(shared: Path, task: Embed) -> None:
    rows = [
        {**row, "negatives": ["完全不对", "也不对"][:count]} for count, row in enumerate(_questions(shared)[:30:10])
    ]
    loss = task.loss(_model(task), collate([example for row in rows for example in task.encode(row)]))
    assert loss.count == 3 and math.isfinite(loss.total.item())


def test_a_row_is_dropped_out_the_same_way_whatever_its_wrong_answers(shared: Path, task: Embed) -> None:
    config = Config(vocabulary=task.vocabulary, width=32, depth=2, heads=4, length=48, dropout=0.3, head="none")
    model = initialise(Transformer(config), 0).train()
    rows = _questions(shared)[:30:10]
    wrong = [_questions(shared)[80]["match"], _questions(shared)[90]["match"]]
    examples = [task.encode({**row, "negatives": wrong[:count]})[0] for count, row in enumerate(rows)]
    keys, losses = torch.tensor([5, 2**40, 11]), []
    for order in ([0, 1, 2], [2, 0, 1]):
        key_dropout(model, keys[order])
        losses.append(float(task.loss(model, collate([examples[place] for place in order])).total.detach()))
    key_dropout(model, keys + 1)
    other = float(task.loss(model, collate(examples)).total.detach())
    assert losses[0] == pytest.approx(losses[1], abs=1e-5) and abs(losses[0] - other) > 1e-3


def test_wrong_answers_are_looked_up_and_are_never_right(shared: Path, task: Embed) -> None:
    rows = [*_questions(shared), {"text": _questions(shared)[0]["text"], "match": _questions(shared)[-1]["match"]}]
    found = mined(rows, 2)
    assert sum(map(len, found.values())) > len(rows)
    for row in rows:
        assert row["match"] not in found[row["text"]] and len(found[row["text"]]) <= 2
    asks = Embed(task.tokenizer, task.length, {"negatives": 2})
    asks.learn(rows)
    assert max(max(example["negative_segments"], default=0) for row in rows for example in asks.encode(row)) == 2
    assert mined(rows[:1], 2) == {}


def test_every_further_match_is_learned_and_is_right(shared: Path, task: Embed) -> None:
    one, two, *_ = {row["match"]: row for row in _questions(shared)}.values()
    row, model = {**one, "matches": [two["match"], one["match"]]}, _model(task)
    assert len(task.encode(row)) == 2
    assert task.loss(model, collate(task.encode(row))).total.item() == pytest.approx(0, abs=1e-6)
    [answer] = task.answer(model, [row])
    assert len(answer["match_embeddings"]) == 1
    rows = [row, *_questions(shared)[60:80]]
    places = 1 / task.score(task.answer(model, rows), rows)[2].values
    alone = 1 / task.score(task.answer(model, [one, *rows[1:]]), [one, *rows[1:]])[2].values
    assert places[0] <= alone[0] + 1
    assert Embed.baselines["bm25"](task, [], rows)[0]["place"] == 1


def test_vectors_are_learned_and_measured_at_every_width(shared: Path, task: Embed) -> None:
    rows, model = _questions(shared), _model(task)
    cut = Embed(task.tokenizer, task.length, {"widths": [32, 8]})
    examples = [example for row in rows[:40:5] for example in task.encode(row)]
    whole = task.loss(model, collate(examples)).total.item()
    both = cut.loss(model, collate(examples)).total.item()
    narrow = Embed(task.tokenizer, task.length, {"widths": [8]}).loss(model, collate(examples)).total.item()
    assert both == pytest.approx((whole + narrow) / 2, rel=1e-5)
    measures = {measure.name: measure.value for measure in cut.score(cut.answer(model, rows), rows)}
    assert [*measures] == ["recall@1", "recall@5", "mrr@10", "mrr@10/8"]
    short = cut.answer(model, [{**row, "dimensions": 8} for row in rows])
    assert math.hypot(*short[0]["embedding"]) == pytest.approx(1, abs=1e-6) and len(short[0]["embedding"]) == 8
    assert {m.name: m.value for m in task.score(short, rows)}["mrr@10"] == pytest.approx(measures["mrr@10/8"])
