"""The desk over HTTP: what it knows, and its replies."""

import asyncio
import logging
import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from fastapi import FastAPI, Request
from fastapi.responses import Response
from pydantic import BeforeValidator, Field, field_validator

from zhumo.deploy.refusals import Refusal, on_error, on_refusal
from zhumo.deploy.requests import Inner
from zhumo.deploy.served import CALLER, Begin, Follow, Served
from zhumo.errors import SourceError, ZhumoError
from zhumo.privacy import mask_all
from zhumo.support.agents import add_agents, add_visitors, plain, quoted, searched
from zhumo.support.desk import SHOWN, SURE, Found, Intent, Reply, found, intent_of, readings, replied
from zhumo.support.faq import publish
from zhumo.support.improving import Flywheel, add_improving
from zhumo.support.library import Library
from zhumo.support.search import Search
from zhumo.support.tickets import Tickets, TicketsError
from zhumo.support.uploads import AT_ONCE, add_documents, passage_encoder
from zhumo.support.wording import worded
from zhumo.support.writers import writer_of
from zhumo.tasks.pairs import WEIGHED
from zhumo.words import say

log = logging.getLogger("zhumo.serve")

MOST_QUESTIONS = 50
PATIENCE = 1.0  # seconds that a reply waits to hear what its question is about
Text = Annotated[str, Field(min_length=1, max_length=2_000), BeforeValidator(plain)]


class AskDesk(Inner):
    """A visitor's question, with those before it. Personal data is covered before anything is done with them."""

    questions: list[Text] = Field(
        min_length=1, max_length=MOST_QUESTIONS, description="What the visitor asked so far, the newest last."
    )
    sure: float = Field(
        SURE, ge=-100, le=100, description="Standard deviations by which it must come nearer than foreign questions."
    )
    talk: str | None = Field(
        None, min_length=1, max_length=64, description="The id of a reply of this talk, where replies are kept."
    )

    @field_validator("questions")
    @classmethod
    def _covered(cls, questions: list[str]) -> list[str]:
        return mask_all(questions)[0]


def add_desk(
    app: FastAPI, served: Mapping[str, Served], encoder: str, library: Library, *, tickets: Tickets | None = None,
    agents: Collection[str] = ("",), follow: Follow | None = None, flywheel: Flywheel | None = None,
    wording: str | None = None,
) -> None:  # fmt: skip
    """Add the desk's routes. encoder: the bundle that makes the vectors of questions; library: what it knows; tickets:
    where replies are kept, if they are; agents: the owners of keys who are agents; follow: makes the library ready for
    another encoder; flywheel: what improves the bundle, if it is improved; wording: the generator that chooses words, a
    bundle or ADDRESS#MODEL. Where a reranker is served as well, it puts in order what was found; where a classifier is,
    it says what each question is about.

    Raises:
        SourceError: there is no such generator.
    """
    writer = None if wording is None else writer_of(wording, served)
    reranker, classifier = (
        next((one for one in served.values() if one.task == task), None) for task in ("rerank", "classify")
    )

    async def encode(texts: Sequence[str]) -> np.ndarray:
        vectors: list[list[float]] = []
        for start in range(0, len(texts), AT_ONCE):
            part = texts[start : start + AT_ONCE]
            answers, _ = await served[encoder].answer([{"text": text} for text in part], written=False)
            vectors += [answer["embedding"] for answer in answers]
        return np.array(vectors, dtype=np.float32)

    @app.get("/v1/desk")
    async def desk() -> dict[str, Any]:
        """What the desk knows, and how sure it is before it answers."""
        search = await searched(library)
        return {
            "object": "desk", "model": encoder, "passages": search.size, "files": search.files, "sure": SURE,
            "kept": tickets is not None, "agent": CALLER.get().name in agents,
            "improves": flywheel is not None,
        }  # fmt: skip

    @app.post("/v1/desk/replies")
    async def replies(ask: AskDesk) -> dict[str, Any]:
        """The company's own words for a question, or a hand-over to a person."""
        asked = readings(ask.questions)
        search = await searched(library)
        near = await asyncio.to_thread(found, search, asked, await encode(asked), WEIGHED if reranker else SHOWN)
        about = asyncio.create_task(_about(near.asked, classifier)) if classifier else None
        near = await _ordered(near, reranker) if reranker and near.hits else near
        said = await asyncio.to_thread(replied, near, ask.sure)
        said = await worded(said, writer) if writer is not None and said.kind == "answer" else said
        said = replace(said, intent=await about) if about else said
        return shown(said) | (await asyncio.to_thread(_kept, tickets, search, ask, said) if tickets else {})

    app.add_exception_handler(SourceError, _on_lost)
    add_documents(app, served, encoder, library, agents)
    if follow is not None:
        served[encoder].engine.followers.append(follow)
    if tickets is not None:
        add_visitors(app, tickets)

        publishing, later = asyncio.Lock(), set[asyncio.Task[None]]()

        async def published() -> None:
            async with publishing:  # who read the store first would else write last what was refused since
                await asyncio.to_thread(publish, tickets, library, passage_encoder(served[encoder]))

        async def again() -> Begin:
            return begin

        def begin() -> None:
            task = asyncio.create_task(republished())
            later.add(task)
            task.add_done_callback(later.discard)

        async def republished() -> None:
            """What was reviewed while the encoder changed could not be published then."""
            try:
                await published()
            except ZhumoError as error:
                log.error("what agents answered is not all known: %s", error)

        if follow is not None:
            served[encoder].engine.followers.append(again)
        add_agents(app, tickets, library, encode, published, agents)
    if flywheel is not None:
        add_improving(app, served[encoder], flywheel, agents)


async def _ordered(near: Found, reranker: Served) -> Found:
    """What was found, in the order in which a reranker takes it to answer; as it is where that has no time."""
    documents = [hit.passage.full for hit in near.hits]
    try:
        [answer], _ = await reranker.answer([{"text": near.asked, "documents": documents}], written=False)
    except Refusal as refusal:
        log.warning("passages stay in the encoder's order: %s", refusal.key)
        return near
    order = np.argsort(-np.array(answer["scores"]), kind="stable")
    return replace(near, hits=tuple(near.hits[place] for place in order))


async def _about(asked: str, classifier: Served) -> Intent | None:
    """What a question is about; nothing is said of it where the classifier has no time."""
    try:
        async with asyncio.timeout(PATIENCE):
            [answer], _ = await classifier.answer([{"text": asked}], written=False)
    except (Refusal, TimeoutError) as error:
        log.warning("a question has no intent: %s", error.key if isinstance(error, Refusal) else "timeout")
        return None
    return intent_of(answer)


async def _on_lost(request: Request, error: Exception) -> Response:
    """Handler of what cannot be had. Where it is the server's own, its place and its trouble are for the log alone: a
    file of ours is a `Path`, what a request names a string."""
    assert isinstance(error, SourceError)
    if not isinstance(error, TicketsError) and not any(isinstance(fact, Path) for fact in error.facts.values()):
        return await on_error(request, error)
    log.error("%s", error)
    return await on_refusal(request, Refusal(507, "not_kept"))


def _kept(tickets: Tickets, search: Search, ask: AskDesk, said: Reply) -> dict[str, Any]:
    """The id of a reply that was kept, and of its ticket; an answer that cannot be kept is given all the same."""
    try:
        id_, ticket = tickets.keep(said, ask.questions, sure=ask.sure, knowledge=search.digest, talk=ask.talk)
    except TicketsError as error:
        log.error("a reply was not kept: %s", error)
        return {}
    return {"id": id_} | ({"ticket": ticket} if ticket else {})


def shown(said: Reply) -> dict[str, Any]:
    """A reply as JSON; a hand-over is put into words in the asker's language."""
    return {
        "object": "desk.reply",
        "kind": said.kind,
        "text": said.text or say("desk.handover", said.language),
        "sureness": said.sureness if math.isfinite(said.sureness) else None,
        "asked": said.asked,
        "language": said.language,
        "worded": said.worded,
        "intent": None if said.intent is None else asdict(said.intent),
        "citations": list(map(quoted, said.citations)),
    }
