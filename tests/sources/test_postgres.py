"""The PostgreSQL source against a real server, which the test starts as a user of its own and stops again."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.postgres import PASSWORD, running
from zhumo.errors import RecipeError, SourceError
from zhumo.prepare import prepare
from zhumo.recipe import Recipe
from zhumo.run import Run
from zhumo.sources import Bad, Record, open_rows
from zhumo.words import LANGUAGES

psycopg = pytest.importorskip("psycopg")
ROWS = 10_000


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """A server with a table; gives the address without a database."""
    with running() as address:
        with psycopg.connect(f"{address}/postgres") as connection:
            connection.execute("CREATE TABLE reviews (id int PRIMARY KEY, text text, label text, price numeric)")
            connection.execute(
                "INSERT INTO reviews SELECT i, '评论 number ' || i, chr(97 + i % 2), i / 4.0 FROM "
                f"generate_series(1, {ROWS}) AS i"
            )
        yield address


def test_rows_of_the_only_table_and_of_a_query(server: str) -> None:
    rows = open_rows(f"{server}/postgres?SELECT * FROM reviews ORDER BY id")
    found = list(rows)
    assert len(found) == ROWS and not any(isinstance(row, Bad) for row in found)
    first = found[0]
    assert isinstance(first, Record)
    assert {**first.row, "price": float(first.row["price"])} == {
        "id": 1, "text": "评论 number 1", "label": "b", "price": 0.25
    }  # fmt: skip
    assert sum(1 for _ in open_rows(f"{server}/postgres")) == ROWS
    assert rows.fingerprint == open_rows(rows.source).fingerprint
    one = open_rows(f"{server}/postgres?SELECT count(*) AS n, 100 % 7 AS rest FROM reviews WHERE text LIKE '%1%'")
    assert [row.row for row in one if isinstance(row, Record)] == [
        {"n": sum("1" in str(number) for number in range(1, ROWS + 1)), "rest": 2}
    ]


@pytest.mark.parametrize(
    "query",
    [
        "DELETE FROM reviews",
        "INSERT INTO reviews VALUES (0, 'x', 'y', 1) RETURNING id",
        "SELECT 1; DROP TABLE reviews",
        "SELECT 1; COMMIT; DROP TABLE reviews",
        "SELECT nextval('counter')",
        "COPY reviews TO PROGRAM 'touch /tmp/zhumo-was-here'",
        "WITH gone AS (DELETE FROM reviews RETURNING id) SELECT * FROM gone",
        "SELECT nothing FROM reviews",
    ],
)
def test_nothing_but_reading(server: str, query: str) -> None:
    with pytest.raises(SourceError) as caught:
        list(open_rows(f"{server}/postgres?{query}"))
    assert caught.value.key == "error.sources.damaged"
    assert not Path("/tmp/zhumo-was-here").exists()
    assert sum(1 for _ in open_rows(f"{server}/postgres")) == ROWS


def test_rows_come_through_a_cursor_of_a_read_only_transaction(server: str) -> None:
    query = (
        "SELECT current_setting('transaction_read_only') AS read_only, name FROM pg_cursors, generate_series(1, 9000)"
    )
    rows = [row.row for row in open_rows(f"{server}/postgres?{query}") if isinstance(row, Record)]
    assert rows[-1] == {"read_only": "on", "name": "zhumo"} and len(rows) == 9_000


def test_a_password_is_refused_and_never_told(server: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    secret = server.replace("zhumo@", f"zhumo:{PASSWORD}@")
    with pytest.raises(SourceError) as caught:
        list(open_rows(f"{secret}/postgres"))
    with pytest.raises(RecipeError) as refused:
        Recipe.check({"task": "classify", "prepare": {"source": f"{secret}/postgres"}}, "test")
    monkeypatch.setenv("PGPASSWORD", f"{PASSWORD}!")
    with pytest.raises(SourceError, match="password authentication failed") as wrong:
        list(open_rows(f"{server}/postgres"))
    for error in (caught.value, refused.value, wrong.value):
        assert not any(PASSWORD in error.say(language) for language in LANGUAGES)


def test_a_server_that_is_not_there_and_a_table_that_is_not_the_only_one(server: str) -> None:
    with pytest.raises(SourceError) as caught:
        list(open_rows("postgres://zhumo@127.0.0.1:1/none?SELECT 1"))
    assert caught.value.key == "error.sources.damaged"
    with psycopg.connect(f"{server}/postgres") as connection:
        connection.execute("CREATE TABLE other (id int)")
    with pytest.raises(SourceError, match=r"public\.other, public\.reviews"):
        list(open_rows(f"{server}/postgres"))
    with psycopg.connect(f"{server}/postgres") as connection:
        connection.execute("DROP TABLE other")


def test_a_run_from_a_database_leaves_no_password_behind(server: str, tmp_path: Path) -> None:
    source = f"{server}/postgres?SELECT text, label FROM reviews WHERE id <= 300 ORDER BY id"
    recipe = Recipe.check({"name": "x", "task": "classify", "prepare": {"source": source, "vocabulary": 400}}, "test")
    run = Run.of(recipe, tmp_path)
    prepare(recipe, run)
    assert run.facts("prepare")["rows"]["out"] == 300
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert files and not [path for path in files if PASSWORD.encode() in path.read_bytes()]


def test_without_the_driver_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(SourceError, match=r"zhumo\[postgres\]"):
        list(open_rows("postgres://zhumo@127.0.0.1/none"))
