"""Of what one may not see nothing is found, cited, counted or named."""

import gzip
import json
import random
import shutil
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from threading import Event

import numpy as np
import pytest
from fastapi.testclient import TestClient

from tests.support.test_desk import encode
from zhumo.bundle import Bundle
from zhumo.deploy.mount import create_app
from zhumo.errors import RecipeError, SourceError
from zhumo.support.access import read_access
from zhumo.support.desk import reply
from zhumo.support.knowledge import Knowledge
from zhumo.support.library import Library
from zhumo.support.opening import opened
from zhumo.support.routes import add_desk
from zhumo.support.search import foreign
from zhumo.support.tickets import Tickets

TENANTS, EACH, ASKS = 40, 6, 2_000


@pytest.fixture(scope="module")
def texts(shared: Path) -> list[tuple[str, str]]:
    """Real paragraphs in both languages, each with a question it answers."""
    found = {}
    for name in ("en", "zh"):
        with gzip.open(shared / "xquad" / f"{name}.jsonl.gz", "rt", encoding="utf-8") as file:
            found |= {row["context"]: row["question"] for row in map(json.loads, file)}
    return random.Random(0).sample(sorted(found.items()), TENANTS * EACH + EACH)


@pytest.fixture(scope="module")
def folder(texts: list[tuple[str, str]], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for each tenant, one for all, and the file that says whose is whose; two tenants hold the same text."""
    root = tmp_path_factory.mktemp("tenants")
    for place, (text, _) in enumerate(texts):
        tenant = place // EACH
        path = root / "pages" / ("all" if tenant == TENANTS else f"t{tenant}") / f"{place}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    (root / "pages" / "t1" / "same.txt").write_text(texts[0][0], encoding="utf-8")
    write_access(root / "access.yaml", range(TENANTS))
    return root


def write_access(path: Path, tenants: Iterable[int]) -> None:
    documents = "".join(f"  t{tenant}/*: [l{tenant}]\n" for tenant in tenants)
    keys = "".join(f"  o{tenant}: [l{tenant}]\n" for tenant in tenants)
    path.write_text(f"documents:\n{documents}keys:\n{keys}", encoding="utf-8")


OWNERS = [f"o{tenant}" for tenant in range(TENANTS)]


@pytest.fixture(scope="module")
def library(folder: Path) -> Library:
    access = read_access(folder / "access.yaml", [*OWNERS, "nobody"])
    knowledge = Knowledge(folder / "k.sqlite")
    knowledge.sync(folder / "pages", encode, encoder="e", access=access.documents)
    knowledge.close()
    outside = {language: encode(questions) for language, questions in foreign().items()}
    return Library(folder / "k.sqlite", "e", outside, owners=access.owners)


def test_across_tenants_nothing_is_found(library: Library, texts: list[tuple[str, str]]) -> None:
    dice = random.Random(1)
    own = others = 0
    for _ in range(ASKS):
        tenant, place = dice.choice([*range(TENANTS), None]), dice.randrange(len(texts))
        text, question = texts[place]
        asked = dice.choice([question, text[:300], text[-200:]])  # another's very words are asked for, too
        search = library.search_of("nobody" if tenant is None else f"o{tenant}")
        said = reply(search, [asked], encode([asked]), dice.choice([-100.0, 3.0]))
        mine = {"all"} if tenant is None else {"all", f"t{tenant}"}
        for one in said.citations:
            files = [one.passage.file, *(file for file, _ in one.passage.also)]
            assert {file.partition("/")[0] for file in files} <= mine
        found = bool(said.citations) and text in {one.passage.text for one in said.citations}
        theirs = tenant is not None and (tenant == place // EACH or (tenant, place) == (1, 0))
        if theirs or place // EACH == TENANTS:
            own += found
        else:
            others += found
    assert others == 0 and own > 50  # what is one's own is found


def test_how_sure_it_is_says_nothing_of_others(library: Library, folder: Path) -> None:
    alone = Knowledge(folder / "alone.sqlite")
    mine = folder / "mine"
    for name in ("t3", "all"):
        (mine / name).mkdir(parents=True)
        for path in (folder / "pages" / name).iterdir():
            (mine / name / path.name).write_bytes(path.read_bytes())
    alone.sync(mine, encode, encoder="e")
    alone.close()
    lone = Library(folder / "alone.sqlite", "e", library.outside)
    asked = "how old is the oldest of all of these, and 谁最老？"
    vector = encode([asked])[0]
    among = library.search_of("o3")
    assert among.sureness(asked, vector) == lone.search.sureness(asked, vector)
    assert [hit.score for hit in among.find(asked, vector)] == [hit.score for hit in lone.search.find(asked, vector)]


def test_who_asks_first_does_not_wait_for_an_upload(library: Library, tmp_path: Path) -> None:
    file = Path(shutil.copy(library.file, tmp_path))
    mine, reading, go = Library(file, "e", library.outside, owners=library.owners), Event(), Event()

    def slow(texts: Sequence[str]) -> np.ndarray:
        reading.set()
        assert go.wait(60)
        return encode(texts)

    with ThreadPoolExecutor(1) as pool:
        upload = pool.submit(mine.add, "new.txt", b"A sentence that is new to all.", slow)
        try:
            assert reading.wait(60) and mine.search_of("o3").size > mine.search.size
        finally:
            go.set()
        upload.result(60)
    assert "new.txt" in mine.search_of("o3").files


@pytest.fixture(scope="module")
def app(bundle: Bundle, folder: Path) -> Iterator[TestClient]:
    for name in ("t1", "t2", "t7", "all"):
        shutil.copytree(folder / "pages" / name, folder / "few" / name)
    write_access(folder / "few.yaml", (1, 2, 7))
    access = read_access(folder / "few.yaml", [*OWNERS, "nobody"])
    library, _ = opened(bundle, folder / "few", folder / "http.sqlite", access=access)
    store = Tickets(str(folder / "tickets.sqlite"))
    desk = partial(add_desk, encoder="e", library=library, tickets=store, agents=["o1", "o2", "nobody"])
    keys = {name: f"key-of-{name}" for name in [*OWNERS, "nobody"]}
    with TestClient(create_app({"e": bundle}, keys, further={"desk": desk}), base_url="http://127.0.0.1") as client:
        yield client
    store.close()


def head(name: str) -> dict[str, str]:
    return {"Authorization": f"Bearer key-of-{name}"}


def test_over_http(app: TestClient, texts: list[tuple[str, str]]) -> None:
    dice = random.Random(2)
    for name in ("o1", "o2", "o7", "nobody"):
        mine = {"all", f"t{name.removeprefix('o')}"} if name != "nobody" else {"all"}
        files = app.get("/v1/desk", headers=head(name)).json()["files"]
        assert {file.partition("/")[0] for file in files} == mine
        for _ in range(8):
            asked = {"questions": [dice.choice(texts)[1]], "sure": dice.choice([-100, 100])}
            said = app.post("/v1/desk/replies", json=asked, headers=head(name)).json()
            assert said["citations"] and {one["file"].partition("/")[0] for one in said["citations"]} <= mine


def test_agents_see_what_their_labels_open(app: TestClient, texts: list[tuple[str, str]]) -> None:
    asked = {"questions": [texts[2 * EACH][1]], "sure": 100}
    said = app.post("/v1/desk/replies", json=asked, headers=head("o2")).json()
    place = next(one for one in said["citations"] if one["file"].startswith("t2/"))
    waiting = app.get("/v1/desk/tickets", headers=head("o1")).json()["data"]
    ticket = next(one["id"] for one in waiting if one["reply"] == said["id"])
    mine, others = (app.get(f"/v1/desk/tickets/{ticket}", headers=head(name)).json() for name in ("o2", "o1"))
    assert place["text"] in [one["text"] for one in mine["citations"]]
    assert {"digest": place["digest"], "text": None} in others["citations"]
    body = {"question": "q", "passage": {"file": place["file"], "digest": place["digest"]}}
    assert app.post("/v1/desk/corrections", json=body, headers=head("o1")).status_code == 404
    made = app.post("/v1/desk/corrections", json=body, headers=head("o2")).json()
    told = app.post(f"/v1/desk/corrections/{made['id']}", json={"state": "accepted"}, headers=head("o1")).json()
    assert told["passage"] == {"digest": place["digest"], "text": None}
    for path in ("tickets", f"tickets/{ticket}", "corrections?state=accepted"):
        assert '"t2/' not in app.get(f"/v1/desk/{path}", headers=head("o1")).text
    for name in ("o1", "nobody"):
        found = app.get("/v1/desk/search", params={"q": texts[2 * EACH][0][:500]}, headers=head(name)).json()["data"]
        assert found and not [one for one in found if one["file"].startswith("t2/")]


def test_an_upload_is_there_for_those_with_labels_too(app: TestClient) -> None:
    page = "# Zebras\n\nZebras graze here.\n"
    assert app.put("/v1/desk/documents/new.md", content=page, headers=head("o1")).is_success

    for name in ("o1", "o7", "nobody"):
        assert "new.md" in app.get("/v1/desk", headers=head(name)).json()["files"]
    assert app.delete("/v1/desk/documents/new.md", headers=head("o1")).is_success
    for name in ("o1", "o7", "nobody"):
        assert "new.md" not in app.get("/v1/desk", headers=head(name)).json()["files"]


def test_a_sync_that_says_nothing_of_access_opens_nothing(folder: Path, library: Library) -> None:
    knowledge = Knowledge(library.file)
    again = knowledge.sync(folder / "pages", encode, encoder="e")
    assert (again.changed, {one.file.partition("/")[0] for one in knowledge.known(None).passages}) == (0, {"all"})
    (folder / "pages" / "t1" / "late.txt").write_text("A late page of theirs.", encoding="utf-8")
    knowledge.sync(folder / "pages", encode, encoder="e")
    assert "t1/late.txt" not in {one.file for one in knowledge.known(["l2"]).passages}
    knowledge.close()


GOOD = "documents: {hr/*: [hr]}\nkeys: {anna: [hr]}\n"


@pytest.mark.parametrize(("text", "error", "said"), [
    ("documents: [", RecipeError, "access.yaml"),
    ("keys: {}\n", SourceError, "documents"),
    (GOOD + "people: {}\n", SourceError, "people"),
    ("documents: {hr/*: []}\nkeys: {anna: [hr]}\n", SourceError, "hr/"),
    ("documents: {hr/*: hr}\nkeys: {anna: [hr]}\n", SourceError, "hr/"),
    ("documents: {hr/*: [hr]}\nkeys: {ana: [hr]}\n", SourceError, "anna"),
    ("documents: {hr/*: [HR]}\nkeys: {anna: [hr]}\n", SourceError, "'HR'"),
    (None, SourceError, "access.yaml"),
])  # fmt: skip
def test_a_file_that_would_protect_nothing_is_refused(
    tmp_path: Path, text: str | None, error: type[Exception], said: str
) -> None:
    if text is not None:
        (tmp_path / "access.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(error, match=said):
        read_access(tmp_path / "access.yaml", ["anna", "ben"])


def test_a_good_file(tmp_path: Path) -> None:
    (tmp_path / "access.yaml").write_text(GOOD, encoding="utf-8")
    access = read_access(tmp_path / "access.yaml", ["anna", "ben"])
    assert access.documents == {"hr/*": ["hr"]} and access.owners == {"anna": frozenset(["hr"])}
