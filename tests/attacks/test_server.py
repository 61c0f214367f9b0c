"""Attacks on the server: whoever has no key, comes by a strange name, or sends too much, too deep or too slow."""

import contextlib
import json
import socket
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from starlette.websockets import WebSocketDisconnect

from zhumo.bundle import load, save
from zhumo.deploy import admission, guard
from zhumo.deploy.mount import create_app
from zhumo.deploy.parity import Server, served
from zhumo.run import write_json
from zhumo.tasks.recommend import Recommend
from zhumo.transformer import Config, Transformer, initialise

KEY = "a-key-of-this-test"
ASK = {"model": "shop", "items": ["1"]}
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE")


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("shop")
    task = Recommend(None, 8)
    task.learn([{"items": [str(item) for item in range(start, start + 4)]} for start in range(6)])
    save(
        folder,
        initialise(Transformer(Config(vocabulary=task.vocabulary, width=8, depth=1, heads=1)), 0),
        "gpt2",
        None,
        task,
    )
    write_json(folder / "run.json", {"name": "shop"})
    return folder


@pytest.fixture(scope="module")
def app(bundle: Path) -> FastAPI:
    return create_app({"shop": load(bundle)}, KEY, ("testserver",))


@pytest.fixture
def client(app: FastAPI) -> Iterator[TestClient]:
    yield TestClient(app, headers={"authorization": f"Bearer {KEY}"}, raise_server_exceptions=False)


@pytest.fixture(scope="module")
def server(bundle: Path) -> Iterator[Server]:
    with served([bundle]) as found:
        yield found


def error_of(response: Any) -> dict[str, Any]:
    error: dict[str, Any] = response.json()["error"]
    assert set(error) == {"message", "type", "param", "code"} and error["message"] and error["type"]
    return error


KEYLESS: tuple[dict[str, str], ...] = (
    {},
    {"authorization": "Bearer wrong"},
    {"authorization": "Bearer "},
    {"authorization": KEY},
    {"authorization": f"Basic {KEY}"},
    {"cookie": f"key={KEY}"},
    {"x-api-key": KEY},
)


def test_every_route_and_method_needs_the_key(app: FastAPI) -> None:
    paths = {getattr(route, "path", "/") for route in app.routes} | {"/openapi.json", "/nowhere", "/v1/", "/docs"}
    assert len(paths) > 12
    client = TestClient(app)
    for path, method, headers in product(sorted(paths), METHODS, KEYLESS):
        response = client.request(method, path.replace("{model}", "shop"), headers=headers)
        is_open = method in ("GET", "HEAD") and (path in admission.OPEN or path.startswith("/console/"))
        assert is_open or response.status_code == 401, (method, path, headers)
        if response.status_code == 401 and method != "HEAD":
            assert error_of(response)["type"] == "authentication_error"


def test_the_open_files_hold_no_data(app: FastAPI) -> None:
    for path in ("/", "/health/live", "/console/app.js", "/console/words/zh.json"):
        response = TestClient(app).get(path)
        assert response.status_code == 200 and "shop" not in response.text.replace("workshop", ""), path


def test_a_websocket_is_closed(app: FastAPI) -> None:
    with pytest.raises(WebSocketDisconnect) as closed, TestClient(app).websocket_connect("/v1/models"):
        pass
    assert closed.value.code == 1008


@pytest.mark.parametrize(
    "path",
    [
        "/console/../server.py",
        "/console/%2e%2e/server.py",
        "/console//etc/passwd",
        "/console/..%2f..%2frun.py",
        "/console/words/../../words/en.json",
        "/console/\\..\\server.py",
        "/console/index.html%00.js",
    ],
)
def test_no_path_leads_out_of_the_console(client: TestClient, path: str) -> None:
    assert client.get(path).status_code in (401, 404)


@pytest.mark.parametrize("model", ["../shop", "shop/../shop", "%2e%2e", "shop%00", "a" * 3000])
def test_no_model_name_is_a_path(client: TestClient, model: str) -> None:
    assert client.get(f"/v1/reports/{model}").status_code in (404, 400)
    assert client.post("/v1/recommendations", json={**ASK, "model": model}).status_code in (404, 400)


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:8010", "127.0.0.1.evil.example", "", "localhost.evil", "10.0.0.7", "[::2]"]
)
def test_a_strange_name_is_refused(client: TestClient, host: str) -> None:
    response = client.get("/health/live", headers={"host": host})
    assert response.status_code == 403 and error_of(response)["code"] == "host"


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1:8010", "[::1]:8010", "LOCALHOST:1", "testserver"])
def test_its_own_names_are_not(client: TestClient, host: str) -> None:
    assert client.get("/health/live", headers={"host": host}).status_code == 200


def test_bare_addresses_are_names_of_a_server_for_all(bundle: Path) -> None:
    client = TestClient(create_app({"shop": load(bundle)}, KEY, ("*",)))
    assert client.get("/health/live", headers={"host": "10.0.0.7:8010"}).status_code == 200
    assert client.get("/health/live", headers={"host": "rebound.example"}).status_code == 403


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "https://evil.example"},
        {"origin": "null"},
        {"origin": "http://testserver:1"},
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
    ],
)
def test_another_sites_page_may_not_ask(client: TestClient, headers: dict[str, str]) -> None:
    response = client.post("/v1/recommendations", json=ASK, headers=headers)
    assert response.status_code == 403 and error_of(response)["code"] == "origin"
    assert "access-control-allow-origin" not in response.headers


def test_its_own_page_may(client: TestClient) -> None:
    assert client.post("/v1/recommendations", json=ASK, headers={"origin": "http://testserver"}).status_code == 200


@pytest.mark.parametrize("path", ["/", "/health/live", "/v1/models", "/nowhere", "/console/app.js"])
def test_every_answer_carries_its_headers(client: TestClient, path: str) -> None:
    headers = client.get(path).headers
    assert headers["content-security-policy"].startswith("default-src 'self'")
    assert "unsafe" not in headers["content-security-policy"]
    assert headers["x-content-type-options"] == "nosniff" and headers["referrer-policy"] == "no-referrer"
    assert len(headers["x-request-id"]) == 32 and "server" not in headers


def test_a_body_over_the_limit_is_refused_before_it_is_read(client: TestClient) -> None:
    assert (
        error_of(client.post("/v1/recommendations", content=b"x" * (admission.BODY_LIMIT + 1)))["code"] == "too_large"
    )


def test_a_body_without_a_length_is_counted_as_it_comes(client: TestClient) -> None:
    def forever() -> Iterator[bytes]:
        for _ in range(admission.BODY_LIMIT // 65_536 + 2):
            yield b" " * 65_536

    assert client.post("/v1/recommendations", content=forever()).status_code == 413


@pytest.mark.parametrize("body", [b"[" * 5_000, b'{"items":' * 3_000, b'{"a":[' * 40 + b"]}" * 40])
def test_a_deep_body_is_refused(client: TestClient, body: bytes) -> None:
    response = client.post("/v1/recommendations", content=body, headers={"content-type": "application/json"})
    assert response.status_code == 400 and error_of(response)["code"] == "too_deep"


def test_depth_counts_no_bracket_of_a_text() -> None:
    assert guard.depth(json.dumps({"a": ['[[[[{{"[', "\\", "]]"]}).encode()) == 2
    assert guard.depth(b'"[[[[') == 0


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"null",
        b"[]",
        b'"x"',
        b"\xff\xfe",
        b"{}",
        b'{"model":"shop","items":["1"],"k":NaN}',
        b'{"model":"shop","items":["1"],"k":1e999}',
        b'{"model":"shop","items":["1"],"k":' + b"9" * 5_000 + b"}",
    ],
)
def test_nonsense_is_a_400(client: TestClient, body: bytes) -> None:
    response = client.post("/v1/recommendations", content=body, headers={"content-type": "application/json"})
    assert response.status_code == 400 and error_of(response)


def test_another_content_type_is_no_json(client: TestClient) -> None:
    response = client.post("/v1/recommendations", content=json.dumps(ASK), headers={"content-type": "text/plain"})
    assert response.status_code == 400


@pytest.mark.parametrize(
    "changed",
    [
        {"k": 0},
        {"k": -1},
        {"k": 1_001},
        {"k": 2**63},
        {"k": 1.5},
        {"k": "3"},
        {"k": True},
        {"k": None},
        {"k": []},
        {"items": "1"},
        {"items": [1]},
        {"items": [None]},
        {"items": ["x" * 513]},
        {"items": ["1"] * 20_001},
        {"items": None},
        {"seen": 1},
        {"seen": "true"},
        {"only": {"": ["x"]}},
        {"only": {"category": []}},
        {"only": {"category": "x"}},
        {"only": {"category": [["x"]]}},
        {"only": {"price": [1e16, None]}},
        {"only": {"category": ["x"] * 1_001}},
        {"only": {f"c{number}": ["x"] for number in range(65)}},
        {"exclude": ["1"] * 20_001},
        {"boost": {"category": {"x": 0}}},
        {"boost": {"category": {"x": 1_001}}},
        {"boost": {"category": {"x": "2"}}},
        {"boost": {"category": 2}},
        {"diversity": 1.01},
        {"diversity": -0.1},
        {"diversity": True},
        {"new": [{"title": "no id"}]},
        {"new": [{"item": ""}]},
        {"new": [{"item": "n", "deep": {"er": 1}}]},
        {"new": [{"item": str(number)} for number in range(1_001)]},
        {"reasons": 1},
        {"user": ""},
        {"model": ""},
        {"model": 5},
        {"model": "m" * 129},
    ],
)
def test_every_field_is_bounded(client: TestClient, changed: dict[str, Any]) -> None:
    response = client.post("/v1/recommendations", json={**ASK, **changed})
    assert response.status_code == 400 and error_of(response)["param"].split(".")[0] == next(iter(changed))


def test_every_number_and_text_of_the_api_has_its_bounds(app: FastAPI) -> None:
    def walk(schema: Any, path: str) -> Iterator[str]:
        if isinstance(schema, list):
            for part in schema:
                yield from walk(part, path)
        elif isinstance(schema, dict):
            kind = schema.get("type")
            if kind in ("integer", "number") and not ("maximum" in schema or "exclusiveMaximum" in schema):
                yield path
            if kind == "string" and not {"maxLength", "enum", "const", "pattern"} & schema.keys():
                yield path
            if kind == "array" and "maxItems" not in schema:
                yield path
            for name, part in schema.items():
                yield from walk(part, f"{path}.{name}")

    schemas = app.openapi()["components"]["schemas"]
    asked = {name: schema for name, schema in schemas.items() if not name.endswith("Error")}
    assert {"Chat", "Complete", "Recommend"} <= asked.keys()
    assert list(walk(asked, "")) == []


@pytest.mark.parametrize(
    ("wrong", "near"), [("item", "items"), ("sen", "seen"), ("modell", "model"), ("boosts", "boost")]
)
def test_an_unknown_field_is_told_with_the_nearest(client: TestClient, wrong: str, near: str) -> None:
    error = error_of(client.post("/v1/recommendations", json={**ASK, wrong: 1}))
    assert f"did you mean {near}?" in error["message"] and error["param"] == wrong


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/nowhere", 404),
        ("DELETE", "/v1/models", 405),
        ("GET", "/v1/classify", 405),
        ("GET", "/v1/models/nobody", 404),
        ("GET", "/v1/items?model=shop&limit=9999", 400),
    ],
)
def test_every_refusal_has_the_same_shape(client: TestClient, method: str, path: str, status: int) -> None:
    response = client.request(method, path)
    assert response.status_code == status and error_of(response)


def test_what_breaks_inside_is_told_without_its_details(
    app: FastAPI, client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(self: Recommend, *_: object) -> None:
        raise RuntimeError("secret: /home/someone")

    monkeypatch.setattr(Recommend, "answer", broken)
    response = client.post("/v1/recommendations", json=ASK)
    assert response.status_code == 500 and "secret" not in response.text
    assert response.headers["x-request-id"] in error_of(response)["message"]


def test_the_language_of_an_error_is_the_readers(client: TestClient) -> None:
    assert (
        "没有名为"
        in client.get("/v1/models/nobody", headers={"accept-language": "zh-CN,zh;q=0.9"}).json()["error"]["message"]
    )


def test_it_mounts_in_another_app(bundle: Path) -> None:
    outer = FastAPI()
    outer.mount("/models", create_app({"shop": load(bundle)}, KEY, ("testserver",)))
    client = TestClient(outer)
    assert client.get("/models/health/live").status_code == 200
    assert client.get("/models/v1/models").status_code == 401
    answered = client.post("/models/v1/recommendations", json=ASK, headers={"authorization": f"Bearer {KEY}"})
    assert answered.status_code == 200 and answered.json()["data"][0]["items"]


def test_a_slow_client_is_let_go_and_holds_nobody_up(server: Server) -> None:
    lines = (
        "POST /v1/recommendations HTTP/1.1",
        "Host: 127.0.0.1",
        f"Authorization: Bearer {server.key}",
        "Content-Length: 9",
    )
    head = "\r\n".join([*lines, "", ""])
    with socket.create_connection(("127.0.0.1", server.port)) as slow:
        slow.settimeout(guard.PATIENCE + 20)
        slow.sendall(head.encode() + b"{")
        assert server.post("/v1/recommendations", ASK, 0)["data"]  # others are answered meanwhile
        assert slow.recv(65_536).startswith(b"HTTP/1.1 408")


@pytest.mark.parametrize(
    "raw",
    [
        b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nX: " + b"x" * 200_000,
        b"\x00\xff" * 500 + b"\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nHost: evil\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    ],
)
def test_broken_http_breaks_nothing(server: Server, raw: bytes) -> None:
    with socket.create_connection(("127.0.0.1", server.port)) as client:
        client.settimeout(20)
        client.sendall(raw)
        with contextlib.suppress(ConnectionError):
            assert b" 200 " not in client.recv(4_096).split(b"\r\n")[0] + b" "
    assert server.get("/v1/models")["data"]


def test_the_key_is_in_no_answer(server: Server) -> None:
    for path in ("/v1/models", "/metrics", "/openapi.json"):
        assert server.key.encode() not in server.request("GET", path).read()


def test_a_key_is_good_for_so_many_requests_a_second(bundle: Path) -> None:
    client = TestClient(create_app({"shop": load(bundle)}, KEY, ("testserver",), rate=3))
    key = {"authorization": f"Bearer {KEY}"}
    assert [client.get("/v1/models", headers={"authorization": "Bearer x"}).status_code for _ in range(5)] == [401] * 5
    answers = [client.get("/v1/models", headers=key) for _ in range(12)]
    assert [answer.status_code for answer in answers[:3]] == [200] * 3
    late = next(answer for answer in answers if answer.status_code == 429)
    assert error_of(late)["type"] == "rate_limit_error" and late.headers["retry-after"] == "1"
    assert client.get("/health/live").status_code == 200  # whoever looks after the server is not counted


def test_a_bucket_fills_again(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr(admission.time, "monotonic", lambda: now)
    bucket = admission.Bucket(2.0)
    assert [bucket.take() for _ in range(3)] == [0, 0, 0.5]
    now += 0.5
    assert [bucket.take(), bucket.take()] == [0, 0.5]
    now += 100
    assert [bucket.take() for _ in range(3)] == [0, 0, 0.5]
