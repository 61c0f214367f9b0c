"""Documents as rows: what a section is headed with, and what it says; of an FAQ, a question and its answer."""

from pathlib import Path

import orjson

from zhumo.errors import SourceError
from zhumo.sources.documents import read_document
from zhumo.sources.lines import Bad, Record
from zhumo.sources.readers import Results

BETWEEN = " > "  # headings, from the outermost to the nearest


def read_pairs(source: str, name: str, path: Path | SourceError) -> Results:
    """Each section of a document as a row {"text": headings, "match": text, "file": name}.

    The `text` of one that stands under no heading is empty. A file that is no document is one bad row.

    name: the document's, in its folder; path: where it lies, or why it must not be opened.
    """
    try:
        if isinstance(path, SourceError):
            raise path
        document = read_document(path, name)
    except SourceError as error:
        yield Bad(source, 0, b"", "document", why=error.say())
        return
    for number, section in enumerate(document.sections, 1):
        row = {"text": BETWEEN.join(section.headings), "match": section.text, "file": name}
        yield Record(row, source, number, orjson.dumps(row))
