"""`open_rows`: any source as a stream of Record and Bad."""

import gzip
import hashlib
import sqlite3
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import BinaryIO, Protocol, runtime_checkable

import pyarrow as pa

from zhumo.errors import SourceError
from zhumo.run import file_digest
from zhumo.sources.documents import found
from zhumo.sources.fetch import fetch, licence_of, local
from zhumo.sources.lines import Bad, Encoding, Record, Text, encoding_of
from zhumo.sources.pairs import read_pairs
from zhumo.sources.postgres import SCHEMES, digest_postgres, read_postgres
from zhumo.sources.readers import (
    PARQUET,
    SQLITE,
    TEXT_READERS,
    XLSX,
    Results,
    read_arrow,
    read_paragraphs,
    read_parquet,
    read_sqlite,
    read_values,
)
from zhumo.sources.workbook import read_xlsx

KNOWN = (*TEXT_READERS, *PARQUET, *SQLITE, XLSX)
READABLE = (*KNOWN, *(f"{suffix}.gz" for suffix in TEXT_READERS))


@runtime_checkable
class ArrowStream(Protocol):
    """A table of pyarrow, pandas, polars, DuckDB and others."""

    def __arrow_c_stream__(self, requested_schema: object = None) -> object: ...


Source = str | Path | ArrowStream | Iterable[Mapping[str, object]]


@dataclass(frozen=True)
class Part:
    """One file, query or table of a source."""

    name: str
    read: Callable[[], Results]
    digest: Callable[[], str]
    encoding: Encoding | None = None


@dataclass(frozen=True)
class Rows:
    """The rows of a source. Iterating reads it again from the start, with flat memory.

    licence: what the source may be used for; None where it is the user's own.
    """

    source: str
    licence: str | None
    parts: tuple[Part, ...]

    def __iter__(self) -> Iterator[Record | Bad]:
        for part in self.parts:
            with _damage(part.name):
                yield from part.read()

    @cached_property
    def fingerprint(self) -> dict[str, str]:
        """sha256 of the content of each file of the source."""
        return {part.name: part.digest() for part in self.parts}

    @property
    def encodings(self) -> dict[str, Encoding]:
        """How the characters of each text file are written, which is found out, so that a person should be told."""
        return {part.name: part.encoding for part in self.parts if part.encoding}


def open_rows(source: Source, *, paragraphs: bool = False) -> Rows:
    """The rows of a file, folder, database, package, catalogue name, Arrow table or list of dictionaries.

    A folder gives all files of a known kind below it, by name; `documents:FOLDER` what its documents say, in pairs of
    heading and text. Values of text formats stay text.
    paragraphs: a txt file gives paragraphs with their line breaks, nothing left out, instead of single lines.

    Raises:
        SourceError: there is no such source, or it is not of a known kind. While iterating: a file is damaged so that
            reading cannot go on.
    """
    if isinstance(source, Path):
        source = str(source)
    if not isinstance(source, str):
        return Rows("rows", None, (_memory(source),))
    if source.startswith("sqlite:"):
        file, _, query = source.removeprefix("sqlite:").partition("?")
        return Rows(source, None, (_database(source, local(file), query or None),))
    if source.startswith("xlsx:"):
        file, _, sheet = source.removeprefix("xlsx:").partition("?")
        return Rows(source, None, (_workbook(source, local(file), sheet or None),))
    if source.startswith("documents:"):
        return Rows(source, None, _documents(source))
    if source.startswith(SCHEMES):
        return Rows(source, None, (Part(source, partial(read_postgres, source), partial(digest_postgres, source)),))
    path = fetch(source)
    if path.is_dir():
        files = {f"{source}/{file.relative_to(path)}": file for file in sorted(path.rglob("[!.]*")) if _kind(file)}
        if not files:
            raise SourceError("sources.nothing_readable", source=source, known=", ".join(TEXT_READERS))
    else:
        files = {source: path}
    return Rows(source, licence_of(source), tuple(_file(name, file, paragraphs) for name, file in files.items()))


def _kind(path: Path) -> str:
    """The suffix of `READABLE` a file has, or an empty string."""
    known = [suffix for suffix in READABLE if path.name.lower().endswith(suffix)]
    return max(known, key=len, default="")


def _file(name: str, path: Path, paragraphs: bool) -> Part:
    kind = _kind(path)
    digest = partial(file_digest, path)
    if kind in PARQUET:
        return Part(name, partial(read_parquet, name, path), digest)
    if kind in SQLITE:
        return _database(name, path, None)
    if kind == XLSX:
        return _workbook(name, path, None)
    if not kind:
        raise SourceError("sources.kind", source=name, known=", ".join(KNOWN))
    open_ = partial(_open, path)
    with _damage(name):
        text = Text(name, open_, encoding_of(open_))
    plain = kind.removesuffix(".gz")
    reader = read_paragraphs if paragraphs and plain == ".txt" else TEXT_READERS[plain]
    return Part(name, partial(reader, text), digest, text.encoding)


def _open(path: Path) -> BinaryIO:
    return gzip.open(path) if path.name.lower().endswith(".gz") else path.open("rb")  # type: ignore[return-value]


def _database(name: str, path: Path, query: str | None) -> Part:
    """What a writer has not yet put into the file lies in the `-wal` file beside it, which counts as well."""

    def digest() -> str:
        log = path.with_name(f"{path.name}-wal")
        return hashlib.sha256("".join(file_digest(file) for file in (path, log) if file.is_file()).encode()).hexdigest()

    return Part(name, partial(read_sqlite, name, path, query), digest)


def _workbook(name: str, path: Path, sheet: str | None) -> Part:
    return Part(name, partial(read_xlsx, name, path, sheet), partial(file_digest, path))


def _documents(source: str) -> tuple[Part, ...]:
    folder = local(source.removeprefix("documents:"))
    return tuple(
        Part(f"{source}/{name}", partial(read_pairs, f"{source}/{name}", name, path), partial(_digest_document, path))
        for name, path in found(folder)
    )


def _digest_document(path: Path | SourceError) -> str:
    """sha256 of a document; of one that must not be opened there is none."""
    return "" if isinstance(path, SourceError) else file_digest(path)


def _memory(source: ArrowStream | Iterable[Mapping[str, object]]) -> Part:
    name = "rows"
    if isinstance(source, ArrowStream):
        read = partial(read_arrow, name, pa.table(source))
    else:
        read = partial(read_values, name, list(source))

    def digest() -> str:
        hash_ = hashlib.sha256()
        for row in read():
            hash_.update(row.raw + b"\n")
        return hash_.hexdigest()

    return Part(name, read, digest)


_DAMAGE = (OSError, EOFError, zlib.error, UnicodeDecodeError, pa.ArrowException, sqlite3.Error, sqlite3.Warning)


@contextmanager
def _damage(name: str) -> Iterator[None]:
    try:
        yield
    except _DAMAGE as error:
        raise SourceError("sources.damaged", source=name, problem=str(error).splitlines()[0][:200]) from error
