"""Documents in the order in which they answer a query, as Cohere's and Jina's clients ask for it."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from zhumo.bundle import load
from zhumo.deploy import golden
from zhumo.deploy.golden import check_golden, write_golden
from zhumo.deploy.parity import Server
from zhumo.errors import GateError, ModelError

QUERY, TEXTS = "soft?", ["the zip broke on day one", "soft, warm and well made", "布料很好", "soft, warm and well made"]


def rerank(server: Server, **changes: Any) -> Any:
    return server.post("/v1/rerank", {"model": "embed-small", "query": QUERY, "documents": TEXTS, **changes}, 0)


def test_the_order_is_that_of_the_cosines(server: Server, bundles: dict[str, Path]) -> None:
    bundle = load(bundles["embed"])
    asked, *found = (
        np.array(answer[name])
        for answer, name in zip(
            bundle.answer([{"text": QUERY}, *({"text": text, "match": text} for text in TEXTS)]),
            ["embedding", *["match_embedding"] * len(TEXTS)],
            strict=True,
        )
    )
    cosines = [float(vector @ asked) for vector in found]
    answer = rerank(server)
    assert [result["index"] for result in answer["results"]] == sorted(range(4), key=lambda place: -cosines[place])
    for result in answer["results"]:
        assert result["relevance_score"] == pytest.approx(cosines[result["index"]], abs=1e-5)
        assert "document" not in result
    assert answer["usage"]["total_tokens"] > len(TEXTS)


def test_a_reranker_says_how_surely(server: Server, bundles: dict[str, Path]) -> None:
    [answer] = load(bundles["rerank"]).answer([{"text": QUERY, "documents": TEXTS}])
    results = rerank(server, model="rerank-small")["results"]
    assert [result["index"] for result in results] == sorted(range(4), key=lambda place: -answer["scores"][place])
    for result in results:
        assert result["relevance_score"] == pytest.approx(answer["scores"][result["index"]], abs=1e-6)
        assert 0 < result["relevance_score"] < 1


def test_a_damaged_reranker_does_not_begin_to_serve(bundles: dict[str, Path], tmp_path: Path) -> None:
    shutil.copytree(bundles["rerank"], tmp_path / "r")
    bundle = load(tmp_path / "r")
    write_golden(bundle)
    check_golden(load(tmp_path / "r"))
    with torch.no_grad():
        bundle.model.stem.tokens.weight.mul_(-3)
    with pytest.raises(ModelError):
        check_golden(bundle)


def test_last_digits_of_a_large_catalogue_may_differ(
    bundles: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(bundles["recommend"], tmp_path / "r")
    bundle = load(tmp_path / "r")
    write_golden(bundle)
    known = json.loads((tmp_path / "r" / golden.NAME).read_text(encoding="utf-8"))
    for answer in known["answers"]:
        for item in answer["items"]:
            item["score"] += 1e-3
    (tmp_path / "r" / golden.NAME).write_text(json.dumps(known), encoding="utf-8")
    with pytest.raises(ModelError):
        check_golden(bundle)
    monkeypatch.setattr(golden, "LARGE", 3)
    check_golden(bundle)


def test_only_the_best_with_their_texts(server: Server) -> None:
    documents = [TEXTS[0], {"text": TEXTS[1]}, TEXTS[2]]
    whole, best = (
        rerank(server, documents=documents),
        rerank(server, documents=documents, top_n=2, return_documents=True),
    )
    assert [result["index"] for result in best["results"]] == [result["index"] for result in whole["results"]][:2]
    assert all(result["document"]["text"] == TEXTS[result["index"]] for result in best["results"])


@pytest.mark.parametrize(
    "changes", [{"documents": []}, {"query": ""}, {"top_n": 0}, {"documents": [5]}, {"model": "write-small"}]
)
def test_what_makes_no_sense_is_refused(server: Server, changes: Any) -> None:
    with pytest.raises(GateError):
        rerank(server, **changes)
