"""The desk over HTTP: what it knows, and its replies."""

import asyncio
import math
from collections.abc import Mapping
from typing import Annotated, Any

import numpy as np
from fastapi import FastAPI
from pydantic import Field

from zhumo.deploy.requests import Inner
from zhumo.deploy.served import Served
from zhumo.support.desk import SURE, Citation, Reply, readings, reply
from zhumo.support.library import Library
from zhumo.support.uploads import add_documents
from zhumo.words import say

MOST_QUESTIONS = 50
Text = Annotated[str, Field(min_length=1, max_length=2_000, pattern=r"\S")]


class AskDesk(Inner):
    """A visitor's question, with those before it."""

    questions: list[Text] = Field(
        min_length=1, max_length=MOST_QUESTIONS, description="What the visitor asked so far, the newest last."
    )
    sure: float = Field(
        SURE, ge=-100, le=100, description="Standard deviations by which it must come nearer than foreign questions."
    )


def add_desk(app: FastAPI, served: Mapping[str, Served], encoder: str, library: Library) -> None:
    """Add the desk's routes. encoder: the bundle that makes the vectors of questions; library: what it knows."""

    @app.get("/v1/desk")
    async def desk() -> dict[str, Any]:
        """What the desk knows, and how sure it is before it answers."""
        search = library.search
        return {"object": "desk", "model": encoder, "passages": search.size, "files": search.files, "sure": SURE}

    @app.post("/v1/desk/replies")
    async def replies(ask: AskDesk) -> dict[str, Any]:
        """The company's own words for a question, or a hand-over to a person."""
        asked = readings(ask.questions)
        answers, _ = await served[encoder].answer([{"text": text} for text in asked], written=False)
        vectors = np.array([answer["embedding"] for answer in answers], dtype=np.float32)
        return shown(await asyncio.to_thread(reply, library.search, asked, vectors, ask.sure))

    add_documents(app, served, encoder, library)


def shown(said: Reply) -> dict[str, Any]:
    """A reply as JSON; a hand-over is put into words in the asker's language."""
    return {
        "object": "desk.reply",
        "kind": said.kind,
        "text": said.text or say("desk.handover", said.language),
        "sureness": said.sureness if math.isfinite(said.sureness) else None,
        "asked": said.asked,
        "language": said.language,
        "citations": list(map(_shown, said.citations)),
    }


def _shown(citation: Citation) -> dict[str, Any]:
    passage = citation.passage
    return {"file": passage.file, "headings": list(passage.headings), "text": passage.text, "start": citation.start,
            "end": citation.end, "also": [file for file, _ in passage.also]}  # fmt: skip
