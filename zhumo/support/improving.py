"""Improvement over HTTP: start it, see what became of it, let a passed trial serve, and go back."""

import asyncio
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Collection, Sequence
from typing import Any

from fastapi import FastAPI

from zhumo.deploy.refusals import Refusal
from zhumo.deploy.served import Served
from zhumo.support.agents import agent
from zhumo.support.versions import Versions

Json = dict[str, Any]
NICE = 10  # of the process that learns, so that the one that answers goes first


class Flywheel:
    """At most one improvement at a time, in a process of its own. options: of `zhumo improve`, beside the bundle."""

    def __init__(self, versions: Versions, options: Sequence[str]) -> None:
        self.versions, self.options = versions, options
        self._log = versions.home / "improve.log"
        self._process: subprocess.Popen[bytes] | None = None
        self._newest = 0
        self._starting = threading.Lock()

    @property
    def running(self) -> bool:
        """Whether one is under way."""
        return self._process is not None and self._process.poll() is None

    @property
    def problem(self) -> str | None:
        """Why the last one came to no gate; None where it did, or where there was none."""
        if self._process is None or self.running or self._last() > self._newest:
            return None
        lines = self._log.read_text(encoding="utf-8", errors="replace").split("\n")
        return next((line for line in reversed(lines) if line.strip()), "-")

    def start(self) -> None:
        """Start one.

        Raises:
            Refusal: 409, one is under way.
        """
        with self._starting:
            if self.running:
                raise Refusal(409, "improving")
            self._newest = self._last()
            command = [sys.executable, "-P", "-m", "zhumo", "improve", str(self.versions.bundle), *self.options]
            with self._log.open("wb") as log:
                self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
            os.setpriority(os.PRIO_PROCESS, self._process.pid, NICE)

    def close(self) -> None:
        """Give up the one under way."""
        if self._process is not None and self.running:
            self._process.terminate()
            self._process.wait()

    def _last(self) -> int:
        """The newest trial that came to its end, 0 where none did."""
        return next(reversed(self.versions.trials()), 0)


def add_improving(app: FastAPI, served: Served, flywheel: Flywheel, agents: Collection[str]) -> None:
    """Add the routes. served: the bundle that is improved; agents: the owners of keys who are agents."""
    versions, turn = flywheel.versions, asyncio.Lock()

    @app.get("/v1/desk/models")
    def models() -> Json:
        """Which version serves and which stood before, 0 the bundle as it was made; the last trial with its gate's
        words; and whether one is under way."""
        agent(agents)
        trials = versions.trials()
        return {
            "object": "desk.models", "model": served.name, "serves": versions.now, "before": versions.before,
            "trial": versions.trial(trials[-1]) if trials else None, "promotes": versions.passed is not None,
            "running": flywheel.running, "problem": flywheel.problem,
        }  # fmt: skip

    @app.post("/v1/desk/improve")
    def improve() -> Json:
        """Learn from the accepted corrections, in a process beside; GET /v1/desk/models says what became of it."""
        agent(agents)
        flywheel.start()
        return models()

    @app.post("/v1/desk/promote")
    async def promote() -> Json:
        """Let the last trial serve, if its gate held; answers when it does."""
        return await _change(versions.promote)

    @app.post("/v1/desk/rollback")
    async def rollback() -> Json:
        """Let the version before serve again; answers when it does."""
        return await _change(versions.back)

    async def _change(change: Callable[[], int]) -> Json:
        agent(agents)
        await asyncio.shield(asyncio.ensure_future(_swapped(change)))
        return await asyncio.to_thread(models)

    async def _swapped(change: Callable[[], int]) -> None:
        async with turn:
            was, well = versions.now, False
            change()
            try:
                well = await served.engine.swap()
            finally:
                if not well:
                    versions.point(was)
        if not well:
            raise Refusal(503, "not_swapped")
