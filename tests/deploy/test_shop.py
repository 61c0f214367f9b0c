"""The catalogue over HTTP, pictures that stay in their folder, feedback that becomes training data, and A/B."""

import sqlite3
import struct
import zlib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from zhumo.bundle import load
from zhumo.deploy import feedback
from zhumo.deploy.feedback import Events
from zhumo.deploy.mount import create_app
from zhumo.deploy.server import serve
from zhumo.deploy.shop import read_picture
from zhumo.deploy.split import Split, parse_split
from zhumo.errors import ModelError, SourceError, ZhumoError
from zhumo.sources import Bad, open_rows
from zhumo.tasks.recommend import Recommend

KEY = "a-key-of-this-test"


def png() -> bytes:
    """One green pixel."""
    parts = [
        (b"IHDR", struct.pack(">2I5B", 1, 1, 8, 2, 0, 0, 0)),
        (b"IDAT", zlib.compress(b"\0\x10\x60\x50")),
        (b"IEND", b""),
    ]
    chunks = [
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data)) for name, data in parts
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


@pytest.fixture(scope="module")
def house(bundles: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[TestClient, Path]]:
    """A shop with two recommenders, a folder of pictures and one beside it, and a file for feedback."""
    root = tmp_path_factory.mktemp("shop")
    pictures = root / "pictures"
    pictures.mkdir()
    (pictures / "casablanca.png").write_bytes(png())
    (pictures / "七武士.jpg").write_bytes(b"\xff\xd8\xff\xe0 a jpeg, as far as anyone can tell")
    (pictures / "notes.png").write_text("<svg onload='alert(1)'>", encoding="utf-8")
    (root / "outside.png").write_bytes(png())
    (pictures / "link.png").symlink_to(root / "outside.png")
    bundle = load(bundles["recommend"])
    split = parse_split("shop=old:30,new:10", ["old", "new"])
    app = create_app(
        {"old": bundle, "new": bundle, "labels": load(bundles["classify"])}, KEY, ("testserver",), splits=[split],
        pictures=pictures, feedback=Events(root / "events.db"),
    )  # fmt: skip
    with TestClient(app, headers={"authorization": f"Bearer {KEY}"}) as client:
        yield client, root


@pytest.fixture
def client(house: tuple[TestClient, Path]) -> TestClient:
    return house[0]


def refused(response: Any) -> str:
    code: str = response.json()["error"]["code"]
    return code


# -- the catalogue


def test_items_come_with_what_the_catalogue_says_of_them(client: TestClient) -> None:
    found = client.get("/v1/items", params={"model": "old", "q": "metro"}).json()["data"]
    assert found == [
        {"id": "1", "title": "Metropolis", "category": ["silent", "drama"], "price": 12.0, "picture": "../outside.png"}
    ]
    assert [item["id"] for item in client.get("/v1/items?model=old&q=8").json()["data"]] == ["8"]
    assert len(client.get("/v1/items?model=old&limit=3").json()["data"]) == 3


def test_columns_say_what_can_be_filtered_by(client: TestClient) -> None:
    told = client.get("/v1/columns?model=old").json()
    found = told["data"]
    assert told["seen"] is False
    assert found == {
        "category": {"values": {"drama": 6, "silent": 2, "动作": 2}}, "price": {"low": 1.0, "high": 20.0}
    }  # fmt: skip
    assert next(iter(found["category"]["values"])) == "drama"


def test_who_does_not_say_gets_what_the_shop_usually_shows(bundles: dict[str, Path]) -> None:
    bundle = load(bundles["recommend"])
    assert bundle.task is not None
    bundle.task.state |= {"protocol": "again", "again": 0.9}
    with TestClient(create_app({"shop": bundle}, KEY, ("testserver",))) as client:
        client.headers["authorization"] = f"Bearer {KEY}"
        assert client.get("/v1/columns?model=shop").json()["seen"] is True
        for said, shown in (({}, True), ({"seen": None}, True), ({"seen": True}, True), ({"seen": False}, False)):
            asked = {"model": "shop", "items": ["1"], "k": 3, **said}
            [answer] = client.post("/v1/recommendations", json=asked).json()["data"]
            assert ("1" in [item["id"] for item in answer["items"]]) == shown


@pytest.mark.parametrize(
    "path", ["/v1/items?model=labels", "/v1/columns?model=labels", "/v1/items/0/picture?model=labels"]
)
def test_only_recommenders_have_a_catalogue(client: TestClient, path: str) -> None:
    assert refused(client.get(path)) == "wrong_task"


def test_items_are_given_by_their_ids(client: TestClient) -> None:
    found = client.get("/v1/items", params={"model": "old", "id": ["8", "nobody", "1"]}).json()["data"]
    assert [item["title"] for item in found] == ["大路", "Metropolis"]
    assert client.get("/v1/items", params={"model": "old", "id": ["1"] * 51}).status_code == 400


def test_what_is_like_an_item_and_what_goes_with_it(client: TestClient, bundles: dict[str, Path]) -> None:
    bundle = load(bundles["recommend"])
    assert isinstance(bundle.task, Recommend)
    for kind in ("similar", "complement"):
        asked = {"model": "old", "item": "1", "k": 3, "kind": kind}
        response = client.post("/v1/similar", json=asked).json()
        assert response["data"] == [bundle.task.similar(bundle.model, "1", 3, kind)]
        ids = [item["id"] for item in response["data"][0]["items"]]
        assert len(set(ids)) == 3 and "1" not in ids
    assert client.post("/v1/similar", json={"model": "old", "item": "nobody"}).status_code == 400
    assert client.post("/v1/similar", json={"model": "old", "item": "1", "kind": "else"}).status_code == 400


# -- pictures


@pytest.mark.parametrize(("item", "kind"), [("0", "image/png"), ("2", "image/jpeg")])
def test_a_picture_is_what_its_bytes_say(client: TestClient, item: str, kind: str) -> None:
    response = client.get(f"/v1/items/{item}/picture?model=old")
    assert response.status_code == 200 and response.headers["content-type"] == kind
    assert response.headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize("item", ["1", "3", "4", "5", "6"], ids=["above", "no picture", "link out", "none", "missing"])
def test_what_is_no_picture_inside_of_the_folder_is_not_there(client: TestClient, item: str) -> None:
    assert refused(client.get(f"/v1/items/{item}/picture?model=old")) == "no_picture"


@pytest.mark.parametrize("name", ["", ".", "..", "/etc/passwd", "x" * 5_000, "a\0b", "round/x.png", "../pictures"])
def test_a_name_that_is_none_is_no_picture(tmp_path: Path, name: str) -> None:
    (tmp_path / "round").symlink_to(tmp_path / "round")
    assert read_picture(tmp_path, name) is None


@pytest.mark.parametrize(
    "item", ["../0", "..%2f..%2foutside.png", "casablanca.png", "%2fetc%2fpasswd", "0%00", "0/../../x"]
)
def test_no_request_names_a_file(client: TestClient, item: str) -> None:
    assert client.get(f"/v1/items/{item}/picture?model=old").status_code == 404


def test_a_picture_needs_the_key_and_a_folder(client: TestClient, bundles: dict[str, Path]) -> None:
    assert client.get("/v1/items/0/picture?model=old", headers={"authorization": ""}).status_code == 401
    bare = TestClient(create_app({"old": load(bundles["recommend"])}, KEY, ("testserver",)))
    response = bare.get("/v1/items/0/picture?model=old", headers={"authorization": f"Bearer {KEY}"})
    assert refused(response) == "no_picture"


# -- feedback


def test_feedback_is_kept_and_is_a_source_of_interactions(house: tuple[TestClient, Path]) -> None:
    client, root = house
    for user, items in (("ann", ["1", "2", "3"]), ("小王", ["4", "1"]), (None, ["5"])):
        said = {"model": "old", "event": "click", "items": items, **({"user": user} if user else {})}
        assert client.post("/v1/feedback", json=said).json()["items"] == len(items)
    client.post("/v1/feedback", json={"model": "old", "user": "ann", "event": "shown", "items": ["9"], "list": "l1"})
    with sqlite3.connect(f"file:{root / 'events.db'}?mode=ro", uri=True) as base:
        assert list(base.execute("SELECT user, item, place, list FROM events WHERE event = 'shown'")) == [
            ("ann", "9", 0, "l1")
        ]
    source = f"sqlite:{root / 'events.db'}?SELECT * FROM interactions"
    read = [(found.row["user"], found.row["item"]) for found in open_rows(source) if not isinstance(found, Bad)]
    assert read == [("ann", "1"), ("ann", "2"), ("ann", "3"), ("小王", "4"), ("小王", "1")]


@pytest.mark.parametrize(
    "changed",
    [
        {"event": "like"}, {"items": []}, {"items": ["1"] * 1_001}, {"user": ""}, {"list": ""}, {"list_": "x"},
        {"list": "x" * 129},
    ],
)  # fmt: skip
def test_feedback_is_bounded(client: TestClient, changed: dict[str, Any]) -> None:
    said = {"model": "old", "user": "ann", "event": "click", "items": ["1"]}
    assert client.post("/v1/feedback", json={**said, **changed}).status_code == 400


def test_feedback_needs_a_recommender_and_a_file(client: TestClient, bundles: dict[str, Path]) -> None:
    said = {"model": "labels", "event": "click", "items": ["1"]}
    assert refused(client.post("/v1/feedback", json=said)) == "wrong_task"
    bare = TestClient(create_app({"old": load(bundles["recommend"])}, KEY, ("testserver",)))
    response = bare.post("/v1/feedback", json={**said, "model": "old"}, headers={"authorization": f"Bearer {KEY}"})
    assert refused(response) == "no_feedback"


def test_a_full_file_says_so_and_keeps_what_it_has(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feedback, "MOST_BYTES", 65_536)
    events = Events(tmp_path / "events.db")
    with pytest.raises(feedback.Refusal) as full:
        for _ in range(1_000):
            events.add("old", "ann", "click", ["x" * 500] * 10, None)
    assert full.value.status == 507
    events.close()
    with sqlite3.connect(tmp_path / "events.db") as base:
        assert list(base.execute("SELECT count(*) % 10, count(*) > 9 FROM events")) == [(0, 1)]


def test_another_file_is_left_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "letters.txt"
    path.write_text("Dear Ann, " * 100, encoding="utf-8")
    with pytest.raises(SourceError, match=r"letters\.txt cannot be used"):
        Events(path)
    assert path.read_text(encoding="utf-8") == "Dear Ann, " * 100


# -- A/B


def test_a_user_always_meets_the_same_bundle_which_says_so(client: TestClient) -> None:
    met = Counter[str]()
    for number in range(60):
        asked = {"model": "shop", "items": ["1"], "user": f"用户{number}"}
        first, second = (client.post("/v1/recommendations", json=asked).json()["model"] for _ in range(2))
        assert first == second
        met[first] += 1
    assert met.keys() == {"old", "new"}
    assert client.post("/v1/recommendations", json={"model": "shop", "items": []}).json()["error"]["param"] == "user"
    said = {"model": "shop", "user": "用户0", "event": "click", "items": ["1"]}
    own = client.post("/v1/recommendations", json={"model": "shop", "items": [], "user": "用户0"}).json()["model"]
    assert client.post("/v1/feedback", json=said).json()["model"] == own


def test_shares_are_kept_and_splits_are_drawn_apart() -> None:
    one, other = (parse_split(f"{name}=a:70,b:30", "ab") for name in ("one", "other"))
    met = Counter((one.bundle(str(user)), other.bundle(str(user))) for user in range(20_000))
    assert (met["a", "a"] + met["a", "b"]) / 20_000 == pytest.approx(0.7, abs=0.01)
    assert met["a", "a"] / 20_000 == pytest.approx(0.49, abs=0.015)
    assert Split("x", {"a": 0.0, "b": 1.0}).bundle("anyone") == "b"


@pytest.mark.parametrize(
    "text",
    [
        "shop",
        "shop=",
        "=a:1",
        "shop=a",
        "shop=a:x",
        "shop=a:1,c:1",
        "shop=a:1,a:2",
        "a=a:1,b:1",
        "shop=a:0",
        "shop=a:-1",
    ],
)
def test_a_split_that_is_none_is_told(text: str) -> None:
    with pytest.raises(ModelError, match="is no split"):
        parse_split(text, "ab")


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"splits": ["shop=recommend-small:1,nobody:1"]}, "these recommenders: recommend-small"),
        ({"splits": ["shop=classify-small:1"]}, "is no split"),
        ({"pictures": Path("nowhere")}, "no folder nowhere"),
        ({"feedback": Path("nowhere/events.db")}, "cannot be used"),
    ],
)
def test_what_cannot_be_served_is_told_before_anything_listens(
    bundles: dict[str, Path], changed: dict[str, Any], said: str
) -> None:
    with pytest.raises(ZhumoError, match=said):
        serve([bundles["recommend"], bundles["classify"]], port=0, **changed)
