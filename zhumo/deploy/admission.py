"""Who may come in: decided from the head of a request alone, before a byte of its body is read.

In the order a request meets it: a name this server goes by (DNS rebinding), an origin that is its own (cross-site
requests), the key, its rate, whether the server stops, a body that is small enough, a free place, and a wait no longer
than the client's own patience. Only liveness and the console's static files are open, and they hold no data.
"""

import hashlib
import ipaddress
import math
import secrets
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from zhumo.deploy.meters import Meters
from zhumo.deploy.places import Pace, Places
from zhumo.deploy.refusals import Refusal
from zhumo.deploy.served import Answering

BODY_LIMIT = 4_000_000  # bytes
FILE_LIMIT = 20_000_000  # bytes of a file, which is what PUT brings
FILES = 4  # that come in at once
CROWD = 256  # requests of all kinds inside at once
WALL = 600.0  # seconds a request may take
PATIENCE = 30.0  # seconds a request may be expected to wait where its client does not say how long it would
LOOPBACK = frozenset(("localhost", "127.0.0.1", "::1"))
OPEN = frozenset(("/", "/health/live"))
LOOKING = frozenset(("/health/live", "/health/ready", "/metrics"))  # whoever looks after the server
SAFE_METHODS = frozenset(("GET", "HEAD"))


class Keys:
    """The keys, by their owners' names; kept only as hashes and compared in constant time."""

    def __init__(self, keys: Mapping[str, str]) -> None:
        self._salt = secrets.token_bytes(32)
        self._hashes = {name: self._digest(key.encode()) for name, key in keys.items()}

    def owner(self, authorization: bytes) -> str | None:
        """Whose key an Authorization header holds."""
        scheme, _, key = authorization.partition(b" ")
        digest, found = self._digest(key.strip()), None
        for name, own in self._hashes.items():
            found = name if secrets.compare_digest(digest, own) else found
        return found if scheme.lower() == b"bearer" else None

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


class Visit(NamedTuple):
    """A request that came in. owner: of its key; seconds: it may take; counted: it has one of the places; file: its
    body is a file and no JSON."""

    owner: str
    seconds: float
    counted: bool
    file: bool = False


class Admission:
    """hosts: names the server goes by besides loopback; "*": any bare address, for a server that listens on all of them
    (a bare address cannot be rebound). rate: requests a second with one key; 0: all."""

    def __init__(
        self, keys: Keys, engine: Answering, *, hosts: Iterable[str] = (), rate: float = 0,
        body_limit: int = BODY_LIMIT, crowd: int = CROWD,
    ) -> None:  # fmt: skip
        self.keys, self.engine, self.body_limit, self.crowd = keys, engine, body_limit, crowd
        self.hosts = LOOPBACK | {host.lower() for host in hosts}
        self.rate = rate
        self.meters = Meters()
        self.inside = self.files = 0
        self.draining = False
        self._buckets: dict[str, Bucket] = {}
        self._places = Places(sum(one["places"] for one in engine.capacity.values()))
        self._at_once = sum(one["at_once"] for one in engine.capacity.values())
        self._pace = Pace()
        self._turned_away = self.meters.shed.labels("busy")

    def enter(self, method: str, path: str, headers: Mapping[bytes, bytes]) -> Visit:
        """Let a request in; it is to `leave`.

        Raises:
            Refusal: 401, 403, 413, 429, 503, and why.
        """
        self._check_names(method, headers)
        free = method in SAFE_METHODS and (path in OPEN or path.startswith("/console/"))
        owner = "" if free else self._owner(headers)
        if self.draining and path not in LOOKING:
            raise self._shed("draining", Refusal(503, "draining", headers={"Retry-After": "1", "Connection": "close"}))
        length, file = headers.get(b"content-length", b"0"), method == "PUT"
        if not length.isdigit() or int(length[:19]) > self.limit(file):
            raise Refusal(413, "too_large", limit=self.limit(file))
        if self.inside >= self.crowd or (file and self.files >= FILES):
            raise self._busy("crowd")
        seconds = self._seconds(headers)
        counted = method not in SAFE_METHODS
        if counted:
            self._take(owner, min(seconds, PATIENCE))
        self.inside += 1
        self.files += file
        return Visit(owner, seconds, counted, file)

    def limit(self, file: bool) -> int:
        """Bytes that a body may have."""
        return FILE_LIMIT if file else self.body_limit

    def leave(self, visit: Visit, answered: bool) -> None:
        """A request is over. answered: as it wished."""
        self.inside -= 1
        self.files -= visit.file
        if visit.counted:
            self._places.leave(visit.owner)
            self._pace.end(answered)

    def turns_away(self, method: bytes, headers: Sequence[tuple[bytes, bytes]]) -> bool:
        """Whether a request with the key would find no place now: what `enter` would say, at a tenth of its price."""
        if method in (b"GET", b"HEAD") or len(self._places) < self._places.count:
            return False
        owner = self.keys.owner(dict(headers).get(b"authorization", b""))
        if owner is None or self._places.free(owner):
            return False
        self._turned_away.inc()
        return True

    @property
    def retry_after(self) -> bytes:
        """Seconds after which to ask again, as a header says it."""
        return b"%d" % max(1, math.ceil(self.wait))

    @property
    def wait(self) -> float:
        """Seconds that one more request would wait for its turn, as those before it have taken. How many tokens it
        will read and write nobody knows before it is read, so it counts as an average one."""
        return max(0, len(self._places) + 1 - self._at_once) * self._pace.seconds

    def _take(self, owner: str, patience: float) -> None:
        if self.wait > patience:
            raise self._busy("late")
        if not len(self._places):
            self._pace.begin()
        if not self._places.take(owner):
            raise self._busy("busy")

    def _busy(self, reason: str) -> Refusal:
        return self._shed(reason, Refusal(503, "busy", headers={"Retry-After": self.retry_after.decode()}))

    def _shed(self, reason: str, refusal: Refusal) -> Refusal:
        self.meters.shed.labels(reason).inc()
        return refusal

    def _owner(self, headers: Mapping[bytes, bytes]) -> str:
        if b"authorization" not in headers:
            raise Refusal(401, "no_key", headers={"WWW-Authenticate": "Bearer"})
        owner = self.keys.owner(headers[b"authorization"])
        if owner is None:
            raise Refusal(401, "invalid_api_key", headers={"WWW-Authenticate": "Bearer"})
        if self.rate and (seconds := self._buckets.setdefault(owner, Bucket(self.rate)).take()):
            after = {"Retry-After": str(math.ceil(seconds))}
            raise self._shed("rate", Refusal(429, "too_many", rate=f"{self.rate:g}", headers=after))
        return owner

    def _seconds(self, headers: Mapping[bytes, bytes]) -> float:
        told = headers.get(b"x-request-timeout")
        if told is None:
            return WALL
        try:
            seconds = float(told)
        except ValueError:
            seconds = math.nan
        if not seconds > 0:
            raise Refusal(400, "bad_timeout")
        return min(seconds, WALL)

    def _check_names(self, method: str, headers: Mapping[bytes, bytes]) -> None:
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


def _name(host: str) -> str:
    """The name of a Host header without its port."""
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.rpartition(":")[0] if ":" in host else host
