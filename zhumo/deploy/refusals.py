"""Every answer that is not a success, in the shape OpenAI clients expect: {"error": {message, type, param, code}}.

Sentences come from the word list, in the language the request accepts; a code is the sentence's own name.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import orjson
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from pydantic import BaseModel
from starlette.exceptions import HTTPException
from starlette.requests import Request

from zhumo.errors import ZhumoError, nearest
from zhumo.words import say

Headers = Mapping[str, str]
TYPES = {401: "authentication_error", 403: "permission_error", 404: "not_found_error", 429: "rate_limit_error"}


class Refusal(Exception):
    """A request that is not answered. key: the sentence `error.serve.KEY`; param: the field at fault."""

    def __init__(
        self, status: int, key: str, *, param: str | None = None, headers: Headers | None = None, **facts: object
    ) -> None:
        super().__init__(status, key, facts)
        self.status, self.key, self.param, self.facts = status, key, param, facts
        self.headers = dict(headers or {})

    def say(self, language: str) -> str:
        """Its sentence."""
        return say(f"error.serve.{self.key}", language, **self.facts)

    def response(self, language: str) -> Response:
        """The HTTP answer."""
        return failure(self.status, self.say(language), self.key, self.param, self.headers)


def failure(status: int, message: str, code: str, param: str | None = None, headers: Headers | None = None) -> Response:
    """One error object as a response."""
    kind = TYPES.get(status, "invalid_request_error" if status < 500 else "server_error")
    body = orjson.dumps({"error": {"message": message, "type": kind, "param": param, "code": code}})
    return Response(body, status, headers=headers, media_type="application/json")


def accepted_language(headers: Iterable[tuple[bytes, bytes]]) -> str:
    """zh where the request's Accept-Language begins with it, else en."""
    values = [value for name, value in headers if name == b"accept-language"]
    return "zh" if values and values[0].lower().startswith(b"zh") else "en"


def _language(request: Request) -> str:
    return accepted_language(request.scope["headers"])


async def on_refusal(request: Request, error: Exception) -> Response:
    """Handler of `Refusal`."""
    assert isinstance(error, Refusal)
    return error.response(_language(request))


async def on_error(request: Request, error: Exception) -> Response:
    """Handler of our own errors, raised where a row cannot be answered."""
    assert isinstance(error, ZhumoError)
    return failure(400, error.say(_language(request)), error.key.removeprefix("error."))


async def on_http(request: Request, error: Exception) -> Response:
    """Handler of what the router itself refuses: no such path, no such method, a body that is not JSON."""
    assert isinstance(error, HTTPException)
    key = {404: "no_path", 405: "no_method"}.get(error.status_code, "not_json")
    facts = {"path": request.url.path[:200], "method": request.method}
    return Refusal(error.status_code, key, headers=error.headers, **facts).response(_language(request))


async def on_invalid(request: Request, error: Exception) -> Response:
    """Handler of a body or query that breaks its model; a misspelt field is told before the one it leaves out."""
    assert isinstance(error, RequestValidationError)
    body = getattr(request.scope.get("route"), "body_field", None)
    problems = sorted(error.errors(), key=lambda problem: problem["type"] != "extra_forbidden")
    return invalid(problems[0], body).response(_language(request))


def invalid(problem: Mapping[str, Any], body: Any = None) -> Refusal:
    """One finding of pydantic as a refusal that names the field, and for an unknown one the nearest known."""
    path = [part for part in problem["loc"] if part not in ("body", "query")]
    param = ".".join(map(str, path)) or None
    name = param or "-"
    if problem["type"] == "json_invalid":
        return Refusal(400, "not_json")
    if problem["type"] == "extra_forbidden":
        known = _fields(body, path[:-1])
        near = nearest(str(path[-1]), known)
        return Refusal(
            400,
            "unknown_field_near" if near else "unknown_field",
            param=param,
            near=near,
            known=", ".join(known),
            name=name,
        )
    if problem["type"] == "missing":
        return Refusal(400, "needed_field", param=param, name=name)
    if problem["type"] == "unsupported":
        return Refusal(400, "unsupported", param=problem["ctx"]["name"], name=problem["ctx"]["name"])
    return Refusal(400, "bad_field", param=param, problem=problem["msg"], name=name)


def _fields(body: Any, path: Iterable[object]) -> list[str]:
    """Names known at the top of a request body; of an inner object nothing is guessed."""
    model = getattr(getattr(body, "field_info", None), "annotation", None)
    if list(path) or not (isinstance(model, type) and issubclass(model, BaseModel)):
        return []
    return [field.alias or name for name, field in model.model_fields.items()]
