"""A fault at every system call of a save: `faults.py FOLDER EVERY`, EVERY the distance between two faults of a kind.

strace makes the kernel's answer to one call an error, or a kill: no hook in our code, nothing of ours replaced.
The imports are done once; each try is a fork of this process, which strace is put upon before it saves.
"""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import torch
from safetensors import SafetensorError

from zhumo.train import checkpoint

FAULTS = ("signal=KILL", "error=ENOSPC", "error=EIO")
FILES = (
    "openat", "mkdir", "write", "pwrite64", "fsync", "fdatasync", "rename", "renameat2", "unlinkat", "unlink", "rmdir",
    "close", "read", "lseek", "newfstatat", "fstat", "statx", "getdents64", "ftruncate", "fallocate", "fchmod", "chmod",
)  # fmt: skip
"""Calls that may fail because of the disk; every call may be the last one before a kill."""


def save(folder: Path, step: int) -> None:
    """A checkpoint like any other, its content a function of the step."""
    generator = torch.Generator().manual_seed(step)
    tensors = {"model": {"a": torch.randn(300, 50, generator=generator)}, "best": {"a": torch.ones(3)}}
    checkpoint.save(folder, step, tensors, {"step": step})


def child(folder: Path) -> int:
    """A new process that waits to be continued, saves step 3 and ends with 0, or 3 where the disk did not let it."""
    number = os.fork()
    if number:
        return number
    os.kill(os.getpid(), signal.SIGSTOP)
    try:
        os.access("/save-begins", os.F_OK)
        save(folder, 3)
        os.access("/save-ended", os.F_OK)
    except (OSError, SafetensorError):
        os._exit(3)
    os._exit(0)


def traced(folder: Path, log: Path, fault: str | None) -> int:
    """Save in a child under strace; returns its wait status."""
    number = child(folder)
    os.waitpid(number, os.WUNTRACED)
    command = ["strace", "-qq", "-o", str(log), "-p", str(number), *(["-e", f"inject={fault}"] if fault else [])]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as tracer:
        status = Path(f"/proc/{number}/status")
        while "TracerPid:\t0" in status.read_text():
            assert tracer.poll() is None, "strace could not be put upon the child"
            time.sleep(0.002)
        os.kill(number, signal.SIGCONT)
        ended = os.waitpid(number, 0)[1]
    return ended


def points(log: Path) -> list[tuple[str, int]]:
    """Every call of the save: its name, and how many of that name came before it and with it."""
    seen: Counter[str] = Counter()
    found: list[tuple[str, int]] = []
    inside = False
    for line in log.read_text().splitlines():
        if call := re.match(r"(\w+)\(", line):
            seen[call[1]] += 1
            inside = (inside or "/save-begins" in line) and "/save-ended" not in line
            if inside and "/save-begins" not in line:
                found.append((call[1], seen[call[1]]))
    return found


def fresh(folder: Path) -> None:
    """Two checkpoints, steps 1 and 2."""
    shutil.rmtree(folder, ignore_errors=True)
    save(folder, 1)
    save(folder, 2)


def main(folder: Path, every: int) -> dict[str, int]:
    """Count faults, how the saves ended, and runs that lost the checkpoint they had."""
    log = folder.with_name("strace.log")
    fresh(folder)
    assert traced(folder, log, None) == 0
    calls = points(log)
    counts = Counter(calls=len(calls), faults=0, met=0, killed=0, refused=0, saved=0, lost=0, strange=0, stuck=0)
    for fault in FAULTS:
        possible = [point for point in calls if fault == FAULTS[0] or point[0] in FILES]
        for name, number in possible[::every]:
            fresh(folder)
            status = traced(folder, log, f"{name}:{fault}:when={number}")
            counts["faults"] += 1
            ended = {0: "saved", 3: "refused"}.get(os.waitstatus_to_exitcode(status), "strange")
            counts["killed" if os.WIFSIGNALED(status) else ended] += 1
            counts["met"] += os.WIFSIGNALED(status) or "(INJECTED)" in log.read_text()
            found = checkpoint.newest(folder)
            counts["lost"] += found is None or checkpoint.step_of(found) < 2 or not right(found)
            checkpoint.sweep(folder, keep=checkpoint.KEEP)
            save(folder, 4)  # and it goes on
            latest = checkpoint.newest(folder)
            counts["stuck"] += latest is None or checkpoint.step_of(latest) != 4
    return dict(counts)


def right(path: Path) -> bool:
    """Whether a checkpoint holds what its step wrote."""
    tensors, state = checkpoint.read(path)
    step = checkpoint.step_of(path)
    wanted = torch.randn(300, 50, generator=torch.Generator().manual_seed(step))
    return state == {"step": step} and torch.equal(tensors["model"]["a"], wanted)


if __name__ == "__main__":
    print(json.dumps(main(Path(sys.argv[1]) / "checkpoints", int(sys.argv[2]))))
