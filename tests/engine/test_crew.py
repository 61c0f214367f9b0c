"""How many threads work together, and that it changes nothing but the time."""

import itertools
import os
import time
from collections.abc import Iterator
from types import SimpleNamespace

import pytest
import torch

from tests.engine.test_native import TEXT, here, model_of
from zhumo.engine import crew
from zhumo.engine.crew import LONGEST, SHORTEST, WINDOW, Cores
from zhumo.engine.native import NativeModel
from zhumo.engine.parts import Part


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[float]]:
    now = [0.0]
    monkeypatch.setattr(crew, "time", SimpleNamespace(monotonic=lambda: now[0], perf_counter=time.perf_counter))
    yield now


def saw(cores: Cores, had: float) -> int:
    """After a window in which the threads had so many cores."""
    cores.saw(WINDOW, had * WINDOW)
    return cores.count


@pytest.mark.parametrize(("most", "had", "count"), [
    (2, 1.9, 2), (2, 1.2, 2), (2, 1.05, 1), (2, 0.4, 1), (16, 15.7, 16), (16, 12.6, 13), (16, 0.0, 1), (1, 0.2, 1),
])  # fmt: skip
def test_as_many_work_as_there_are_cores(most: int, had: float, count: int) -> None:
    assert saw(Cores(most), had) == count


def test_one_bad_moment_is_not_a_window() -> None:
    cores = Cores(2)
    for _ in range(9):
        cores.saw(WINDOW / 10, 1.9 * WINDOW / 10)
    cores.saw(WINDOW / 10, 0.0)
    assert cores.count == 2


def test_all_are_tried_again_and_less_often_where_it_was_in_vain(clock: list[float]) -> None:
    cores, tried = Cores(2), list[float]()
    saw(cores, 0.9)
    while len(tried) < 6:
        clock[0] += 0.25
        if saw(cores, 0.9) == 2:
            tried.append(clock[0])
            saw(cores, 0.9)
    gaps = [later - earlier for earlier, later in itertools.pairwise(tried)]
    assert tried[0] == pytest.approx(SHORTEST, abs=0.3)
    assert gaps == sorted(gaps) and gaps[0] > SHORTEST and gaps[-1] == gaps[-2] == pytest.approx(LONGEST, abs=0.3)


def test_all_work_again_once_there_are_cores_again(clock: list[float]) -> None:
    cores = Cores(4)
    assert saw(cores, 1.5) == 2 and saw(cores, 0.7) == 1
    clock[0] += 2 * LONGEST
    assert saw(cores, 1.0) == 4 and saw(cores, 3.9) == 4 and saw(cores, 3.9) == 4
    assert saw(cores, 2.9) == 3
    clock[0] += SHORTEST + 0.1
    assert saw(cores, 3.0) == 4, "it waits no longer than after the first time"


@here
def test_any_number_of_the_threads_computes_the_same() -> None:
    core, parts = NativeModel(model_of("llama"), slots=2, length=48, threads=4), [Part(0, 0, TEXT, every=True)]
    found = []
    for count in (4, 1, 3, 1, 2, 4):
        core._crew.cores.count = count
        found.append(core.step(parts)[0])
    assert all(torch.equal(one, found[0]) for one in found)


@here
def test_threads_that_share_one_core_become_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a core of this process's own choice, so they share it whatever else the machine does."""
    monkeypatch.setattr(crew, "WINDOW", 0.05)
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(allowed)})  # of this thread, and of those it begins
    try:
        core = NativeModel(model_of("llama"), slots=1, length=48, threads=3)
        assert core._crew.cores.count == 3
        until = time.monotonic() + 60
        while core._crew.cores.count > 1 and time.monotonic() < until:
            core.step([Part(0, 0, TEXT)])
        assert core._crew.cores.count == 1
    finally:
        os.sched_setaffinity(0, allowed)
