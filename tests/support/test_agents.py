"""Agents and visitors over HTTP: what each may do, and what the desk makes of it."""

from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from functools import partial
from pathlib import Path
from threading import Event
from time import monotonic, sleep
from typing import Any

import numpy as np
import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from tests.support.test_routes import PAGES
from zhumo.bundle import Bundle
from zhumo.deploy.mount import create_app
from zhumo.deploy.served import Begin, Served
from zhumo.errors import SourceError
from zhumo.support.faq import publish
from zhumo.support.knowledge import FAQ, Knowledge
from zhumo.support.opening import encoder_of, identity, opened
from zhumo.support.quality import bound, clusters, curve
from zhumo.support.routes import add_desk
from zhumo.support.tickets import CorrectionState, Tickets, TicketsError
from zhumo.words import say

Json = dict[str, Any]
QUESTION = "within how many days may shoes be sent back?"
AGENTS_ONLY = [
    ("GET", "/v1/desk/tickets"), ("GET", "/v1/desk/tickets/x"), ("POST", "/v1/desk/tickets/x/take"),
    ("POST", "/v1/desk/tickets/x/messages"), ("GET", "/v1/desk/corrections"), ("POST", "/v1/desk/corrections"),
    ("POST", "/v1/desk/corrections/x"), ("GET", "/v1/desk/search?q=x"), ("GET", "/v1/desk/quality"),
    ("GET", "/v1/desk/gaps"),
]  # fmt: skip
BODIES = {"/v1/desk/tickets/x/messages": {"text": "x"}, "/v1/desk/corrections": {"question": "x", "text": "x"},
          "/v1/desk/corrections/x": {"state": "accepted"}}  # fmt: skip


@pytest.fixture
def tickets(tmp_path: Path) -> Iterator[Tickets]:
    with closing(Tickets(str(tmp_path / "tickets.sqlite"))) as kept:
        yield kept


@pytest.fixture
def client(bundle: Bundle, tmp_path: Path, tickets: Tickets) -> Iterator[TestClient]:
    """A desk whose keys are a visitor's and two agents'; asks as the agent Mei."""
    folder = tmp_path / "pages"
    folder.mkdir()
    for name, text in PAGES.items():
        (folder / name).write_text(text, encoding="utf-8")
    library, _ = opened(bundle, folder, tmp_path / "knowledge.sqlite")
    desk = partial(add_desk, encoder="e", library=library, tickets=tickets, agents=["mei", "jo"])
    app = create_app({"e": bundle}, {"site": "v", "mei": "m", "jo": "j"}, further={"desk": desk})
    with TestClient(app, base_url="http://127.0.0.1", headers=key("m")) as client:
        yield client


def key(one: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {one}"}


def ask(client: TestClient, question: str = QUESTION, sure: float = 100, **more: object) -> Json:
    body = {"questions": [question], "sure": sure, **more}
    said: Json = client.post("/v1/desk/replies", json=body, headers=key("v")).json()
    return said


def test_a_hand_over_from_the_visitor_to_the_agent_and_back(client: TestClient) -> None:
    said = ask(client)
    assert said["kind"] == "handover" and said["ticket"]
    [waits] = client.get("/v1/desk/tickets?state=open").json()["data"]
    assert waits["id"] == said["ticket"] and waits["questions"] == [QUESTION] and waits["sure"] == 100
    waits = client.get(f"/v1/desk/tickets/{waits['id']}").json()
    assert [one["text"] for one in waits["citations"]] == [one["text"] for one in said["citations"]]
    place = {name: waits["citations"][0][name] for name in ("file", "digest")}
    path = f"/v1/desk/tickets/{waits['id']}"
    early = client.post(f"{path}/messages", json={"text": "Yes"})
    assert early.status_code == 409 and early.json()["error"]["code"] == "ticket_state"
    taken = client.post(f"{path}/take").json()
    assert (taken["state"], taken["agent"]) == ("taken", "mei")
    assert client.post(f"{path}/take", headers=key("j")).status_code == 409
    done = client.post(f"{path}/messages", json={"text": "Thirty.", "passage": place, "close": True}).json()
    assert done["state"] == "closed" and done["messages"][0]["agent"] == "mei"
    read = client.get(f"/v1/desk/replies/{said['id']}/messages", headers=key("v")).json()
    assert read["state"] == "closed" and read["data"] == done["messages"]
    assert read["data"][0]["passage"]["text"] == waits["citations"][0]["text"]


@pytest.mark.parametrize(("method", "path"), AGENTS_ONLY)
def test_what_agents_do_visitors_may_not(client: TestClient, method: str, path: str) -> None:
    said = client.request(method, path, json=BODIES.get(path), headers=key("v"))
    assert (said.status_code, said.json()["error"]["code"]) == (403, "not_an_agent")
    assert client.request(method, path, json=BODIES.get(path)).status_code in (200, 404)
    assert client.get("/v1/desk", headers=key("v")).json()["agent"] is False


def test_thumbs(client: TestClient) -> None:
    said = ask(client, sure=-100)
    assert said["kind"] == "answer" and "ticket" not in said
    for verdict in ("up", "down"):
        told = client.post("/v1/desk/verdicts", json={"reply": said["id"], "verdict": verdict}, headers=key("v"))
        assert told.json() == {"object": "desk.verdict", "reply": said["id"], "verdict": verdict}
    assert client.post("/v1/desk/verdicts", json={"reply": "none", "verdict": "up"}).status_code == 404
    assert client.post("/v1/desk/verdicts", json={"reply": said["id"], "verdict": "so"}).status_code == 400
    found = client.get("/v1/desk/quality").json()
    assert (found["replies"], found["answer"], found["down"], found["up"]) == (1, 1, 1, 0)
    assert found["coverage"] == 1 and found["reviewed"] == 1 and found["days"][0]["down"] == 1
    ask(client, sure=-100)  # another one, of which nobody said anything
    [failure] = client.get("/v1/desk/quality").json()["failures"]
    assert (failure["asked"], failure["times"]) == (said["asked"], 1)
    assert failure["citations"][0]["text"] == said["citations"][0]["text"]
    made = client.post("/v1/desk/corrections", json={"question": said["asked"], "text": "So it is."}).json()
    client.post(f"/v1/desk/corrections/{made['id']}", json={"state": "accepted"})
    assert client.get("/v1/desk/quality").json()["failures"] == []


def test_corrections(client: TestClient) -> None:
    hit = client.get("/v1/desk/search", params={"q": "sending back"}).json()["data"][0]
    assert {"file", "headings", "text", "digest", "start", "end", "also", "sureness"} == set(hit)
    place = {"file": hit["file"], "digest": hit["digest"]}
    made = client.post("/v1/desk/corrections", json={"question": f" {QUESTION} ", "passage": place}).json()
    assert made["state"] == "proposed" and made["agent"] == "mei" and made["question"] == QUESTION
    [waits] = client.get("/v1/desk/corrections?state=proposed").json()["data"]
    assert waits["id"] == made["id"] and waits["passage"]["text"] == hit["text"]
    path = f"/v1/desk/corrections/{made['id']}"
    told = client.post(path, json={"state": "accepted"}, headers=key("j")).json()
    assert (told["state"], told["reviewer"]) == ("accepted", "jo")
    assert client.post(path, json={"state": "open"}).status_code == 400
    for wrong in ({**place, "digest": "0" * 16}, {**place, "file": "other.md"}):
        body = {"question": "x", "passage": wrong}
        assert client.post("/v1/desk/corrections", json=body).json()["error"]["code"] == "no_passage"
    for body in ({"question": "x"}, {"question": "x", "text": "y", "passage": place}, {"question": " ", "text": "y"}):
        assert client.post("/v1/desk/corrections", json=body).status_code == 400


def test_gaps_are_what_was_handed_over_and_not_corrected(client: TestClient) -> None:
    for question in ("boots?", "boots?", QUESTION):
        ask(client, question)
    ask(client, "hats?", sure=-100)
    groups = client.get("/v1/desk/gaps").json()["data"]
    assert sorted(member for group in groups for member in group["members"]) == ["boots?", QUESTION]
    assert sum(group["size"] for group in groups) == 3 and groups[0]["size"] >= groups[-1]["size"]
    made = client.post("/v1/desk/corrections", json={"question": "boots?", "text": "We have none."}).json()
    client.post(f"/v1/desk/corrections/{made['id']}", json={"state": "accepted"})
    assert [group["members"] for group in client.get("/v1/desk/gaps").json()["data"]] == [[QUESTION]]


def test_a_talk_is_deleted_by_any_of_its_replies(client: TestClient) -> None:
    first = ask(client)
    second = ask(client, "and boots?", talk=first["id"])
    assert client.delete(f"/v1/desk/replies/{second['id']}", headers=key("v")).json()["deleted"]
    for one in (first, second):
        assert client.get(f"/v1/desk/replies/{one['id']}/messages").status_code == 404
    assert client.get("/v1/desk/tickets").json()["data"] == []
    assert client.delete(f"/v1/desk/replies/{second['id']}").status_code == 404


def test_where_nothing_can_be_kept_questions_are_still_answered(
    client: TestClient, tickets: Tickets, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(*_: object, **__: object) -> None:
        raise TicketsError("support.tickets", place="t.sqlite", problem="database or disk is full")

    monkeypatch.setattr(tickets, "keep", full)
    monkeypatch.setattr(tickets, "judge", full)
    said = ask(client, sure=-100)
    assert said["kind"] == "answer" and "id" not in said
    told = client.post("/v1/desk/verdicts", json={"reply": "x", "verdict": "up"}, headers={"accept-language": "zh"})
    assert told.status_code == 507 and told.json()["error"]["code"] == "not_kept"
    assert "t.sqlite" not in told.text and "disk" not in told.text and "客服台没能保存" in told.text
    assert "t.sqlite" in caplog.text


def test_where_something_lies_a_visitor_is_not_told(
    client: TestClient, tickets: Tickets, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def busy(*_: object) -> None:
        raise SourceError("support.busy", file=tmp_path / "t.sqlite")

    monkeypatch.setattr(tickets, "forget", busy)
    told = client.delete("/v1/desk/replies/x", headers=key("v"))
    assert told.status_code == 507 and "t.sqlite" not in told.text
    named = client.put("/v1/desk/documents/new.exe", content="x")
    assert named.status_code == 400 and "new.exe" in named.text


def test_a_desk_that_keeps_nothing_has_none_of_this(bundle: Bundle, tmp_path: Path) -> None:
    (tmp_path / "pages").mkdir()
    (tmp_path / "pages" / "returns.md").write_text(PAGES["returns.md"], encoding="utf-8")
    library, _ = opened(bundle, tmp_path / "pages", tmp_path / "k.sqlite")
    app = create_app({"e": bundle}, "k", further={"desk": partial(add_desk, encoder="e", library=library)})
    with TestClient(app, base_url="http://127.0.0.1", headers=key("k")) as client:
        said = client.post("/v1/desk/replies", json={"questions": [QUESTION]}).json()
        assert "id" not in said and client.get("/v1/desk/tickets").status_code == 404


def test_no_control_character_stops_what_agents_answer(client: TestClient, tickets: Tickets) -> None:
    for path, body in (("corrections", {"question": " a\0b\x1b? ", "text": "No,\n\tnever\x85again.\0"}),
                       ("corrections", {"question": "\0", "text": "x"}),
                       ("corrections", {"question": "x", "text": "\r"}),
                       ("replies", {"questions": ["\0 "]})):  # fmt: skip
        said = client.post(f"/v1/desk/{path}", json=body)
        assert said.status_code == (200 if body == {"question": " a\0b\x1b? ", "text": body.get("text")} else 400)
    [made] = tickets.corrections("proposed")
    assert (made["question"], made["text"]) == ("a b ?", "No,\n\tnever again.")
    for one in (made, tickets.propose("who?", "mei", None, "Kept \0 before.")):
        assert client.post(f"/v1/desk/corrections/{one['id']}", json={"state": "accepted"}).status_code == 200
    assert FAQ in client.get("/v1/desk").json()["files"]


def test_two_reviews_at_once_leave_what_was_accepted_last(
    client: TestClient, tickets: Tickets, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = "We never sold a single umbrella."
    made = client.post("/v1/desk/corrections", json={"question": "umbrellas?", "text": words}).json()
    read, slow = tickets.corrections, Event()

    def corrections(state: CorrectionState, limit: int | None = None) -> list[Json]:
        found = read(state, limit)
        if not slow.is_set():  # the first who reads writes late
            slow.set()
            sleep(0.5)
        return found

    monkeypatch.setattr(tickets, "corrections", corrections)
    path = f"/v1/desk/corrections/{made['id']}"
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(client.post, path, json={"state": "accepted"})
        slow.wait(10)
        client.post(path, json={"state": "refused"})
        first.result()
    assert FAQ not in client.get("/v1/desk").json()["files"]


def test_what_is_published_already_is_not_encoded_anew(bundle: Bundle, tmp_path: Path, tickets: Tickets) -> None:
    (tmp_path / "pages").mkdir()
    (tmp_path / "pages" / FAQ).write_text("question,answer\na,b\n", encoding="utf-8")
    library, found = opened(bundle, tmp_path / "pages", tmp_path / "k.sqlite")
    assert [str(bad.error) for bad in found.problems] == [say("error.support.reserved", name=FAQ)]
    encode = encoder_of(bundle, "match_prefix")
    tickets.review(tickets.propose("long?", "mei", None, "It is a long word. " * 250)["id"], "accepted", "jo")
    publish(tickets, library, encode)
    before = library.search
    assert before.files == [FAQ]

    def never(_: object) -> np.ndarray:
        raise AssertionError

    publish(tickets, library, never)
    assert library.search is before


def test_what_was_reviewed_while_the_encoder_changed_is_published_afterwards(
    bundle: Bundle, tmp_path: Path, tickets: Tickets
) -> None:
    pages, file, encode = tmp_path / "pages", tmp_path / "k.sqlite", encoder_of(bundle, "match_prefix")
    pages.mkdir()
    (pages / "returns.md").write_text(PAGES["returns.md"], encoding="utf-8")
    library, _ = opened(bundle, pages, file)
    library.add("x.md", b"# Wages\n\nThey are paid on Fridays.\n", encode)
    engines = []

    async def follow() -> Begin:
        return lambda: setattr(library, "encoder", "other")

    def desk(app: FastAPI, served: Mapping[str, Served]) -> None:
        engines.append(served["e"].engine)
        add_desk(app, served, "e", library, tickets=tickets, follow=follow)

    app = create_app({"e": bundle}, "k", further={"desk": desk})
    with TestClient(app, base_url="http://127.0.0.1", headers=key("k")) as client:
        library.encoder = identity(bundle.folder)  # the follower ran at the start
        with closing(Knowledge(file)) as knowledge:
            knowledge.sync(pages, encode, encoder="other")
        made = tickets.propose("umbrellas?", "mei", None, "None.")
        said = client.post(f"/v1/desk/corrections/{made['id']}", json={"state": "accepted"})
        assert said.status_code == 507
        library.remove("x.md")  # which is answered from no more, though the new vectors do not serve yet
        assert library.search.files == ["returns.md"]
        assert library.search.find("shoes", encode(["shoes"])[0])

        async def changed() -> None:
            for begin in [await follow() for follow in engines[0].followers]:
                begin()

        assert client.portal is not None
        client.portal.call(changed)
        deadline = monotonic() + 10
        while FAQ not in library.search.files:
            assert monotonic() < deadline
            sleep(0.02)


def test_gaps_leave_room_for_visitors(client: TestClient, tickets: Tickets, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    answer = Served.answer

    async def watched(self: Served, rows: list[Json], **more: Any) -> Any:
        sizes.append(len(rows))
        return await answer(self, rows, **more)

    monkeypatch.setattr(Served, "answer", watched)
    monkeypatch.setattr(tickets, "unanswered", lambda _: [(f"hats {number}?", 1) for number in range(20)])
    assert sum(group["size"] for group in client.get("/v1/desk/gaps").json()["data"]) == 20
    assert sizes == [8, 8, 4]


def row(
    sureness: float | None, kind: str = "answer", verdict: str | None = None, first: str = "a", **more: Any
) -> Json:
    cited = [{"file": "a.md", "headings": ["A"], "digest": "a"}] if sureness is not None else []
    return {"sureness": sureness, "kind": kind, "verdict": verdict, "citations": cited, "corrected": None,
            "text": None, **more}  # fmt: skip


def test_the_curve_counts_what_was_reviewed() -> None:
    assert curve([]) == {"reviewed": 0, "curve": [], "point": None}
    assert curve([row(None, "handover", text="words")])["curve"] == []
    rows = [
        row(9, verdict="up"), row(8, verdict="down"), row(7, verdict="down", corrected={"digest": "a"}),
        row(2, "handover", corrected={"digest": "b"}), row(1, "handover", corrected={"digest": "a"}),
        row(5, "handover", verdict="up"), row(None, "handover", corrected={"digest": "a"}),
    ]  # fmt: skip
    found = curve(rows)
    assert found["reviewed"] == 6 and found["point"] == {"sureness": 2.6, "coverage": 0.5, "error": 1 / 3}
    assert [(one["sureness"], round(one["coverage"] * 6), round(one["error"] * 12)) for one in found["curve"]] == [
        (9, 1, 0), (8, 2, 6), (7, 3, 4), (2, 4, 6), (1, 5, 5)
    ]  # fmt: skip


def test_own_words_are_right_where_they_are_what_was_found() -> None:
    own = {"file": FAQ, "headings": ["umbrellas?"], "digest": "c"}
    asked = {"asked": "umbrellas?", "text": "No.", "verdict": "up"}
    found = curve(
        [row(9, **asked, citations=[own]), row(8, **asked), row(7, **asked | {"asked": "hats?"}, citations=[own])]
    )
    assert [round(one["error"] * 6) for one in found["curve"]] == [0, 3, 4]


def test_groups_are_greedy_and_begin_in_their_middle() -> None:
    angles = np.array([0.0, 0.5, 1.0, 3.0, 5.0, 5.1])
    vectors = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    assert clusters(vectors, float(np.cos(0.6))) == [[1, 0, 2], [4, 5], [3]]
    strangers = np.eye(4)
    assert bound(strangers) == 0 and clusters(np.zeros((0, 4)), 0.5) == []


def test_own_words_are_answered_from_as_soon_as_they_are_accepted_and_until_they_are_not(client: TestClient) -> None:
    question, words = "do you sell umbrellas?", "No, we sell shoes, and nothing that opens."
    made = client.post("/v1/desk/corrections", json={"question": question, "text": words}).json()
    path = f"/v1/desk/corrections/{made['id']}"

    def first() -> Json:
        found: Json = client.get("/v1/desk/search", params={"q": question}).json()["data"][0]
        return found

    assert first()["text"] != words
    client.post(path, json={"state": "accepted"})
    assert (first()["file"], first()["headings"], first()["text"]) == (FAQ, [question], words)
    other = client.post("/v1/desk/corrections", json={"question": question, "text": 'Yes,\nsince "today".'}).json()
    client.post(f"/v1/desk/corrections/{other['id']}", json={"state": "accepted"})
    assert first()["text"] == 'Yes,\nsince "today".'
    client.post(f"/v1/desk/corrections/{other['id']}", json={"state": "refused"})
    assert client.put(f"/v1/desk/documents/{FAQ}", content=b"question,answer\na,b\n").status_code == 400
    assert FAQ not in client.get("/v1/desk").json()["files"]
