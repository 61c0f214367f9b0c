"""The documents of a desk over HTTP: what there is, uploads, and their deletion.

An upload lives in the knowledge file and nowhere else: no name from a request ever becomes a path. What lies in the
folder is its owner's to change.
"""

import asyncio
from collections.abc import Collection, Mapping, Sequence
from typing import Annotated, Any

import numpy as np
from fastapi import FastAPI, Path, Request

from zhumo.deploy.admission import FILE_LIMIT
from zhumo.deploy.refusals import Refusal, accepted_language
from zhumo.deploy.served import Served
from zhumo.sources.documents import KINDS
from zhumo.support.agents import agent
from zhumo.support.knowledge import FAQ, LONGEST_NAME, Encode, Held
from zhumo.support.library import Library

MOST_UPLOADS = 1_000
AT_ONCE = 8  # texts in one question to the engine: what visitors ask meanwhile waits for no more
FILE = {"requestBody": {"required": True, "content": {"application/octet-stream": {
    "schema": {"type": "string", "format": "binary", "maxLength": FILE_LIMIT}}}}}  # fmt: skip
Name = Annotated[str, Path(min_length=1, max_length=LONGEST_NAME, description="A file name without folders.")]


def add_documents(
    app: FastAPI, served: Mapping[str, Served], encoder: str, library: Library, agents: Collection[str]
) -> None:
    """Add the routes of documents. encoder: the bundle that makes the vectors; library: what is known; agents: the
    owners of keys who are agents, and only they may."""
    turn = asyncio.Lock()  # one change at a time, and no thread waits for another's

    @app.get("/v1/desk/documents")
    async def documents(request: Request) -> dict[str, Any]:
        """Every document that the agent is answered from, and those of the folder that could not be read, with why."""
        search = await asyncio.to_thread(library.search_of, agent(agents))
        seen = {file for one in search.passages for file in (one.file, *(other for other, _ in one.also))}
        language = accepted_language(request.scope["headers"])
        bad = [{"file": one.path, "problem": one.error.say(language)} for one in library.problems]
        return {"object": "list", "data": [_shown(one) for one in library.files if one.path in seen], "problems": bad,
                "kinds": list(KINDS), "most_bytes": FILE_LIMIT}  # fmt: skip

    @app.put("/v1/desk/documents/{name}", openapi_extra=FILE)
    async def upload(name: Name, request: Request) -> dict[str, Any]:
        """Take a file in, instead of an earlier upload of that name; only it is read and made into vectors."""
        agent(agents)
        content, encode = await request.body(), passage_encoder(served[encoder])
        async with turn:
            mine = {one.path for one in library.files if _uploaded(one)}
            if name not in mine and len(mine) >= MOST_UPLOADS:
                raise Refusal(409, "uploads_full", most=MOST_UPLOADS)
            return _shown(await asyncio.to_thread(library.add, name, content, encode))

    @app.delete("/v1/desk/documents/{name}")
    async def delete(name: Name) -> dict[str, Any]:
        """Forget an upload, down to its bytes."""
        agent(agents)
        async with turn:
            if any(one.path == name and _uploaded(one) for one in library.files):
                await asyncio.to_thread(library.remove, name)
            elif not await asyncio.to_thread(library.purge):  # what is asked for again, as a reader was in the way
                raise Refusal(404, "no_upload", param="name", name=name)
        return {"object": "desk.document", "file": name, "deleted": True}


def passage_encoder(one: Served) -> Encode:
    """What makes vectors of passages with a bundle that is served; to be called from another thread than the loop's."""
    loop = asyncio.get_running_loop()

    async def vectors(texts: Sequence[str]) -> np.ndarray:
        known: dict[str, list[float]] = {}
        different = list(dict.fromkeys(texts))
        for start in range(0, len(different), AT_ONCE):
            part = different[start : start + AT_ONCE]
            [answer], _ = await one.answer([{"text": "", "matches": part}], written=False)
            known |= zip(part, [answer["match_embedding"], *answer.get("match_embeddings", ())], strict=True)
        return np.array([known[text] for text in texts], dtype=np.float32)

    return lambda texts: asyncio.run_coroutine_threadsafe(vectors(texts), loop).result()


def _uploaded(one: Held) -> bool:
    """Whether it is an upload, and not what agents answered."""
    return one.uploaded and one.path != FAQ


def _shown(one: Held) -> dict[str, Any]:
    return {"object": "desk.document", "file": one.path, "title": one.title, "passages": one.passages,
            "merged": one.merged, "uploaded": _uploaded(one), "read": one.read}  # fmt: skip
