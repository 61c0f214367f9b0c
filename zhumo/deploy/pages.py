"""What the console needs: its own static files and words, which are open, and behind the key report cards."""

import mimetypes
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import Annotated, Literal

import orjson
from fastapi import FastAPI, Query
from fastapi.responses import Response

from zhumo.deploy.refusals import Refusal
from zhumo.deploy.served import Served
from zhumo.words import LANGUAGES, words

Name = Annotated[str, Query(min_length=1, max_length=128)]


@cache
def console() -> Mapping[str, tuple[bytes, str]]:
    """Every static file of the console by name, read once: no path from a request ever reaches the disk."""
    folder = files("zhumo.deploy").joinpath("console")
    found = {file.name: (file.read_bytes(), _kind(file.name)) for file in folder.iterdir() if file.is_file()}
    for language in LANGUAGES:
        page = {key: sentence for key, sentence in words(language).items() if key.startswith(("page.", "report."))}
        found[f"words/{language}.json"] = (orjson.dumps(page), "application/json")
    return found


def _kind(name: str) -> str:
    return mimetypes.guess_type(name)[0] or "application/octet-stream"


def add_pages(app: FastAPI, served: Mapping[str, Served]) -> None:
    """Add the console and what it asks for."""

    def static(name: str) -> Response:
        if name not in console():
            raise Refusal(404, "no_path", path=name[:200])
        body, kind = console()[name]
        return Response(body, media_type=kind, headers={"cache-control": "no-cache"})

    @app.get("/", include_in_schema=False)
    async def index() -> Response:
        return static("index.html")

    @app.get("/console/{name:path}", include_in_schema=False)
    async def file(name: str) -> Response:
        return static(name)

    @app.get("/v1/reports/{model}")
    async def report(model: str) -> Response:
        """The report card of a bundle as data."""
        found = await find(served, model).ask("report_card", language=None)
        if found is None:
            raise Refusal(404, "no_report", name=model[:128])
        return Response(orjson.dumps(found), media_type="application/json")

    @app.get("/v1/reports/{model}/page")
    async def page(model: str, lang: Literal["en", "zh"] = "en") -> Response:
        """The report card of a bundle as a page of its own, to be saved."""
        found = await find(served, model).ask("report_card", language=lang)
        if found is None:
            raise Refusal(404, "no_report", name=model[:128])
        return Response(found, media_type="text/html", headers={"content-disposition": "attachment"})


def find(served: Mapping[str, Served], name: str, *tasks: str) -> Served:
    """The bundle of a name. tasks: of which it must do one, where some are named.

    Raises:
        Refusal: 404 no such bundle, with the names there are; 400 it has another task.
    """
    if name not in served:
        raise Refusal(404, "model_not_found", param="model", name=name[:128], known=", ".join(served))
    one = served[name]
    if tasks and one.task not in tasks:
        raise Refusal(400, "wrong_task", param="model", name=name, task=one.task, wanted=" / ".join(tasks))
    return one
