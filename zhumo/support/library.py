"""A desk's knowledge while it is open: searched, and changed by what agents upload and delete."""

import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
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
        self._lock = threading.Lock()  # of who changes it
        self._looking = threading.Lock()  # of who reads it for some labels, which a change does not keep waiting
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
            with self._looking, closing(Knowledge(self.file)) as knowledge:
                base, own = self._labelled.get(labels, (None, self.search))
                if base is not self.search:  # nobody else did it meanwhile
                    base, encoder, outside = self.search, self.encoder, self.outside
                    known = knowledge.known(labels)
                    if knowledge.encoder != encoder:
                        return base  # until the encoder serves that made what lies there
                    own = Search(known, outside)
                    self._labelled[labels] = base, own
        return own

    def add(self, name: str, content: bytes, encode: Encode) -> Held:
        """Take an upload in, instead of an earlier one of that name. encode: makes vectors of passages.

        Raises:
            SourceError: it cannot be read, or its name is none for an upload; see `Knowledge.add`.
        """
        with self._changing() as knowledge:
            knowledge.add(name, content, encode, encoder=self.encoder)
            return next(one for one in knowledge.files() if one.path == name)

    def put(self, document: Document, encode: Encode) -> None:
        """Take in a document that is no file; see `Knowledge.put`."""
        with self._changing() as knowledge:
            knowledge.put(document, encode, encoder=self.encoder)

    def remove(self, name: str) -> None:
        """Delete an upload, so that no word of it is left on the disk."""
        with self._changing() as knowledge:
            knowledge.remove(name)

    def purge(self) -> bool:
        """Delete what is left on the disk of what was deleted while another program read; whether there was any."""
        with self._changing() as knowledge:
            return knowledge.purge()

    def become(self, other: "Library") -> None:
        """Be what another one is, whose vectors another encoder made of the same file. Who is about to change this one
        is refused."""
        self.encoder, self.outside, self.problems = other.encoder, other.outside, other.problems
        self.search, self.files = other.search, other.files

    def refresh(self) -> None:
        """Read the file again."""
        with self._lock, closing(Knowledge(self.file)) as knowledge:
            self._open(knowledge)

    @contextmanager
    def _changing(self) -> Iterator[Knowledge]:
        """One change at a time. What it made of the file is answered from, also where it ends with an error: a reader
        may keep old words on the disk, but not in the answers."""
        with self._lock, closing(Knowledge(self.file)) as knowledge:
            before = knowledge.version
            try:
                yield knowledge
            finally:
                if knowledge.version != before:
                    self._open(knowledge)

    def _open(self, knowledge: Knowledge) -> None:
        known = knowledge.known(None)
        if knowledge.encoder in (None, self.encoder):
            self.search = Search(known, self.outside)
        else:  # another encoder's vectors lie there already, and will serve in a moment; what was deleted goes now
            self.search = self.search.only({passage.key for passage in known.passages})
        self.files = knowledge.files()
