"""Checkpoints that survive a kill, a full disk or a flipped bit at any moment.

`step-00001000/` holds safetensors and JSON, and `manifest.json` with the size and sha256 of each. It is written under
another name, flushed to the disk and renamed, so it is there whole or not at all; it is read back before an older one
goes; and one that is damaged is put aside for the one before it.
"""

import json
import logging
import math
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from zhumo.errors import RunError
from zhumo.run import digest, file_digest
from zhumo.words import say

FORMAT = 2  # 2: averages of the weights, and what loss and gradient usually are
KEEP = 2
MANIFEST = "manifest.json"
log = logging.getLogger(__name__)

Tensors = Mapping[str, Mapping[str, Tensor]]
"""Tensors by the file they lie in, then by name."""


def save(folder: Path, step: int, tensors: Tensors, state: Mapping[str, Any]) -> Path:
    """Write the checkpoint of one step, then drop all but the last two.

    Raises:
        OSError, SafetensorError: the disk is full or broken; earlier checkpoints still stand, and what was written of
            this one is gone.
    """
    part = folder / f".tmp-{step}-{os.getpid()}"
    part.mkdir(parents=True)
    try:
        _write(part, tensors, state)
    except (OSError, SafetensorError):
        shutil.rmtree(part, ignore_errors=True)  # on a full disk others need the room
        raise
    whole = folder / f"step-{step:08d}"
    part.rename(whole)
    flush(folder)
    if damage(whole) is None:
        sweep(folder, KEEP)
    return whole


def _write(part: Path, tensors: Tensors, state: Mapping[str, Any]) -> None:
    """All files of a checkpoint, the manifest last, and wait until they are on the disk."""
    for name, content in tensors.items():
        save_file({key: tensor.contiguous() for key, tensor in content.items()}, part / f"{name}.safetensors")
    (part / "state.json").write_text(json.dumps(state), encoding="utf-8")
    files = {path.name: {"size": path.stat().st_size, "sha256": file_digest(path)} for path in sorted(part.iterdir())}
    manifest = {"format": FORMAT, "files": files}
    (part / MANIFEST).write_text(json.dumps({**manifest, "digest": digest(manifest)}), encoding="utf-8")
    for path in [*part.iterdir(), part]:
        flush(path)


def flush(path: Path) -> None:
    """Wait until a file, or a folder's list of names, is on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _steps(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob("step-*") if path.suffix != ".corrupt")


def sweep(folder: Path, keep: int) -> None:
    """Remove all but the last `keep` checkpoints, and what a killed process left half written."""
    for path in [*_steps(folder)[:-keep], *folder.glob(".tmp-*")]:
        shutil.rmtree(path)


def damage(checkpoint: Path) -> str | None:
    """The name of the first file that is not what the manifest says; None: all are."""
    try:
        manifest = json.loads((checkpoint / MANIFEST).read_text(encoding="utf-8"))
        whole = manifest.pop("digest") == digest(manifest)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return MANIFEST
    if not whole:
        return MANIFEST
    if manifest["format"] > FORMAT:
        raise RunError("train.newer_checkpoint", path=checkpoint, format=manifest["format"])
    files: dict[str, dict[str, Any]] = manifest["files"]
    for name, facts in files.items():
        path = checkpoint / name
        if not path.is_file() or path.stat().st_size != facts["size"] or file_digest(path) != facts["sha256"]:
            return name
    return None


def step_of(checkpoint: Path) -> int:
    """The step after which it was written."""
    return int(checkpoint.name.removeprefix("step-"))


def newest(folder: Path, before: float = math.inf) -> Path | None:
    """The last checkpoint that is whole, of those of a step before `before`. A damaged one is renamed `.corrupt`, never
    removed, and a warning says so."""
    for path in reversed([path for path in _steps(folder) if step_of(path) < before]):
        bad = damage(path)
        if bad is None:
            return path
        log.warning(say("cli.train.corrupt", path=path, file=bad))
        aside = path.with_suffix(".corrupt")
        path.rename(aside if not aside.exists() else path.with_suffix(f".{os.getpid()}.corrupt"))
    return None


def read(checkpoint: Path) -> tuple[dict[str, dict[str, Tensor]], dict[str, Any]]:
    """Tensors and state of a checkpoint."""
    tensors = {path.stem: load_file(path) for path in checkpoint.glob("*.safetensors")}
    state: dict[str, Any] = json.loads((checkpoint / "state.json").read_text(encoding="utf-8"))
    return tensors, state
