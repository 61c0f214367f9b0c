"""What a disk at its end does to a training: a clear error, nothing lost, and it goes on to the same bits."""

import json
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_checkpoint import write

from zhumo.errors import RunError
from zhumo.run import Run
from zhumo.train import checkpoint

HERE = Path(__file__).parent
disk_of_our_own = pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount a disk")
traceable = pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")


def counts(*command: str) -> dict[str, int]:
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=HERE)
    assert done.returncode == 0, done.stderr
    found: dict[str, int] = json.loads(done.stdout.splitlines()[-1])
    return found


@traceable
def test_a_fault_at_some_calls_of_a_save(tmp_path: Path) -> None:
    found = counts(sys.executable, "faults.py", str(tmp_path), "30")
    assert found["faults"] > 10 and found["met"] == found["faults"] and found["killed"] and found["refused"], found
    assert found["lost"] == found["strange"] == found["stuck"] == 0, found


@pytest.mark.long
@pytest.mark.timeout(1_800)
@traceable
def test_a_fault_at_every_call_of_a_save(tmp_path: Path) -> None:
    found = counts(sys.executable, "faults.py", str(tmp_path), "1")
    assert found["calls"] > 100 and found["faults"] > 2 * found["calls"], found
    assert found["lost"] == found["strange"] == found["stuck"] == 0, found


def full(folder: Path, times: int, seed: int) -> None:
    found = counts("unshare", "-m", sys.executable, "full_disk.py", str(folder / "disk"), str(times), str(seed))
    assert found["full"] == found["equal"] == found["read_only"] == times, found
    assert found["refused"] >= times and found["lost"] == 0, found


@disk_of_our_own
@pytest.mark.usefixtures("shared")
def test_a_full_disk(tmp_path: Path) -> None:
    full(tmp_path, 1, seed=1)


@pytest.mark.long
@pytest.mark.timeout(1_800)
@disk_of_our_own
@pytest.mark.usefixtures("shared")
def test_a_full_disk_twenty_times(tmp_path: Path) -> None:
    full(tmp_path, 20, seed=2)


@pytest.mark.long
def test_a_thousand_flipped_bits(tmp_path: Path) -> None:
    write(tmp_path, 1)
    victim, dice = write(tmp_path, 2), np.random.default_rng(0)
    files = sorted(victim.iterdir())
    for number in range(1_000):
        path = files[number % len(files)]
        content = bytearray(path.read_bytes())
        place = dice.integers(len(content))
        content[place] ^= 1 << dice.integers(8)
        before = path.read_bytes()
        path.write_bytes(content)
        found = checkpoint.newest(tmp_path)
        assert found is not None and checkpoint.step_of(found) == 1, (path.name, place)
        victim.with_suffix(".corrupt").rename(victim)
        path.write_bytes(before)
    assert checkpoint.newest(tmp_path) == victim


def _hold(folder: Path, held: Any) -> None:
    with Run(folder).lock():
        held.set()
        signal.pause()


def test_a_run_belongs_to_one_process_until_it_ends(tmp_path: Path) -> None:
    forked = multiprocessing.get_context("fork")
    held = forked.Event()
    other = forked.Process(target=_hold, args=(tmp_path, held))
    other.start()
    assert held.wait(20)
    with pytest.raises(RunError, match="Another process"), Run(tmp_path).lock():
        pass
    other.kill()  # even so it leaves nothing behind that would have to be cleared away
    other.join()
    with Run(tmp_path).lock():
        pass
