"""The server: several bundles behind one FastAPI app that also mounts in yours, and `serve`, which runs it alone."""

import asyncio
import ipaddress
import os
import secrets
import signal
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

import orjson
import uvicorn
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response, StreamingResponse
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.exceptions import HTTPException

from zhumo.bundle import Bundle, load
from zhumo.deploy.feedback import Events
from zhumo.deploy.guard import Guard
from zhumo.deploy.meters import Meters
from zhumo.deploy.pages import add_pages, find
from zhumo.deploy.refusals import Refusal, on_error, on_http, on_invalid, on_refusal
from zhumo.deploy.requests import Ask, Recommend, Streamed
from zhumo.deploy.routes import ROUTES, Route
from zhumo.deploy.served import Served
from zhumo.deploy.shop import add_shop
from zhumo.deploy.split import Split, parse_split
from zhumo.deploy.streams import events, timed
from zhumo.deploy.sums import check_sums
from zhumo.errors import SourceError, ZhumoError
from zhumo.run import read_json
from zhumo.words import say

GRACE = 30  # seconds that answers under way have after SIGTERM
GONE = 499  # the client closed the connection; nobody reads this status
T = TypeVar("T")


def create_app(
    bundles: Mapping[str, Bundle], key: str, hosts: Iterable[str] = (), *, splits: Iterable[Split] = (),
    pictures: Path | None = None, events: Events | None = None, rate: float = 0,
) -> FastAPI:  # fmt: skip
    """An app that answers for `bundles`, by the names clients call them.

    key: what every request must bring as `Authorization: Bearer KEY`.
    hosts: names, besides loopback, under which the server may be addressed; "*" allows any bare IP address.
    splits: names that stand for several recommenders; pictures: the folder of a catalogue's pictures; events: where
    feedback goes; rate: requests a second, 0 for as many as come.
    """
    meters = Meters()
    served = {name: Served(name, bundle, meters) for name, bundle in bundles.items()}
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
        for one in served.values():
            one.close()
        if events is not None:
            events.close()

    app = FastAPI(title="Zhumo", docs_url=None, redoc_url=None, redirect_slashes=False, lifespan=lifespan)
    app.add_middleware(Guard, key=key, meters=meters, hosts=tuple(hosts), rate=rate)
    app.add_exception_handler(Refusal, on_refusal)
    app.add_exception_handler(ZhumoError, on_error)
    app.add_exception_handler(HTTPException, on_http)
    app.add_exception_handler(RequestValidationError, on_invalid)
    for task, routes in ROUTES.items():
        for route in routes:
            app.post(route.path, name=route.ask.__name__)(_endpoint(task, route, served, arm))
    _add_health(app, served, meters)
    add_pages(app, served)
    add_shop(app, served, arm, pictures, events)
    return app


def _endpoint(
    task: str, route: Route[Any], served: Mapping[str, Served], arm: Callable[[str, str | None], str]
) -> Callable[..., Awaitable[Response]]:
    async def answer(request: Request, ask: Ask) -> Response:
        if isinstance(ask, Recommend):
            ask = ask.model_copy(update={"model": arm(ask.model, ask.user)})  # so the answer says who gave it
        one = find(served, ask.model, task)
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


def _add_health(app: FastAPI, served: Mapping[str, Served], meters: Meters) -> None:
    @app.get("/health/live")
    async def live() -> dict[str, str]:
        """The event loop turns."""
        return {"status": "live"}

    @app.get("/health/ready")
    async def ready() -> dict[str, str]:
        """Every bundle takes work."""
        if not all(one.worker.alive for one in served.values()):
            raise Refusal(503, "draining")
        return {"status": "ready"}

    @app.get("/metrics")
    async def metrics() -> Response:
        """Counters and times in Prometheus' form."""
        return Response(meters.text(), media_type=CONTENT_TYPE_LATEST)

    @app.get("/v1/models")
    async def models() -> dict[str, Any]:
        """The bundles served."""
        return {"object": "list", "data": [one.describe() for one in served.values()]}

    @app.get("/v1/models/{model}")
    async def model(model: str) -> dict[str, Any]:
        """One of them."""
        return find(served, model).describe()


def find_key(file: Path | None = None) -> str | None:
    """The key the user set: a file's first line, else `ZHUMO_KEY`.

    Raises:
        SourceError: the file is not there or empty.
    """
    if file is None:
        return os.environ.get("ZHUMO_KEY") or None
    lines = file.read_text(encoding="utf-8").split() if file.is_file() else []
    if not lines:
        raise SourceError("serve.key_file", path=file)
    return lines[0]


def names(folders: Sequence[Path]) -> dict[str, Path]:
    """What clients call each bundle: the name of its run, else of its folder; numbered where two are alike."""
    found: dict[str, Path] = {}
    for folder in folders:
        facts = read_json(folder / "run.json") if (folder / "run.json").is_file() else {}
        base = str(facts.get("name") or folder.resolve().name)
        places = (base, *(f"{base}-{number}" for number in range(2, len(folders) + 1)))
        found[next(place for place in places if place not in found)] = folder
    return found


def serve(
    folders: Sequence[str | Path],
    *,
    host: str = "127.0.0.1",
    port: int = 8010,
    key_file: Path | None = None,
    splits: Sequence[str] = (),
    pictures: Path | None = None,
    feedback: Path | None = None,
    rate: float = 0,
    opened: Callable[[str], object] | None = None,
) -> None:
    """Serve bundles until SIGTERM or Ctrl-C, then let answers under way finish.

    port: 0 takes a free one.
    key_file: where the key stands; without it `ZHUMO_KEY` is the key, else one is made and is part of the address.
    splits: `NAME=BUNDLE:SHARE,...` each; pictures: a folder; feedback: an SQLite file; rate: requests a second, or 0.
    opened: called once with the address of the console, when it can be opened.

    Raises:
        ModelError: a folder is not a bundle, or is damaged; a split of what is not a recommender served here.
        SourceError: the address, the folder or the file cannot be had.
    """
    bundles = {}
    for name, folder in names([Path(folder) for folder in folders]).items():
        check_sums(folder)
        bundles[name] = load(folder)
    shops = [name for name, bundle in bundles.items() if bundle.task is not None and bundle.task.name == "recommend"]
    arms = [parse_split(text, shops) for text in splits]
    if pictures is not None and not pictures.is_dir():
        raise SourceError("serve.pictures", path=pictures)
    events = None if feedback is None else Events(feedback)
    given = find_key(key_file)
    key = given or secrets.token_urlsafe(24)
    listener = _listen(host, port)
    shown = "127.0.0.1" if _is_any(host) else f"[{host}]" if ":" in host else host
    address = f"http://{shown}:{listener.getsockname()[1]}/" + ("" if given else f"#key={key}")
    hosts = ("*", socket.gethostname()) if _is_any(host) else (host,)
    app = create_app(bundles, key, hosts, splits=arms, pictures=pictures, events=events, rate=rate)

    def ready() -> None:
        print(say("cli.serve.ready", names=", ".join(bundles), address=address), flush=True)
        if opened is not None:
            opened(address)

    config = uvicorn.Config(
        app, lifespan="on", ws="none", log_level="warning", access_log=False, server_header=False, proxy_headers=False,
        timeout_graceful_shutdown=GRACE,
    )  # fmt: skip
    # uvicorn drains and then raises the signal again; a drained server has ended well, so that means nothing more.
    before = {one: signal.signal(one, lambda *_: None) for one in (signal.SIGTERM, signal.SIGINT)}
    try:
        _Server(config, ready).run(sockets=[listener])
    finally:
        for one, handler in before.items():
            signal.signal(one, handler)
        listener.close()


class _Server(uvicorn.Server):
    """uvicorn, which says when it listens."""

    def __init__(self, config: uvicorn.Config, ready: Callable[[], None]) -> None:
        super().__init__(config)
        self.ready = ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            self.ready()


def _is_any(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_unspecified
    except ValueError:
        return False


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listener = socket.create_server((host, port), family=family, backlog=256)
    except OSError as error:
        raise SourceError("serve.address", host=host, port=port, problem=error.strerror or error) from error
    # asyncio does so only for sockets that were made with TCP as their protocol; without it the body of an answer waits
    # 40 ms for the client to acknowledge its headers. Accepted connections inherit it.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listener
