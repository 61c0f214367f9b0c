"""A query of a recipe reads one database and can do nothing else."""

import hashlib
import sqlite3
from pathlib import Path

import pytest

from zhumo.errors import SourceError
from zhumo.sources import open_rows

QUERIES = [
    "INSERT INTO orders VALUES (2)",
    "INSERT INTO orders VALUES (2) RETURNING id",
    "DELETE FROM orders RETURNING id",
    "UPDATE orders SET id = 9 RETURNING id",
    "DROP TABLE orders",
    "CREATE TABLE more (id)",
    "CREATE TEMP TABLE more AS SELECT 1",
    "ATTACH DATABASE '{folder}/other.db' AS other",
    "VACUUM INTO '{folder}/copy.db'",
    "PRAGMA writable_schema = 1",
    "PRAGMA journal_mode = WAL",
    "SELECT load_extension('{folder}/evil')",
    "SELECT 1; DROP TABLE orders",
    "BEGIN EXCLUSIVE",
    "REINDEX",
    "ANALYZE",
]


@pytest.mark.parametrize("query", QUERIES)
def test_a_query_that_would_do_more_than_read_fails(tmp_path: Path, query: str) -> None:
    path = tmp_path / "shop.db"
    with sqlite3.connect(path) as database:
        database.execute("CREATE TABLE orders (id UNIQUE)")
        database.execute("INSERT INTO orders VALUES (1)")
    database.close()
    before = hashlib.sha256(path.read_bytes()).hexdigest()
    with pytest.raises(SourceError):
        list(open_rows(f"sqlite:{path}?{query.format(folder=tmp_path)}"))
    assert hashlib.sha256(path.read_bytes()).hexdigest() == before
    assert [file.name for file in tmp_path.iterdir()] == ["shop.db"]


def test_reading_with_joins_functions_and_recursion_works(tmp_path: Path) -> None:
    path = tmp_path / "a '?#%.db"
    with sqlite3.connect(path) as database:
        database.execute("CREATE TABLE orders (id, name)")
        database.execute("INSERT INTO orders VALUES (1, CAST(x'ff41' AS TEXT)), (2, 'b')")
    database.close()
    moved = path.rename(tmp_path / "a '#%.db")
    query = "WITH RECURSIVE n(i) AS (SELECT 1 UNION SELECT i + 1 FROM n WHERE i < 3) SELECT upper('x') AS u, i FROM n"
    assert [result.raw for result in open_rows(f"sqlite:{moved}?{query}")][-1] == b'{"u":"X","i":3}'
    reasons = [getattr(result, "reason", None) for result in open_rows(str(moved))]
    assert reasons == ["not_json", None]
    with pytest.raises(SourceError, match="two columns"):
        list(open_rows(f"sqlite:{moved}?SELECT id, id FROM orders"))
