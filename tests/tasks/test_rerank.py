"""rerank on real questions and paragraphs."""

import gzip
import json
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from zhumo.baselines.retrieval import Bm25
from zhumo.errors import DataError
from zhumo.evaluate import read_report
from zhumo.make import make
from zhumo.metrics.retrieval import candidates
from zhumo.prepare import read_rows
from zhumo.prepare.split import Part
from zhumo.prepare.stored import Stored, write_rows
from zhumo.prepare.wrong import beside_right
from zhumo.recipe import Recipe
from zhumo.run import Run
from zhumo.tasks import Row
from zhumo.tasks.examples import collate
from zhumo.tasks.pairs import WEIGHED, mined
from zhumo.tasks.rerank import Rerank
from zhumo.tokenizer import Tokenizer, learn_bpe
from zhumo.transformer import Config, Transformer, initialise


@cache
def _asked(folder: Path) -> list[Row]:
    """Forty questions, each with its paragraph and the three that BM25 takes for it most."""
    with gzip.open(folder / "xquad" / "zh.jsonl.gz", "rt", encoding="utf-8") as lines:
        rows = [{"text": row["question"], "match": row["context"]} for row in map(json.loads, lines)][:200:5]
    wrong = mined(rows, 3)
    return [{**row, "negatives": wrong[row["text"]]} for row in rows]


@pytest.fixture(scope="module")
def tokenizer(shared: Path) -> Tokenizer:
    return learn_bpe((row["match"] for row in _asked(shared)), 900)


@pytest.fixture
def task(tokenizer: Tokenizer) -> Rerank:
    return Rerank(tokenizer, 64)


def _model(task: Rerank, seed: int = 0) -> Transformer:
    model = Transformer(Config(vocabulary=task.vocabulary, width=32, depth=2, heads=4, length=task.length,
                               causal=False, head="none"))  # fmt: skip
    model.head = task.head(32)
    initialise(model, seed)
    torch.nn.init.normal_(model.head.weight, std=0.02, generator=torch.Generator().manual_seed(seed))
    return model.eval()


def test_a_pair_is_the_text_and_as_much_of_the_document_as_has_room(shared: Path, task: Rerank) -> None:
    row = _asked(shared)[0]
    [example] = task.encode(row)
    ids, numbers = np.array(example["ids"]), np.array(example["segments"])
    assert len(row["negatives"]) == 3 and sorted(set(numbers.tolist())) == [1, 2, 3, 4]
    assert task.tokenizer is not None
    for number, document in enumerate(candidates(row), 1):
        said = task.tokenizer.decode(ids[numbers == number].tolist())
        assert (numbers == number).sum() <= task.length
        assert said.startswith(row["text"] + "\n" + document[:10])
    long = {**row, "text": row["text"] * 30}
    assert all(number <= task.length for number in np.bincount(task.encode(long)[0]["segments"]))


def test_nothing_to_choose_between_is_no_example(shared: Path, task: Rerank) -> None:
    row = _asked(shared)[0]
    assert task.encode({"text": row["text"], "match": row["match"]}) == []
    assert task.encode({"text": row["text"], "negatives": row["negatives"]}) == []
    assert len(task.encode({**row, "matches": ["甲", "乙", row["match"]]})) == 3


def test_loss_is_cross_entropy_of_the_right_one_among_its_own_candidates(shared: Path, task: Rerank) -> None:
    rows = [*_asked(shared)[:3], {**_asked(shared)[3], "negatives": _asked(shared)[3]["negatives"][:1]}]
    model = _model(task)
    loss = task.loss(model, collate([example for row in rows for example in task.encode(row)]))
    logits = [torch.tensor(answer["scores"]).logit() for answer in task.answer(model, rows)]
    expected = sum(float(F.cross_entropy(one[None], torch.tensor([0]))) for one in logits)
    assert loss.count == 4
    assert loss.total.item() == pytest.approx(expected, rel=1e-4)


def test_an_answer_does_not_depend_on_its_company(shared: Path, task: Rerank) -> None:
    rows, model = _asked(shared), _model(task)
    together = task.answer(model, rows)
    assert task.answer(model, []) == []
    for row, answer in zip(rows[:10], together, strict=False):
        asked = {"text": row["text"], "documents": candidates(row)}
        [alone] = task.answer(model, [asked])
        assert alone["scores"] == pytest.approx(answer["scores"], abs=1e-6)
        [backwards] = task.answer(model, [{**asked, "documents": candidates(row)[::-1]}])
        assert backwards["scores"] == pytest.approx(answer["scores"][::-1], abs=1e-6)


def test_scores_become_probabilities_and_keep_their_order(shared: Path, task: Rerank) -> None:
    rows, model = _asked(shared), _model(task)
    with torch.no_grad():  # scores that know the right one, but for a fifth of the rows
        known = {row["match"] for index, row in enumerate(rows) if index % 5}
        task._scores = lambda _model, asked: [  # type: ignore[method-assign]
            np.array([8.0 * (one in known and one == row.get("match")) + len(one) % 7 for one in candidates(row)])
            for row in asked
        ]
        before = [np.argsort(answer["scores"], kind="stable").tolist() for answer in task.answer(model, rows)]
        task.calibrate(model, rows)
        answers = task.answer(model, rows)
    assert [np.argsort(answer["scores"], kind="stable").tolist() for answer in answers] == before
    said = np.concatenate([answer["scores"] for answer in answers])
    assert said.mean() == pytest.approx(len(rows) / len(said), abs=1e-3)  # as often right as it says
    state = dict(task.state)
    task._scores = lambda _model, asked: [-np.arange(len(candidates(row)))[::-1] * 1.0 for row in asked]  # type: ignore[method-assign]
    task.calibrate(model, rows)
    assert task.state == state  # the right one always last: nothing is turned round


def test_equals_stand_last_and_other_right_ones_do_not_count(shared: Path, task: Rerank) -> None:
    row = {**_asked(shared)[0], "matches": ["甲"]}  # five candidates, of which two are right
    first, fifth = task.score([{"scores": [1, 1, 0.5, 0.5, 0.5]}, {"scores": [0, 0, 1, 1, 0]}], [row, row])[0].values
    assert (first, fifth) == (1, 0)
    assert task.score([{"scores": [0, 0, 1, 1, 0]}], [row])[2].value == pytest.approx(1 / 4)
    alone = {"text": row["text"], "match": row["match"]}  # nothing to choose between, so nothing was chosen
    assert len(task.score([{"scores": [1]}, {"scores": [0, 0, 1, 1, 0]}], [alone, row])[0].values) == 1
    with pytest.raises(DataError, match="nothing to put in order"):
        task.score([{"scores": [1]}], [alone])


def test_what_is_mined_is_surely_less_likely() -> None:
    rows: list[Row] = [
        {"text": "red shoes", "match": "shoes for the garden"},
        {"text": "a coat", "match": "red shoes, very red shoes"},
        {"text": "??", "match": "!!"},
    ]
    learned = mined(rows, 2)
    assert learned["red shoes"] == [] and "??" in learned
    assert mined([{"text": "?", "match": "!"}, {"text": "..", "match": ";"}], 3)["?"] == []  # no words anywhere


@pytest.mark.parametrize("asked", ["train", "valid", "test"])
def test_wrong_answers_are_drawn_from_what_a_search_finds_beside_a_right_one(
    shared: Path, tmp_path: Path, asked: Part
) -> None:
    with gzip.open(shared / "zh-medical-qa" / "dev.jsonl.gz", "rt", encoding="utf-8") as lines:
        rows: list[Row] = [{"text": row["title"], "match": row["answer"]} for row in map(json.loads, lines)][:200]
    kept = {"text": rows[0]["text"] + "？", "match": rows[0]["match"], "negatives": ["mine"]}
    held: dict[Part, list[Row]] = {"train": rows[:100], "valid": [], "test": []}
    held[asked] = [*held[asked], *rows[100:], kept]
    parts = {part: Stored(tmp_path / f"{part}.jsonl", len(own)) for part, own in held.items()}
    for part, own in held.items():
        write_rows(parts[part].path, own)
    beside_right(parts, 3)
    found = {part: list(stored) for part, stored in parts.items()}
    assert {part: len(own) for part, own in found.items()} == {part: len(own) for part, own in held.items()}
    assert found[asked].pop() == kept
    documents = list(dict.fromkeys(row["match"] for row in rows))
    above = below = without = 0
    for row in found[asked][-100:]:
        scores = dict(zip(documents, Bm25(documents).scores([row["text"]])[0], strict=True))
        first = sorted(documents, key=lambda one: -scores[one])[:WEIGHED]
        assert ("negatives" in row) == (row["match"] in first)
        wrong = row.get("negatives", [])
        assert len(set(wrong)) == len(wrong) and set(wrong) <= set(first) - {row["match"]}
        above += sum(scores[one] > scores[row["match"]] for one in wrong)
        below += sum(scores[one] < scores[row["match"]] for one in wrong)
        without += not wrong
    assert min(above, below, without) > 9, (above, below, without)


def test_pairs_that_share_no_word_leave_nothing_to_choose_from(tmp_path: Path) -> None:
    source = tmp_path / "rows.csv"
    source.write_text("text,match\n" + "".join(f"q{place},a{place}\n" for place in range(20)), encoding="utf-8")
    recipe = Recipe.check({"task": "rerank", "prepare": {"source": str(source), "vocabulary": 300}}, "test")
    with pytest.raises(DataError, match="among the twenty that BM25"):
        make(recipe, Run.of(recipe, tmp_path), only="prepare")


@pytest.mark.parametrize("wrong", [[""], [None], [["a"]], [{"text": "a"}], ["a", "  "]])
def test_a_wrong_answer_that_is_no_text_is_put_aside(shared: Path, tmp_path: Path, wrong: list[object]) -> None:
    rows = [*_asked(shared)[:8], {"text": "?", "match": "!", "negatives": wrong}]
    source = tmp_path / "rows.jsonl"
    source.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    section = {"source": str(source), "vocabulary": 900, "max_bad": 0.5}
    run = Run.of(recipe := Recipe.check({"task": "rerank", "prepare": section}, "test"), tmp_path)
    make(recipe, run, only="prepare")
    assert len((run.step("prepare") / "quarantine.jsonl").read_bytes().splitlines()) == 1


def test_it_goes_from_pairs_to_a_bundle_beside_bm25(shared: Path, tmp_path: Path) -> None:
    rows = [{"question": row["text"], "paragraph": row["match"]} for row in _asked(shared)]
    source = tmp_path / "pairs.jsonl"
    source.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    recipe = Recipe.check(
        {
            "task": "rerank", "name": "pairs",
            "prepare": {"source": str(source), "columns": {"text": "question", "match": "paragraph"}, "length": 48,
                        "vocabulary": 900, "negatives": 4, "split": {"test": 0.2, "valid": 0.2}},
            "build": {"size": "tiny"}, "train": {"steps": 3, "batch": 8, "threads": 1}, "deploy": {"parity": 5},
        },
        "test",
    )  # fmt: skip
    run = Run.of(recipe, tmp_path)
    make(recipe, run)
    parts = {part: read_rows(run.step("prepare") / f"{part}.jsonl") for part in ("train", "valid", "test")}
    assert {part: len(own) for part, own in parts.items()} == run.facts("prepare")["parts"]
    own = {row["match"] for row in parts["train"]}
    assert all(set(row["negatives"]) <= own for row in parts["train"])
    assert {wrong for row in parts["test"] for wrong in row["negatives"]} & own
    for row in (row for part in parts.values() for row in part):
        assert 1 <= len(row["negatives"]) <= 4 and row["match"] not in row["negatives"]
    report = read_report(run)
    assert report["lead"] == "mrr@10" and [rival["name"] for rival in report["rivals"]] == ["bm25"]


def test_wrong_answers_that_a_row_names_stay(shared: Path, tmp_path: Path) -> None:
    rows = [*_asked(shared)[:20]]
    rows[3] = {**rows[3], "negatives": ["甲", "乙"]}
    source = tmp_path / "rows.jsonl"
    source.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    recipe = Recipe.check({"task": "rerank", "prepare": {"source": str(source), "vocabulary": 900}}, "test")
    run = Run.of(recipe, tmp_path)
    make(recipe, run, only="prepare")
    found = [row for part in ("train", "valid", "test") for row in read_rows(run.step("prepare") / f"{part}.jsonl")]
    assert len(found) > 15
    assert all(row in rows for row in found)
    assert any(row["negatives"] == ["甲", "乙"] for row in found)
