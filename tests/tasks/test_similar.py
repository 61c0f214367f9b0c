"""What is like an item and what goes with it, also for an item nobody has taken yet."""

import gzip
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch

from zhumo.errors import DataError
from zhumo.tasks.recommend import Recommend
from zhumo.transformer import Config, Transformer, initialise

NEW = "new"


@pytest.fixture(scope="module")
def task(shared: Path) -> Recommend:
    with gzip.open(shared / "amazon-beauty" / "sequences.txt.gz", "rt") as file:
        rows = [{"items": line.split()[1:]} for line in islice(file, 200)]
    first = rows[0]["items"][0]
    known = {first: {"title": "rose hand cream"}, rows[1]["items"][0]: {"title": "shaving foam"}}
    task = Recommend(None, 16, {"catalogue": {**known, NEW: {"title": "rose hand balm"}}})
    task.learn(rows)
    return task


@pytest.fixture(scope="module")
def model(task: Recommend) -> Transformer:
    return initialise(Transformer(Config(vocabulary=task.vocabulary, width=16, depth=1, heads=1)), 0).eval()


def test_what_is_like_an_item_is_near_it_in_the_model(task: Recommend, model: Transformer) -> None:
    item = task.state["items"][3]
    found = task.similar(model, item, 10, "similar")["items"]
    table = torch.nn.functional.normalize(model.stem.tokens.weight.detach()[1:], dim=-1)
    cosines = (table @ table[3]).numpy()
    cosines[3] = -1
    assert [item["score"] for item in found] == pytest.approx(np.sort(cosines)[::-1][:10], abs=1e-5)
    assert item not in {item["id"] for item in found}


def test_what_goes_with_an_item_was_taken_with_it(task: Recommend, model: Transformer, shared: Path) -> None:
    with gzip.open(shared / "amazon-beauty" / "sequences.txt.gz", "rt") as file:
        histories = [set(line.split()[1:]) for line in islice(file, 200)]
    item = task.state["items"][0]
    found = task.similar(model, item, 10**6, "complement")["items"]
    assert found and sum(one["score"] for one in found) == pytest.approx(1, abs=1e-4)
    assert all(any({item, one["id"]} <= history for history in histories) for one in found)


def test_what_nobody_has_taken_stands_where_its_like_stand(task: Recommend, model: Transformer) -> None:
    [nearest] = task.similar(model, NEW, 1, "similar")["items"]
    assert nearest["title"] == "rose hand cream" and nearest["score"] > 0.9
    own, of_its_like = (task.similar(model, item, 5, "complement")["items"] for item in (NEW, nearest["id"]))
    assert own == of_its_like
    with pytest.raises(DataError, match="has no item nobody"):
        task.similar(model, "nobody knows it", 3, "similar")
