"""The wall before the router: pure ASGI, so nothing of a request is parsed before it may come in. Deny by default.

Who may come in is decided by `Admission`; what is left to do here is a body that is small, prompt and shallow, and the
headers, the name and the last word of every answer.
"""

import asyncio
import logging
import re
import secrets
import time
from http import HTTPStatus

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from zhumo.deploy.admission import Admission
from zhumo.deploy.refusals import Refusal, accepted_language
from zhumo.deploy.served import CALLER, Caller

DEPTH_LIMIT = 32  # JSON arrays and objects inside each other
PATIENCE = 10.0  # seconds a whole body may take
HEADERS = {
    "content-security-policy": "default-src 'self'; base-uri 'none'; object-src 'none'; form-action 'none'; "
    "frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
}
_STRINGS = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"?', re.DOTALL)
_BRACKETS = re.compile(rb"[\[\]{}]")

log = logging.getLogger("zhumo.serve")


class Guard:
    """The ASGI middleware. patience: seconds a whole body may take."""

    def __init__(self, app: ASGIApp, *, admission: Admission, patience: float = PATIENCE) -> None:
        self.app, self.admission, self.patience = app, admission, patience

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
        else:
            await self._http(scope, receive, send)

    async def _http(self, scope: Scope, receive: Receive, send: Send) -> None:
        started, name, status = time.perf_counter(), secrets.token_hex(16), 0

        async def dressed(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                for header, value in (*HEADERS.items(), ("x-request-id", name)):
                    headers[header] = value
                headers.setdefault("cache-control", "no-store")
            await send(message)

        visit = None
        try:
            path = scope["path"].removeprefix(scope.get("root_path", ""))
            visit = self.admission.enter(scope["method"], path, dict(scope["headers"]))
            CALLER.set(Caller(visit.owner, asyncio.get_running_loop().time() + visit.seconds))
            await self.app(scope, await self._body(receive, min(self.patience, visit.seconds), visit.file), dressed)
        except Refusal as refusal:
            await refusal.response(accepted_language(scope["headers"]))(scope, receive, dressed)
        except Exception:  # the last line: whatever failed inside is logged here and told without its details
            log.exception("request %s failed", name)
            if status:
                raise
            await Refusal(500, "failed", id=name).response(accepted_language(scope["headers"]))(scope, receive, dressed)
        finally:
            if visit is not None:
                self.admission.leave(visit, status == HTTPStatus.OK)
            route = getattr(scope.get("route"), "path", "other")
            self.admission.meters.answered(route, status, time.perf_counter() - started)

    async def _body(self, receive: Receive, patience: float, file: bool) -> Receive:
        """Take the whole body in, within limits, and hand it on as one message. file: it is no JSON.

        Raises:
            Refusal: 413 too large, 408 too slow, 400 too deep.
        """
        try:
            async with asyncio.timeout(patience):
                body = await self._read(receive, self.admission.limit(file))
        except TimeoutError as error:
            raise Refusal(408, "too_slow", seconds=patience, headers={"Connection": "close"}) from error
        if body is None:
            return receive
        if not file and depth(body) > DEPTH_LIMIT:
            raise Refusal(400, "too_deep", limit=DEPTH_LIMIT)
        messages: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

        async def replay() -> Message:
            return messages.pop() if messages else await receive()

        return replay

    async def _read(self, receive: Receive, limit: int) -> bytes | None:
        body = bytearray()
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                return None
            body += message.get("body", b"")
            if len(body) > limit:
                raise Refusal(413, "too_large", limit=limit, headers={"Connection": "close"})
            if not message.get("more_body", False):
                return bytes(body)


def depth(body: bytes) -> int:
    """How deep brackets stand in each other, those in strings not counted."""
    deepest = now = 0
    for bracket in _BRACKETS.findall(_STRINGS.sub(b"", body)):
        now += 1 if bracket in b"[{" else -1
        deepest = max(deepest, now)
    return deepest
