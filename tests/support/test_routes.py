"""The desk over HTTP, in front of a bundle that makes vectors."""

import asyncio
import json
import shutil
from collections.abc import Iterator
from contextlib import closing
from dataclasses import asdict
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from fastapi.testclient import TestClient

from zhumo.bundle import Bundle, load, save
from zhumo.deploy.mount import create_app
from zhumo.deploy.refusals import Refusal
from zhumo.errors import ModelError
from zhumo.support import routes
from zhumo.support.desk import Found, Intent, intent_of
from zhumo.support.knowledge import Knowledge
from zhumo.support.opening import encoder_of, opened
from zhumo.support.passages import Passage
from zhumo.support.quality import intents
from zhumo.support.routes import _about, _ordered, add_desk
from zhumo.support.search import Hit
from zhumo.support.tickets import Tickets
from zhumo.tasks.classify import Classify
from zhumo.tasks.rerank import Rerank
from zhumo.transformer import Config, Transformer, initialise

PAGES = {
    "returns.md": "# Returns\n\nShoes may be sent back within thirty days.\n\n# Costs\n\nSending back is free.\n",
    "退货.md": "# 退货\n\n鞋子可以在三十天内退回。\n",
    "broken.pdf": "no pdf",
}


@pytest.fixture(scope="module")
def client(bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    root = tmp_path_factory.mktemp("pages")
    folder = root / "pages"
    folder.mkdir()
    for name, text in PAGES.items():
        (folder / name).write_text(text, encoding="utf-8")
    library, found = opened(bundle, folder, root / "knowledge.sqlite")
    assert (found.new, found.bad, library.search.files) == (2, 1, ["returns.md", "退货.md"])
    app = create_app({"e": bundle}, "k", further={"desk": partial(add_desk, encoder="e", library=library)})
    with TestClient(app, base_url="http://127.0.0.1", headers={"Authorization": "Bearer k"}) as client:
        yield client


def test_what_it_knows(client: TestClient) -> None:
    assert client.get("/v1/models").json()["apps"] == ["desk"]
    assert client.get("/v1/desk").json() == {
        "object": "desk", "model": "e", "passages": 3, "files": ["returns.md", "退货.md"], "sure": 2.6,
        "kept": False, "agent": True, "improves": False,
    }  # fmt: skip


def test_a_reply_stands_in_its_passage(client: TestClient) -> None:
    body = {"questions": ["within how many days may shoes be sent back?"], "sure": -100}
    said = client.post("/v1/desk/replies", json=body).json()
    assert said["kind"] == "answer" and said["language"] == "en" and said["asked"] == body["questions"][0]
    first = said["citations"][0]
    assert said["text"] == first["text"][first["start"] : first["end"]] and first["file"] == "returns.md"
    assert first["headings"] in (["Returns"], ["Costs"]) and len(said["citations"]) == 2


def test_a_reranker_puts_what_was_found_in_order(bundle: Bundle, tmp_path: Path) -> None:
    (tmp_path / "pages").mkdir()
    for name in "abcdefgh":
        (tmp_path / "pages" / f"{name}.md").write_text(f"# {name}\n\nShoes of kind {name} may be sent back.\n", "utf-8")
    task = Rerank(bundle.tokenizer, 64)
    shape = {"width": 32, "depth": 1, "heads": 2, "types": 2, "norm_first": False, "norm_eps": 1e-12}
    model = Transformer(Config(vocabulary=task.vocabulary, causal=False, head="none", **shape))  # type: ignore[arg-type]
    model.head = task.head(32)
    initialise(model, 0)
    torch.nn.init.normal_(model.head.weight, std=0.02, generator=torch.Generator().manual_seed(0))
    save(tmp_path / "reranker", model, "bert", bundle.tokenizer, task)
    reranker = load(tmp_path / "reranker")
    library, _ = opened(bundle, tmp_path / "pages", tmp_path / "knowledge.sqlite")
    question, passages = "may shoes be sent back?", library.search.passages
    [answer] = reranker.answer([{"text": question, "documents": [passage.full for passage in passages]}])
    likeliest = [passages[place].file for place in np.argsort(-np.array(answer["scores"]))][:3]
    cited = []
    for served in ({"e": bundle}, {"r": reranker, "e": bundle}):
        app = create_app(served, "k", further={"desk": partial(add_desk, encoder="e", library=library)})
        with TestClient(app, base_url="http://127.0.0.1", headers={"Authorization": "Bearer k"}) as client:
            said = client.post("/v1/desk/replies", json={"questions": [question], "sure": -100}).json()
        cited.append([one["file"] for one in said["citations"]])
    assert cited[0] != cited[1] == likeliest


class Busy:
    async def answer(self, rows: object, *, written: bool) -> object:
        raise Refusal(503, "busy")


def test_where_a_reranker_has_no_time_the_order_stays() -> None:
    hits = tuple(Hit(Passage(f"{name}.md", (), name), None, 1.0) for name in "ab")
    near = Found("shoes?", "en", 3.0, hits)
    assert asyncio.run(_ordered(near, Busy())) is near  # type: ignore[arg-type]


def test_a_classifier_says_what_a_question_is_about(bundle: Bundle, tmp_path: Path) -> None:
    (tmp_path / "pages").mkdir()
    (tmp_path / "pages" / "returns.md").write_text(PAGES["returns.md"], encoding="utf-8")
    task = Classify(bundle.tokenizer, 64)
    task.learn([{"text": "may shoes be sent back?", "label": "退货"}, {"text": "what does it cost?", "label": "费用"}])
    shape = {"width": 32, "depth": 1, "heads": 2, "types": 2, "norm_first": False, "norm_eps": 1e-12}
    model = Transformer(Config(vocabulary=task.vocabulary, causal=False, head="none", **shape))  # type: ignore[arg-type]
    model.head = task.head(32)
    task.state["weight"] = 0.0  # the linear model alone, which has learned
    save(tmp_path / "intents", initialise(model, 0), "bert", bundle.tokenizer, task)
    intents = load(tmp_path / "intents")
    library, _ = opened(bundle, tmp_path / "pages", tmp_path / "knowledge.sqlite")
    with closing(Tickets(str(tmp_path / "tickets.sqlite"))) as tickets:
        desk = partial(add_desk, encoder="e", library=library, tickets=tickets)
        app = create_app({"i": intents, "e": bundle}, "k", further={"desk": desk})
        with TestClient(app, base_url="http://127.0.0.1", headers={"Authorization": "Bearer k"}) as client:
            for question, label in (("may shoes be sent back?", "退货"), ("what does it cost?", "费用")):
                said = client.post("/v1/desk/replies", json={"questions": [question], "sure": 100}).json()
                assert said["intent"]["label"] == label and 0.5 < said["intent"]["score"] <= 1
                assert said["intent"] == _told(intents, question)
                [ticket] = client.get("/v1/desk/tickets", params={"intent": label}).json()["data"]
                assert ticket["intent"] == said["intent"] and ticket["asked"] == question
            talk = {"questions": ["what does it cost?", "and shoes sent back?"], "sure": 100}
            leaning = client.post("/v1/desk/replies", json=talk).json()
            assert leaning["intent"] == _told(intents, leaning["asked"]), (
                "of what was looked for, both questions or one"
            )
            queue = client.get("/v1/desk/tickets", params={"limit": 1}).json()
            assert len(queue["data"]) == 1 and queue["intents"] == sorted(["退货", "费用"])
            assert client.get("/v1/desk/tickets?state=closed").json()["intents"] == []
            assert client.get("/v1/desk/tickets", params={"intent": "' OR 1 --"}).json()["data"] == []
            told = client.get("/v1/desk/quality").json()["intents"]
            assert {one["intent"]: one["replies"] for one in told}.keys() >= {"费用", "退货"}
            assert sum(one["replies"] for one in told) == sum(one["handover"] for one in told) == 3


def _told(classifier: Bundle, question: str) -> dict[str, object] | None:
    intent = intent_of(classifier.answer([{"text": question}])[0])
    return None if intent is None else asdict(intent)


def test_what_was_told_is_counted_the_most_frequent_first() -> None:
    counted = [(None, "answer", 5), ("a", "answer", 2), ("a", "handover", 1), ("b", "handover", 9)]
    assert intents(counted) == [
        {"intent": "b", "replies": 9, "answer": 0, "handover": 9},
        {"intent": None, "replies": 5, "answer": 5, "handover": 0},
        {"intent": "a", "replies": 3, "answer": 2, "handover": 1},
    ]
    assert intents([(None, "answer", 5)]) == intents([]) == []


def test_what_is_like_nothing_known_has_no_intent() -> None:
    scores = {"returns": 0.6, "costs": 0.4}
    assert intent_of({"label": "returns", "scores": scores, "familiar": 0.04}) is None
    assert intent_of({"label": "returns", "scores": scores, "familiar": 0.06}) == Intent("returns", 0.6)
    assert intent_of({"label": "returns", "scores": scores}) == Intent("returns", 0.6)
    assert intent_of({"label": "returns", "scores": {"returns": 0.5, "costs": 0.5}}) is None
    assert intent_of({"labels": [], "scores": scores}) is None
    assert intent_of({"labels": ["costs", "returns"], "scores": scores}) == Intent("returns", 0.6)


def test_where_a_classifier_has_no_time_a_question_has_no_intent(monkeypatch: pytest.MonkeyPatch) -> None:
    class Slow:
        async def answer(self, rows: object, *, written: bool) -> object:
            await asyncio.sleep(60)

    monkeypatch.setattr(routes, "PATIENCE", 0.01)
    for classifier in (Busy(), Slow()):
        assert asyncio.run(_about("shoes?", classifier)) is None  # type: ignore[arg-type]


@pytest.mark.parametrize(("question", "words"), [("what is love?", "a person"), ("爱情是什么？", "人工")])
def test_a_hand_over_is_told_in_the_askers_language(client: TestClient, question: str, words: str) -> None:
    said = client.post("/v1/desk/replies", json={"questions": [question], "sure": 100}).json()
    assert said["kind"] == "handover" and words in said["text"]


@pytest.mark.parametrize("body", [
    {}, {"questions": []}, {"questions": [" "]}, {"questions": ["a" * 2_001]}, {"questions": "a"}, {"questions": [1]},
    {"questions": ["a"] * 51}, {"questions": ["a"], "sure": "3"}, {"questions": ["a"], "sure": 1e9},
    {"questions": ["a"], "folder": "/etc"},
])  # fmt: skip
def test_what_is_no_question_is_refused(client: TestClient, body: object) -> None:
    assert client.post("/v1/desk/replies", json=body).status_code == 400


def test_nobody_asks_without_a_key(client: TestClient) -> None:
    for method, path in (("GET", "/v1/desk"), ("POST", "/v1/desk/replies")):
        assert client.request(method, path, headers={"Authorization": "Bearer x"}).status_code == 401


@pytest.mark.parametrize("question", ["\ud800", "\x00", "???", "🙂" * 500, "SELECT * FROM files; --", "<script>"])
def test_any_text_is_answered(client: TestClient, question: str) -> None:
    response = client.post("/v1/desk/replies", content=json.dumps({"questions": [question]}))
    assert response.status_code in (200, 400) and response.json()


def test_another_encoder_of_the_same_name_makes_all_vectors_again(bundle: Bundle, tmp_path: Path) -> None:
    (tmp_path / "pages").mkdir()
    (tmp_path / "pages" / "returns.md").write_text(PAGES["returns.md"], encoding="utf-8")
    shutil.copytree(bundle.folder, tmp_path / "other")
    other = load(tmp_path / "other")
    with torch.no_grad():
        next(other.model.parameters()).mul_(1.5)
    save(tmp_path / "other", other.model, other.family, other.tokenizer, other.task)
    knowledge, vectors = tmp_path / "k.sqlite", []
    for one in (bundle, load(tmp_path / "other")):
        _, found = opened(one, tmp_path / "pages", knowledge)
        with closing(Knowledge(knowledge)) as held:
            known = held.known(None)
        full = [passage.full for passage in known.passages]
        vectors.append(known.vectors)
        assert np.allclose(known.vectors, encoder_of(one, "match_prefix")(full), atol=1e-5)
    assert found.same == 1 and not np.allclose(*vectors, atol=1e-3)


def test_a_bundle_that_makes_no_vectors_has_no_desk(tmp_path: Path, bundle: Bundle) -> None:
    (tmp_path / "pages").mkdir()
    with pytest.raises(ModelError, match="task embed"):
        opened(Bundle(bundle.model, bundle.family, None, None, tmp_path), tmp_path / "pages", tmp_path / "k.sqlite")
