"""One tenant's knowledge in one SQLite file: passages with their vectors, and who may see them.

Only what changed is read and encoded again, each file in one transaction. What was deleted is gone from the bytes of
the disk file as well: SQLite overwrites it (`secure_delete`), the file is written anew (`VACUUM`) and its log emptied.
"""

import hashlib
import json
import os
import re
import sqlite3
import tempfile
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from zhumo.errors import SourceError, ZhumoError
from zhumo.prepare.near import alike, grouped, likeness
from zhumo.sources.documents import KINDS, Bad, Document, content_of, document_of, found
from zhumo.support.passages import Passage, cut

APPLICATION = 0x7A686D6B  # "zhmk": what kind of SQLite file this is
FORMAT = 5  # of the tables, and of how documents are read and cut: another one means to begin anew
AT_ONCE = 64  # texts for the encoder
ALIKE = 0.9  # of their runs of five letters, from which on two passages say the same
WAIT = 10.0  # seconds for another program that holds the file
LONGEST_NAME = 255  # bytes
FAQ = "faq-agents.csv"  # what agents answered in their own words; no file may be called so
FLOAT = 4  # bytes
TABLES = """
CREATE TABLE state (version INTEGER NOT NULL, merged INTEGER NOT NULL, purged INTEGER NOT NULL, encoder TEXT,
    access TEXT NOT NULL);
INSERT INTO state VALUES (0, 0, 1, NULL, '{}');
CREATE TABLE files (
    path TEXT PRIMARY KEY, digest TEXT NOT NULL, title TEXT NOT NULL, labels TEXT NOT NULL, uploaded INTEGER NOT NULL,
    read REAL NOT NULL
) WITHOUT ROWID;
CREATE TABLE passages (
    id INTEGER PRIMARY KEY, file TEXT NOT NULL, place INTEGER NOT NULL, headings TEXT NOT NULL, text TEXT NOT NULL,
    sentences INTEGER NOT NULL, vectors BLOB NOT NULL, kept INTEGER REFERENCES passages ON DELETE SET NULL
);
CREATE INDEX passages_of_a_file ON passages (file, place);
CREATE INDEX passages_of_a_kept_one ON passages (kept);
"""
Encode = Callable[[Sequence[str]], np.ndarray]


@dataclass(frozen=True)
class Synced:
    """What a sync found. Of the folder's files `same`, `new`, `changed` and `bad` are all there are; `gone` ones were
    deleted. `changed` counts those with other content or labels. Of the passages of all files, uploads too, `kept` are
    found and `merged` are those for which another stands. problems: one for each bad file.
    """

    same: int
    new: int
    changed: int
    gone: int
    bad: int
    kept: int
    merged: int
    problems: tuple[Bad, ...]


@dataclass(frozen=True)
class Known:
    """What an asker may see: passages, their vectors (passages, width), those of their sentences (sentences, width),
    all float32, and whose each sentence is, (sentences,), in the order of `Passage.said`."""

    passages: list[Passage]
    vectors: np.ndarray
    sentences: np.ndarray
    owners: np.ndarray


@dataclass(frozen=True)
class Held:
    """A file that was read. passages: how many of it are found; merged: for how many another file's stand; uploaded:
    whether it came by itself and lies in no folder; read: when, in seconds since 1970."""

    path: str
    title: str
    passages: int
    merged: int
    uploaded: bool
    read: float


def _silent(_done: int, _files: int) -> None:
    pass


class Knowledge:
    """The passages of one tenant. Many threads may use one object, and several programs one file.

    Raises:
        SourceError: the file cannot be opened or written, or is something else; from every method.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.RLock()
        with self._said():
            try:
                os.close(os.open(path, os.O_CREAT | os.O_EXCL, 0o600))
            except FileExistsError:
                for file in (path, path.with_name(f"{path.name}-wal"), path.with_name(f"{path.name}-shm")):
                    if file.exists():
                        file.chmod(0o600)
            self._base = sqlite3.connect(path, timeout=WAIT, isolation_level=None, check_same_thread=False)
            for pragma in ("secure_delete = ON", "journal_mode = WAL", "synchronous = NORMAL", "foreign_keys = ON",
                           "temp_store = MEMORY"):  # fmt: skip
                self._base.execute(f"PRAGMA {pragma}")
            self._begin()

    def sync(
        self,
        folder: Path,
        encode: Encode,
        *,
        encoder: str,
        access: Mapping[str, Sequence[str]] | None = None,
        progress: Callable[[int, int], None] = _silent,
    ) -> Synced:
        """Make the knowledge that of a folder and of the uploads. Stopped half-way, it goes on when asked again.

        encode: texts to vectors of length 1, (texts, width) float32. encoder: its name; under another one all passages
        are encoded again, in one step at the end of which the new vectors replace the old. access: which labels open
        the files whose path fits a pattern (`hr/*`, in which * is any letters); where several fit, one label of each
        is needed; None: what was said the last time. progress: files done, files.

        Raises:
            SourceError: there is no such folder; a pattern fits no file; the vectors are not what they should be.
        """
        files = list(found(folder))
        said = json.loads(self._state("access"))
        access = said if access is None else {glob: list(own) for glob, own in access.items()}
        labels = {name: _labels(name, access) for name, _ in files}
        for glob in access:
            if not any(fnmatchcase(name, glob) for name in labels):
                raise SourceError("support.access", glob=glob, folder=folder)
        if access != said:
            with self._writing() as base:
                base.execute("UPDATE state SET access = ?", (json.dumps(access),))
        known = self._known()
        gone = [path for path, file in known.items() if not file.uploaded and path not in labels]
        for name in gone:
            self._drop(name)
        self._encode_again(encode, encoder)
        same, new, changed = 0, 0, 0
        problems = []
        for done, (name, path) in enumerate(files):
            progress(done, len(files))
            before = known.get(name)
            try:
                if name == FAQ:
                    raise SourceError("support.reserved", name=name)
                content = _content(name, path)
                now = _File(hashlib.sha256(content).hexdigest(), labels[name], False)
                document = document_of(name, content) if before is None or before.digest != now.digest else None
            except ZhumoError as error:
                problems.append(Bad(name, error))
                if before and not before.uploaded:
                    self._drop(name)
                continue
            if document:
                self._put(document, now, encode, encoder)
            elif before != now:
                self._relabel(name, now)
            new += before is None
            same += before == now
            changed += before is not None and before != now
        progress(len(files), len(files))
        kept, merged = self._merge()
        self._purge()
        return Synced(same, new, changed, len(gone), len(problems), kept, merged, tuple(problems))

    def add(
        self, name: str, content: bytes, encode: Encode, *, encoder: str, labels: Sequence[str] = ()
    ) -> tuple[int, int]:
        """Take an upload in, instead of an earlier one of that name; how many of its passages are kept and merged.

        name: a plain file name of a known kind; it is never used as a path. labels: one of them opens it; none: all
        may see it.

        Raises:
            SourceError: the name is none, that of a file of the folder or `FAQ`; the content cannot be read; the
                knowledge was encoded by another encoder.
        """
        kind = PurePosixPath(name).suffix.lower()
        plain = name.isprintable() and not name.startswith((".", "~$")) and not {"/", "\\"} & set(name)
        if not plain or kind not in KINDS or len(name.encode()) > LONGEST_NAME:
            raise SourceError("support.upload", name=name[:LONGEST_NAME], known=", ".join(KINDS))
        if name == FAQ:
            raise SourceError("support.reserved", name=name)
        before = self._known().get(name)
        if before and not before.uploaded:
            raise SourceError("support.taken", name=name)
        file = _File(hashlib.sha256(content).hexdigest(), _sorted([labels]), True)
        self._put(document_of(name, content), file, encode, encoder)
        self._merge()
        self._purge()
        with self._reading() as base:
            query = "SELECT count(*) - count(kept), count(kept) FROM passages WHERE file = ?"
            [(kept, merged)] = base.execute(query, (name,))
        return kept, merged

    def put(self, document: Document, encode: Encode, *, encoder: str) -> None:
        """Take in a document that is no file, open to all, instead of an earlier one of its name. Nothing is encoded
        where it says what that said.

        Raises:
            SourceError: the knowledge was encoded by another encoder.
        """
        file = _File(hashlib.sha256(json.dumps(asdict(document)).encode()).hexdigest(), [], True)
        if self._known().get(document.path) != file:
            self._put(document, file, encode, encoder)
        self._merge()
        self._purge()

    def remove(self, name: str) -> bool:
        """Delete a file, so that no word of it is left on the disk; whether there was one. A file that still lies in
        the folder comes back with the next sync.

        Raises:
            SourceError: another program is reading, so that its words may still be there.
        """
        there = name in self._known()
        if there:
            self._drop(name)
            self._merge()
        self._purge()
        return there

    def purge(self) -> bool:
        """Delete what is left on the disk of what was deleted while another program read; whether there was any.

        Raises:
            SourceError: another program is still reading.
        """
        left = not self._state("purged")
        self._purge()
        return left

    def known(self, labels: Collection[str] | None) -> Known:
        """What somebody with these labels may see, None having none, by file and place. Nothing else is read from the
        disk."""
        mine = set(labels or ())
        with self._reading() as base:
            rows = base.execute("SELECT path, labels FROM files")
            open_ = [path for path, groups in rows if all(mine & set(group) for group in json.loads(groups))]
            query = """SELECT id, file, headings, text, kept, sentences, vectors FROM passages
                WHERE file IN (SELECT value FROM json_each(?)) ORDER BY file, place"""
            found_ = base.execute(query, (json.dumps(open_),)).fetchall()
        also: dict[int, list[tuple[str, tuple[str, ...]]]] = {}
        for _, file, headings, _, kept, *_ in found_:
            if kept is not None:
                also.setdefault(kept, []).append((file, tuple(json.loads(headings))))
        passages, counts, vectors = [], list[int](), bytearray()
        for number, file, headings, text, kept, sentences, own in found_:
            if kept is None:
                passages.append(Passage(file, tuple(json.loads(headings)), text, tuple(also.get(number, ()))))
                counts.append(1 + sentences)
                vectors += own
        width = len(vectors) // FLOAT // max(1, sum(counts))
        all_ = np.frombuffer(vectors, dtype=np.float32).reshape(sum(counts), width)
        owners = np.repeat(np.arange(len(passages)), counts)
        whole = np.diff(owners, prepend=-1) > 0
        return Known(passages, all_[whole], all_[~whole], owners[~whole])

    def files(self) -> list[Held]:
        """Every file that was read, by its path."""
        query = """SELECT path, title, count(id) - count(kept), count(kept), uploaded, read
            FROM files LEFT JOIN passages ON file = path GROUP BY path ORDER BY path"""
        with self._reading() as base:
            rows = base.execute(query).fetchall()
        return [Held(path, title, kept, merged, bool(up), read) for path, title, kept, merged, up, read in rows]

    @property
    def encoder(self) -> str | None:
        """The name of what made the vectors; None where there are none."""
        encoder: str | None = self._state("encoder")
        return encoder

    @property
    def version(self) -> int:
        """A number that grows with each change."""
        version: int = self._state("version")
        return version

    def close(self) -> None:
        """Write all into the one file."""
        with self._said(), closing(self._base):
            self._base.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    # -- one transaction each

    @contextmanager
    def _said(self) -> Iterator[None]:
        """One thread at a time, and what SQLite or the disk says as an error of the catalogue."""
        try:
            with self._lock:
                yield
        except (sqlite3.Error, OSError) as error:
            raise SourceError("support.knowledge", file=self.path, problem=error) from error

    @contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection]:
        with self._said():
            self._base.execute("BEGIN")
            try:
                yield self._base
            finally:
                self._base.execute("COMMIT")

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        """A transaction that changes something: all of it or nothing."""
        with self._said():
            self._base.execute("BEGIN IMMEDIATE")
            try:
                yield self._base
                self._base.execute("UPDATE state SET version = version + 1")
                self._base.execute("COMMIT")
            except BaseException:
                if self._base.in_transaction:
                    self._base.execute("ROLLBACK")
                raise

    def _begin(self) -> None:
        """Make the tables where the file is empty."""
        self._base.execute("BEGIN IMMEDIATE")
        try:
            [(kind,)] = self._base.execute("PRAGMA application_id")
            [(format_,)] = self._base.execute("PRAGMA user_version")
            [(tables,)] = self._base.execute("SELECT count(*) FROM sqlite_master")
            if (kind, format_, tables) == (0, 0, 0):
                for statement in filter(str.strip, TABLES.split(";")):
                    self._base.execute(statement)
                self._base.execute(f"PRAGMA application_id = {APPLICATION}")
                self._base.execute(f"PRAGMA user_version = {FORMAT}")
            elif (kind, format_) != (APPLICATION, FORMAT):
                raise SourceError("support.format", file=self.path)
        finally:
            self._base.execute("COMMIT")

    def _state(self, column: str) -> Any:
        with self._reading() as base:
            return base.execute(f"SELECT {column} FROM state").fetchone()[0]

    def _known(self) -> dict[str, "_File"]:
        with self._reading() as base:
            rows = base.execute("SELECT path, digest, labels, uploaded FROM files").fetchall()
        return {path: _File(digest, json.loads(labels), bool(uploaded)) for path, digest, labels, uploaded in rows}

    def _put(self, document: Document, file: "_File", encode: Encode, encoder: str) -> None:
        """A file and its passages, instead of what was known of it."""
        passages = cut(document)
        texts = [[passage.full, *passage.said] for passage in passages]
        vectors = _encoded([text for own in texts for text in own], encode, encoder)
        ends = np.cumsum([len(own) for own in texts], dtype=int)
        with self._writing() as base:
            base.execute("UPDATE state SET encoder = coalesce(encoder, ?)", (encoder,))
            [(old,)] = base.execute("SELECT encoder FROM state")
            if old != encoder:
                raise SourceError("support.encoder", file=self.path, old=old, new=encoder)
            other = base.execute("SELECT length(vectors) / (1 + sentences) FROM passages LIMIT 1").fetchone()
            if other is not None:
                _check(vectors, len(vectors), other[0] // FLOAT, encoder)
            self._delete(base, document.path)
            row = (document.path, file.digest, document.title, json.dumps(file.labels), file.uploaded, time.time())
            base.execute("INSERT INTO files VALUES (?, ?, ?, ?, ?, ?)", row)
            base.executemany(
                "INSERT INTO passages (file, place, headings, text, sentences, vectors) VALUES (?, ?, ?, ?, ?, ?)",
                (
                    (
                        one.file,
                        place,
                        json.dumps(one.headings, ensure_ascii=False),
                        one.text,
                        len(own) - 1,
                        vectors[end - len(own) : end].tobytes(),
                    )
                    for place, (one, own, end) in enumerate(zip(passages, texts, ends, strict=True))
                ),
            )

    def _drop(self, path: str) -> None:
        with self._writing() as base:
            self._delete(base, path)

    def _delete(self, base: sqlite3.Connection, path: str) -> None:
        deleted = base.execute("DELETE FROM files WHERE path = ?", (path,)).rowcount
        base.execute("DELETE FROM passages WHERE file = ?", (path,))
        if deleted:
            base.execute("UPDATE state SET purged = 0")

    def _relabel(self, path: str, file: "_File") -> None:
        """Other labels for a file of the same content; it stands for no other passage any more, and none for it."""
        with self._writing() as base:
            labels = json.dumps(file.labels)
            base.execute("UPDATE files SET labels = ?, uploaded = ? WHERE path = ?", (labels, file.uploaded, path))
            query = """UPDATE passages SET kept = NULL
                WHERE file = ?1 OR kept IN (SELECT id FROM passages WHERE file = ?1)"""
            base.execute(query, (path,))

    def _encode_again(self, encode: Encode, encoder: str) -> None:
        """Give all passages vectors of another encoder, all at once."""
        if self._state("encoder") in (None, encoder):
            return
        new: dict[tuple[int, str, str, str], bytes] = {}  # by the whole row: an id alone is given again
        while True:
            with self._reading() as base:
                rows = base.execute("SELECT id, file, headings, text FROM passages").fetchall()
                version = base.execute("SELECT version FROM state").fetchone()[0]
            for row in rows:
                if row not in new:
                    passage = Passage(row[1], tuple(json.loads(row[2])), row[3])
                    new[row] = _encoded([passage.full, *passage.said], encode, encoder).tobytes()
            with self._writing() as base:
                if base.execute("SELECT version FROM state").fetchone()[0] != version:
                    continue  # passages came meanwhile
                base.executemany("UPDATE passages SET vectors = ? WHERE id = ?", ((new[row], row[0]) for row in rows))
                base.execute("UPDATE state SET encoder = ?", (encoder,))
                return

    def _merge(self) -> tuple[int, int]:
        """Let one passage stand for those of the same labels that say nearly the same; how many are kept and merged."""
        while True:
            with self._reading() as base:
                version, merged = base.execute("SELECT version, merged FROM state").fetchone()
                query = "SELECT count(*) - count(kept), count(kept) FROM passages"
                counts: tuple[int, int] = base.execute(query).fetchone()
                if version == merged:
                    return counts
                query = """SELECT id, headings, text, labels, kept FROM passages JOIN files ON path = file
                    ORDER BY file, place"""
                rows = base.execute(query).fetchall()
            groups: dict[str, list[tuple[int, str, str]]] = {}
            for id_, headings, text, labels, _ in rows:
                groups.setdefault(labels, []).append((id_, headings, text))
            kept = {id_: other for group in groups.values() for id_, other in _twins(group).items()}
            changes = [(kept.get(row[0]), row[0]) for row in rows if kept.get(row[0]) != row[4]]
            with self._writing() as base:
                if base.execute("SELECT version FROM state").fetchone()[0] == version:
                    base.executemany("UPDATE passages SET kept = ? WHERE id = ?", changes)
                    base.execute("UPDATE state SET merged = version + 1")

    def _purge(self) -> None:
        """Where something was deleted since the last time, write the file anew and empty its log. Whoever was stopped
        before is caught up with by the next change."""
        with self._said():
            if self._state("purged"):
                return
            try:
                self._base.execute("VACUUM")
                busy = self._base.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode not in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
                    raise
                busy = 1
            if busy:
                raise SourceError("support.busy", file=self.path)
            self._base.execute("UPDATE state SET purged = 1")


@dataclass(frozen=True)
class _File:
    """What is known of a file: sha256 of its content, one of each of which labels is needed, and where it is from."""

    digest: str
    labels: list[list[str]]
    uploaded: bool


def _content(name: str, path: Path | SourceError) -> bytes:
    if isinstance(path, SourceError):
        raise path
    return content_of(path, name)


def _labels(name: str, access: Mapping[str, Sequence[str]]) -> list[list[str]]:
    return _sorted([labels for glob, labels in access.items() if fnmatchcase(name, glob)])


def _sorted(groups: Sequence[Sequence[str]]) -> list[list[str]]:
    return sorted(sorted(set(group)) for group in groups if group)


def _encoded(texts: Sequence[str], encode: Encode, encoder: str) -> np.ndarray:
    parts: list[np.ndarray] = []
    for start in range(0, len(texts), AT_ONCE):
        batch = texts[start : start + AT_ONCE]
        vectors = np.asarray(encode(batch), dtype=np.float32)
        _check(vectors, len(batch), parts[0].shape[1] if parts else vectors.shape[-1], encoder)
        parts.append(vectors)
    return np.concatenate(parts) if parts else np.empty((0, 0), dtype=np.float32)


def _check(vectors: np.ndarray, texts: int, width: int, encoder: str) -> None:
    """Raises SourceError where vectors are not what an encoder gives."""
    fits = vectors.shape == (texts, width) and np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-3)
    if not fits:
        raise SourceError("support.vectors", encoder=encoder, given=vectors.shape, texts=texts, width=width)


def _twins(rows: Sequence[tuple[int, str, str]]) -> dict[int, int]:
    """Of each passage, given by its id, headings and text, for which an earlier one stands, which that is.

    They share nearly all their runs of letters, all numbers and all headings: two prices are not the same however
    little else differs, and one answer to two questions is to be found by both.
    """
    with tempfile.TemporaryDirectory() as scratch:
        pairs = alike(lambda place: "".join(rows[place][1:]), range(len(rows)), ALIKE, Path(scratch))
    kept: dict[tuple[int, str, tuple[str, ...]], list[int]] = {}
    found_ = {}
    for place, group in enumerate(grouped(np.arange(len(rows)), pairs).tolist()):
        id_, headings, text = rows[place]
        likely = kept.setdefault((group, headings, tuple(re.findall(r"\d+", text))), [])
        twin = next((other for other in likely if likeness(text, rows[other][2]) >= ALIKE), None)
        if twin is None:
            likely.append(place)
        else:
            found_[id_] = rows[twin][0]
    return found_
