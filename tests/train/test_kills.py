"""kill -9 at any moment, then start again: the same final weights, bit by bit."""

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent


def killed(folder: Path, kills: int, seed: int) -> dict[str, int]:
    command = [sys.executable, str(HERE / "forkserver.py"), str(folder), str(kills), str(seed)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=HERE)
    assert done.returncode == 0, done.stderr
    counts: dict[str, int] = json.loads(done.stdout.splitlines()[-1])
    return counts


@pytest.mark.usefixtures("shared")
def test_random_kills(tmp_path: Path) -> None:
    counts = killed(tmp_path, 12, seed=1)
    assert counts["kills"] >= 12 and counts["runs"] >= 1 and counts["mismatches"] == 0, counts


@pytest.mark.long
@pytest.mark.usefixtures("shared")
def test_two_hundred_random_kills(tmp_path: Path) -> None:
    counts = killed(tmp_path, 200, seed=2)
    assert counts["kills"] >= 200 and counts["mismatches"] == 0, counts


@pytest.mark.usefixtures("shared")
def test_a_second_signal_ends_it_at_once(tmp_path: Path) -> None:
    code = (
        "import os, signal, sys, pathlib, characters, zhumo.train\n"
        "class Twice(characters.Characters):\n"
        "    def loss(self, model, batch):\n"
        "        for _ in range(2): os.kill(os.getpid(), signal.SIGTERM)\n"
        "        return super().loss(model, batch)\n"
        "characters.Characters = Twice\n"
        "run = characters.make_run(pathlib.Path(sys.argv[1]), {'steps': 5}, rows=characters.lines(20))\n"
        "zhumo.train.train(*run)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], cwd=HERE, check=False, capture_output=True)
    assert done.returncode == -signal.SIGTERM, done.stderr
    assert not (tmp_path / "train" / "checkpoints").exists()
