"""What the server answers is exactly what the bundle says, on every route, with several bundles behind one server."""

import base64
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from zhumo.bundle import load
from zhumo.deploy.parity import Server, difference
from zhumo.deploy.routes import route_of
from zhumo.errors import GateError
from zhumo.tasks import Row

CHAT = [{"role": "user", "content": "布料 warm?"}]
ASKED: list[tuple[str, Row]] = [
    ("recommend", {"items": ["1", "4", "nobody knows it"]}),
    ("recommend", {"items": [], "k": 3}),
    ("recommend", {"items": ["0"], "k": 8, "seen": True}),
    ("classify", {"text": "warm and soft"}),
    ("classify", {"text": ""}),
    ("tag", {"text": "warm 大衣 from 上海"}),
    ("tag", {"text": ""}),
    ("embed", {"text": "布料很好"}),
    (
        "rerank",
        {"text": "布料很好?", "documents": ["soft, warm and well made", "布料很好", "soft, warm and well made"]},
    ),
    ("rerank", {"text": "soft?", "match": "soft", "negatives": ["the zip broke on day one"]}),
    ("write", {"messages": CHAT, "max_tokens": 12}),
    ("write", {"messages": CHAT, "max_tokens": 12, "temperature": 0.9, "top_k": 20, "top_p": 0.9, "seed": 5}),
    ("write", {"prompt": "the dress", "max_tokens": 9, "repetition_penalty": 1.3}),
    ("write", {"text": "the dress is lovely"}),
    ("translate", {"source": "the dress is lovely"}),
    ("translate", {"source": ""}),
]


@pytest.mark.parametrize(("task", "row"), ASKED)
def test_a_row_over_http_is_the_bundles_own_answer(
    bundles: dict[str, Path], server: Server, task: str, row: Row
) -> None:
    route = route_of(task, row)
    found = route.answer(server.post(route.path, {"model": f"{task}-small", **route.request(row)}, 0))
    said = load(bundles[task]).answer([row])[0]
    assert difference({key: said[key] for key in said if not route.told or key in route.told}, found) < 1e-6


def test_a_bundle_that_was_left_learning_answers_as_one_that_was_not(bundles: dict[str, Path]) -> None:
    bundle, row = load(bundles["classify"]), {"text": "warm and soft"}
    bundle.model.train()
    bundle.answer([row])
    assert not bundle.model.training


def test_a_row_of_a_shop_crosses_the_wire_as_it_is() -> None:
    row: Row = {
        "items": ["1"], "k": 4, "seen": True, "only": {"category": ["茶", True], "price": [None, 9]}, "exclude": ["2"],
        "boost": {"category": {"茶": 2.5}}, "diversity": 0.5, "reasons": True,
        "new": [{"item": "n", "title": "新茶", "price": 3.5, "tags": ["a"], "stock": 2}],
    }  # fmt: skip
    for sent in (row, {"items": []}):
        route = route_of("recommend", sent)
        [found] = route.rows(route.ask.model_validate({"model": "shop", "user": "ann", **route.request(sent)}))
        assert json.dumps(found, sort_keys=True) == json.dumps(sent, sort_keys=True)  # true stays true, 2 no 2.0


def test_several_texts_are_several_answers_in_order(server: Server) -> None:
    texts = ["soft", "broken zip", "很好"]
    many = server.post("/v1/classify", {"model": "classify-small", "input": texts}, 0)["data"]
    assert many == [
        server.post("/v1/classify", {"model": "classify-small", "input": text}, 0)["data"][0] for text in texts
    ]


def test_embeddings_come_as_numbers_or_as_their_bytes(server: Server) -> None:
    ask: dict[str, Any] = {"model": "embed-small", "input": "soft"}
    numbers = server.post("/v1/embeddings", ask, 0)["data"][0]["embedding"]
    packed = server.post("/v1/embeddings", {**ask, "encoding_format": "base64"}, 0)["data"][0]["embedding"]
    assert np.frombuffer(base64.b64decode(packed), "<f4").tolist() == np.array(numbers, "f4").tolist()
    document = server.post("/v1/embeddings", {**ask, "input_type": "document"}, 0)["data"][0]["embedding"]
    assert document == pytest.approx(numbers, abs=1e-6)  # these weights want no prefix


def test_the_models_are_listed_with_their_tasks(server: Server) -> None:
    found = {one["id"]: one["task"] for one in server.get("/v1/models")["data"]}
    assert found == {
        f"{task}-small": task for task in ("recommend", "classify", "tag", "embed", "rerank", "write", "translate")
    }
    assert server.get("/v1/models/write-small")["family"] == "llama"


def test_a_wrong_name_lists_the_right_ones(server: Server) -> None:
    with pytest.raises(GateError, match=r"Served: recommend-small, .*write-small, translate-small"):
        server.post("/v1/classify", {"model": "gpt-4", "input": "x"}, 0)


def test_a_model_of_another_task_is_told_apart(server: Server) -> None:
    with pytest.raises(GateError, match="'embed-small' does embed, not classify"):
        server.post("/v1/classify", {"model": "embed-small", "input": "x"}, 0)


def test_the_catalogue_is_searched_by_title_and_by_id(server: Server) -> None:
    def titles(query: str) -> list[str]:
        return [item["title"] for item in server.get(f"/v1/items?model=recommend-small&q={query}")["data"]]

    assert titles("METRO") == ["Metropolis"]
    assert titles("%E4%B8%83") == ["七武士"]
    assert titles("8") == ["大路"]
    assert len(titles("")) == 10
    assert titles("no%20such%20film") == []
