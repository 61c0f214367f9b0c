"""Rows of a PostgreSQL query: postgres://USER@HOST:PORT/DATABASE?SELECT ...

The transaction is read-only and sees one moment, and the rows come through a cursor of the server a few thousand at a
time. The password is not part of the name of a source, which stands in recipes, reports and errors: libpq takes it from
PGPASSWORD or ~/.pgpass, and what else a connection needs from its other variables (PGSSLMODE, PGSERVICE, ...).
"""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from zhumo.errors import SourceError
from zhumo.recipe import PASSWORD
from zhumo.sources.readers import Results, columns_of, read_values

if TYPE_CHECKING:
    from psycopg import Connection

SCHEMES = ("postgres://", "postgresql://")
AT_ONCE = 4_096  # rows that travel together
PATIENCE = 10  # seconds until a server that does not answer is called away


def read_postgres(source: str) -> Results:
    """The rows of the query, or of the only table.

    Raises:
        SourceError: the driver is not installed, the name holds a password, the server cannot be reached, the query
            fails or would do more than read; more or fewer tables than one and no query.
    """
    address, _, query = source.partition("?")
    with _connected(source, address) as connection, connection.cursor(name="zhumo") as cursor:
        cursor.itersize = AT_ONCE
        cursor.execute((query or f"SELECT * FROM {_only_table(connection, address)}").encode())
        columns = columns_of(source, [column.name for column in cursor.description or ()])
        yield from read_values(source, (dict(zip(columns, row, strict=True)) for row in cursor))


def digest_postgres(source: str) -> str:
    """sha256 of all rows, in the order the query gives them."""
    hash_ = hashlib.sha256()
    for row in read_postgres(source):
        hash_.update(row.raw + b"\n")
    return hash_.hexdigest()


@contextmanager
def _connected(source: str, address: str) -> Iterator["Connection[tuple[Any, ...]]"]:
    if PASSWORD.match(source):
        raise SourceError("sources.password")
    try:
        import psycopg
    except ImportError as error:
        raise SourceError("sources.extra", source=address, extra="postgres") from error
    try:
        with psycopg.connect(address, connect_timeout=PATIENCE, application_name="zhumo") as connection:
            connection.read_only = True
            connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
            yield connection
    except psycopg.Error as error:
        problem = " ".join(str(error).split())[:300]
        raise SourceError("sources.damaged", source=source, problem=problem) from error


def _only_table(connection: "Connection[tuple[Any, ...]]", address: str) -> str:
    query = (
        "SELECT format('%I.%I', table_schema, table_name) FROM information_schema.tables "
        "WHERE table_schema NOT IN ('pg_catalog', 'information_schema') ORDER BY 1"
    )
    tables = [str(row[0]) for row in connection.execute(query)]
    if len(tables) != 1:
        raise SourceError("sources.which_table", source=address, tables=", ".join(tables))
    return tables[0]
