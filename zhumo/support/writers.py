"""Generators that choose an answer's words: a causal bundle that is served, or an address that speaks OpenAI's way.

Which one is said on the command line alone. To an address goes the question, its personal data covered, and the cited
passages; it is asked once, for a short time and a short answer, and sent nowhere else by it.
"""

import asyncio
import http.client
import json
import os
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import urlsplit

from zhumo.deploy.refusals import Refusal
from zhumo.deploy.served import Served
from zhumo.errors import SourceError, nearest
from zhumo.support.search import Language, language_of
from zhumo.support.wording import Writer, WritingError

KEY = "ZHUMO_WORDING_KEY"
WAIT = 10.0  # seconds
TOKENS = 256  # of an answer
READ = 4_000  # letters of passages that are shown to a generator
BYTES = 1 << 16  # of a response
AT_ONCE = 4  # questions to an address
ASKED: Mapping[Language, str] = {
    "en": "Answer the question with sentences of the passages, word for word: only those that answer it, and nothing "
    "else.\n\nPassages:\n{passages}\n\nQuestion: {question}",
    "zh": "请用资料中的原句回答问题，一字不改，只写回答问题的句子，不写别的。\n\n资料：\n{passages}\n\n"
    "问题：{question}",
}


def writer_of(place: str, served: Mapping[str, Served]) -> Writer:
    """The generator that a bundle's name, or ADDRESS#MODEL, names.

    Raises:
        SourceError: there is no such bundle, or the address lacks its model.
    """
    if place.startswith(("http://", "https://")):
        return _Address(place)
    bundles = [name for name, one in served.items() if one.task == "write"]
    if place not in bundles:
        raise SourceError("support.wording", place=place, near=nearest(place, bundles) or "-")
    return _Bundle(served[place])


def messages(question: str, passages: Sequence[str]) -> list[dict[str, str]]:
    """The chat that asks a generator for an answer out of passages."""
    shown = "\n\n".join(passages)[:READ]
    return [{"role": "user", "content": ASKED[language_of(question)].format(passages=shown, question=question)}]


class _Bundle:
    def __init__(self, served: Served) -> None:
        self.served = served

    async def write(self, question: str, passages: Sequence[str]) -> str:
        row = {"messages": messages(question, passages), "max_tokens": TOKENS, "temperature": 0.0}
        try:
            async with asyncio.timeout(WAIT):
                [answer], _ = await self.served.answer([row], written=True)
        except (Refusal, TimeoutError) as error:
            raise WritingError(type(error).__name__) from error
        text: str = answer["text"]
        return text


class _Address:
    """Follows no redirection, takes no proxy from the environment, and reads no more than it must."""

    def __init__(self, address: str) -> None:
        try:
            parts = urlsplit(address)
            port = parts.port
        except ValueError as error:
            raise SourceError("support.wording_address", address=address) from error
        if not parts.hostname or not parts.fragment or parts.username or parts.query:
            raise SourceError("support.wording_address", address=address)
        kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        self._kind, self._host, self._port = kind, parts.hostname, port
        self._path, self._model = f"{parts.path.rstrip('/')}/chat/completions", parts.fragment
        self._threads = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="wording")
        self._asking = 0

    async def write(self, question: str, passages: Sequence[str]) -> str:
        if self._asking == AT_ONCE:  # those before may be stuck, and a quoted answer waits for nobody
            raise WritingError("busy")
        asked = {"model": self._model, "messages": messages(question, passages), "max_tokens": TOKENS,
                 "temperature": 0}  # fmt: skip
        self._asking += 1
        work = asyncio.get_running_loop().run_in_executor(self._threads, self._ask, json.dumps(asked).encode())
        work.add_done_callback(self._asked)
        try:
            async with asyncio.timeout(WAIT):
                return await asyncio.shield(work)
        except (OSError, ValueError, LookupError, TypeError, RecursionError, http.client.HTTPException) as error:
            raise WritingError(type(error).__name__) from error

    def _asked(self, work: "asyncio.Future[str]") -> None:
        self._asking -= 1
        if not work.cancelled():
            work.exception()  # whoever waited has been told, or has gone

    def _ask(self, body: bytes) -> str:
        until = time.monotonic() + WAIT
        headers = {"Content-Type": "application/json", "Accept": "application/json", "Connection": "close"}
        if key := os.environ.get(KEY):
            headers["Authorization"] = f"Bearer {key}"
        connection = self._kind(self._host, self._port, timeout=WAIT)
        try:
            connection.request("POST", self._path, body, headers)
            response = connection.getresponse()
            if response.status != http.HTTPStatus.OK:
                raise ValueError(f"status {response.status}")
            read = bytearray()
            while part := response.read1(BYTES):
                read += part
                if len(read) > BYTES or time.monotonic() > until:
                    raise ValueError("too long")
        finally:
            connection.close()
        told: Any = json.loads(read)
        text = told["choices"][0]["message"]["content"]
        if not isinstance(text, str):
            raise TypeError("no text")
        return text
