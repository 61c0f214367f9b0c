"""What agents answered in their own words, as an FAQ that the desk answers from."""

import csv
from io import StringIO

from zhumo.support.knowledge import Encode
from zhumo.support.library import Library
from zhumo.support.tickets import Tickets

NAME = "faq-agents.csv"


def publish(tickets: Tickets, library: Library, encode: Encode) -> None:
    """Make the knowledge hold the texts of all accepted corrections, and nothing of those that are accepted no more.

    encode: makes vectors of passages.
    """
    rows = [(one["question"], one["text"]) for one in tickets.corrections("accepted") if one["text"] is not None]
    known = [one for one in library.search.passages if one.file == NAME]
    if rows == [(one.headings[-1], one.text) for one in known]:
        return
    if rows:
        table = StringIO()
        csv.writer(table).writerows([("question", "answer"), *rows])
        library.add(NAME, table.getvalue().encode(), encode)
    elif any(one.path == NAME for one in library.files):
        library.remove(NAME)
