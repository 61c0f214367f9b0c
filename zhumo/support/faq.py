"""What agents answered in their own words, as an FAQ that the desk answers from."""

from zhumo.sources.documents import Document, Section
from zhumo.support.knowledge import FAQ, Encode
from zhumo.support.library import Library
from zhumo.support.tickets import Tickets


def publish(tickets: Tickets, library: Library, encode: Encode) -> None:
    """Make the knowledge hold the texts of all accepted corrections, and nothing of those that are accepted no more.
    One at a time: what is published was read from the store before.

    encode: makes vectors of passages.
    """
    words = [(one["question"], one["text"]) for one in tickets.corrections("accepted") if one["text"] is not None]
    if words:
        sections = tuple(Section((question,), text) for question, text in words)
        library.put(Document(FAQ, "faq-agents", sections), encode)
    elif any(one.path == FAQ for one in library.files):
        library.remove(FAQ)
