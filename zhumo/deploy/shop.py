"""What a shop asks beside recommendations: its catalogue, pictures of it, and a place for what visitors did."""

import asyncio
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any

from fastapi import FastAPI, Query
from fastapi.responses import Response

from zhumo.deploy.feedback import Events
from zhumo.deploy.pages import Name, find
from zhumo.deploy.refusals import Refusal
from zhumo.deploy.requests import Feedback, Item, Similar
from zhumo.deploy.served import Served

MOST_ITEMS = 50
MOST_BYTES = 10_000_000  # of one picture
PICTURES: Mapping[str, Callable[[bytes], bool]] = {
    "image/jpeg": lambda head: head.startswith(b"\xff\xd8\xff"),
    "image/png": lambda head: head.startswith(b"\x89PNG\r\n\x1a\n"),
    "image/gif": lambda head: head.startswith((b"GIF87a", b"GIF89a")),
    "image/webp": lambda head: head.startswith(b"RIFF") and head[8:12] == b"WEBP",
    "image/avif": lambda head: head[4:12] in (b"ftypavif", b"ftypavis"),
}
"""How a picture begins, whatever its file is called. SVG is not among them: it is a program."""


def add_shop(
    app: FastAPI, served: Mapping[str, Served], arm: Callable[[str, str | None], str], pictures: Path | None,
    events: Events | None,
) -> None:  # fmt: skip
    """Add the catalogue's routes and the one for feedback. arm: the bundle that answers a user under a name."""

    @app.get("/v1/items")
    async def items(
        model: Name,
        q: Annotated[str, Query(max_length=200)] = "",
        limit: Annotated[int, Query(ge=1, le=MOST_ITEMS)] = 20,
        id: Annotated[list[Item] | None, Query(max_length=MOST_ITEMS)] = None,
    ) -> dict[str, Any]:
        """Items of a catalogue whose title holds every word of `q`, or whose id it is, in the catalogue's order; or
        those with an `id`, as asked, unknown ones left out."""
        data = await find(served, model, "recommend").ask("items", q=q, limit=limit, ids=id)
        return {"object": "list", "model": model, "data": data}

    @app.get("/v1/columns")
    async def columns(model: Name) -> dict[str, Any]:
        """What the catalogue can be filtered by: the commonest values of each column, or where its numbers lie; and
        whether there are pictures to be had, and whether an answer holds what was taken before where nobody says."""
        found = await find(served, model, "recommend").ask("columns")
        shown = pictures is not None and found["pictures"]
        return {"object": "columns", "model": model, "data": found["facets"], "pictures": shown, "seen": found["seen"]}

    @app.get("/v1/items/{item:path}/picture")
    async def picture(item: str, model: Name) -> Response:
        """The picture of an item, from the folder `zhumo serve --pictures` names."""
        name = await find(served, model, "recommend").ask("picture", item=item)
        found = None if pictures is None or name is None else await asyncio.to_thread(read_picture, pictures, name)
        if found is None:
            raise Refusal(404, "no_picture", item=item[:200])
        return Response(found[0], media_type=found[1], headers={"cache-control": "private, max-age=3600"})

    @app.post("/v1/similar")
    async def similar(ask: Similar) -> dict[str, Any]:
        """Items that are like one, or that are taken with or after it."""
        one = find(served, ask.model, "recommend")
        found = await one.ask("similar", item=ask.item, k=ask.k, kind=ask.kind)
        return {"object": "list", "model": ask.model, "data": [found]}

    @app.post("/v1/feedback")
    def feedback(ask: Feedback) -> dict[str, Any]:
        """Keep what somebody did with what was shown."""
        if events is None:
            raise Refusal(404, "no_feedback")
        name = arm(ask.model, ask.user)
        find(served, name, "recommend")
        events.add(name, ask.user, ask.event, ask.items, ask.list_)
        return {"object": "feedback", "model": name, "items": len(ask.items)}


def read_picture(folder: Path, name: str) -> tuple[bytes, str] | None:
    """A picture and its type; None where no file of that name lies inside of the folder, or it is no picture.

    The name is the catalogue's and not a request's; it is held inside of the folder all the same, after links are
    followed.
    """
    try:
        path = (folder / name).resolve()
        if not path.is_relative_to(folder.resolve()) or not path.is_file() or path.stat().st_size > MOST_BYTES:
            return None
        content = path.read_bytes()
    except (OSError, RuntimeError, ValueError):  # links in a circle, a name that is none
        return None
    kind = next((kind for kind, begins in PICTURES.items() if begins(content[:16])), None)
    return (content, kind) if kind else None
