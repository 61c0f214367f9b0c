"""`zhumo doctor`: what of this machine stands in the way, and how to mend it.

Nothing is imported at the top that could itself be broken: a torch that cannot be loaded is a finding, no crash.
"""

import importlib
import os
import platform
import re
import shutil
import socket
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

from zhumo.sources import cache_folder
from zhumo.words import say

State = Literal["fine", "note", "broken"]
PYTHON = (3, 11)
LEAST, ENOUGH = 1e9, 4e9  # bytes of memory and of disk: below the first nothing works, below the second little does
LARGE = 1.5e9  # bytes of a torch that carries more than a CPU needs
PORT = 8010
DRIVER = Path("/proc/driver/nvidia/version")
WIDTH, ROWS, TRIAL = 512, 2_048, 0.3  # of the product that threads are tried with; seconds a number of them gets


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at. Its sentence is `doctor.NAME.STATE`, which says what to do unless it is fine."""

    name: str
    state: State
    facts: dict[str, Any]

    def say(self, language: str | None = None) -> str:
        """What was found, and unless it is fine, what to do."""
        return say(f"doctor.{self.name}.{self.state}", language, **self.facts)


def examine(runs: Path = Path("runs"), port: int = PORT) -> Iterator[Finding]:
    """Look at everything, one after the other; runs: where runs would be made."""
    checks: tuple[Callable[[], Finding | None], ...] = (
        python, packages, torch_build, gpu, threads, memory, lambda: disk(runs), cache, data, compiler, core, fonts,
        screen, extras, lambda: ports(port),
    )  # fmt: skip
    for check in checks:
        if (found := check()) is not None:
            yield found


def python() -> Finding:
    """The version, and whether it is an environment of its own."""
    facts = {"version": platform.python_version(), "path": sys.executable, "least": ".".join(map(str, PYTHON))}
    if sys.version_info < PYTHON:
        return Finding("python", "broken", facts)
    own = sys.prefix != sys.base_prefix
    return Finding("python", "fine" if own else "note", facts)


def packages() -> Finding:
    """Everything Zhumo stands on."""
    needed = [need for need in metadata.requires("zhumo") or () if "extra ==" not in need]
    missing = [name for name in map(_name, needed) if _version(name) is None]
    facts = {"count": len(needed), "version": _version("zhumo"), "missing": ", ".join(missing)}
    return Finding("packages", "broken" if missing else "fine", facts)


def torch_build() -> Finding:
    """Whether torch loads, is the pinned one, and carries a GPU build for a machine that has none."""
    pinned = next((need for need in metadata.requires("zhumo") or () if _name(need) == "torch"), "")
    facts: dict[str, Any] = {"pinned": pinned}
    try:
        torch: Any = importlib.import_module("torch")
    except (ImportError, OSError) as error:
        return Finding("torch", "broken", {**facts, "problem": str(error).splitlines()[0] if str(error) else "-"})
    build = f"CUDA {torch.version.cuda}" if torch.version.cuda else "CPU"
    size = _torch_size()
    facts |= {"version": torch.__version__, "build": build, "gigabytes": f"{size / 1e9:.1f}"}
    if not torch.__version__.startswith(re.sub(r".*~=(\d+\.\d+)\..*", r"\1.", pinned)):
        return Finding("torch", "broken", {**facts, "problem": torch.__version__})
    idle = torch.version.cuda is not None and not torch.cuda.is_available() and not DRIVER.exists()
    return Finding("torch", "note" if idle or (size > LARGE and torch.version.cuda is None) else "fine", facts)


def gpu() -> Finding | None:
    """A CUDA GPU, and whether torch sees it; nothing where there is none, since none is needed."""
    try:
        cuda: Any = importlib.import_module("torch").cuda
    except (ImportError, OSError):  # `torch_build` tells of it
        return None
    if not cuda.is_available():
        return Finding("gpu", "note", {"path": DRIVER}) if DRIVER.exists() else None
    try:
        free, total = cuda.mem_get_info()
    except RuntimeError as error:  # others fill it, or have it for themselves
        return Finding("gpu_use", "note", {"problem": str(error).partition("\n")[0]})
    facts = {"name": cuda.get_device_name(), "free": f"{free / 1e9:.1f}", "total": f"{total / 1e9:.1f}"}
    return Finding("gpu", "fine", facts)


def threads() -> Finding:
    """How many threads compute fastest here, by a product of matrices."""
    cores = len(os.sched_getaffinity(0))
    try:
        torch: Any = importlib.import_module("torch")
    except (ImportError, OSError):
        return Finding("threads", "broken", {"cores": cores})
    before = torch.get_num_threads()
    rates = {}
    for count in sorted({1, *(2**power for power in range(1, 8) if 2**power <= cores), cores}):
        torch.set_num_threads(count)
        rates[count] = _rate(torch)
    torch.set_num_threads(before)
    best = max(rates, key=lambda count: rates[count])
    facts = {"cores": cores, "best": best, "set": before, "rate": f"{rates[best]:.0f}",
             "rates": ", ".join(f"{count}: {rate:.0f}" for count, rate in rates.items())}  # fmt: skip
    slow = rates[best] > 1.3 * rates.get(before, 0.0)
    return Finding("threads", "note" if slow else "fine", facts)


def memory() -> Finding:
    """Memory that is free, within what this process may have."""
    table = dict(re.findall(r"^(\w+):\s+(\d+) kB", Path("/proc/meminfo").read_text(encoding="ascii"), re.M))
    total, free = (1024 * int(table[name]) for name in ("MemTotal", "MemAvailable"))
    limit, used = (_number(Path("/sys/fs/cgroup") / name) for name in ("memory.max", "memory.current"))
    if limit is not None:
        total, free = min(total, limit), min(free, limit - (used or 0))
    return _room("memory", free, {"total": f"{total / 1e9:.1f}"})


def disk(runs: Path) -> Finding:
    """Room where runs are made, and whether something can be written there."""
    place = next(folder for folder in (runs.resolve(), *runs.resolve().parents) if folder.is_dir())
    problem = _unwritable(place)
    if problem is not None:
        return Finding("folder", "broken", {"path": place, "problem": problem})
    return _room("disk", shutil.disk_usage(place).free, {"path": place})


def cache() -> Finding:
    """Whether downloads can be kept."""
    place = cache_folder()
    there = next(folder for folder in (place, *place.resolve().parents) if folder.is_dir())
    problem = _unwritable(there)
    size = sum(path.stat().st_size for path in place.rglob("*") if path.is_file()) if place.is_dir() else 0
    facts = {"path": place, "gigabytes": f"{size / 1e9:.1f}", "problem": problem or ""}
    return Finding("cache", "fine" if problem is None else "broken", facts)


def data() -> Finding:
    """The folder of shared data sets, which only tests and benchmarks need."""
    folder = os.environ.get("ZHUMO_DATA")
    if not folder:
        return Finding("data", "note", {})
    return Finding("data", "fine" if Path(folder).is_dir() else "broken", {"path": folder})


def compiler() -> Finding:
    """A C++ compiler, which torch.compile needs and nothing else does."""
    found = next((path for name in ("g++", "clang++", "c++") if (path := shutil.which(name))), None)
    headers = Path(sysconfig.get_path("include"), "Python.h").is_file()
    return Finding("compiler", "fine" if found and headers else "note", {"path": found or "-"})


def core() -> Finding:
    """The native core that writes in 8 bits, and which kind of processor code it runs."""
    try:
        engine: Any = importlib.import_module("zhumo.engine.library")
    except (ImportError, OSError):
        return Finding("core", "note", {"path": "-"})
    found = engine.library()
    return Finding("core", "fine" if found else "note", {"path": engine.PATHS[found.zhumo_path()] if found else "-"})


def fonts() -> Finding:
    """A font with Chinese characters, for reports printed on this machine."""
    if (tool := shutil.which("fc-list")) is not None:
        asked = subprocess.run([tool, ":lang=zh", "family"], capture_output=True, text=True, timeout=60, check=False)
        names = asked.stdout.split("\n")
        return Finding("fonts", "fine" if names[0] else "note", {"name": names[0].split(",")[0]})
    folders = (Path("/usr/share/fonts"), Path("/System/Library/Fonts"), Path.home() / ".fonts")
    kinds = re.compile(r"CJK|wqy|SourceHan|PingFang|simsun|msyh|uming|ukai", re.IGNORECASE)
    found = next((path for folder in folders for path in folder.rglob("*.*") if kinds.search(path.name)), None)
    return Finding("fonts", "fine" if found else "note", {"name": found.stem if found else ""})


def screen() -> Finding:
    """Whether Chinese can be printed here."""
    encoding = sys.stdout.encoding or "ascii"
    try:
        "铸模 ✓".encode(encoding)
    except UnicodeEncodeError:
        return Finding("screen", "broken", {"encoding": encoding})
    return Finding("screen", "fine", {"encoding": encoding})


def extras() -> Finding:
    """What is optional, and whether it is here."""
    needs = [need for need in metadata.requires("zhumo") or () if "extra ==" in need and "dev" not in need]
    here = [name for name in map(_name, needs) if _version(name) is not None]
    gone = [name for name in map(_name, needs) if _version(name) is None]
    return Finding("extras", "note" if gone else "fine", {"here": ", ".join(here) or "-", "gone": ", ".join(gone)})


def ports(port: int) -> Finding:
    """Whether `zhumo serve` could listen on its usual port."""
    with socket.socket() as door:
        door.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            door.bind(("127.0.0.1", port))
        except OSError as error:
            return Finding("port", "note", {"port": port, "problem": os.strerror(error.errno or 0)})
    return Finding("port", "fine", {"port": port})


def _rate(torch: Any) -> float:
    """Billions of multiplications a second."""
    generator = torch.Generator().manual_seed(0)
    left, right = torch.rand(ROWS, WIDTH, generator=generator), torch.rand(WIDTH, WIDTH, generator=generator)
    left @ right
    began, done = time.perf_counter(), 0
    while time.perf_counter() - began < TRIAL:
        left @ right
        done += 1
    return done * ROWS * WIDTH * WIDTH / (time.perf_counter() - began) / 1e9


def _room(name: str, free: float, facts: dict[str, Any]) -> Finding:
    state: State = "broken" if free < LEAST else "note" if free < ENOUGH else "fine"
    return Finding(name, state, {**facts, "free": f"{free / 1e9:.1f}"})


def _unwritable(folder: Path) -> str | None:
    """Why nothing can be written into a folder; None: it can."""
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(bytes(4096))
            file.flush()
    except OSError as error:
        return os.strerror(error.errno or 0)
    return None


def _torch_size() -> int:
    """Bytes of torch and of the GPU libraries it brought along."""
    files = [file for name in _brought() for file in metadata.distribution(name).files or ()]
    return sum(file.size or 0 for file in files)


def _brought() -> list[str]:
    return ["torch", *{
        name for one in metadata.distributions()
        if (name := one.metadata["Name"] or "").startswith(("nvidia-", "triton"))
    }]  # fmt: skip


def _name(need: str) -> str:
    return re.split(r"[^A-Za-z0-9._-]", need, maxsplit=1)[0].rstrip("~=<>")


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _number(path: Path) -> int | None:
    try:
        text = path.read_text(encoding="ascii").strip()
    except OSError:
        return None
    return int(text) if text.isdigit() else None
