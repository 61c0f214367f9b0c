"""Pages that stand in two languages: where the other one says what a passage says."""

import re
from collections.abc import Collection, Sequence

import numpy as np

from zhumo.support.passages import Passage

CHINESE, ENGLISH = r"zh(?:[-_](?:cn|hans|hant|tw|hk))?|cn|chinese|中文", r"en(?:[-_](?:us|gb))?|english|英文"
LANGUAGE = re.compile(rf"[-_. ]?(?<![a-z])(?:{CHINESE}|{ENGLISH})(?![a-z])", re.IGNORECASE)
PAIRS = 2**24  # of passages that are compared for one page; above, as in an FAQ of thousands of rows, it takes seconds


def page_of(file: str) -> str:
    """A file's name without what says its language: `guide.zh-CN.md` and `guide.md`, `en/guide.md` and `zh/guide.md`
    are one page."""
    return re.sub("/+", "/", LANGUAGE.sub("", file)).lstrip("/")


def twins_of(passages: Sequence[Passage], vectors: np.ndarray, spoken: Sequence[Collection[str]]) -> np.ndarray:
    """The place of each passage's twin, (passages,): of the same page's passages in another language the one that lies
    nearest; -1 where the page stands in one language, or is a table too long to compare.

    vectors: of the passages, (passages, width). spoken: the languages of each, its document's among them.
    """
    files: dict[str, list[int]] = {}
    for place, passage in enumerate(passages):
        files.setdefault(passage.file, []).append(place)
    pages: dict[str, list[str]] = {}
    for file in files:
        pages.setdefault(page_of(file), []).append(file)
    twins = np.full(len(passages), -1)
    for page in (own for own in pages.values() if len(own) > 1):
        # A document's language is the one that all its passages have.
        written = {file: frozenset.intersection(*(frozenset(spoken[place]) for place in files[file])) for file in page}
        for file in page:
            others = [place for other in page if written[other] != written[file] for place in files[other]]
            if 0 < len(others) * len(files[file]) <= PAIRS:
                twins[files[file]] = np.array(others)[(vectors[files[file]] @ vectors[others].T).argmax(axis=1)]
    return twins
