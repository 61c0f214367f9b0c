"""The flywheel on real questions (banking77): corrections lift what they should, poison is refused, and a running
server changes its encoder and goes back while it answers.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any, BinaryIO, cast

import numpy as np
import pytest
import torch
from fastapi import FastAPI
from fastapi.testclient import TestClient
from typer.testing import CliRunner

from benchmarks.bank import CORRECTED, Bank, accept, bank
from tests.support.test_routes import PAGES
from zhumo.bundle import Bundle, load, save
from zhumo.cli import app
from zhumo.deploy.parity import Server
from zhumo.deploy.refusals import Refusal
from zhumo.deploy.served import CALLER, Served
from zhumo.errors import DataError, GateError, ModelError, RunError
from zhumo.run import read_json, write_json
from zhumo.support.exam import questions
from zhumo.support.improve import FROZEN, Lesson, Sat, gate, improve
from zhumo.support.improving import Flywheel, add_improving
from zhumo.support.knowledge import Knowledge
from zhumo.support.opening import encoder_of, identity, opened
from zhumo.support.tickets import Tickets
from zhumo.support.versions import Versions

Json = dict[str, Any]


@pytest.fixture(scope="module")
def world(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Bank:
    return bank(tmp_path_factory.mktemp("bank"), shared)


@contextmanager
def serving(world: Bank, tickets: Path) -> Iterator[Server]:
    command = [sys.executable, "-m", "zhumo", "serve", str(world.bundle), "--documents", str(world.documents),
               "--knowledge", str(world.knowledge), "--tickets", str(tickets), "--questions", str(world.earlier),
               "--port", "0"]  # fmt: skip
    environment = {**os.environ, "ZHUMO_KEY": "k"}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stdout is not None
        found = re.search(r"http://127\.0\.0\.1:(\d+)/", process.stdout.readline())
        assert found is not None
        try:
            yield Server(int(found[1]), "k")
        finally:
            process.terminate()
            process.wait(60)


def ask(server: Server, method: str, path: str, body: Json | None = None) -> Json:
    response = server.request(method, path, None if body is None else json.dumps(body))
    found: Json = json.loads(response.read())
    assert response.status == 200, found
    return found


def improved(server: Server) -> Json:
    """What became of an improvement, and that there is one at a time."""
    assert ask(server, "POST", "/v1/desk/improve")["running"]
    assert server.request("POST", "/v1/desk/improve").status == 409
    while (state := ask(server, "GET", "/v1/desk/models"))["running"]:
        time.sleep(0.2)
    return state


@pytest.mark.long
def test_two_hundred_corrections_lift_the_frozen_ones_by_the_button(world: Bank, tmp_path: Path) -> None:
    tickets, first = tmp_path / "tickets.sqlite", identity(world.bundle)
    with serving(world, tickets) as server, closing(Tickets(str(tickets))) as kept:
        before = ask(server, "GET", "/v1/desk/models")
        assert (before["serves"], before["before"], before["promotes"], before["running"]) == (0, None, False, False)
        assert "Only 0 corrections are frozen" in improved(server)["problem"]
        accept(kept, world.corrections())
        state = improved(server)
        assert state["problem"] is None and state["promotes"] and state["serves"] == 0, state
        trial = state["trial"]
        frozen, earlier = trial["questions"]["frozen"], trial["questions"]["earlier"]
        assert trial["learned"] + trial["frozen"] == CORRECTED and trial["frozen"] >= 25
        assert frozen["outcome"] == "better" and frozen["difference"]["value"] >= 0.15, trial
        assert earlier["outcome"] != "worse" and earlier["difference"]["value"] >= -0.04, trial
        assert trial["said"]["en"].startswith("It may serve.") and trial["said"]["zh"].startswith("可以上线")
        assert ask(server, "POST", "/v1/desk/promote")["serves"] == trial["trial"]
        assert held(world.bundle, world.documents, world.knowledge) != first
        assert ask(server, "POST", "/v1/desk/rollback")["serves"] == 0
        assert held(world.bundle, world.documents, world.knowledge) == first


@pytest.fixture
def desk(bundle: Bundle, tmp_path: Path) -> Path:
    """The run of a desk whose next version waits: other weights, and a trial that passed."""
    run = tmp_path / "runs" / "desk"
    shutil.copytree(bundle.folder, run / "deploy")
    new = Versions(run / "deploy").begin()
    shutil.copytree(bundle.folder, new.step("deploy"))
    other = load(new.step("deploy"))
    with torch.no_grad():
        for weight in other.model.parameters():
            weight.add_(0.05 * torch.randn(weight.shape, generator=torch.Generator().manual_seed(0)))
    save(new.step("deploy"), other.model, other.family, other.tokenizer, other.task)
    for name in ("golden.json", "SHA256SUMS"):
        (new.step("deploy") / name).unlink()
    write_json(new.folder / "trial.json", {"trial": 1, "against": 0, "passes": True})
    (tmp_path / "pages").mkdir()
    for name, text in PAGES.items():
        (tmp_path / "pages" / name).write_text(text, encoding="utf-8")
    (tmp_path / "earlier.jsonl").write_text('{"question": "x", "gold": []}', encoding="utf-8")
    return run


def test_a_running_server_changes_its_encoder_and_goes_back_while_it_answers(desk: Path, tmp_path: Path) -> None:
    knowledge, pages = tmp_path / "k.sqlite", tmp_path / "pages"
    world = Bank(desk / "deploy", pages, knowledge, tmp_path / "earlier.jsonl", {}, [])
    first, versions = identity(desk / "deploy"), Versions(desk / "deploy")
    with serving(world, tmp_path / "tickets.sqlite") as server:
        assert ask(server, "GET", "/v1/desk")["improves"]
        answers: list[tuple[int, float]] = []
        done, body = threading.Event(), json.dumps({"questions": ["may shoes be sent back?"]})

        def visit() -> None:
            while not done.is_set():
                response = server.request("POST", "/v1/desk/replies", body)
                answers.append((response.status, json.loads(response.read())["sureness"]))

        visitor = threading.Thread(target=visit)
        visitor.start()
        try:
            state = ask(server, "POST", "/v1/desk/promote")
            while len(answers) < 5 or answers[-1] == answers[0]:
                time.sleep(0.05)
        finally:
            done.set()
            visitor.join()
        assert (state["serves"], state["before"], state["promotes"], state["model"]) == (1, 0, False, first_name(desk))
        # Every reply is one encoder's or the other's, never the one's question on the other's passages.
        assert {status for status, _ in answers} == {200}
        assert len({round(sureness, 3) for _, sureness in answers}) == 2
        assert held(desk / "deploy", pages, knowledge) == identity(versions.folder(1)) != first
        assert server.request("POST", "/v1/desk/promote").status == 400
        assert ask(server, "POST", "/v1/desk/rollback")["serves"] == 0
        assert held(desk / "deploy", pages, knowledge) == first
        assert server.request("POST", "/v1/desk/rollback").status == 400
        assert ask(server, "GET", "/v1/desk/models")["promotes"]  # what passed may serve again

        (versions.folder(1) / "model.safetensors").write_bytes(b"damaged")
        response = server.request("POST", "/v1/desk/promote")
        assert (response.status, json.loads(response.read())["error"]["code"]) == (503, "not_swapped")
        assert versions.now == 0 and ask(server, "POST", "/v1/desk/replies", json.loads(body))["kind"]


def first_name(desk: Path) -> str:
    name: str = read_json(desk / "deploy" / "run.json")["name"]
    return name


def held(bundle: Path, documents: Path, file: Path) -> str:
    """Whose vectors lie in the knowledge file, which are those of the version that serves."""
    serving = Versions(bundle).serving
    library, found = opened(load(serving), documents, file)
    assert (found.new, found.changed, found.gone) == (0, 0, 0)
    with closing(Knowledge(file)) as knowledge:
        known = knowledge.known(None)
    vectors = encoder_of(load(serving), "match_prefix")([passage.full for passage in known.passages])
    assert np.allclose(known.vectors, vectors, atol=1e-5)
    return library.encoder


@pytest.mark.long
def test_a_poisoned_batch_is_refused(world: Bank, tmp_path: Path) -> None:
    with closing(Tickets(str(tmp_path / "tickets.sqlite"))) as tickets:
        accept(tickets, world.corrections(poison="scattered"))
    versions = Versions(world.bundle)
    before = versions.now
    options = {"documents": world.documents, "knowledge": world.knowledge, "questions": world.earlier,
               "tickets": tmp_path / "tickets.sqlite"}  # fmt: skip
    command = ["improve", str(world.bundle), "--json", *(f"--{name}={value}" for name, value in options.items())]
    result = CliRunner().invoke(app, [*command, "--promote"])
    trial = json.loads(result.stdout.splitlines()[-1])
    assert isinstance(result.exception, GateError) and versions.now == before
    assert not trial["passes"] and trial["said"]["en"].startswith("It may not serve")
    assert trial["questions"]["frozen"]["outcome"] != "better"
    with pytest.raises(GateError):
        versions.promote()
    assert CliRunner().invoke(app, ["improve", str(world.bundle)]).exit_code == 2


# -- the gate, the freeze and the versions by themselves


def sat(right: list[int], answered: list[int] | None = None) -> Sat:
    return Sat(np.array(right, dtype=bool), np.array(answered or [1] * len(right), dtype=bool))


@pytest.mark.parametrize(("old", "new", "answered", "passes", "words"), [
    ([1] * 60, [1] * 15 + [0] * 5, None, True, "It may serve"),
    ([1] * 50 + [0] * 10, [1] * 15 + [0] * 5, None, False, "surely worse"),
    ([1] * 58 + [0] * 2, [1] * 15 + [0] * 5, None, True, "no sure loss"),
    ([1] * 60, [1] * 5 + [0] * 15, None, False, "not surely better"),
    ([1] * 60, [1] * 7 + [0] * 13, None, False, "(p = 0.125)"),  # 3 : 0 by an exact sign test
    ([1] * 56 + [0] * 4, [1] * 15 + [0] * 5, None, True, "no sure loss"),
    ([1] * 55 + [0] * 5, [1] * 15 + [0] * 5, None, False, "surely worse"),
    ([1] * 60, [1] * 10 + [0] * 10, [0] * 5 + [1] * 15, False, "10 of them wrongly"),
])  # fmt: skip
def test_the_gate(old: list[int], new: list[int], answered: list[int] | None, passes: bool, words: str) -> None:
    before = [sat([1] * 60), sat([1] * 4 + [0] * 16)]
    told = gate(before, [sat(old), sat(new, answered)])
    assert told["passes"] is passes and words in told["said"]["en"]
    assert told["wrong"]["frozen"][0] == 0.8 and told["answered"]["frozen"][1] == (answered is None or 0.75)


def test_a_fifth_is_frozen_for_ever_and_own_words_never_are() -> None:
    lessons = [Lesson(f"question {number}", "match", "0" * 16) for number in range(5_000)]
    share = np.mean([one.frozen for one in lessons])
    assert abs(share - 1 / FROZEN) < 0.02
    again = [Lesson(one.text, "other", "1" * 16).frozen for one in lessons]
    assert again == [one.frozen for one in lessons]
    assert not any(Lesson(one.text, "own words", None).frozen for one in lessons)


def trial(versions: Versions, *, passes: bool) -> int:
    against, run = versions.now, versions.begin()
    run.step("deploy").mkdir()
    write_json(run.folder / "trial.json", {"against": against, "passes": passes})
    return int(run.folder.name)


def test_only_a_passed_trial_against_what_serves_is_promoted_and_each_goes_back_to_the_one_before(
    tmp_path: Path,
) -> None:
    (tmp_path / "deploy").mkdir()
    versions = Versions(tmp_path / "deploy")
    assert (versions.now, versions.before, versions.passed) == (0, None, None)
    for refused in (versions.promote, versions.back):
        with pytest.raises((GateError, RunError)):
            refused()
    assert trial(versions, passes=False) == 1 and versions.passed is None
    assert trial(versions, passes=True) == 2 and not (versions.home / "1").exists()
    assert versions.promote() == versions.now == 2 and versions.before == 0
    assert trial(versions, passes=True) == 3 and versions.promote() == 3
    assert trial(versions, passes=True) == 4
    assert versions.back() == 2 and versions.passed is None  # 4 was held against 3
    assert Versions(tmp_path / "deploy").now == 2 and versions.serving.samefile(versions.home / "2" / "deploy")
    assert versions.back() == 0 and versions.serving.samefile(versions.bundle)
    assert trial(versions, passes=True) == 5 and versions.trials() == [5]


def test_a_passed_trial_stays_until_something_else_serves(tmp_path: Path) -> None:
    (tmp_path / "deploy").mkdir()
    versions = Versions(tmp_path / "deploy")
    for number in (1, 2):
        assert trial(versions, passes=True) == number and versions.promote() == number
    assert trial(versions, passes=True) == 3
    versions.begin()  # which comes to no end
    assert (versions.now, versions.before, versions.passed) == (2, 1, 3) and versions.promote() == 3


def test_why_a_trial_failed_is_told_though_older_ones_went(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "deploy").mkdir()
    versions = Versions(tmp_path / "deploy")
    trial(versions, passes=False)

    def fails(*_: object, stdout: BinaryIO, **__: object) -> SimpleNamespace:
        versions.begin()
        stdout.write(b"No disk.\n")
        return SimpleNamespace(pid=os.getpid(), poll=lambda: 1)

    monkeypatch.setattr(subprocess, "Popen", fails)
    monkeypatch.setattr(os, "setpriority", lambda *_: None)
    flywheel = Flywheel(versions, [])
    flywheel.start()
    assert versions.trials() == [] and flywheel.problem == "No disk."


def test_of_those_who_start_at_once_one_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "deploy").mkdir()
    flywheel, started = Flywheel(Versions(tmp_path / "deploy"), []), []

    class Process:
        pid = os.getpid()

        def __init__(self, *_: object, **__: object) -> None:
            time.sleep(0.05)
            started.append(self)

        def poll(self) -> None:
            return None

    def start(_: int) -> str:
        try:
            flywheel.start()
        except Refusal:
            return "refused"
        return "started"

    monkeypatch.setattr(subprocess, "Popen", Process)
    monkeypatch.setattr(os, "setpriority", lambda *_: None)
    with ThreadPoolExecutor(4) as pool:
        assert sorted(pool.map(start, range(4))) == ["refused"] * 3 + ["started"] and len(started) == 1


def test_nothing_is_made_of_what_is_no_bundle(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["improve", str(tmp_path / "typo" / "deploy"), "--back"])
    assert isinstance(result.exception, ModelError) and list(tmp_path.iterdir()) == []


def test_whatever_a_swap_fails_over_the_link_is_put_back(desk: Path) -> None:
    class Engine:
        async def swap(self) -> bool:
            raise MemoryError

    versions, http = Versions(desk / "deploy"), FastAPI()
    served = SimpleNamespace(engine=Engine(), name="e")
    add_improving(http, cast(Served, served), Flywheel(versions, []), [CALLER.get().name])
    with TestClient(http) as client, pytest.raises(MemoryError):
        client.post("/v1/desk/promote")
    assert versions.now == 0


def test_too_few_corrections_and_no_earlier_questions_are_told(desk: Path, tmp_path: Path) -> None:
    pages, file, versions = tmp_path / "pages", tmp_path / "k.sqlite", Versions(desk / "deploy")
    search = opened(load(desk / "deploy"), pages, file)[0].search
    with closing(Tickets(str(tmp_path / "t.sqlite"))) as tickets:
        accept(tickets, [(f"shoes {number}?", search.passages[0]) for number in range(20)])
        with pytest.raises(DataError, match=r"^Only \d corrections are frozen") as caught:
            improve(versions, pages, file, tickets, questions(tmp_path / "earlier.jsonl"))
        assert caught.value.key == "error.support.few_corrections"
        assert versions.trials() == [1] and not (versions.home / "work").exists()
        with pytest.raises(DataError, match="--questions"):
            improve(versions, pages, file, tickets, [])


def test_nothing_is_learned_that_it_is_judged_by(desk: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pages, file, versions = tmp_path / "pages", tmp_path / "k.sqlite", Versions(desk / "deploy")
    passage = opened(load(desk / "deploy"), pages, file)[0].search.passages[0]
    asked = [f"shoes {number}?" for number in range(80)]
    frozen = {text for text in asked if Lesson(text, passage.full, passage.key).frozen}
    earlier = next(text for text in asked if text not in frozen)
    line = json.dumps({"question": earlier, "gold": [{"file": passage.file, "quote": passage.text[:5]}]})
    (tmp_path / "earlier.jsonl").write_text(line, encoding="utf-8")
    (desk / "prepare").mkdir()
    rows = [{"text": text, "match": "x"} for text in (*asked, "hats?")]
    (desk / "prepare" / "train.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    monkeypatch.setattr("zhumo.support.improve.make", lambda recipe, *_, **__: (_ for _ in ()).throw(RuntimeError))
    with closing(Tickets(str(tmp_path / "t.sqlite"))) as tickets:
        accept(tickets, [(text, passage) for text in asked])
        with pytest.raises(RuntimeError):
            improve(versions, pages, file, tickets, questions(tmp_path / "earlier.jsonl"))
    [pairs] = versions.home.glob("*/pairs.jsonl")
    learned = {json.loads(row)["text"] for row in pairs.read_text(encoding="utf-8").splitlines()}
    assert learned == {*asked, "hats?"} - frozen - {earlier}


def test_an_improvement_that_is_given_up_leaves_no_copy_of_the_knowledge(desk: Path, tmp_path: Path) -> None:
    code = """if True:
        import os, signal, zhumo.support.improve as improve
        from zhumo.cli import main
        def given_up(bundle, documents, copy):
            assert copy.is_file()
            os.kill(os.getpid(), signal.SIGTERM)
        improve.opened = given_up
        main()"""
    options = {"documents": tmp_path / "pages", "knowledge": tmp_path / "k.sqlite", "tickets": tmp_path / "t.sqlite",
               "questions": tmp_path / "earlier.jsonl"}  # fmt: skip
    Knowledge(tmp_path / "k.sqlite").close()
    command = [sys.executable, "-c", code, "improve", str(desk / "deploy"),
               *(f"--{name}={value}" for name, value in options.items())]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 130, done.stderr
    assert list((desk / "improved").rglob("k.sqlite")) == []


def test_a_file_of_questions_that_is_none(tmp_path: Path) -> None:
    path = tmp_path / "q.jsonl"
    with pytest.raises(DataError):
        questions(path)
    for line in ("{", '{"question": "x"}', '{"question": "x", "gold": [1]}', "[]"):
        path.write_text('{"question": "x", "gold": [{"file": "a.md", "quote": "b"}]}\n' + line + "\n")
        with pytest.raises(DataError, match="Line 2"):
            questions(path)
    path.write_text('{"question": "x\u2028y", "gold": []}\n{"question": "退货", "gold": []}\n', encoding="utf-8")
    assert [one.text for one in questions(path)] == ["x\u2028y", "退货"]
    path.write_text('{"question": "x", "gold": []}\n{"question": "退货", "gold": []}\n', encoding="gbk")
    with pytest.raises(DataError, match="Line 2"):
        questions(path)
