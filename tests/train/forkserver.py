"""Kill a training at random moments, again and again, and compare what it ends with: `forkserver.py FOLDER KILLS SEED`.

The imports are done once; each try is a fork of this process, so that a kill costs milliseconds instead of seconds.
"""

import json
import os
import random
import shutil
import signal
import sys
import time
from pathlib import Path

import torch
from characters import lines, make_run

from zhumo.recipe import Train
from zhumo.run import Run, file_digest
from zhumo.train import loop, train
from zhumo.train.optimizer import make_optimizers

SETTINGS = {"epochs": 4, "accumulate": 2, "save_every": 0.02, "validate_every": 5}


def prepare(folder: Path) -> Run:
    """A fresh run of 44 steps with dropout and validation."""
    shutil.rmtree(folder, ignore_errors=True)
    return make_run(folder, SETTINGS, rows=lines(84), valid=lines(10, 100), dropout=0.1)[1]


def child(folder: Path) -> int:
    """The number of a new process that trains."""
    number = os.fork()
    if number == 0:
        recipe, run = make_run(folder, SETTINGS, rows=[])
        train(recipe, run, progress=False)
        os._exit(0)
    return number


def outcome(run: Run) -> tuple[str, list[int]]:
    """What must not depend on kills: the final weights, and which lines the metrics hold."""
    folder = run.step("train")
    steps = [json.loads(line)["step"] for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return file_digest(folder / "model.safetensors"), steps


def main(folder: Path, kills: int, seed: int) -> dict[str, int]:
    """Count kills, finished runs, and runs that ended otherwise than the one nobody killed."""
    make_optimizers(torch.nn.Linear(1, 1), Train())  # imports seconds of code, the first time
    loop.SAVING = 1.0  # save as often as `save_every` says, however long it takes
    dice = random.Random(seed)
    whole = prepare(folder / "whole")
    began = time.monotonic()
    assert os.waitpid(child(whole.folder), 0)[1] == 0
    needed = time.monotonic() - began
    expected = outcome(whole)
    counts = {"kills": 0, "runs": 0, "mismatches": 0, "failures": 0}
    while counts["kills"] < kills or counts["runs"] == 0:
        run = prepare(folder / "killed")
        while not (run.step("train") / "step.json").is_file():
            number = child(run.folder)
            if counts["kills"] < kills:
                time.sleep(dice.uniform(0, needed))
                os.kill(number, signal.SIGKILL)
            status = os.waitpid(number, 0)[1]
            counts["kills"] += os.WIFSIGNALED(status)
            counts["failures"] += os.WIFEXITED(status) and os.WEXITSTATUS(status) != 0
            assert not counts["failures"]
        counts["runs"] += 1
        counts["mismatches"] += outcome(run) != expected
    return counts


if __name__ == "__main__":
    print(json.dumps(main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))))
