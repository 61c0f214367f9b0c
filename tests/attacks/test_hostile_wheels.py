"""Wheels made to do harm: none writes outside its folder, follows a link or fills the disk."""

import io
import stat
import struct
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from zhumo.errors import SourceError
from zhumo.sources.wheels import unpack

Maker = Callable[[zipfile.ZipFile], None]


def write(archive: zipfile.ZipFile, name: str, content: bytes = b"x", mode: int = 0, stored: bool = False) -> None:
    member = zipfile.ZipInfo(name)
    member.filename = name  # the constructor cleans names; an attacker does not
    member.external_attr = mode << 16
    member.compress_type = zipfile.ZIP_STORED if stored else zipfile.ZIP_DEFLATED
    archive.writestr(member, content)


def wheel(tmp_path: Path, make: Maker) -> Path:
    path = tmp_path / "evil-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        write(archive, "good/data.csv")
        make(archive)
    return path


def many(archive: zipfile.ZipFile) -> None:
    for number in range(20_001):
        write(archive, f"{number}.csv", b"")


HOSTILE: dict[str, Maker] = {
    "up": lambda archive: write(archive, "../outside.csv"),
    "up inside": lambda archive: write(archive, "good/../../outside.csv"),
    "absolute": lambda archive: write(archive, "/tmp/outside.csv"),
    "backslash": lambda archive: write(archive, "..\\outside.csv"),
    "drive": lambda archive: write(archive, "C:outside.csv"),
    "line break": lambda archive: write(archive, "good/a\nb.csv"),
    "link": lambda archive: write(archive, "good/link", b"/etc/passwd", stat.S_IFLNK | 0o777),
    "device": lambda archive: write(archive, "good/device", b"", stat.S_IFCHR | 0o666),
    "bomb": lambda archive: write(archive, "good/zeros.csv", bytes(50_000_000)),
    "many bombs": lambda archive: [write(archive, f"good/{n}.csv", bytes(1 << 20)) for n in range(20)] and None,
    "many files": many,
    "twice": lambda archive: write(archive, "good/data.csv"),
    "a file as a folder": lambda archive: write(archive, "good/data.csv/inner.csv"),
}


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_wheel_is_refused(tmp_path: Path, name: str) -> None:
    path = wheel(tmp_path, HOSTILE[name])
    inside = tmp_path / "inside"
    before = set(tmp_path.rglob("*"))
    tracemalloc.start()
    with pytest.raises(SourceError) as caught:
        unpack(path, inside)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert caught.value.key == "error.sources.hostile"
    assert {path for path in set(tmp_path.rglob("*")) - before if not path.is_relative_to(inside)} == set()
    assert sum(path.stat().st_size for path in inside.rglob("*")) < 10_000
    assert peak < 60 << 20


def damaged(tmp_path: Path, old: bytes, new: bytes, last: bool = False) -> Path:
    """A wheel with some bytes of it changed."""
    path = wheel(tmp_path, lambda archive: write(archive, "good/more.csv", b"secret " * 50, stored=True))
    raw = path.read_bytes()
    assert old in raw
    head, _, tail = raw.rpartition(old) if last else raw.partition(old)
    path.write_bytes(head + new + tail)
    return path


def entry(flags: int, compression: int) -> bytes:
    """How an entry of a zip directory begins."""
    return struct.pack("<4s4BHH", b"PK\1\2", 20, 3, 20, 0, flags, compression)


def test_a_damaged_wheel_is_refused(tmp_path: Path) -> None:
    changed = damaged(tmp_path, b"secret secret", b"SECRET secret")  # the checksum no longer fits
    with pytest.raises(SourceError, match="Bad CRC-32"):
        unpack(changed, tmp_path / "a")
    cut = tmp_path / "cut.whl"
    cut.write_bytes(changed.read_bytes()[:-30])
    with pytest.raises(SourceError, match="not a zip file"):
        unpack(cut, tmp_path / "b")
    directory = entry(0, zipfile.ZIP_STORED)
    locked = damaged(tmp_path, directory, entry(1, zipfile.ZIP_STORED), last=True)
    with pytest.raises(SourceError, match="encrypted"):
        unpack(locked, tmp_path / "c")
    odd = damaged(tmp_path, directory, entry(0, 99), last=True)
    with pytest.raises(SourceError, match="compression"):
        unpack(odd, tmp_path / "d")


def test_a_size_that_lies_gives_no_more_than_it_says(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        write(archive, "big.csv", bytes(3_000_000))
    raw = buffer.getvalue().replace(struct.pack("<I", 3_000_000), struct.pack("<I", 1_000))
    path = tmp_path / "liar-1.0-py3-none-any.whl"
    path.write_bytes(raw)
    with pytest.raises(SourceError):
        unpack(path, tmp_path / "inside")
    assert (tmp_path / "inside/big.csv").stat().st_size <= 1_000
