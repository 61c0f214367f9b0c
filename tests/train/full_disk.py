"""Train on a disk that is full, then mended: `full_disk.py FOLDER TIMES SEED`. FOLDER becomes a tmpfs of its own.

Run it in a mount namespace of its own (`unshare -m`): the disk goes with the process.
"""

import json
import os
import random
import subprocess
import sys
from collections import Counter
from pathlib import Path

from characters import lines, make_run

from zhumo.errors import RunError
from zhumo.run import Run, file_digest
from zhumo.train import checkpoint, loop, train, watch

ROOM = 3_000_000  # of the disk; a run of this size takes a third of it
SETTINGS = {"steps": 12, "save_every": 0.001, "validate_every": 4}


def mount(folder: Path, *options: str) -> None:
    """(Re)mount the disk."""
    subprocess.run(["mount", "-t", "tmpfs", *options, "tmpfs", str(folder)], check=True)


def fill(folder: Path, left: int) -> Path:
    """A file that leaves so many bytes on the disk."""
    disk = os.statvfs(folder)
    path = folder / "filler"
    with path.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, max(4096, disk.f_bavail * disk.f_frsize - left))
    return path


def outcome(run: Run) -> str:
    """The final weights."""
    return file_digest(run.step("train") / "model.safetensors")


def main(folder: Path, times: int, seed: int) -> dict[str, int]:
    """Count runs that were refused, that ended as an undisturbed one, and checkpoints that were lost."""
    loop.SAVING = 1.0
    watch.TENSORBOARD = False
    dice = random.Random(seed)
    model = {"rows": lines(60), "valid": lines(10, 100), "dropout": 0.1}
    recipe, whole = make_run(folder.with_name("whole"), SETTINGS, **model)
    train(recipe, whole, progress=False)
    counts = Counter(full=0, refused=0, equal=0, lost=0, read_only=0)
    for _ in range(times):
        mount(folder, "-o", f"size={ROOM}")
        recipe, run = make_run(folder / "run", SETTINGS, **model)
        filler = fill(folder, dice.randrange(4096, 900_000))
        before = None
        for _ in range(3):
            try:
                train(recipe, run, progress=False)
            except RunError as error:
                counts["refused"] += error.key == "error.run.disk"
            found = checkpoint.newest(run.step("train") / "checkpoints")
            counts["lost"] += before is not None and (found is None or checkpoint.step_of(found) < before)
            before = before if found is None else checkpoint.step_of(found)
        filler.unlink()
        mount(folder, "-o", f"remount,ro,size={ROOM}")
        try:
            train(recipe, run, progress=False)
        except RunError as error:
            counts["read_only"] += error.key == "error.run.disk"
        mount(folder, "-o", f"remount,rw,size={ROOM}")
        train(recipe, run, progress=False)
        counts["full"] += 1
        counts["equal"] += outcome(run) == outcome(whole)
        subprocess.run(["umount", str(folder)], check=True)
    return dict(counts)


if __name__ == "__main__":
    place = Path(sys.argv[1])
    place.mkdir(parents=True, exist_ok=True)
    print(json.dumps(main(place, int(sys.argv[2]), int(sys.argv[3]))))
