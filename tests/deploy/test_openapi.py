"""The description of the API in git is the one the server gives, and everything in it is bounded."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from zhumo.deploy.mount import create_app

PAGE = Path(__file__).parents[2] / "docs" / "openapi.json"


def test_the_description_in_git_is_current() -> None:
    told = json.dumps(create_app({}, "k").openapi(), indent=2, ensure_ascii=False) + "\n"
    made = 'json.dumps(create_app({}, "k").openapi(), indent=2, ensure_ascii=False)'
    assert PAGE.read_text(encoding="utf-8") == told, f"write docs/openapi.json again: {made}"


def test_it_names_every_answering_route() -> None:
    paths = json.loads(PAGE.read_text(encoding="utf-8"))["paths"]
    assert {
        "/v1/recommendations", "/v1/feedback", "/v1/items", "/v1/chat/completions", "/v1/embeddings", "/v1/rerank",
        "/v1/responses", "/v1/messages",
    } <= set(paths)  # fmt: skip


def asked(value: Any, path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Every schema in the description of what is asked, with where it stands."""
    if isinstance(value, dict):
        if isinstance(value.get("type"), str):
            yield path, value
        for name, part in value.items():
            if name not in ("responses", "HTTPValidationError", "ValidationError"):
                yield from asked(part, f"{path}/{name}")
    elif isinstance(value, list):
        for place, part in enumerate(value):
            yield from asked(part, f"{path}/{place}")


def test_every_number_text_and_list_is_bounded() -> None:
    bounds = {
        "integer": ({"minimum", "exclusiveMinimum"}, {"maximum", "exclusiveMaximum"}),
        "number": ({"minimum", "exclusiveMinimum"}, {"maximum", "exclusiveMaximum"}),
        "string": ({"maxLength", "const", "enum", "pattern"},),
        "array": ({"maxItems"},),
    }
    found = list(asked(json.loads(PAGE.read_text(encoding="utf-8"))))
    assert sum(schema["type"] == "integer" for _, schema in found) > 10
    for path, schema in found:
        for names in bounds.get(schema["type"], ()):
            known = schema.keys() & names
            assert known or (schema["type"] == "string" and "parameters" in path), (path, schema)
