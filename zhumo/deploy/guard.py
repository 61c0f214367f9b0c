"""The wall before the router: pure ASGI, so nothing of a request is parsed before it may come in. Deny by default.

In the order a request meets it: a name this server goes by (DNS rebinding), an origin that is its own (cross-site
requests), the key, its rate, a free place, a body that is small, prompt and shallow. Only liveness and the console's
static files are open, and they hold no data.
"""

import asyncio
import hashlib
import ipaddress
import logging
import math
import re
import secrets
import time
from collections.abc import Iterable

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from zhumo.deploy.meters import Meters
from zhumo.deploy.refusals import Refusal, accepted_language
from zhumo.deploy.worker import RETRY_AFTER

BODY_LIMIT = 4_000_000  # bytes
DEPTH_LIMIT = 32  # JSON arrays and objects inside each other
PATIENCE = 10.0  # seconds a whole body may take
CROWD = 256  # requests inside at once
LOOPBACK = frozenset(("localhost", "127.0.0.1", "::1"))
OPEN = frozenset(("/", "/health/live"))
SAFE_METHODS = frozenset(("GET", "HEAD"))
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


class Key:
    """The server's key, kept only as a hash and compared in constant time."""

    def __init__(self, key: str) -> None:
        self._salt = secrets.token_bytes(32)
        self._hash = self._digest(key.encode())

    def opens(self, authorization: bytes) -> bool:
        """Whether an Authorization header holds the key."""
        scheme, _, key = authorization.partition(b" ")
        return secrets.compare_digest(self._digest(key.strip()), self._hash) and scheme.lower() == b"bearer"

    def _digest(self, key: bytes) -> bytes:
        return hashlib.blake2b(key, key=self._salt).digest()


class Bucket:
    """A token bucket: `rate` requests a second in the long run, and up to a second's worth at once."""

    def __init__(self, rate: float) -> None:
        self.rate, self.most = rate, max(1.0, rate)
        self.left, self.at = self.most, time.monotonic()

    def take(self) -> float:
        """Take a place; 0 where there was one, else the seconds until there is."""
        now = time.monotonic()
        self.left, self.at = min(self.most, self.left + (now - self.at) * self.rate), now
        if self.left < 1:
            return (1 - self.left) / self.rate
        self.left -= 1
        return 0.0


class Guard:
    """The ASGI middleware. hosts: names the server goes by besides loopback; "*": any bare address, for a server that
    listens on all of them (a bare address cannot be rebound). rate: requests a second with the key; 0: all."""

    def __init__(
        self, app: ASGIApp, *, key: str, meters: Meters, hosts: Iterable[str] = (),
        body_limit: int = BODY_LIMIT, patience: float = PATIENCE, crowd: int = CROWD, rate: float = 0,
    ) -> None:  # fmt: skip
        self.app, self.meters, self.hosts = app, meters, LOOPBACK | {host.lower() for host in hosts}
        self.key, self.body_limit, self.patience, self.crowd = Key(key), body_limit, patience, crowd
        self.bucket = Bucket(rate) if rate else None
        self.inside = 0

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

        self.inside += 1
        try:
            await self._admit(scope, receive, dressed)
        except Refusal as refusal:
            await refusal.response(accepted_language(scope["headers"]))(scope, receive, dressed)
        except Exception:  # the last line: whatever failed inside is logged here and told without its details
            log.exception("request %s failed", name)
            if status:
                raise
            await Refusal(500, "failed", id=name).response(accepted_language(scope["headers"]))(scope, receive, dressed)
        finally:
            self.inside -= 1
            self.meters.answered(getattr(scope.get("route"), "path", "other"), status, time.perf_counter() - started)

    async def _admit(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers: dict[bytes, bytes] = dict(scope["headers"])
        path = scope["path"].removeprefix(scope.get("root_path", ""))
        self._check_names(scope["method"], headers)
        if not (scope["method"] in SAFE_METHODS and (path in OPEN or path.startswith("/console/"))):
            if b"authorization" not in headers:
                raise Refusal(401, "no_key", headers={"WWW-Authenticate": "Bearer"})
            if not self.key.opens(headers[b"authorization"]):
                raise Refusal(401, "invalid_api_key", headers={"WWW-Authenticate": "Bearer"})
            if self.bucket is not None and (seconds := self.bucket.take()):
                self.meters.shed.labels("rate").inc()
                after = {"Retry-After": str(math.ceil(seconds))}
                raise Refusal(429, "too_many", rate=f"{self.bucket.rate:g}", headers=after)
        if self.inside > self.crowd:
            self.meters.shed.labels("crowd").inc()
            raise Refusal(503, "busy", headers={"Retry-After": RETRY_AFTER})
        await self.app(scope, await self._body(headers, receive), send)

    def _check_names(self, method: str, headers: dict[bytes, bytes]) -> None:
        host = headers.get(b"host", b"").decode("latin-1").lower()
        if not self._is_ours(_name(host)):
            raise Refusal(403, "host", host=host[:100])
        origin = headers.get(b"origin")
        foreign = origin is not None and origin.decode("latin-1").lower().partition("://")[2] != host
        if method not in SAFE_METHODS and (foreign or headers.get(b"sec-fetch-site") in (b"cross-site", b"same-site")):
            raise Refusal(403, "origin")

    def _is_ours(self, name: str) -> bool:
        if name in self.hosts or "*" not in self.hosts:
            return name in self.hosts
        try:
            return bool(ipaddress.ip_address(name))
        except ValueError:
            return False

    async def _body(self, headers: dict[bytes, bytes], receive: Receive) -> Receive:
        """Take the whole body in, within limits, and hand it on as one message.

        Raises:
            Refusal: 413 too large, 408 too slow, 400 too deep.
        """
        length = headers.get(b"content-length", b"0")
        if not length.isdigit() or int(length[:19]) > self.body_limit:
            raise Refusal(413, "too_large", limit=self.body_limit)
        try:
            async with asyncio.timeout(self.patience):
                body = await self._read(receive)
        except TimeoutError as error:
            raise Refusal(408, "too_slow", seconds=self.patience, headers={"Connection": "close"}) from error
        if body is None:
            return receive
        if depth(body) > DEPTH_LIMIT:
            raise Refusal(400, "too_deep", limit=DEPTH_LIMIT)
        messages: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

        async def replay() -> Message:
            return messages.pop() if messages else await receive()

        return replay

    async def _read(self, receive: Receive) -> bytes | None:
        body = bytearray()
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                return None
            body += message.get("body", b"")
            if len(body) > self.body_limit:
                raise Refusal(413, "too_large", limit=self.body_limit, headers={"Connection": "close"})
            if not message.get("more_body", False):
                return bytes(body)


def _name(host: str) -> str:
    """The name of a Host header without its port."""
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.rpartition(":")[0] if ":" in host else host


def depth(body: bytes) -> int:
    """How deep brackets stand in each other, those in strings not counted."""
    deepest = now = 0
    for bracket in _BRACKETS.findall(_STRINGS.sub(b"", body)):
        now += 1 if bracket in b"[{" else -1
        deepest = max(deepest, now)
    return deepest
