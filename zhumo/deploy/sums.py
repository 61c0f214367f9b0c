"""SHA256SUMS: what a bundle's files should be, in the form `sha256sum --check` reads."""

from pathlib import Path

from zhumo.errors import ModelError
from zhumo.run import file_digest, write_text

NAME = "SHA256SUMS"
OUTSIDE = frozenset((NAME, "begun.json", "step.json"))  # the run's own notes about the step


def write_sums(folder: Path) -> None:
    """Write the sums of all files of a bundle."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file() and path.name not in OUTSIDE)
    lines = [f"{file_digest(path)}  {path.relative_to(folder).as_posix()}\n" for path in paths]
    write_text(folder / NAME, "".join(lines))


def check_sums(folder: Path) -> None:
    """Hold a folder to its sums, where it has them.

    Raises:
        ModelError: a file is missing, or is not what it was when the bundle was made.
    """
    if not (folder / NAME).is_file():
        return
    for line in (folder / NAME).read_text(encoding="utf-8").splitlines():
        wanted, _, name = line.partition("  ")
        path = folder / name
        if not path.resolve().is_relative_to(folder.resolve()) or not path.is_file():
            raise ModelError("model.sum_missing", path=path, sums=folder / NAME)
        if file_digest(path) != wanted:
            raise ModelError("model.sum_differs", path=path, sums=folder / NAME)
