"""Steps of the product as child processes: how long they take, by the wall and by the CPU, and how much memory."""

import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from benchmarks.harness import HERE


@dataclass(frozen=True)
class Cost:
    """Wall and CPU seconds, and the most memory in GB."""

    wall: float
    cpu: float
    memory: float

    def __add__(self, other: "Cost") -> "Cost":
        return Cost(self.wall + other.wall, self.cpu + other.cpu, max(self.memory, other.memory))


def child(*arguments: str, log: Path | None = None) -> Cost:
    """Run Python with arguments and say what it cost.

    Raises:
        RuntimeError: it failed.
    """
    began = time.perf_counter()
    with (log or Path(os.devnull)).open("w", encoding="utf-8") as out:
        process = subprocess.Popen(
            [sys.executable, *arguments],
            cwd=HERE.parent,
            env={**os.environ, "ZHUMO_LANG": "en"},
            stdout=out,
            stderr=out,
        )
        _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        told = log.read_text(encoding="utf-8")[-2_000:] if log else ""
        raise RuntimeError(f"{' '.join(arguments)} ended with {process.returncode}\n{told}")
    return Cost(time.perf_counter() - began, used.ru_utime + used.ru_stime, used.ru_maxrss * 1024 / 1e9)


def step(name: str, recipe: Path, runs: Path, *overrides: str) -> Cost:
    """One step of a recipe through the command line."""
    return child("-m", "zhumo", name, str(recipe), *overrides, "--runs", str(runs), log=runs / f"{name}.log")
