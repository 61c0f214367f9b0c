"""How many threads work together, and that it changes nothing but the time."""

import itertools
import os
import time
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch

from tests.engine.test_native import TEXT, here, model_of, paths
from zhumo.engine import crew
from zhumo.engine.crew import LONGEST, SHORTEST, WINDOW, Cores
from zhumo.engine.native import NativeModel
from zhumo.engine.parts import Part

COUNTS = [4, 1, 3, 1, 2, 4]


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[float]]:
    now = [0.0]
    monkeypatch.setattr(crew, "time", SimpleNamespace(monotonic=lambda: now[0]))
    yield now


def saw(cores: Cores, had: float) -> int:
    """After a window in which the threads had so many cores."""
    cores.saw(WINDOW, had * WINDOW)
    return cores.count


@pytest.mark.parametrize(("most", "had", "count"), [
    (2, 1.9, 2), (2, 1.2, 2), (2, 1.05, 1), (2, 0.4, 1), (16, 15.7, 16), (16, 10.4, 16), (16, 4.2, 4), (16, 0.0, 1),
    (1, 0.2, 1),
])  # fmt: skip
def test_as_many_work_as_there_are_cores(most: int, had: float, count: int) -> None:
    assert saw(Cores(most), had) == count


def test_one_bad_moment_is_not_a_window() -> None:
    cores = Cores(2)
    for had in (1.9, 1.9, 0.0, 1.9):
        assert cores.count == 2
        cores.saw(WINDOW / 4, had * WINDOW / 4)
    assert cores.count == 2
    for _ in range(4):
        cores.saw(WINDOW / 4, 0.0)
    assert cores.count == 1


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
    assert saw(cores, 1.8) == 2 and saw(cores, 0.7) == 1
    clock[0] += 2 * SHORTEST + 0.1
    assert saw(cores, 1.0) == 4 and saw(cores, 1.0) == 1
    clock[0] += 2 * SHORTEST + 0.1
    assert saw(cores, 1.0) == 4, "only one trial was in vain before"
    assert saw(cores, 3.9) == 4
    assert saw(cores, 1.9) == 2
    clock[0] += SHORTEST + 0.1
    assert saw(cores, 2.0) == 4, "it waits no longer than after the first time"


@here
@pytest.mark.parametrize("path", paths)
def test_any_number_of_the_threads_computes_the_same(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    core = NativeModel(model_of("llama"), slots=2, length=48, threads=4, path=path)
    parts = [Part(0, 0, TEXT, every=True), Part(1, 0, TEXT[:20], every=True, prompt=True)]
    crew, real, asked, found = core._crew, core._crew._core, list[int](), list[torch.Tensor]()

    def step(*told: Any) -> float:
        asked.append(told[3])
        return cast(float, real.zhumo_step(*told))

    monkeypatch.setattr(crew, "_core", SimpleNamespace(zhumo_step=step, zhumo_scratch=real.zhumo_scratch))
    for count in COUNTS:
        crew.cores.count = count
        found.append(torch.cat(core.step(parts)))
    assert all(torch.equal(one, found[0]) for one in found) and asked == COUNTS


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
