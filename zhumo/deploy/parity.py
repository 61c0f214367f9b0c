"""The parity gate: what is served is what was measured, or there is no bundle.

A real server is started from the finished folder and asked evaluated rows again over HTTP, one at a time, as a client
would. Words, labels and order must be the same; numbers may differ by what adding in another order makes of them.
"""

import http.client
import json
import math
import os
import re
import secrets
import select
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from zhumo.deploy.routes import route_of
from zhumo.errors import GateError
from zhumo.tasks import Answer, Row

TOLERANCE = 1e-4  # of fp32 scores
START = 300.0  # seconds a server may take to load its bundle
STOP = 60.0  # seconds it may take to end
SHOWN = 400  # characters of an answer in an error


def check(folder: Path, task: str, rows: Sequence[Row], answers: Sequence[Answer], limit: int) -> dict[str, Any]:
    """Ask `limit` rows, spread over all, and compare; returns what goes into `parity.json`.

    Raises:
        GateError: the server does not start, refuses a row, or answers one otherwise than evaluated.
    """
    began, largest, chosen = time.monotonic(), 0.0, spread(len(rows), limit)
    with served([folder]) as server:
        name = server.get("/v1/models")["data"][0]["id"]
        for index in chosen:
            route = route_of(task, rows[index])
            found = route.answer(server.post(route.path, {"model": name, **route.request(rows[index])}, index))
            evaluated = {key: value for key, value in answers[index].items() if not route.told or key in route.told}
            apart = difference(evaluated, found)
            if not apart <= TOLERANCE:
                raise GateError("parity.differs", row=index + 1, difference="" if math.isinf(apart) else f"{apart:.1e}",
                                evaluated=_short(evaluated), served=_short(found))  # fmt: skip
            largest = max(largest, apart)
    return {"rows": len(chosen), "of": len(rows), "largest_difference": largest, "tolerance": TOLERANCE,
            "seconds": round(time.monotonic() - began, 3)}  # fmt: skip


def spread(count: int, limit: int) -> list[int]:
    """Which of `count` rows are asked: up to `limit`, spread over all."""
    return [count * place // min(limit, count) for place in range(min(limit, count))]


def difference(evaluated: Any, found: Any) -> float:
    """The largest difference between two answers' numbers, relative above 1; infinite where anything else differs."""
    if isinstance(evaluated, dict) and isinstance(found, dict):
        if evaluated.keys() != found.keys():
            return math.inf
        return max((difference(value, found[key]) for key, value in evaluated.items()), default=0.0)
    if isinstance(evaluated, list) and isinstance(found, list):
        if len(evaluated) != len(found):
            return math.inf
        if evaluated and isinstance(evaluated[0], dict) and {"id", "score"} <= evaluated[0].keys():
            return _ranking(evaluated, found)
        return max((difference(one, other) for one, other in zip(evaluated, found, strict=True)), default=0.0)
    if isinstance(evaluated, int | float) and isinstance(found, int | float) and not isinstance(evaluated, bool):
        return float(abs(evaluated - found) / max(1.0, abs(evaluated)))
    same: bool = evaluated == found
    return 0.0 if same else math.inf


def _ranking(evaluated: Sequence[Answer], found: Sequence[Answer]) -> float:
    """Two rankings agree where each place has the same score, and whoever stands at another place, or fell out at the
    end, has the score of that place: only near-ties may have swapped."""
    scores: float = max(abs(one["score"] - other["score"]) for one, other in zip(evaluated, found, strict=True))
    known = {item["id"]: item for item in evaluated}
    last = evaluated[-1]["score"]
    items = (difference(known.get(item["id"], {**item, "score": last}), item) for item in found)
    return max(scores, *items)


def _short(answer: Answer) -> str:
    return json.dumps(answer, ensure_ascii=False)[:SHOWN]


class Server:
    """A running server on loopback."""

    def __init__(self, port: int, key: str) -> None:
        self.port, self.key = port, key
        self.headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}

    def get(self, path: str) -> Any:
        """The JSON at a path."""
        return self._ask("GET", path, None, -1)

    def post(self, path: str, body: dict[str, Any], row: int) -> Any:
        """The JSON that answers a body; row: whose it is, for an error."""
        return self._ask("POST", path, json.dumps(body), row)

    def request(self, method: str, path: str, body: str | None = None) -> http.client.HTTPResponse:
        """The raw response, over a connection of its own."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=START)
        connection.request(method, path, body, self.headers)
        return connection.getresponse()

    def _ask(self, method: str, path: str, body: str | None, row: int) -> Any:
        response = self.request(method, path, body)
        answer = json.loads(response.read())
        if response.status != http.HTTPStatus.OK:
            raise GateError("parity.refused", row=row + 1, path=path, problem=answer["error"]["message"])
        return answer


@contextmanager
def served(folders: Sequence[Path]) -> Iterator[Server]:
    """A server of bundles as a child process; it ends with the block, and with this process however that ends.

    Raises:
        GateError: it does not start.
    """
    key = secrets.token_urlsafe(24)
    with tempfile.TemporaryFile("w+", encoding="utf-8") as log, subprocess.Popen(
        [sys.executable, "-P", "-m", "zhumo.deploy", *map(str, folders)], env={**os.environ, "ZHUMO_KEY": key},
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True,
    ) as process:  # fmt: skip
        assert process.stdin is not None
        try:
            yield Server(_port(process, log), key)
        finally:
            process.stdin.close()  # the server takes this for a farewell
            try:
                process.wait(STOP)
            except subprocess.TimeoutExpired:
                process.kill()


def _port(process: subprocess.Popen[str], log: Any) -> int:
    """The port a server says it listens on."""
    assert process.stdout is not None
    ready, _, _ = select.select([process.stdout], [], [], START)
    found = re.search(r"http://127\.0\.0\.1:(\d+)/", process.stdout.readline()) if ready else None
    if found is None:
        process.kill()
        log.seek(0)
        raise GateError("parity.no_start", problem=(log.read().strip().splitlines() or ["-"])[-1][:SHOWN])
    return int(found[1])
