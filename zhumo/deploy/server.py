"""`serve`: the app alone, its engine in a process of its own, until somebody stops it."""

import asyncio
import ipaddress
import math
import os
import secrets
import signal
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from types import FrameType

import uvicorn
from fastapi import FastAPI

from zhumo.deploy.admission import Admission, Keys
from zhumo.deploy.app import Further, make_app
from zhumo.deploy.feedback import Events
from zhumo.deploy.places import SLOTS
from zhumo.deploy.protocol import Protocol
from zhumo.deploy.refusals import Refusal
from zhumo.deploy.split import parse_split
from zhumo.deploy.supervisor import RETRY, Supervisor
from zhumo.errors import SourceError
from zhumo.run import read_json
from zhumo.words import say

GRACE = 30.0  # seconds that answers under way have after SIGTERM
FLUSH = 5  # seconds the last bytes have after that


def find_keys(file: Path | None = None) -> dict[str, str]:
    """The keys the user set, by their owners' names: a file of `NAME:KEY` or `KEY` lines, else `ZHUMO_KEY`; or none.

    Raises:
        SourceError: the file is not there, holds no key, or two of one name.
    """
    if file is None:
        key = os.environ.get("ZHUMO_KEY")
        return {"": key} if key else {}
    lines = file.read_text(encoding="utf-8").splitlines() if file.is_file() else []
    keys: dict[str, str] = {}
    for number, line in enumerate(lines, 1):
        if line.strip():
            name, _, key = line.rpartition(":")
            name, key = name.strip() or str(number), key.strip()
            if name in keys or not key or len(key.split()) > 1:
                raise SourceError("serve.key_line", path=file, line=number)
            keys[name] = key
    if not keys:
        raise SourceError("serve.key_file", path=file)
    return keys


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
    slots: int = SLOTS,
    further: Mapping[str, Further] | None = None,
    opened: Callable[[str], object] | None = None,
) -> None:
    """Serve bundles until SIGTERM or Ctrl-C, then let answers under way finish. SIGHUP reads the folders again.

    port: 0 takes a free one.
    key_file: where the keys stand; without it `ZHUMO_KEY` is the key, else one is made and is part of the address.
    splits: `NAME=BUNDLE:SHARE,...` each; pictures: a folder; feedback: an SQLite file; rate: requests a second of one
    key, or 0; slots: texts that one bundle writes at once; further: apps on top, by
    the names the console knows them by.
    opened: called once with the address of the console, when it can be opened.

    Raises:
        ModelError: a folder is not a bundle, or is damaged; a split of what is not a recommender served here.
        SourceError: the address, the folder or the file cannot be had.
    """
    if pictures is not None and not pictures.is_dir():
        raise SourceError("serve.pictures", path=pictures)
    events = None if feedback is None else Events(feedback)
    given = find_keys(key_file)
    keys = given or {"": secrets.token_urlsafe(24)}
    shown = "127.0.0.1" if _is_any(host) else f"[{host}]" if ":" in host else host
    hosts = ("*", socket.gethostname()) if _is_any(host) else (host,)

    async def run(listener: socket.socket) -> None:
        supervisor = Supervisor(names([Path(folder) for folder in folders]), slots)
        try:
            await supervisor.start()
            shops = [name for name, about in supervisor.about.items() if about["task"] == "recommend"]
            admission = Admission(Keys(keys), supervisor, hosts=hosts, rate=rate)
            arms = [parse_split(text, shops) for text in splits]
            app = make_app(supervisor, admission, splits=arms, pictures=pictures, feedback=events, further=further)
            address = f"http://{shown}:{listener.getsockname()[1]}/" + ("" if given else f"#key={keys['']}")
            await _Server(app, supervisor, admission, address, opened).serve(sockets=[listener])
        finally:
            await supervisor.close()

    with _listen(host, port) as listener:
        asyncio.run(run(listener))


class _Server(uvicorn.Server):
    """uvicorn, which says when it listens, and stops only when everybody it let in has been answered."""

    def __init__(
        self, app: FastAPI, supervisor: Supervisor, admission: Admission, address: str,
        opened: Callable[[str], object] | None,
    ) -> None:  # fmt: skip
        super().__init__(uvicorn.Config(
            app, http=partial(Protocol, admission=admission),  # type: ignore[arg-type]
            lifespan="on", ws="none", log_level="warning", access_log=False, server_header=False,
            proxy_headers=False, timeout_graceful_shutdown=FLUSH,
        ))  # fmt: skip
        self.supervisor, self.admission, self.address, self.opened = supervisor, admission, address, opened
        self.until = math.inf

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, self._swap)
        print(say("cli.serve.ready", names=", ".join(self.supervisor.about), address=self.address), flush=True)
        if self.opened is not None:
            self.opened(self.address)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Let nobody more in; told a second time, stop at once."""
        self.should_exit = self.force_exit = self.admission.draining
        self.admission.draining, self.until = True, time.monotonic() + GRACE

    async def on_tick(self, counter: int) -> bool:
        """Ten times a second: whether to stop."""
        if self.admission.draining and (not self.admission.inside or time.monotonic() > self.until):
            self.supervisor.give_up(Refusal(503, "draining", headers=RETRY))
            self.should_exit = True
        return await super().on_tick(counter)

    def _swap(self) -> None:
        async def swap() -> None:
            if await self.supervisor.swap():
                print(say("cli.serve.swapped", names=", ".join(self.supervisor.about)), flush=True)

        self._swapping = asyncio.create_task(swap())


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
