"""The app: everything HTTP of bundles that somebody answers for, in this process or another."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

import orjson
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response, StreamingResponse
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.exceptions import HTTPException

from zhumo.deploy.admission import Admission
from zhumo.deploy.feedback import Events
from zhumo.deploy.guard import Guard
from zhumo.deploy.pages import add_pages, find
from zhumo.deploy.refusals import Refusal, on_error, on_http, on_invalid, on_refusal
from zhumo.deploy.requests import Ask, Recommend, Streamed
from zhumo.deploy.routes import ROUTES, Route
from zhumo.deploy.served import Answering, Served
from zhumo.deploy.shop import add_shop
from zhumo.deploy.split import Split
from zhumo.deploy.streams import events, timed
from zhumo.errors import ZhumoError

GONE = 499  # the client closed the connection; nobody reads this status
T = TypeVar("T")
Further = Callable[[FastAPI, Mapping[str, Served]], None]
"""Adds routes to an app, over what it serves."""


def make_app(
    engine: Answering, admission: Admission, *, splits: Iterable[Split] = (), pictures: Path | None = None,
    feedback: Events | None = None, further: Mapping[str, Further] | None = None,
) -> FastAPI:  # fmt: skip
    """An app that lets in whom `admission` does and has `engine` answer.

    splits: names that stand for several recommenders; pictures: the folder of a catalogue's pictures; feedback: where
    what visitors did goes; further: apps that are built on bundles, by the names the console knows them by.
    """
    meters = admission.meters
    served = {name: Served(name, engine, meters) for name in engine.about}
    arms = {split.name: split for split in splits}

    def arm(model: str, user: str | None) -> str:
        if model not in arms:
            return model
        if user is None:
            raise Refusal(400, "needed_field", param="user", name="user")
        return arms[model].bundle(user)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        await engine.close()
        if feedback is not None:
            feedback.close()

    app = FastAPI(title="Zhumo", docs_url=None, redoc_url=None, redirect_slashes=False, lifespan=lifespan)
    app.add_middleware(Guard, admission=admission)
    app.add_exception_handler(Refusal, on_refusal)
    app.add_exception_handler(ZhumoError, on_error)
    app.add_exception_handler(HTTPException, on_http)
    app.add_exception_handler(RequestValidationError, on_invalid)
    for route in ROUTES:
        app.post(route.path, name=route.ask.__name__)(_endpoint(route, served, arm))
    further = further or {}
    _add_health(app, engine, served, admission, list(further))
    add_pages(app, served)
    add_shop(app, served, arm, pictures, feedback)
    for add in further.values():
        add(app, served)
    return app


def _endpoint(
    route: Route[Any], served: Mapping[str, Served], arm: Callable[[str, str | None], str]
) -> Callable[..., Awaitable[Response]]:
    async def answer(request: Request, ask: Ask) -> Response:
        if isinstance(ask, Recommend):
            ask = ask.model_copy(update={"model": arm(ask.model, ask.user)})  # so the answer says who gave it
        one = find(served, ask.model, *route.tasks)
        rows = route.rows(ask)
        if route.stream is not None and isinstance(ask, Streamed) and ask.stream:
            pieces = timed(one.stream(rows), one)
            first = await _unless_gone(request, anext(pieces))  # what is wrong with a row is still a status
            return StreamingResponse(events(ask, route.stream, first, pieces, one), media_type="text/event-stream")
        answers, read = await _unless_gone(request, one.answer(rows, written=route.stream is not None))
        return Response(
            orjson.dumps(route.response(ask, answers, one.used(read, answers))), media_type="application/json"
        )

    answer.__annotations__["ask"] = route.ask  # FastAPI reads the body's model from here
    return answer


async def _unless_gone(request: Request, work: Awaitable[T]) -> T:
    """The result of `work`, which is given up when the client closes the connection."""
    answer, gone = asyncio.ensure_future(work), asyncio.ensure_future(request.receive())
    try:
        await asyncio.wait((answer, gone), return_when=asyncio.FIRST_COMPLETED)
        if not answer.done():
            raise Refusal(GONE, "gone")
        return answer.result()
    finally:
        answer.cancel()
        gone.cancel()


def _add_health(
    app: FastAPI, engine: Answering, served: Mapping[str, Served], admission: Admission, apps: Sequence[str]
) -> None:
    meters = admission.meters

    @app.get("/health/live")
    async def live() -> dict[str, str]:
        """The event loop turns."""
        return {"status": "live"}

    @app.get("/health/ready")
    async def ready() -> dict[str, str]:
        """Every bundle takes work."""
        if admission.draining:
            raise Refusal(503, "draining")
        for one in served.values():
            await one.ask("state")
        return {"status": "ready"}

    @app.get("/metrics")
    async def metrics() -> Response:
        """Counters and times in Prometheus' form."""
        for name, one in served.items():
            state = await one.ask("state") if engine.ready else {"waiting": 0, "running": 0, "cache": 0}
            meters.observe(name, **state)
        return Response(meters.text(), media_type=CONTENT_TYPE_LATEST)

    @app.get("/v1/models")
    async def models() -> dict[str, Any]:
        """The bundles served, and the apps that are built on them."""
        return {"object": "list", "data": [one.about for one in served.values()], "apps": apps}

    @app.get("/v1/models/{model}")
    async def model(model: str) -> dict[str, Any]:
        """One of them."""
        return find(served, model).about
