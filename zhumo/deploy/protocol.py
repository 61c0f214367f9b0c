"""uvicorn's HTTP protocol, which turns away whom the server has no place for before there is a request object at all.

An overloaded server spends its time on those it refuses. What they are told was written beforehand, so a refusal costs
the parsing of a head and one write. All who were turned away since the last tick are told at the next one: who waits
for the answer and asks again at once cannot take more of the processor from the texts of those who were let in.
"""

import secrets
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from zhumo.deploy.admission import Admission
from zhumo.deploy.guard import HEADERS
from zhumo.deploy.refusals import Refusal, accepted_language
from zhumo.words import LANGUAGES

HEAD_LIMIT = 65_536  # bytes of a request's first line and headers
TICK = 0.02  # seconds between two times at which those are told who were turned away


class Protocol(HttpToolsProtocol):
    """One connection."""

    def __init__(self, *arguments: Any, admission: Admission, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self.admission = admission
        self.head: int | None = None  # bytes that have come of a head that is not whole yet, but for its first piece
        self.begun = False  # a head, in the piece in hand
        self.refused = False
        self.untold: tuple[bytes, bool] | None = None  # to whom was turned away, and whether the connection stays

    def data_received(self, data: bytes) -> None:
        """Take in no endless head."""
        self.begun = False
        super().data_received(data)
        if self.head is not None and not self.begun:
            self.head += len(data)
            if self.head > HEAD_LIMIT and not self.transport.is_closing():
                self._refuse_head()
        told = self.refused and self.untold is None
        if told and self.timeout_keep_alive_task is None:  # its body came after it was turned away
            wait = self.timeout_keep_alive
            self.timeout_keep_alive_task = self.loop.call_later(wait, self.timeout_keep_alive_handler)

    def on_message_begin(self) -> None:
        """A request begins."""
        self._tell()  # it may come on the heels of another that was turned away
        self._unset_keepalive_if_required()
        super().on_message_begin()
        self.head, self.begun, self.refused = 0, True, False

    def on_headers_complete(self) -> None:
        """Its head is whole: turn it away, or let the app see it."""
        self.head = None
        size = len(self.url) + sum(len(name) + len(value) for name, value in self.headers)
        free = self.cycle is None or self.cycle.response_complete
        if size > HEAD_LIMIT:
            self._refuse_head()
        elif (
            free and not self.expect_100_continue and self.admission.turns_away(self.parser.get_method(), self.headers)
        ):
            self.refused = True
            self.untold = self._refusal(503, "busy", self.admission.retry_after), self.parser.should_keep_alive()
            self.loop.call_at((self.loop.time() // TICK + 1) * TICK, self._tell)
        else:
            super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """Part of its body, which nobody reads of one who was turned away."""
        if not self.refused:
            super().on_body(body)

    def on_message_complete(self) -> None:
        """All of it is there."""
        if not self.refused:
            super().on_message_complete()

    def eof_received(self) -> None:
        """It will say no more, but may listen."""
        self._tell()
        super().eof_received()

    def send_400_response(self, msg: str) -> None:
        """What came is not HTTP."""
        self._tell()
        super().send_400_response(msg)

    def shutdown(self) -> None:
        """The server stops."""
        self._tell()
        super().shutdown()

    def _tell(self) -> None:
        """Tell whom was turned away, if nobody has."""
        if self.untold is None:
            return
        (refusal, stays), self.untold = self.untold, None
        if self.transport.is_closing():
            return
        if self.flow.write_paused:  # it asks and asks and reads nothing
            self.transport.abort()
            return
        self.transport.write(refusal)
        self.on_response_complete()
        if not stays:
            self.transport.close()

    def _refuse_head(self) -> None:
        self.refused = True
        self.transport.write(self._refusal(431, "head_too_large", b"1"))
        self.transport.close()

    def _refusal(self, status: int, key: str, retry_after: bytes) -> bytes:
        before, after = WRITTEN[status, key, accepted_language(self.headers)]
        name = secrets.token_hex(16).encode()
        return b"".join((before, retry_after, b"\r\nx-request-id: ", name, b"\r\n\r\n", after))


def _written(status: int, key: str, language: str) -> tuple[bytes, bytes]:
    """A whole response, but for how long to wait and its number."""
    response = Refusal(status, key, limit=HEAD_LIMIT).response(language)
    headers = {**response.headers, **HEADERS, "cache-control": "no-store"}
    lines = [f"HTTP/1.1 {status} Refused", *(f"{name}: {value}" for name, value in headers.items()), "retry-after: "]
    return "\r\n".join(lines).encode(), bytes(response.body)


WRITTEN = {
    (status, key, language): _written(status, key, language)
    for status, key in ((503, "busy"), (431, "head_too_large"))
    for language in LANGUAGES
}
