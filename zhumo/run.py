"""A run: the folder a recipe makes, one inner folder a step, each made from its section and the folder before it.

`step.json` is written last and holds the hash of everything that went into the step, so a step whose hash stands is
skipped, and one whose hash changed moves, with all after it, to `before/DATE/`. Nothing is ever overwritten.
"""

import fcntl
import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from zhumo.errors import RunError
from zhumo.recipe import STEPS, Recipe

# A step's number grows when the same inputs would make a different folder; the package version does not matter.
FORMATS = {"prepare": 3, "build": 1, "train": 2, "evaluate": 3, "deploy": 2}


def write_text(path: Path, text: str) -> None:
    """Write a file so that a crash leaves either the old one or the new one, never half of one."""
    part = path.with_name(f".{path.name}.part")
    with part.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)


def write_json(path: Path, value: Any) -> None:
    """`write_text` of readable JSON."""
    write_text(path, json.dumps(value, ensure_ascii=False, indent=2) + "\n")


def read_json(path: Path) -> Any:
    """A JSON file, or a RunError that names it."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise RunError("run.no_file", path=path) from error
    except ValueError as error:
        raise RunError("run.bad_json", path=path, problem=error) from error


def digest(value: Any) -> str:
    """sha256 of a JSON-able value, the same for equal values."""
    text = json.dumps(value, ensure_ascii=False, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def file_digest(path: Path) -> str:
    """sha256 of a file, read in pieces."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def link(source: Path, target: Path) -> None:
    """Put a finished file into another folder without a second copy where the disk allows it; files never change."""
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


@dataclass(frozen=True)
class Step:
    """One step's folder. `done`: nothing to do, it stands as it should."""

    name: str
    folder: Path
    hash: str
    done: bool

    def finish(self, **facts: Any) -> dict[str, Any]:
        """Say that the folder is complete. facts: what a person may want to know of it, JSON-able."""
        for path in self.folder.rglob("*"):
            if path.is_file():  # on the disk before anything says so
                with path.open("rb") as file:
                    os.fsync(file.fileno())
        record = {
            "step": self.name,
            "hash": self.hash,
            "finished": datetime.now(UTC).isoformat(timespec="seconds"),
            **facts,
        }
        write_json(self.folder / "step.json", record)
        return record


class Run:
    """The folder of one run."""

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self._locked = False

    @classmethod
    def of(cls, recipe: Recipe, root: str | Path = "runs") -> "Run":
        """The folder `root/NAME` of a recipe."""
        return cls(Path(root) / (recipe.name or recipe.task))

    def step(self, name: str) -> Path:
        """The folder of one step, whether it exists or not."""
        return self.folder / name

    def facts(self, name: str) -> dict[str, Any]:
        """What a finished step left in its `step.json`.

        Raises:
            RunError: the step is not finished.
        """
        path = self.step(name) / "step.json"
        if not path.is_file():
            raise RunError("run.step_missing", step=name, folder=self.folder)
        facts: dict[str, Any] = read_json(path)
        return facts

    def begin(
        self, name: str, recipe: Recipe, sources: Mapping[str, str] | None = None, *, resume: bool = False
    ) -> Step:
        """Enter a step: skip it, go on with it, or move what is outdated aside and start it.

        sources: name and sha256 of every file from outside that goes into the step.
        resume: an unfinished folder of the same hash is kept as it lies, for a step that can go on from there.
        """
        index = STEPS.index(name)
        inputs: dict[str, Any] = {
            "task": recipe.task,
            "section": getattr(recipe, name).model_dump(mode="json"),
            "before": self.facts(STEPS[index - 1])["hash"] if index else None,
            "sources": dict(sources or {}),
            "format": FORMATS[name],
        }
        if name in ("build", "train"):
            inputs["seed"] = recipe.seed
        hash_ = digest(inputs)
        folder = self.step(name)
        begun = folder / "begun.json"
        if (folder / "step.json").is_file():
            if self.facts(name)["hash"] == hash_:
                return Step(name, folder, hash_, done=True)
            self._set_aside(index)
        elif folder.exists():
            same = begun.is_file() and read_json(begun)["hash"] == hash_
            if not (same and resume):
                shutil.rmtree(folder)
        folder.mkdir(parents=True, exist_ok=True)
        if not begun.is_file():
            write_json(
                begun, {"hash": hash_, "inputs": inputs, "begun": datetime.now(UTC).isoformat(timespec="seconds")}
            )
        return Step(name, folder, hash_, done=False)

    def _set_aside(self, index: int) -> None:
        moment = datetime.now(UTC).strftime("%Y-%m-%dT%H-%M-%S.%f")
        for name in STEPS[index:]:
            if self.step(name).exists():
                target = self.folder / "before" / moment / name
                target.parent.mkdir(parents=True, exist_ok=True)
                self.step(name).rename(target)

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the run for this process alone; who already holds it goes on holding it.

        Raises:
            RunError: another process holds it.
        """
        if self._locked:
            yield
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / ".lock").open("w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise RunError("run.locked", folder=self.folder) from error
            self._locked = True
            try:
                yield
            finally:
                self._locked = False
