"""The cache: one folder a download, complete or not there, with a manifest that says what belongs in it.

`KEY/files/` holds the content and `KEY/manifest.json` size and sha256 of each file. A folder is filled beside its place
under a lock and renamed, so processes that want the same thing do not disturb each other, and a crash leaves nothing
that looks finished.
"""

import fcntl
import os
import shutil
from collections.abc import Callable
from pathlib import Path

from zhumo.run import file_digest, read_json, write_json


def cache_folder() -> Path:
    """`$ZHUMO_CACHE`, else `zhumo` in `$XDG_CACHE_HOME`, else `~/.cache/zhumo`."""
    if own := os.environ.get("ZHUMO_CACHE"):
        return Path(own)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "zhumo"


def cached(cache: Path, key: str, fill: Callable[[Path], None], *, verify: bool = False) -> Path:
    """The folder `key` of the cache, filled by `fill` where it is missing or damaged.

    verify: compare the sha256 of every file, not only its size.
    """
    place = cache / key
    if _sound(place, verify):
        return place / "files"
    place.parent.mkdir(parents=True, exist_ok=True)
    with place.with_name(f".{place.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not _sound(place, verify):
            part = place.with_name(f".{place.name}.part")
            for leftover in (part, place):
                shutil.rmtree(leftover, ignore_errors=True)
            (part / "files").mkdir(parents=True)
            try:
                fill(part / "files")
                _seal(part)
                part.rename(place)
            finally:
                shutil.rmtree(part, ignore_errors=True)
    return place / "files"


def _seal(place: Path) -> None:
    files = place / "files"
    found = {path.relative_to(files).as_posix(): path for path in sorted(files.rglob("*")) if path.is_file()}
    for path in found.values():
        with path.open("rb") as file:
            os.fsync(file.fileno())
    manifest = {name: {"size": path.stat().st_size, "sha256": file_digest(path)} for name, path in found.items()}
    write_json(place / "manifest.json", manifest)


def _sound(place: Path, verify: bool) -> bool:
    if not (place / "manifest.json").is_file():
        return False
    return all(
        (path := place / "files" / name).is_file()
        and path.stat().st_size == facts["size"]
        and (not verify or file_digest(path) == facts["sha256"])
        for name, facts in read_json(place / "manifest.json").items()
    )
