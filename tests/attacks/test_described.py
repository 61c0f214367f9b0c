"""Requests made up from our own description of the API, right and wrong (schemathesis): none is an error of ours.

Bundles are those served, and texts are kept short, so that requests reach the models; all else is as described.
"""

import contextlib
import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode

from tests.deploy.conftest import bundles  # noqa: F401, a fixture
from zhumo.deploy.parity import Server, served
from zhumo.deploy.routes import ROUTES

PATIENCE = 120  # seconds an answer may take on a busy machine
LENGTHS = ("max_tokens", "max_completion_tokens", "max_output_tokens")


@pytest.fixture(scope="module")
def server(bundles: dict[str, Path]) -> Iterator[Server]:  # noqa: F811
    with served(list(bundles.values())) as found:
        yield found


def described(server: Server) -> Any:
    """The API's description, for these bundles and short texts."""
    page = server.get("/openapi.json")
    names = {model["task"]: model["id"] for model in server.get("/v1/models")["data"]}
    tasks = {route.ask.__name__: route.tasks[-1] for route in ROUTES}
    for title, schema in page["components"]["schemas"].items():
        known = schema.get("properties", {})
        if "model" in known:
            known["model"] = {"type": "string", "enum": [names[tasks.get(title, "recommend")]]}
        for name in known.keys() & LENGTHS:
            known[name] = {"type": "integer", "minimum": 1, "maximum": 3}
            schema.setdefault("required", []).append(name)
    return page


def campaign(server: Server, cases: int) -> Counter[int]:
    """How often each status came back to about so many cases, spread over all routes.

    Raises:
        AssertionError: an error of the server's, with the request that brought it about.
    """
    found: Counter[int] = Counter()
    operations = [result.ok() for result in schemathesis.openapi.from_dict(described(server)).get_all_operations()]
    for operation in operations:
        for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE):

            @seed(1)
            @settings(
                max_examples=max(1, cases // (2 * len(operations))), deadline=None, database=None,
                suppress_health_check=list(HealthCheck), phases=[Phase.generate],
            )  # fmt: skip
            @given(case=operation.as_strategy(generation_mode=mode))
            def ask(case: Any) -> None:
                address = f"http://127.0.0.1:{server.port}"
                response = case.call(base_url=address, headers=server.headers, timeout=PATIENCE)
                found[response.status_code] += 1
                assert response.status_code < 500, f"{case.as_curl_command()}\n{response.text}"
                if response.status_code >= 400 and response.content:
                    assert json.loads(response.text)["error"]["message"]

            with contextlib.suppress(Unsatisfiable):  # a route that takes nothing cannot be asked wrongly
                ask()
    return found


@pytest.mark.parametrize(("value", "status"), [(2**63, 200), (2**70, 400), ("\ud800", 400)])
def test_json_that_only_python_reads_is_refused_wherever_it_may_stand(
    server: Server, value: object, status: int
) -> None:
    [write] = [model["id"] for model in server.get("/v1/models")["data"] if model["task"] == "write"]
    schema, said = {"a": [value]}, [{"role": "user", "content": "hi"}]
    asked: dict[str, list[dict[str, Any]]] = {
        "/v1/responses": [{"input": "hi", "tools": [{"type": "function", "name": "f", "parameters": schema}]}],
        "/v1/chat/completions": [
            {"messages": said, "tools": [{"type": "function", "function": {"name": "f", "parameters": schema}}]},
            {"messages": said,
             "response_format": {"type": "json_schema", "json_schema": {"name": "f", "schema": schema}}},
            {"messages": said, "structured_outputs": {"json": schema}},
        ],
        "/v1/messages": [
            {"messages": said, "max_tokens": 2, "tools": [{"name": "f", "input_schema": schema}]},
            {"messages": [*said, {"role": "assistant",
                                  "content": [{"type": "tool_use", "id": "1", "name": "f", "input": schema}]}, *said],
             "max_tokens": 2},
            {"messages": said, "max_tokens": 2, "system": [{"type": "text", "text": "a", "cache_control": schema}]},
        ],
    }  # fmt: skip
    for path, bodies in asked.items():
        for body in bodies:
            sent = json.dumps({"model": write, **body})
            headers = {**server.headers, "content-type": "application/json"}
            found = httpx.post(f"http://127.0.0.1:{server.port}{path}", headers=headers, content=sent, timeout=PATIENCE)
            assert found.status_code == status, (path, body, found.text)


@pytest.mark.timeout(900)
def test_what_is_described_can_be_asked(server: Server) -> None:
    found = campaign(server, 150)
    assert found.total() >= 100 and found[200] >= 10 and found[400] >= 10


@pytest.mark.long
@pytest.mark.timeout(7_200)
def test_five_thousand_requests_and_no_error_of_ours(server: Server) -> None:
    found = campaign(server, 7_000)  # routes that take little are asked less often
    print(dict(found))
    assert found.total() >= 5_000
