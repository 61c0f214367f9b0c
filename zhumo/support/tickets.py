"""What the desk said and what became of it: replies, thumbs, tickets and corrections, in SQLite or PostgreSQL.

Nothing is kept unless `zhumo serve --tickets PLACE` names a place: a file, or postgresql://USER@HOST/DATABASE, whose
password libpq takes from PGPASSWORD or ~/.pgpass. Every change is one transaction. A talk that is deleted is gone from
the bytes of the file as well, and from those of the tables of a database; its log and its backups are their keeper's.
"""

import json
import math
import os
import secrets
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

from zhumo.errors import SourceError
from zhumo.recipe import PASSWORD
from zhumo.sources.postgres import PATIENCE, SCHEMES
from zhumo.support.desk import Reply
from zhumo.support.passages import Passage

if TYPE_CHECKING:
    from psycopg import Connection

Json = dict[str, Any]
Verdict = Literal["up", "down"]
TicketState = Literal["open", "taken", "closed"]
CorrectionState = Literal["proposed", "accepted", "refused"]
Run = Callable[..., list[tuple[Any, ...]]]
"""Runs one statement with its facts for each `?`, and gives the rows it returns."""

FORMAT = 2
MOST_BYTES = 8 * 2**30
WAIT = 10.0  # seconds for another program that holds the file or a row
TABLES = (
    "CREATE TABLE desk_state (format INTEGER NOT NULL, purged INTEGER NOT NULL)",
    f"INSERT INTO desk_state VALUES ({FORMAT}, 1)",
    """CREATE TABLE desk_replies (
        id TEXT PRIMARY KEY, talk TEXT NOT NULL, time DOUBLE PRECISION NOT NULL, day TEXT NOT NULL,
        questions TEXT NOT NULL, asked TEXT NOT NULL, language TEXT NOT NULL, kind TEXT NOT NULL,
        sureness DOUBLE PRECISION, sure DOUBLE PRECISION NOT NULL, citations TEXT NOT NULL, knowledge TEXT NOT NULL,
        verdict TEXT, intent TEXT, likely DOUBLE PRECISION
    )""",
    "CREATE INDEX desk_replies_of_a_talk ON desk_replies (talk)",
    "CREATE INDEX desk_replies_of_a_day ON desk_replies (day)",
    "CREATE INDEX desk_replies_to_a_question ON desk_replies (asked)",
    """CREATE TABLE desk_tickets (
        id TEXT PRIMARY KEY, reply TEXT NOT NULL UNIQUE REFERENCES desk_replies ON DELETE CASCADE,
        time DOUBLE PRECISION NOT NULL, state TEXT NOT NULL, agent TEXT
    )""",
    "CREATE INDEX desk_tickets_by_state ON desk_tickets (state, time)",
    """CREATE TABLE desk_messages (
        id TEXT PRIMARY KEY, ticket TEXT NOT NULL REFERENCES desk_tickets ON DELETE CASCADE,
        time DOUBLE PRECISION NOT NULL, agent TEXT NOT NULL, text TEXT NOT NULL, passage TEXT
    )""",
    "CREATE INDEX desk_messages_of_a_ticket ON desk_messages (ticket, time)",
    """CREATE TABLE desk_corrections (
        id TEXT PRIMARY KEY, time DOUBLE PRECISION NOT NULL, question TEXT NOT NULL, passage TEXT, text TEXT,
        state TEXT NOT NULL, agent TEXT NOT NULL, reviewer TEXT
    )""",
    "CREATE INDEX desk_corrections_by_state ON desk_corrections (state, time)",
    "CREATE INDEX desk_corrections_of_a_question ON desk_corrections (question)",
)
LATER = {  # by format: what makes it the next one
    1: (
        "ALTER TABLE desk_replies ADD COLUMN intent TEXT",
        "ALTER TABLE desk_replies ADD COLUMN likely DOUBLE PRECISION",
        "UPDATE desk_state SET format = 2",
    ),
}
KEPT = ("desk_replies", "desk_tickets", "desk_messages", "desk_corrections")
TICKET = ("id", "time", "state", "agent", "reply", "questions", "asked", "language", "sureness", "sure", "citations",
          "intent", "likely")  # fmt: skip
MESSAGE = ("id", "time", "agent", "text", "passage")
CORRECTION = ("id", "time", "question", "passage", "text", "state", "agent", "reviewer")


class TicketsError(SourceError):
    """Something cannot be kept or looked up."""


class Tickets:
    """The store. place: a file or the address of a database. Many threads may use one object, and several programs one
    store.

    Raises:
        SourceError: the place cannot be had or holds something else, or the address a password.
        TicketsError: it is lost, from every method; it is full, from those that add.
    """

    def __init__(self, place: str) -> None:
        self._base: _Base = _Postgres(place) if place.startswith(SCHEMES) else _Sqlite(Path(place))

    # -- what the desk said

    def keep(
        self, said: Reply, questions: Sequence[str], *, sure: float, knowledge: str, talk: str | None = None
    ) -> tuple[str, str | None]:
        """Keep a reply, and make a ticket where it is a hand-over; their ids.

        questions: all of the talk; sure: the bound it was held to; knowledge: what was searched; talk: the id of any
        reply of this talk before it.
        """
        id_, now = _id(), time.time()
        day = datetime.fromtimestamp(now, UTC).date().isoformat()
        sureness = said.sureness if math.isfinite(said.sureness) else None
        cited = _json([place_of(citation.passage) for citation in said.citations])
        intent = (None, None) if said.intent is None else (said.intent.label, said.intent.score)
        row = (id_, now, day, _json(list(questions)), said.asked, said.language, said.kind, sureness, sure, cited,
               knowledge, *intent)  # fmt: skip
        ticket = _id() if said.kind == "handover" else None
        with self._base.adding() as run:
            before = run("SELECT talk FROM desk_replies WHERE id = ?", talk) if talk else []
            columns = ("talk, id, time, day, questions, asked, language, kind, sureness, sure, citations, knowledge, "
                       "intent, likely")  # fmt: skip
            run(f"INSERT INTO desk_replies ({columns}) VALUES ({_marks(14)})", before[0][0] if before else id_, *row)
            if ticket:
                run("INSERT INTO desk_tickets (id, reply, time, state) VALUES (?, ?, ?, 'open')", ticket, id_, now)
        return id_, ticket

    def judge(self, reply: str, verdict: Verdict) -> bool:
        """Take the visitor's thumb on a reply, instead of an earlier one; whether there is such a reply."""
        with self._base.writing() as run:
            return bool(run("UPDATE desk_replies SET verdict = ? WHERE id = ? RETURNING id", verdict, reply))

    def forget(self, reply: str) -> bool:
        """Delete the talk a reply is part of, with its tickets and messages, down to the bytes; whether there was one,
        or an earlier one whose words were still there.

        Raises:
            SourceError: another program is reading the file, so that its words may still be there; ask again.
        """
        with self._base.writing() as run:
            talk = "(SELECT talk FROM desk_replies WHERE id = ?)"
            gone = run(f"DELETE FROM desk_replies WHERE talk IN {talk} RETURNING id", reply)
            if gone:
                run("UPDATE desk_state SET purged = 0")
            left = run("SELECT purged FROM desk_state") == [(0,)]
        self._base.purge()
        return left

    # -- tickets

    def tickets(self, state: TicketState, limit: int, intent: str | None = None) -> list[Json]:
        """Tickets in a state, those that wait longest first; closed ones the newest first. intent: of those questions
        alone."""
        order = "DESC" if state == "closed" else "ASC"
        about, facts = ("", ()) if intent is None else (" AND r.intent = ?", (intent,))
        with self._base.reading() as run:
            query = f"{_TICKETS} WHERE t.state = ?{about} ORDER BY t.time {order}, t.id LIMIT ?"
            rows = run(query, state, *facts, limit)
        return [_ticket(row) for row in rows]

    def about(self, state: TicketState) -> list[str]:
        """The intents of all tickets in a state, sorted."""
        query = """SELECT DISTINCT r.intent FROM desk_tickets t JOIN desk_replies r ON r.id = t.reply
            WHERE t.state = ? AND r.intent IS NOT NULL"""
        with self._base.reading() as run:
            return sorted(intent for (intent,) in run(query, state))

    def ticket(self, id_: str) -> Json | None:
        """One ticket with its messages."""
        with self._base.reading() as run:
            found = run(f"{_TICKETS} WHERE t.id = ?", id_)
            return _ticket(found[0]) | {"messages": _messages(run, id_)} if found else None

    def take(self, id_: str, agent: str) -> bool:
        """Let an agent have an open ticket; whether it was open."""
        with self._base.writing() as run:
            query = "UPDATE desk_tickets SET state = 'taken', agent = ? WHERE id = ? AND state = 'open' RETURNING id"
            return bool(run(query, agent, id_))

    def say(self, id_: str, agent: str, text: str, passage: Passage | None = None, *, close: bool = False) -> bool:
        """Add an agent's message to a taken ticket, and close it if wished; whether it was taken."""
        shown = None if passage is None else _json({**place_of(passage), "text": passage.text})
        with self._base.adding() as run:
            query = "UPDATE desk_tickets SET state = ? WHERE id = ? AND state = 'taken' RETURNING id"
            if not run(query, "closed" if close else "taken", id_):
                return False
            row = (_id(), id_, time.time(), agent, text, shown)
            run(f"INSERT INTO desk_messages (id, ticket, time, agent, text, passage) VALUES ({_marks(6)})", *row)
        return True

    def messages(self, reply: str) -> Json | None:
        """The state of the ticket a reply became, null where it became none, and what agents wrote; None: no such
        reply."""
        with self._base.reading() as run:
            query = "SELECT t.id, t.state FROM desk_replies r LEFT JOIN desk_tickets t ON t.reply = r.id WHERE r.id = ?"
            found = run(query, reply)
            return {"state": found[0][1], "data": _messages(run, found[0][0])} if found else None

    # -- corrections

    def propose(self, question: str, agent: str, passage: Passage | None, text: str | None) -> Json:
        """Keep an agent's right answer to a question: a passage, or words of their own."""
        place = None if passage is None else _json(place_of(passage))
        row = (_id(), time.time(), question, place, text, "proposed", agent, None)
        with self._base.adding() as run:
            run(f"INSERT INTO desk_corrections ({', '.join(CORRECTION)}) VALUES ({_marks(8)})", *row)
        return _told(CORRECTION, row)

    def corrections(self, state: CorrectionState, limit: int | None = None) -> list[Json]:
        """Corrections in a state, the oldest first."""
        query = f"SELECT {', '.join(CORRECTION)} FROM desk_corrections WHERE state = ? ORDER BY time, id"
        with self._base.reading() as run:
            rows = run(query, state) if limit is None else run(f"{query} LIMIT ?", state, limit)
        return [_told(CORRECTION, row) for row in rows]

    def review(self, id_: str, state: CorrectionState, reviewer: str) -> Json | None:
        """Accept or refuse a correction; None: there is none. Of all to one question only one stands accepted."""
        query = f"UPDATE desk_corrections SET state = ?, reviewer = ? WHERE id = ? RETURNING {', '.join(CORRECTION)}"
        with self._base.writing() as run:
            found = run(query, state, reviewer, id_)
            if not found:
                return None
            row = _told(CORRECTION, found[0])
            if state == "accepted":
                run("UPDATE desk_corrections SET state = 'refused', reviewer = ? WHERE question = ? AND id <> ? "
                    "AND state = 'accepted'", reviewer, row["question"], id_)  # fmt: skip
        return row

    # -- how it goes

    def days(self, since: str) -> list[tuple[str, str, Verdict | None, int]]:
        """How many replies there were by day (from an ISO date on), kind and verdict."""
        query = """SELECT day, kind, verdict, count(*) FROM desk_replies WHERE day >= ?
            GROUP BY day, kind, verdict ORDER BY day, kind, verdict"""
        with self._base.reading() as run:
            return [(day, kind, verdict, count) for day, kind, verdict, count in run(query, since)]

    def intents(self, since: str) -> list[tuple[str | None, str, int]]:
        """How many replies there were by intent (from an ISO date on) and kind."""
        query = "SELECT intent, kind, count(*) FROM desk_replies WHERE day >= ? GROUP BY intent, kind ORDER BY 1, 2"
        with self._base.reading() as run:
            return [(intent, kind, count) for intent, kind, count in run(query, since)]

    def reviewed(self, limit: int) -> list[Json]:
        """Replies with a thumb or an accepted correction to their question, `corrected`, the newest first; of each how
        sure it was, and what it cited."""
        names = ("sureness", "kind", "verdict", "asked", "citations", "corrected", "text")
        query = """SELECT r.sureness, r.kind, r.verdict, r.asked, r.citations, c.passage, c.text
            FROM desk_replies r LEFT JOIN desk_corrections c ON c.question = r.asked AND c.state = 'accepted'
            WHERE r.verdict IS NOT NULL OR c.id IS NOT NULL ORDER BY r.time DESC, r.id LIMIT ?"""
        with self._base.reading() as run:
            return [_told(names, row) for row in run(query, limit)]

    def unanswered(self, limit: int) -> list[tuple[str, int]]:
        """Questions that were handed over and have no accepted correction, and how often, the newest first."""
        query = """SELECT asked, count(*) FROM desk_replies r WHERE kind = 'handover' AND NOT EXISTS
            (SELECT 1 FROM desk_corrections c WHERE c.question = r.asked AND c.state = 'accepted')
            GROUP BY asked ORDER BY max(time) DESC, asked LIMIT ?"""
        with self._base.reading() as run:
            return [(asked, count) for asked, count in run(query, limit)]

    def close(self) -> None:
        """Let go of the place."""
        self._base.close()


def place_of(passage: Passage) -> Json:
    """By what a passage is found again, as long as it says the same."""
    return {"file": passage.file, "headings": list(passage.headings), "digest": passage.key}


_TICKETS = """SELECT t.id, t.time, t.state, t.agent, t.reply, r.questions, r.asked, r.language, r.sureness, r.sure,
    r.citations, r.intent, r.likely FROM desk_tickets t JOIN desk_replies r ON r.id = t.reply"""
_AS_JSON = frozenset(("questions", "citations", "passage", "corrected"))


def _ticket(row: Sequence[Any]) -> Json:
    """A ticket; its intent as a reply tells it."""
    told = _told(TICKET, row)
    label, score = told.pop("intent"), told.pop("likely")
    return told | {"intent": None if label is None else {"label": label, "score": score}}


def _messages(run: Run, ticket: str | None) -> list[Json]:
    query = f"SELECT {', '.join(MESSAGE)} FROM desk_messages WHERE ticket = ? ORDER BY time, id"
    return [_told(MESSAGE, row) for row in run(query, ticket)]


def _told(names: Sequence[str], row: Sequence[Any]) -> Json:
    """A row by the names of its columns."""
    return {
        name: json.loads(value) if name in _AS_JSON and value is not None else value
        for name, value in zip(names, row, strict=True)
    }


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)


def _id() -> str:
    """Nobody guesses it: who has the id of a reply may read what was answered to it."""
    return secrets.token_urlsafe(16)


def _marks(count: int) -> str:
    return ", ".join("?" * count)


# -- the two kinds of places


def _settle(run: Run, there: bool, place: Path | str) -> None:
    """Make the tables, or bring those of an earlier zhumo up to this one. there: whether there are some.

    Raises:
        SourceError: they are no earlier one's.
    """
    if not there:
        for statement in TABLES:
            run(statement)
    found = [format_ for (format_,) in run("SELECT format FROM desk_state")]
    if len(found) != 1 or found[0] not in (*LATER, FORMAT):
        raise SourceError("support.tickets_format", place=place)
    for earlier in range(found[0], FORMAT):
        for statement in LATER[earlier]:
            run(statement)


class _Base(Protocol):
    """A place: one connection, which one thread uses at a time."""

    @contextmanager
    def reading(self) -> Iterator[Run]:
        """One moment of it."""

    @contextmanager
    def writing(self) -> Iterator[Run]:
        """A transaction: all of it or nothing."""

    @contextmanager
    def adding(self) -> Iterator[Run]:
        """One that adds rows, which a full place refuses; what is there can still be changed and deleted."""

    def purge(self) -> None:
        """Where something was deleted, write anew what holds its bytes."""

    def close(self) -> None:
        """Close the connection."""


class _Sqlite:
    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.RLock()
        try:
            if not path.exists():
                os.close(os.open(path, os.O_CREAT, 0o600))
            self._base = sqlite3.connect(path, timeout=WAIT, isolation_level=None, check_same_thread=False)
            [(page,)] = self._base.execute("PRAGMA page_size")
            for pragma in ("secure_delete = ON", "synchronous = NORMAL", "foreign_keys = ON", "temp_store = MEMORY",
                           f"max_page_count = {MOST_BYTES // page}"):  # fmt: skip
                self._base.execute(f"PRAGMA {pragma}")
            with self.writing() as run:
                names = {name for (name,) in run("SELECT name FROM sqlite_master WHERE type = 'table'")}
                if names and "desk_state" not in names:
                    raise SourceError("support.tickets_format", place=path)
                _settle(run, bool(names), path)
            self._base.execute("PRAGMA journal_mode = WAL")
        except (sqlite3.Error, OSError, TicketsError) as error:
            problem = error.facts["problem"] if isinstance(error, TicketsError) else error
            raise SourceError("support.tickets_place", place=path, problem=problem) from error

    @contextmanager
    def reading(self) -> Iterator[Run]:
        with self._transaction("BEGIN") as run:
            yield run

    @contextmanager
    def writing(self) -> Iterator[Run]:
        with self._transaction("BEGIN IMMEDIATE") as run:
            yield run

    adding = writing  # SQLite itself knows how many pages it may have

    @contextmanager
    def _transaction(self, begin: str) -> Iterator[Run]:
        try:
            with self._lock:
                self._base.execute(begin)
                try:
                    yield lambda query, *facts: self._base.execute(query, facts).fetchall()
                    self._base.execute("COMMIT")
                except BaseException:
                    if self._base.in_transaction:
                        self._base.execute("ROLLBACK")
                    raise
        except sqlite3.Error as error:
            raise TicketsError("support.tickets", place=self.path, problem=error) from error

    def purge(self) -> None:
        with self._lock:
            try:
                if self._base.execute("SELECT purged FROM desk_state").fetchone()[0]:
                    return
                self._base.execute("VACUUM")
                busy = self._base.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode not in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
                    raise TicketsError("support.tickets", place=self.path, problem=error) from error
                busy = 1
            if busy:
                raise SourceError("support.busy", file=self.path)
            self._base.execute("UPDATE desk_state SET purged = 1")

    def close(self) -> None:
        with self._lock, closing(self._base):
            self._base.execute("PRAGMA wal_checkpoint(TRUNCATE)")


class _Postgres:
    """A connection that was lost is made anew by the next transaction. Its texts hold no NUL."""

    _ONE = 7_234_018_365  # the advisory lock under which the tables are made or changed
    _SIZE = """SELECT coalesce(sum(pg_total_relation_size(oid)), 0) FROM pg_class
        WHERE relname = ANY(?) AND pg_table_is_visible(oid)"""

    def __init__(self, address: str) -> None:
        if PASSWORD.match(address):
            raise SourceError("sources.password")
        try:
            import psycopg
        except ImportError as error:
            raise SourceError("sources.extra", source=address, extra="postgres") from error
        self.address, self._driver = address, psycopg
        self._lock = threading.RLock()
        self._connection: Connection[tuple[Any, ...]] | None = None
        try:
            with self.writing() as run:
                run("SELECT pg_advisory_xact_lock(?)", self._ONE)
                _settle(run, run("SELECT to_regclass('desk_state')") != [(None,)], address)
        except TicketsError as error:
            raise SourceError("support.tickets_place", place=address, problem=error.facts["problem"]) from error

    @contextmanager
    def reading(self) -> Iterator[Run]:
        with self._transaction() as run:
            run("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
            yield run

    @contextmanager
    def writing(self) -> Iterator[Run]:
        with self._transaction() as run:
            yield run

    @contextmanager
    def adding(self) -> Iterator[Run]:
        with self._transaction() as run:
            [(size,)] = run(self._SIZE, list(KEPT))
            if size > MOST_BYTES:
                raise TicketsError("support.tickets", place=self.address, problem=f"> {MOST_BYTES >> 30} GB")
            yield run

    @contextmanager
    def _transaction(self) -> Iterator[Run]:
        with self._said() as connection, connection.transaction(), connection.cursor() as cursor:

            def run(query: str, *facts: object) -> list[tuple[Any, ...]]:
                plain = [fact.replace("\0", "\ufffd") if isinstance(fact, str) else fact for fact in facts]
                cursor.execute(query.replace("?", "%s").encode(), plain)
                return cursor.fetchall() if cursor.description else []

            yield run

    @contextmanager
    def _said(self) -> Iterator["Connection[tuple[Any, ...]]"]:
        """The connection, and what the server says as an error of the catalogue."""
        try:
            with self._lock:
                if self._connection is None or self._connection.closed:
                    self._connection = self._driver.connect(
                        self.address, autocommit=True, connect_timeout=PATIENCE, application_name="zhumo",
                        options=f"-c lock_timeout={WAIT:.0f}s",
                    )  # fmt: skip
                yield self._connection
        except self._driver.Error as error:
            problem = " ".join(str(error).split())[:300]
            raise TicketsError("support.tickets", place=self.address, problem=problem) from error

    def purge(self) -> None:
        with self._said() as connection:
            if connection.execute("SELECT purged FROM desk_state").fetchone() == (1,):
                return
            for name in KEPT[:3]:
                connection.execute(f"VACUUM FULL {name}".encode())
            connection.execute("UPDATE desk_state SET purged = 1")

    def close(self) -> None:
        with self._lock:
            if self._connection is not None:
                self._connection.close()
