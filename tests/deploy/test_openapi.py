"""The description of the API in git is the one the server gives."""

import json
from pathlib import Path

from zhumo.deploy.server import create_app

PAGE = Path(__file__).parents[2] / "docs" / "openapi.json"


def test_the_description_in_git_is_current() -> None:
    told = json.dumps(create_app({}, "k").openapi(), indent=2, ensure_ascii=False) + "\n"
    made = 'json.dumps(create_app({}, "k").openapi(), indent=2, ensure_ascii=False)'
    assert PAGE.read_text(encoding="utf-8") == told, f"write docs/openapi.json again: {made}"


def test_it_names_every_answering_route() -> None:
    paths = json.loads(PAGE.read_text(encoding="utf-8"))["paths"]
    assert {"/v1/recommendations", "/v1/feedback", "/v1/items", "/v1/chat/completions", "/v1/embeddings"} <= set(paths)
