"""What the desk said is kept, in a file or in a real database: whole or not at all, and gone when it is deleted."""

import os
import sqlite3
import stat
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from tests.postgres import PASSWORD, running
from zhumo.errors import SourceError
from zhumo.support import tickets as store
from zhumo.support.desk import Citation, Intent, Reply
from zhumo.support.passages import Passage
from zhumo.support.tickets import Tickets, TicketsError, place_of
from zhumo.words import LANGUAGES

SHOES = Passage("returns.md", ("Returns",), "Shoes may be sent back within thirty days.")
COSTS = Passage("returns.md", ("Costs",), "Sending back is free.")


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    pytest.importorskip("psycopg")
    with running() as address:
        yield address


@pytest.fixture(params=["sqlite", "postgres"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Somewhere new."""
    if request.param == "sqlite":
        return str(tmp_path / "tickets.sqlite")
    import psycopg

    address = request.getfixturevalue("server")
    name = f"desk_{os.urandom(4).hex()}"
    with psycopg.connect(f"{address}/postgres", autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}".encode())
    return f"{address}/{name}"


@pytest.fixture
def kept(place: str) -> Iterator[Tickets]:
    with closing(Tickets(place)) as tickets:
        yield tickets


def said(asked: str = "can I send shoes back?", *, kind: str = "answer", sureness: float = 4.5) -> Reply:
    cited = (Citation(SHOES, 0, len(SHOES.text)), Citation(COSTS, 0, len(COSTS.text)))
    text = SHOES.text if kind == "answer" else ""
    return Reply("answer" if kind == "answer" else "handover", text, cited, sureness, asked, "en")


def keep(tickets: Tickets, asked: str = "can I send shoes back?", talk: str | None = None, **facts: object) -> str:
    reply = said(asked, **facts)  # type: ignore[arg-type]
    return tickets.keep(reply, [asked], sure=3, knowledge="0" * 16, talk=talk)[0]


def test_a_hand_over_becomes_a_ticket_that_an_agent_takes_answers_and_closes(kept: Tickets) -> None:
    id_, ticket = kept.keep(said(kind="handover", sureness=1.5), ["hello", "shoes?"], sure=3, knowledge="k")
    assert ticket is not None
    [waits] = kept.tickets("open", 10)
    assert waits["id"] == ticket and waits["reply"] == id_ and waits["questions"] == ["hello", "shoes?"]
    assert (waits["language"], waits["sureness"], waits["sure"], waits["agent"]) == ("en", 1.5, 3.0, None)
    assert waits["citations"] == [place_of(SHOES), place_of(COSTS)]
    assert not kept.say(ticket, "mei", "too early") and kept.messages(id_) == {"state": "open", "data": []}
    assert kept.take(ticket, "mei") and not kept.take(ticket, "jo") and not kept.take("none", "jo")
    assert kept.say(ticket, "mei", "Yes, 三十天。", SHOES) and kept.say(ticket, "jo", "Bye.", close=True)
    assert not kept.say(ticket, "mei", "too late") and kept.tickets("open", 10) == kept.tickets("taken", 10) == []
    read = kept.messages(id_)
    assert read is not None and read["state"] == "closed"
    assert [(one["agent"], one["text"]) for one in read["data"]] == [("mei", "Yes, 三十天。"), ("jo", "Bye.")]
    assert read["data"][0]["passage"] == {**place_of(SHOES), "text": SHOES.text}
    one = kept.ticket(ticket)
    assert one is not None and one["messages"] == read["data"] and one["agent"] == "mei"
    assert kept.ticket("none") is None and kept.messages("none") is None


def test_an_answer_is_no_ticket_and_the_queue_begins_with_who_waits_longest(kept: Tickets) -> None:
    assert kept.messages(keep(kept)) == {"state": None, "data": []}
    for number in range(5):
        keep(kept, f"q{number}", kind="handover")
    assert [one["asked"] for one in kept.tickets("open", 3)] == ["q0", "q1", "q2"]
    for one in kept.tickets("open", 5):
        assert kept.take(one["id"], "a") and kept.say(one["id"], "a", "done", close=True)
    assert [one["asked"] for one in kept.tickets("closed", 2)] == ["q4", "q3"]


def test_the_last_thumb_counts(kept: Tickets) -> None:
    id_ = keep(kept)
    assert kept.judge(id_, "up") and kept.judge(id_, "down") and not kept.judge("none", "up")
    assert [row[1:] for row in kept.days("2000-01-01")] == [("answer", "down", 1)]
    assert kept.days("2999-01-01") == []


def test_one_correction_of_a_question_stands(kept: Tickets) -> None:
    first = kept.propose("shoes?", "mei", SHOES, None)
    assert first["state"] == "proposed" and first["passage"] == place_of(SHOES) and first["text"] is None
    second = kept.propose("shoes?", "jo", None, "Within thirty days.")
    other = kept.propose("boots?", "jo", COSTS, None)
    assert [one["id"] for one in kept.corrections("proposed", 10)] == [first["id"], second["id"], other["id"]]
    for one in (first, other, second):
        assert kept.review(one["id"], "accepted", "ann") is not None
    assert [one["id"] for one in kept.corrections("accepted")] == [second["id"], other["id"]]
    [refused] = kept.corrections("refused", 10)
    assert refused["id"] == first["id"] and refused["reviewer"] == "ann"
    assert kept.review("none", "accepted", "a") is None


def test_what_was_reviewed_and_what_nobody_could_answer(kept: Tickets) -> None:
    for _ in range(3):
        keep(kept, "boots?", kind="handover")
    keep(kept, "hats?", kind="handover")
    assert kept.judge(keep(kept), "up")
    assert kept.unanswered(10) == [("hats?", 1), ("boots?", 3)] and kept.unanswered(1) == [("hats?", 1)]
    assert kept.review(kept.propose("boots?", "a", COSTS, None)["id"], "accepted", "a")
    assert kept.unanswered(10) == [("hats?", 1)]
    rows = kept.reviewed(10)
    assert [row["asked"] for row in rows] == ["can I send shoes back?", *["boots?"] * 3]
    assert [row["verdict"] for row in rows] == ["up", *[None] * 3]
    assert rows[1]["corrected"] == place_of(COSTS) and rows[0]["corrected"] is None
    assert rows[0]["citations"][0] == place_of(SHOES) and rows[0]["sureness"] == 4.5


def test_many_threads_keep_all_and_one_of_them_gets_the_ticket(kept: Tickets) -> None:
    _, ticket = kept.keep(said(kind="handover"), ["q"], sure=3, knowledge="k")
    assert ticket is not None
    won: list[bool] = []

    def work(number: int) -> None:
        for one in range(20):
            assert kept.judge(keep(kept, f"{number} {one}"), "up")
        won.append(kept.take(ticket, str(number)))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert won.count(True) == 1 and len(won) == 8
    assert sum(count for *_, verdict, count in kept.days("2000-01-01") if verdict == "up") == 160


def test_two_programs_share_a_place_and_it_is_there_when_opened_again(place: str) -> None:
    with closing(Tickets(place)) as one, closing(Tickets(place)) as other:
        _, ticket = one.keep(said(kind="handover"), ["q"], sure=3, knowledge="k")
        assert ticket is not None and other.take(ticket, "b") and not one.take(ticket, "a")
    with closing(Tickets(place)) as again:
        assert again.tickets("taken", 9)[0]["agent"] == "b"


def test_a_reply_and_its_ticket_are_kept_together_or_not_at_all(kept: Tickets, monkeypatch: pytest.MonkeyPatch) -> None:
    made = iter(["r1", "t", "r2", "t"])  # the second ticket's id is taken
    monkeypatch.setattr(store, "_id", lambda: next(made))
    kept.keep(said(kind="handover"), ["q"], sure=3, knowledge="k")
    with pytest.raises(TicketsError):
        kept.keep(said(kind="handover"), ["q"], sure=3, knowledge="k")
    assert kept.messages("r1") is not None and kept.messages("r2") is None


@pytest.mark.parametrize("text", ["'; DROP TABLE desk_replies; --", "100% ?", "%s %(x)s", "🙂中文\n\t", "\\x00"])
def test_any_text_comes_back_as_it_was(kept: Tickets, text: str) -> None:
    _, ticket = kept.keep(said(text, kind="handover"), [text], sure=3, knowledge="k")
    assert ticket is not None and kept.take(ticket, text) and kept.say(ticket, text, text)
    one = kept.ticket(ticket)
    assert one is not None and one["asked"] == one["agent"] == one["messages"][0]["text"] == text
    assert one["questions"] == [text] and kept.propose(text, text, None, text)["text"] == text


def test_a_nul_does_no_harm(kept: Tickets) -> None:
    assert kept.messages(keep(kept, "a\x00b")) == {"state": None, "data": []}


def test_a_deleted_talk_is_gone_with_all_that_hangs_on_it(kept: Tickets) -> None:
    secret = "my number is 13800138000"
    first = keep(kept, secret, kind="handover")
    second = keep(kept, "and tomorrow?", talk=first, kind="handover")
    third = keep(kept, "and later?", talk=second)
    stays = keep(kept, "hats?", kind="handover")
    for one in kept.tickets("open", 9):
        assert kept.take(one["id"], "a") and kept.say(one["id"], "a", f"about {one['asked']}")
    assert kept.forget(second) and not kept.forget(first)
    assert [kept.messages(one) for one in (first, second, third)] == [None] * 3
    assert kept.messages(stays) is not None and [one["asked"] for one in kept.tickets("taken", 9)] == ["hats?"]


def test_no_byte_of_a_deleted_talk_is_left_in_the_file(tmp_path: Path) -> None:
    path = tmp_path / "t.sqlite"
    secret = "my number is 13800138000"
    with closing(Tickets(str(path))) as kept:
        for number in range(50):
            keep(kept, f"question {number}", kind="handover")
        id_, ticket = kept.keep(said(secret, kind="handover"), [secret], sure=3, knowledge="k")
        assert ticket and kept.take(ticket, "a") and kept.say(ticket, "a", f"You said {secret}")
        assert any(b"13800138000" in file.read_bytes() for file in tmp_path.iterdir())
        assert kept.forget(id_)
        assert not any(b"13800138000" in file.read_bytes() for file in tmp_path.iterdir())
        assert len(kept.tickets("open", 99)) == 50


def test_deleting_says_so_where_another_program_still_reads(tmp_path: Path) -> None:
    path = tmp_path / "t.sqlite"
    with closing(Tickets(str(path))) as kept, closing(sqlite3.connect(path, isolation_level=None)) as reader:
        id_ = keep(kept, "my number is 13800138000")
        reader.execute("BEGIN")
        reader.execute("SELECT * FROM desk_replies").fetchall()
        kept._base._base.execute("PRAGMA busy_timeout = 50")  # type: ignore[attr-defined]
        with pytest.raises(SourceError) as caught:
            kept.forget(id_)
        assert caught.value.key == "error.support.busy"
        reader.execute("COMMIT")
        assert kept.forget(id_) and not kept.forget(id_)
        assert not any(b"13800138000" in file.read_bytes() for file in tmp_path.iterdir())


def test_the_file_is_its_owners_and_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "t.sqlite"
    monkeypatch.setattr(store, "MOST_BYTES", 200_000)
    with closing(Tickets(str(path))) as kept:
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        first = keep(kept)
        with pytest.raises(TicketsError, match="full"):
            for _ in range(1_000):
                keep(kept, "x" * 1_000)
        assert path.stat().st_size <= 200_000 and kept.messages(first) is not None and kept.judge(first, "up")


def test_a_store_of_an_earlier_zhumo_is_brought_up_to_this_one(place: str) -> None:
    with closing(Tickets(place)) as kept:
        id_ = keep(kept, "shoes?", kind="handover")
        with kept._base.writing() as run:  # as format 1 was
            for column in ("intent", "likely"):
                run(f"ALTER TABLE desk_replies DROP COLUMN {column}")
            run("UPDATE desk_state SET format = 1")
    for _ in range(2):
        with closing(Tickets(place)) as kept:
            [one] = kept.tickets("open", 10)
            assert one["reply"] == id_ and one["intent"] is None
    with closing(Tickets(place)) as kept:
        about = replace(said("costs?", kind="handover"), intent=Intent("费用", 0.75))
        kept.keep(about, ["costs?"], sure=3, knowledge="k")
        [one] = kept.tickets("open", 10, "费用")
        assert one["intent"] == {"label": "费用", "score": 0.75} and len(kept.tickets("open", 10)) == 2
        assert sorted(kept.intents("2000-01-01"), key=str) == [("费用", "handover", 1), (None, "handover", 1)]
        assert kept.intents("9999-01-01") == []


def test_a_full_database_says_so_and_still_forgets(server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with closing(Tickets(f"{server}/postgres")) as kept:
        id_ = keep(kept, kind="handover")
        made = kept.propose("shoes?", "a", None, "Yes.")
    monkeypatch.setattr(store, "MOST_BYTES", 100)
    with closing(Tickets(f"{server}/postgres")) as kept:
        [ticket] = [one["id"] for one in kept.tickets("open", 10) if one["reply"] == id_]
        assert kept.judge(id_, "up") and kept.take(ticket, "a") and kept.review(made["id"], "accepted", "b")
        for add in (
            lambda: keep(kept),
            lambda: kept.say(ticket, "a", "Yes."),
            lambda: kept.propose("?", "a", None, "Yes."),
        ):
            with pytest.raises(TicketsError, match="GB"):
                add()
        assert kept.forget(id_) and kept.ticket(ticket) is None


def test_a_lost_connection_is_told_and_made_anew(server: str) -> None:
    import psycopg

    with closing(Tickets(f"{server}/postgres")) as kept:
        id_ = keep(kept)
        with psycopg.connect(f"{server}/postgres", autocommit=True) as other:
            other.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()")
        with pytest.raises(TicketsError):
            kept.judge(id_, "up")
        assert kept.judge(id_, "up")


def _other(path: Path) -> None:
    with closing(sqlite3.connect(path)) as base:
        base.execute("CREATE TABLE other (a)")


def _newer(path: Path) -> None:
    Tickets(str(path)).close()
    with closing(sqlite3.connect(path)) as base, base:
        base.execute("UPDATE desk_state SET format = 99")


def _damaged(path: Path) -> None:
    Tickets(str(path)).close()
    with closing(sqlite3.connect(path)) as base, base:
        base.execute("DELETE FROM desk_state")


@pytest.mark.parametrize(("begin", "key"), [
    (lambda path: path.write_bytes(b"no database at all, only text" * 99), "tickets_place"),
    (lambda path: path.mkdir(), "tickets_place"), (_other, "tickets_format"), (_newer, "tickets_format"),
    (_damaged, "tickets_format"),
])  # fmt: skip
def test_what_is_no_store_is_refused_and_left_alone(tmp_path: Path, begin: Callable[[Path], object], key: str) -> None:
    path = tmp_path / "t.sqlite"
    begin(path)
    before = path.read_bytes() if path.is_file() else None
    with pytest.raises(SourceError) as caught:
        Tickets(str(path))
    assert caught.value.key == f"error.support.{key}"
    assert before is None or path.read_bytes() == before or begin in (_newer, _damaged)


def test_a_database_that_cannot_be_had(server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for address, key in ((server.replace("zhumo@", f"zhumo:{PASSWORD}@"), "error.sources.password"),
                         ("postgresql://zhumo@127.0.0.1:1/none", "error.support.tickets_place")):  # fmt: skip
        with pytest.raises(SourceError) as caught:
            Tickets(address)
        assert caught.value.key == key and not any(PASSWORD in caught.value.say(language) for language in LANGUAGES)
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(SourceError, match=r"zhumo\[postgres\]"):
        Tickets(server)
