"""Documents over HTTP: uploads are answered from, deleted ones no more, and no name becomes a path."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from fastapi.testclient import TestClient

from zhumo.bundle import Bundle
from zhumo.deploy.admission import BODY_LIMIT, FILE_LIMIT
from zhumo.deploy.mount import create_app
from zhumo.support import knowledge, uploads
from zhumo.support.access import Access
from zhumo.support.knowledge import Knowledge
from zhumo.support.opening import encoder_of, opened
from zhumo.support.routes import add_desk

PAGES = {"returns.md": "# Returns\n\nShoes may be sent back within thirty days.\n", "broken.pdf": "no pdf"}
FAQ = "question,answer\nWho waters the plants?,The zanzibar gardener does on Mondays.\n"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "pages").mkdir()
    for name, text in PAGES.items():
        (tmp_path / "pages" / name).write_text(text, encoding="utf-8")
    return tmp_path


@pytest.fixture
def client(bundle: Bundle, root: Path) -> Iterator[TestClient]:
    library, _ = opened(bundle, root / "pages", root / "knowledge.sqlite")
    app = create_app({"e": bundle}, "k", further={"desk": partial(add_desk, encoder="e", library=library)})
    with TestClient(app, base_url="http://127.0.0.1", headers={"Authorization": "Bearer k"}) as client:
        yield client


def files(client: TestClient) -> dict[str, dict[str, object]]:
    return {one["file"]: one for one in client.get("/v1/desk/documents").json()["data"]}


def cited(client: TestClient, question: str) -> list[str]:
    said = client.post("/v1/desk/replies", json={"questions": [question], "sure": -100}).json()
    return [one["file"] for one in said["citations"]]


def test_what_is_there_and_what_could_not_be_read(client: TestClient) -> None:
    told = client.get("/v1/desk/documents", headers={"Accept-Language": "zh"}).json()
    [one] = told["data"]
    assert (one["file"], one["title"], one["passages"], one["uploaded"]) == ("returns.md", "Returns", 1, False)
    assert 1.7e9 < one["read"] < 4e9 and ".pdf" in told["kinds"]
    assert [bad["file"] for bad in told["problems"]] == ["broken.pdf"] and "文件" in told["problems"][0]["problem"]


def test_an_upload_is_answered_from_until_it_is_deleted(client: TestClient, root: Path, bundle: Bundle) -> None:
    made = client.put("/v1/desk/documents/常见问题.csv", content=FAQ.encode()).json()
    assert (made["file"], made["passages"], made["uploaded"]) == ("常见问题.csv", 1, True)
    assert "常见问题.csv" in cited(client, "Who waters the plants?") and client.get("/v1/desk").json()["passages"] == 2
    assert sorted(path.name for path in (root / "pages").iterdir()) == sorted(PAGES)
    with closing(Knowledge(root / "knowledge.sqlite")) as kept:
        known = kept.known(None)
    full = [passage.full for passage in known.passages]
    assert np.allclose(known.vectors, encoder_of(bundle, "match_prefix")(full), atol=1e-5)
    assert b"zanzibar" in (root / "knowledge.sqlite").read_bytes()
    client.put("/v1/desk/documents/常见问题.csv", content=FAQ.replace("zanzibar", "other").encode())
    assert list(files(client)) == ["returns.md", "常见问题.csv"]
    assert client.delete("/v1/desk/documents/常见问题.csv").json()["deleted"]
    assert list(files(client)) == ["returns.md"] and cited(client, "Who waters the plants?") == ["returns.md"]
    left = b"".join(path.read_bytes() for path in root.glob("knowledge.sqlite*"))
    assert b"zanzibar" not in left and b"gardener" not in left
    assert client.delete("/v1/desk/documents/常见问题.csv").status_code == 404


def test_while_another_program_reads_what_was_replaced_is_answered_no_more_and_is_deleted_when_asked_again(
    client: TestClient, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(knowledge, "WAIT", 0.05)
    name, question = "/v1/desk/documents/faq.csv", "Who waters the plants?"
    client.put(name, content=FAQ.encode())
    with closing(sqlite3.connect(root / "knowledge.sqlite", isolation_level=None)) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT * FROM passages").fetchall()
        assert client.put(name, content=FAQ.replace("zanzibar", "other").encode()).status_code == 507
        said = client.post("/v1/desk/replies", json={"questions": [question], "sure": -100}).json()
        assert said["text"] == "The other gardener does on Mondays."
        for _ in range(2):
            assert client.delete(name).status_code == 507
        assert cited(client, question) == ["returns.md"]
    assert client.delete(name).json()["deleted"]
    assert not any(b"gardener" in path.read_bytes() for path in root.glob("knowledge.sqlite*"))
    assert client.delete(name).status_code == 404


@pytest.mark.parametrize(
    "name", ["..%2Fx.md", "..", "%2e%2e%2fx.md", "a%5Cb.md", ".x.md", "x", "x.exe", "x%00.md", "x" * 256 + ".md"]
)
def test_a_name_is_one_plain_component_of_a_known_kind(client: TestClient, root: Path, name: str) -> None:
    before = sorted(root.rglob("*"))
    assert client.put(f"/v1/desk/documents/{name}", content=b"text").status_code in (400, 404, 405)
    assert list(files(client)) == ["returns.md"] and sorted(root.rglob("*")) == before


def test_the_folder_is_changed_by_nobody(client: TestClient) -> None:
    assert "file of the folder" in client.put("/v1/desk/documents/returns.md", content=b"x").json()["error"]["message"]
    assert client.delete("/v1/desk/documents/returns.md").status_code == 404
    assert files(client)["returns.md"]["passages"] == 1


@pytest.mark.parametrize(
    ("name", "content"), [("x.md", b""), ("x.pdf", b"%PDF-1.7 torn"), ("x.docx", b"PK"), ("x.csv", b"a,b\n1,2\n")]
)
def test_what_cannot_be_read_is_told_and_leaves_nothing(client: TestClient, name: str, content: bytes) -> None:
    refused = client.put(f"/v1/desk/documents/{name}", content=content)
    assert refused.status_code == 400 and name in refused.json()["error"]["message"]
    assert list(files(client)) == ["returns.md"]


def test_files_are_bounded_in_size_and_number(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    large = client.put("/v1/desk/documents/x.md", content=b"x" * (FILE_LIMIT + 1))
    assert large.status_code == 413 and str(FILE_LIMIT) in large.json()["error"]["message"]
    text = ("Many words of one long line. " * 4).encode() + b"[" * 100 + b"\n" * BODY_LIMIT
    assert client.put("/v1/desk/documents/x.md", content=text).json()["passages"] == 1  # brackets of a text are no JSON
    monkeypatch.setattr(uploads, "MOST_UPLOADS", 1)
    assert client.put("/v1/desk/documents/y.md", content=b"One more file.").status_code == 409
    assert client.put("/v1/desk/documents/x.md", content=b"The same file again.").status_code == 200


def test_only_agents_may(bundle: Bundle, root: Path) -> None:
    library, _ = opened(bundle, root / "pages", root / "knowledge.sqlite")
    desk = partial(add_desk, encoder="e", library=library, agents=["anna"])
    app = create_app({"e": bundle}, {"anna": "a", "visitor": "v"}, further={"desk": desk})
    with TestClient(app, base_url="http://127.0.0.1", headers={"Authorization": "Bearer v"}) as client:
        for method, path in (("GET", ""), ("PUT", "/x.md"), ("DELETE", "/x.md")):
            refused = client.request(method, f"/v1/desk/documents{path}", content=b"Some words.")
            assert refused.status_code == 403 and refused.json()["error"]["code"] == "not_an_agent"
    assert [one.path for one in library.files] == ["returns.md"]


def test_an_agent_sees_documents_of_no_other_label(bundle: Bundle, root: Path) -> None:
    (root / "pages" / "wages.md").write_text("# Wages\n\nThey are paid on Fridays.\n", encoding="utf-8")
    access = Access({"wages.md": ["hr"]}, {"anna": frozenset(["hr"])})
    library, _ = opened(bundle, root / "pages", root / "knowledge.sqlite", access=access)
    desk = partial(add_desk, encoder="e", library=library, agents=["anna", "bo"])
    app = create_app({"e": bundle}, {"anna": "a", "bo": "b"}, further={"desk": desk})
    with TestClient(app, base_url="http://127.0.0.1") as client:
        seen = {
            key: client.get("/v1/desk/documents", headers={"Authorization": f"Bearer {key}"}).json() for key in "ab"
        }
    assert {key: [one["file"] for one in told["data"]] for key, told in seen.items()} == {
        "a": ["returns.md", "wages.md"], "b": ["returns.md"],
    }  # fmt: skip


def test_nobody_uploads_without_a_key(client: TestClient) -> None:
    for method, path in (("GET", ""), ("PUT", "/x.md"), ("DELETE", "/x.md")):
        headers = {"Authorization": "Bearer x"}
        assert client.request(method, f"/v1/desk/documents{path}", headers=headers).status_code == 401
