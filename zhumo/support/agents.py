"""What agents do over HTTP: answer tickets, propose and review corrections, and see how the desk does."""

import asyncio
import re
from collections.abc import Awaitable, Callable, Collection, Sequence
from typing import Annotated, Any, Literal, Self

import numpy as np
from fastapi import FastAPI, Path, Query
from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from zhumo.deploy.refusals import Refusal
from zhumo.deploy.requests import Inner
from zhumo.deploy.served import CALLER
from zhumo.privacy import NEVER_SHOWN, mask
from zhumo.support.desk import Citation, cited
from zhumo.support.library import Library
from zhumo.support.passages import Passage
from zhumo.support.quality import bound, clusters, quality
from zhumo.support.search import Search
from zhumo.support.tickets import CorrectionState, Tickets, TicketState, Verdict, place_of

Json = dict[str, Any]
Encode = Callable[[Sequence[str]], Awaitable[np.ndarray]]
"""Questions to vectors of length 1, (texts, width)."""

MOST_LISTED = 200
MOST_GAPS = 1_000  # questions that are put into groups
SUGGESTED = 5  # passages shown to an agent
_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")  # Unicode's category Cc but tab and line feed


def plain(text: Any) -> Any:
    """A text from outside without control characters, each of which becomes a space, and without spaces around it."""
    return _CONTROLS.sub(" ", text).strip() if isinstance(text, str) else text


Id = Annotated[str, Path(max_length=64)]
Limit = Annotated[int, Query(ge=1, le=MOST_LISTED)]
Label = Annotated[str, Query(max_length=1_000)]
Question = Annotated[
    str, Field(min_length=1, max_length=4_001), BeforeValidator(plain), AfterValidator(lambda text: mask(text).text)
]
Words = Annotated[str, Field(min_length=1, max_length=5_000), BeforeValidator(plain)]


class Place(Inner):
    """A passage, as replies and searches name it."""

    file: str = Field(min_length=1, max_length=4_096)
    digest: str = Field(min_length=16, max_length=16)


class Judge(Inner):
    """A visitor's thumb on a reply."""

    reply: str = Field(min_length=1, max_length=64)
    verdict: Verdict


class Say(Inner):
    """An agent's message to a visitor."""

    text: Words
    passage: Place | None = Field(None, description="A passage to show with it.")
    close: bool = Field(False, description="Whether the ticket is done with.")


class Correct(Inner):
    """The right answer to a question."""

    question: Question
    passage: Place | None = Field(None, description="The passage that answers it.")
    text: Annotated[Words, AfterValidator(lambda text: mask(text, NEVER_SHOWN).text)] | None = Field(
        None, description="Or words of one's own."
    )

    @model_validator(mode="after")
    def _one(self) -> Self:
        if (self.passage is None) == (self.text is None):
            raise ValueError("a correction is a passage or a text")
        return self


class Review(Inner):
    """What becomes of a correction."""

    state: Literal["accepted", "refused"]


def agent(agents: Collection[str]) -> str:
    """Who asks, by the name of the key's owner.

    Raises:
        Refusal: 403, it is none of the agents.
    """
    name = CALLER.get().name
    if name not in agents:
        raise Refusal(403, "not_an_agent")
    return name


def add_visitors(app: FastAPI, tickets: Tickets) -> None:
    """Add what a visitor may do with a reply that was kept."""

    @app.post("/v1/desk/verdicts")
    def verdicts(ask: Judge) -> Json:
        """Take a visitor's thumb on a reply, instead of an earlier one."""
        if not tickets.judge(ask.reply, ask.verdict):
            raise Refusal(404, "no_reply")
        return {"object": "desk.verdict", "reply": ask.reply, "verdict": ask.verdict}

    @app.get("/v1/desk/replies/{id}/messages")
    def messages(id: Id) -> Json:
        """What agents answered to a hand-over, and how far its ticket is."""
        found = tickets.messages(id)
        if found is None:
            raise Refusal(404, "no_reply")
        return {"object": "list", **found}

    @app.delete("/v1/desk/replies/{id}")
    def forget(id: Id) -> Json:
        """Delete the talk of a reply with all that hangs on it."""
        if not tickets.forget(id):
            raise Refusal(404, "no_reply")
        return {"object": "desk.reply", "id": id, "deleted": True}


def add_agents(
    app: FastAPI, tickets: Tickets, library: Library, encode: Encode, publish: Callable[[], Awaitable[None]],
    agents: Collection[str],
) -> None:  # fmt: skip
    """Add what agents do. library: where they look; encode: makes the vectors of questions; publish: makes accepted
    texts known; agents: the owners of keys who are agents."""

    @app.get("/v1/desk/tickets")
    def queue(state: TicketState = "open", limit: Limit = 50, intent: Label | None = None) -> Json:
        """Tickets, those that wait longest first, of one intent or of all, and which intents there are. They are asked
        for every few seconds: what they cite comes with each by itself."""
        agent(agents)
        found = tickets.tickets(state, limit, intent)
        told = [{name: value for name, value in one.items() if name != "citations"} for one in found]
        return {**_list(told), "intents": tickets.about(state)}

    @app.get("/v1/desk/tickets/{id}")
    def ticket(id: Id) -> Json:
        """One ticket with its messages."""
        agent(agents)
        return _ticket(id)

    @app.post("/v1/desk/tickets/{id}/take")
    def take(id: Id) -> Json:
        """Take an open ticket."""
        if not tickets.take(id, agent(agents)):
            raise Refusal(409, "ticket_state", state=_ticket(id)["state"])
        return _ticket(id)

    @app.post("/v1/desk/tickets/{id}/messages")
    def say(id: Id, ask: Say) -> Json:
        """Write to the visitor of a taken ticket, and close it if wished."""
        passage = _passage(_mine(library), ask.passage) if ask.passage else None
        if not tickets.say(id, agent(agents), ask.text, passage, close=ask.close):
            raise Refusal(409, "ticket_state", state=_ticket(id)["state"])
        return _ticket(id)

    @app.get("/v1/desk/corrections")
    def corrections(state: CorrectionState = "proposed", limit: Limit = 50) -> Json:
        """Corrections, the oldest first."""
        agent(agents)
        return _list([_with_text(one, _mine(library)) for one in tickets.corrections(state, limit)])

    @app.post("/v1/desk/corrections")
    def correct(ask: Correct) -> Json:
        """Propose the right answer to a question."""
        name = agent(agents)
        passage = _passage(_mine(library), ask.passage) if ask.passage else None
        return {"object": "desk.correction", **tickets.propose(ask.question, name, passage, ask.text)}

    @app.post("/v1/desk/corrections/{id}")
    async def review(id: Id, ask: Review) -> Json:
        """Accept or refuse a correction; words of an agent's own are answered from at once."""
        found = await asyncio.to_thread(tickets.review, id, ask.state, agent(agents))
        if found is None:
            raise Refusal(404, "no_correction")
        await publish()
        search = await asyncio.to_thread(_mine, library)
        return {"object": "desk.correction", **_with_text(found, search)}

    @app.get("/v1/desk/search")
    async def find(q: Annotated[str, Query(min_length=1, max_length=2_000)]) -> Json:
        """The passages nearest to a question, and how sure the desk is of it."""
        agent(agents)
        search = await searched(library)
        [vector] = await encode([q])
        hits = await asyncio.to_thread(search.find, q, vector, SUGGESTED)
        sureness = search.sureness(q, vector) if hits else None
        return _list([{**quoted(cited(hit)), "sureness": sureness} for hit in hits])

    @app.get("/v1/desk/quality")
    def how() -> Json:
        """How the desk does."""
        agent(agents)
        found, search = quality(tickets), _mine(library)
        return {"object": "desk.quality", **found, "failures": [_with_texts(one, search) for one in found["failures"]]}

    @app.get("/v1/desk/gaps")
    async def gaps() -> Json:
        """What the desk cannot answer: questions that were handed over, in groups that ask the same."""
        agent(agents)
        asked = await asyncio.to_thread(tickets.unanswered, MOST_GAPS)
        if not asked:
            return _list([])
        vectors = await encode([question for question, _ in asked])
        alike = max(map(bound, library.outside.values()))
        groups = await asyncio.to_thread(clusters, vectors, alike)
        told = [{"size": sum(asked[place][1] for place in group), "question": asked[group[0]][0],
                 "members": [asked[place][0] for place in group]} for group in groups]  # fmt: skip
        return _list(sorted(told, key=lambda group: -group["size"]))

    def _ticket(id_: str) -> Json:
        found = tickets.ticket(id_)
        if found is None:
            raise Refusal(404, "no_ticket")
        return {"object": "desk.ticket", **_with_texts(found, _mine(library))}


def quoted(citation: Citation) -> Json:
    """A citation as JSON."""
    passage = citation.passage
    return {**place_of(passage), "text": passage.text, "start": citation.start, "end": citation.end,
            "also": [file for file, _ in passage.also]}  # fmt: skip


async def searched(library: Library) -> Search:
    """What whoever asks may see; who goes on from here without a pause has the encoder that made its vectors."""
    while True:
        before, search = library.encoder, await asyncio.to_thread(_mine, library)
        if before == library.encoder:
            return search


def _mine(library: Library) -> Search:
    """What whoever asks may see."""
    return library.search_of(CALLER.get().name)


def _list(data: list[Json]) -> Json:
    return {"object": "list", "data": data}


def _passage(search: Search, place: Place) -> Passage:
    passage = search.by_key.get(place.digest)
    if passage is None or passage.file != place.file:
        raise Refusal(404, "no_passage", param="passage")
    return passage


def _with_texts(one: Json, search: Search) -> Json:
    """A ticket or failure whose citations say what stands there now."""
    return {**one, "citations": [_told(place, search) for place in one["citations"]]}


def _with_text(correction: Json, search: Search) -> Json:
    """A correction whose passage, if it is one, says what stands there now."""
    place = correction["passage"]
    return correction | ({"passage": _told(place, search)} if place else {})


def _told(place: Json, search: Search) -> Json:
    """A passage with its text; of one that is no more, or not for whoever asks, its digest alone."""
    passage = search.by_key.get(place["digest"])
    return {**place_of(passage), "text": passage.text} if passage else {"digest": place["digest"], "text": None}
