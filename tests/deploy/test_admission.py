"""Who may come in, and in whose turn: decided from the head of a request, fair to every key."""

import asyncio
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zhumo.deploy import places
from zhumo.deploy.admission import PATIENCE, Admission, Keys, Visit
from zhumo.deploy.places import Pace, Places
from zhumo.deploy.refusals import Refusal
from zhumo.deploy.server import find_keys
from zhumo.deploy.worker import Worker
from zhumo.errors import SourceError


class Nobody:
    """An engine that is never asked."""

    about: Mapping[str, Any] = {}
    capacity: Mapping[str, Mapping[str, int]] = {"m": {"at_once": 2, "places": 4}}
    ready = True

    def ask(self, *_: object, **__: object) -> Any:
        raise AssertionError

    async def close(self) -> None:
        raise AssertionError


def heads(key: str = "ka", **more: str) -> dict[bytes, bytes]:
    named = {name.replace("_", "-").encode(): value.encode() for name, value in more.items()}
    return {b"host": b"127.0.0.1", b"authorization": f"Bearer {key}".encode()} | named


@pytest.fixture
def admission() -> Admission:
    return Admission(Keys({"anna": "ka", "bo": "kb"}), Nobody())


def enter(admission: Admission, key: str = "ka", **more: str) -> Visit:
    return admission.enter("POST", "/v1/classify", heads(key, **more))


def refused(admission: Admission, key: str = "ka", **more: str) -> Refusal:
    with pytest.raises(Refusal) as found:
        enter(admission, key, **more)
    return found.value


def test_a_visit_knows_its_owner_and_its_time(admission: Admission) -> None:
    assert enter(admission) == Visit("anna", 600, True)
    assert enter(admission, "kb", x_request_timeout="1.5") == Visit("bo", 1.5, True)
    assert admission.enter("GET", "/health/live", {b"host": b"localhost"}) == Visit("", 600, False)
    assert admission.inside == 3


def test_one_key_may_fill_the_server_and_another_still_comes_in(admission: Admission) -> None:
    for _ in range(4):
        enter(admission)
    assert refused(admission).status == 503
    assert [enter(admission, "kb").owner for _ in range(2)] == ["bo"] * 2
    assert refused(admission, "kb").status == 503


def test_what_the_protocol_turns_away_is_what_would_find_no_place(admission: Admission) -> None:
    def turned(key: str, method: bytes = b"POST") -> bool:
        return admission.turns_away(method, list(heads(key).items()))

    assert not turned("ka")
    visits = [enter(admission) for _ in range(4)]
    assert turned("ka") and not turned("kb") and not turned("wrong") and not turned("ka", b"GET")
    admission.leave(visits[0], True)
    assert not turned("ka")
    assert b'zhumo_shed_total{reason="busy"} 1.0' in admission.meters.text()


def test_who_would_wait_too_long_is_told_how_long(admission: Admission, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr(places.time, "monotonic", lambda: now)
    first = enter(admission)
    now = 8.0
    admission.leave(first, True)  # 8 seconds a request
    visits = [enter(admission) for _ in range(2)]
    assert admission.wait == 8.0
    late = refused(admission, x_request_timeout="5")
    assert (late.status, late.headers["Retry-After"]) == (503, "8")
    visits.append(enter(admission, x_request_timeout="9"))
    assert admission.wait == 16.0 < PATIENCE
    for visit in visits:
        admission.leave(visit, False)  # answers of no use say nothing of the pace
    assert admission.inside == 0 and admission.wait == 0


def test_who_stops_lets_in_only_who_looks_after_it(admission: Admission) -> None:
    admission.draining = True
    assert refused(admission).key == "draining"
    assert admission.enter("GET", "/health/ready", heads()).owner == "anna"
    with pytest.raises(Refusal):
        admission.enter("GET", "/v1/models", heads())


def test_the_keys_of_a_file(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    for text, keys in (
        ("one-key\n", {"1": "one-key"}),
        ("anna:ka\n\nbo: kb\n", {"anna": "ka", "bo": "kb"}),
        ("ka\nkb", {"1": "ka", "2": "kb"}),
    ):
        file.write_text(text)
        assert find_keys(file) == keys
    for bad in ("", "anna:ka\nanna:kb", "anna:", "two words"):
        file.write_text(bad)
        with pytest.raises(SourceError):
            find_keys(file)


@given(st.lists(st.tuples(st.booleans(), st.sampled_from("abc")), max_size=200), st.integers(1, 9))
def test_places_are_never_more_than_twice_and_a_share_is_always_free(moves: list[tuple[bool, str]], count: int) -> None:
    room, taken = Places(count), dict.fromkeys("abc", 0)
    for comes, owner in moves:
        if comes:
            others = {name for name, number in taken.items() if number} | {owner}
            came = room.take(owner)
            assert came or (taken[owner] + 1) * len(others) > count
            taken[owner] += came
        elif taken[owner]:
            room.leave(owner)
            taken[owner] -= 1
        assert len(room) == sum(taken.values()) < 2 * count


def test_pace_follows_the_last_requests() -> None:
    pace = Pace()
    assert pace.seconds == 0
    for _ in range(300):
        pace.begin()
        pace.end(True)
    assert pace._done <= Pace.LAST and 0 <= pace.seconds < 0.01


def test_a_worker_takes_its_keys_in_turn() -> None:
    worker, gate, order = Worker("w"), threading.Event(), list[str]()
    worker._submit(gate.wait, "anna")
    jobs = [worker._submit(lambda: order.append("anna"), "anna") for _ in range(6)]
    jobs.append(worker._submit(lambda: order.append("bo"), "bo"))
    gate.set()
    for job in jobs:
        job.result(20)
    assert order.index("bo") <= 1 and order.count("anna") == 6


def test_who_waited_too_long_is_not_worked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("zhumo.deploy.worker.WAIT", -1.0)
    worker = Worker("w")
    with pytest.raises(Refusal) as found:
        asyncio.run(worker.run(lambda: 1))
    assert found.value.key == "waited"
    worker.close()
