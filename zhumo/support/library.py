"""A desk's knowledge while it is open: searched, and changed by what agents upload and delete."""

import threading
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path

import numpy as np

from zhumo.sources.documents import Bad, Document
from zhumo.support.knowledge import Encode, Held, Knowledge
from zhumo.support.search import Language, Search


class Library:
    """What a desk knows, in memory and in its file. Many threads may use one.

    encoder: what tells the one apart that made the vectors; outside: the vectors it gives `foreign()`; problems: files
    of the folder that could not be read; owners: the labels of those owners of keys who have any. search: what is known
    now to those who have none; files: where all that is known is from.

    Raises:
        SourceError: the file cannot be had; from every method.
    """

    search: Search
    files: Sequence[Held]

    def __init__(
        self, file: Path, encoder: str, outside: Mapping[Language, np.ndarray], problems: Sequence[Bad] = (),
        owners: Mapping[str, frozenset[str]] | None = None,
    ) -> None:  # fmt: skip
        self.file, self.encoder, self.outside, self.problems = file, encoder, outside, problems
        self.owners = owners or {}
        self._lock = threading.Lock()
        self._labelled: dict[frozenset[str], tuple[Search, Search]] = {}  # what was known to all then, and to these
        with closing(Knowledge(file)) as knowledge:
            self._open(knowledge)

    def search_of(self, owner: str) -> Search:
        """What the owner of a key may see, and nothing else is in it. It is read when somebody first asks."""
        labels = self.owners.get(owner)
        if not labels:
            return self.search
        base, own = self._labelled.get(labels, (None, self.search))
        if base is not self.search:
            with self._lock, closing(Knowledge(self.file)) as knowledge:
                base, own = self._labelled.get(labels, (None, self.search))
                if knowledge.encoder != self.encoder:
                    return self.search  # until the encoder serves that made what lies there
                if base is not self.search:  # nobody else did it meanwhile
                    base, own = self.search, Search(knowledge.known(labels), self.outside)
                    self._labelled[labels] = base, own
        return own

    def add(self, name: str, content: bytes, encode: Encode) -> Held:
        """Take an upload in, instead of an earlier one of that name. encode: makes vectors of passages.

        Raises:
            SourceError: it cannot be read, or its name is none for an upload; see `Knowledge.add`.
        """
        with self._lock, closing(Knowledge(self.file)) as knowledge:
            knowledge.add(name, content, encode, encoder=self.encoder)
            self._open(knowledge)
            return next(one for one in self.files if one.path == name)

    def put(self, document: Document, encode: Encode) -> None:
        """Take in a document that is no file; see `Knowledge.put`."""
        with self._lock, closing(Knowledge(self.file)) as knowledge:
            before = knowledge.version
            try:
                knowledge.put(document, encode, encoder=self.encoder)
            finally:
                if knowledge.version != before:
                    self._open(knowledge)

    def remove(self, name: str) -> None:
        """Delete an upload, so that no word of it is left on the disk."""
        with self._lock, closing(Knowledge(self.file)) as knowledge:
            try:
                knowledge.remove(name)
            finally:  # where another program reads, its words may still be on the disk, but are answered from no more
                self._open(knowledge)

    def become(self, other: "Library") -> None:
        """Be what another one is, whose vectors another encoder made of the same file. Who is about to change this one
        is refused."""
        self.encoder, self.outside, self.problems = other.encoder, other.outside, other.problems
        self.search, self.files = other.search, other.files

    def refresh(self) -> None:
        """Read the file again."""
        with self._lock, closing(Knowledge(self.file)) as knowledge:
            self._open(knowledge)

    def _open(self, knowledge: Knowledge) -> None:
        known = knowledge.known(None)
        if knowledge.encoder in (None, self.encoder):
            self.search = Search(known, self.outside)
        else:  # another encoder's vectors lie there already, and will serve in a moment; what was deleted goes now
            self.search = self.search.only({passage.key for passage in known.passages})
        self.files = knowledge.files()
