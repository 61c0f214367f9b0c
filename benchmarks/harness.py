"""What every benchmark script shares: its arguments, its rows beside their bars, its place in RESULTS.md.

A script measures with `Bench.row(...)` and ends with `Bench.done()`. Bars live in `bars.toml`, a copy of what was asked
for, so that no script can lower its own; a bar that was due and not measured is printed as not held.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import tomllib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from zhumo.sources import cache_folder

HERE = Path(__file__).parent
RESULTS = HERE / "results"

# glibc gives large blocks back at once and faults them in again; to keep them makes peers on torch 1.3 to 1.6 times
# faster.
KEPT_MEMORY = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": "100000000000"}


@dataclass(frozen=True)
class Row:
    """One measured number beside its peer and its bar. low, high: its 95% interval, or the smallest and largest run."""

    name: str
    value: float | None
    low: float | None
    high: float | None
    unit: str
    peer: str
    peer_value: float | None
    ratio: float | None
    at_least: float | None
    holds: bool
    note: str = ""


class Bench:
    """One script's run."""

    def __init__(self, name: str, text: str, further: Mapping[str, tuple[Any, str]] | None = None) -> None:
        """further: options of this script alone, name -> (default, what it is for)."""
        parser = argparse.ArgumentParser(prog=f"python -m benchmarks.{name}", description=text)
        parser.add_argument("--quick", action="store_true", help="only the rows marked quick (at most 5 minutes)")
        parser.add_argument(
            "--peers", action="store_true", help="run slow peers again instead of their recorded results"
        )
        parser.add_argument("--json", action="store_true", help="print one JSON line a row")
        parser.add_argument("--only", default="", help="only the rows whose name begins so")
        for option, (default, use) in (further or {}).items():
            parser.add_argument(f"--{option}", type=type(default), default=default, help=f"{use} (default: {default})")
        self.options = parser.parse_args()
        self.name, self.card = name, ""  # of the GPU it runs on
        self.rows: list[Row] = []
        self.bars: dict[str, dict[str, Any]] = tomllib.loads((HERE / "bars.toml").read_text(encoding="utf-8"))[name]
        if not any(row.startswith(self.options.only) for row in self.bars):
            near = get_close_matches(self.options.only, self.bars, n=1, cutoff=0)
            parser.error(f"no row's name begins with {self.options.only}; nearest: {near[0]}")

    def due(self, name: str) -> bool:
        """Whether a row is to be measured in this run."""
        bar = self.bars.get(name, {})
        return name.startswith(self.options.only) and (bar.get("quick", False) or not self.options.quick)

    def row(
        self,
        name: str,
        value: float,
        unit: str = "",
        *,
        low: float | None = None,
        high: float | None = None,
        peer: str = "",
        peer_value: float | None = None,
        ratio: float | None = None,
        note: str = "",
    ) -> None:
        """Record a row. What its bar holds against is `ratio` where the bar says so, else the value.

        Raises:
            KeyError: `bars.toml` does not know the row.
        """
        bar = self.bars[name]
        at_least, at_most = bar.get("at_least"), bar.get("at_most")
        held = ratio if bar.get("of") == "ratio" else value
        assert held is not None, f"{name} is held to a ratio and has none"
        holds = (at_least is None or held >= at_least) and (at_most is None or held <= at_most)
        bound = at_least if at_least is not None else at_most
        self.rows.append(Row(name, value, low, high, unit, peer, peer_value, ratio, bound, holds, note))
        self._show(self.rows[-1])
        self._write()  # what is measured stays, whatever becomes of the script

    def _show(self, row: Row) -> None:
        if self.options.json:
            print(json.dumps(asdict(row), ensure_ascii=False), flush=True)
            return
        mark = "✓" if row.holds else "✗"
        interval = f" [{row.low:.4g}, {row.high:.4g}]" if row.low is not None and row.high is not None else ""
        peer = f" | {row.peer} {row.peer_value:.4g}" if row.peer_value is not None else ""
        ratio = f" | ratio {row.ratio:.3g}" if row.ratio is not None else ""
        value = "not measured" if row.value is None else f"{row.value:.4g}{row.unit}"
        bound = f" | bar {row.at_least:g}" if row.at_least is not None else ""
        print(f"{mark} {row.name}: {value}{interval}{peer}{ratio}{bound} {row.note}", flush=True)

    def done(self) -> None:
        """Print what was due and not measured, write the results, and end with 1 where a bar does not hold."""
        measured = {row.name for row in self.rows}
        for name, bar in self.bars.items():
            if name not in measured and self.due(name):
                bound = bar.get("at_least", bar.get("at_most"))
                self.rows.append(Row(name, None, None, None, "", "", None, None, bound, False, "due and not measured"))
                self._show(self.rows[-1])
        self._write()
        sys.exit(0 if all(row.holds for row in self.rows) else 1)

    def _key(self, row: Mapping[str, Any]) -> tuple[str, str]:
        """What a measurement takes the place of: the last one of its row, on its kind of processor where bars.toml says
        that it matters."""
        return row["name"], row["cpu"] if self.bars[row["name"]].get("each") == "processor" else ""

    def _write(self) -> None:
        """Put what was measured in place of its last measurement; each row keeps where and when it was made."""
        RESULTS.mkdir(exist_ok=True)
        path = RESULTS / f"{self.name}{'.quick' if self.options.quick else ''}.json"
        known = json.loads(path.read_text(encoding="utf-8"))["rows"] if path.is_file() else []
        stamp = machine() | ({"gpu": self.card} if self.card else {})
        rows = {self._key(row): row for row in known if row["name"] in self.bars}
        rows |= {self._key(row): row for row in ({**asdict(row), **stamp} for row in self.rows)}
        ordered = sorted(rows.values(), key=lambda row: list(self.bars).index(row["name"]))
        record = {"script": self.name, "quick": self.options.quick, "rows": ordered}
        path.write_text(json.dumps(record, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")


def machine() -> dict[str, Any]:
    """Where and on what a result was measured."""
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=HERE, capture_output=True, text=True, check=False
    )
    model = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if "model name" in line
        ),
        platform.processor(),
    )
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "commit": commit.stdout.strip(),
        "cpu": model,
        "cores": os.cpu_count(),
        "load": round(os.getloadavg()[0], 1),
        "python": platform.python_version(),
    }


def shared() -> Path:
    """The folder of shared data sets."""
    folder = os.environ.get("ZHUMO_DATA")
    if not folder:
        sys.exit("set ZHUMO_DATA to the folder of shared data sets (benchmarks/data.toml says where each comes from)")
    return Path(folder)


def peer_python(name: str, *packages: str) -> Path:
    """The Python of a peer's own pinned environment in the cache; made on first use, which no row counts."""
    folder = cache_folder() / "peers" / name
    python = folder / "bin" / "python"
    if not (folder / "ready").is_file():
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(folder)], check=True)
        subprocess.run([str(python), "-m", "pip", "install", "--quiet", *packages], check=True)
        (folder / "ready").write_text("\n".join(packages) + "\n", encoding="utf-8")
    return python


def record_peer(name: str, command: list[str], found: dict[str, Any], *packages: str) -> None:
    """Keep what a slow peer answered, with how and where it was run."""
    folder = RESULTS / "peers"
    folder.mkdir(parents=True, exist_ok=True)
    script = Path(command[1]).resolve().relative_to(HERE.parent).as_posix()
    facts = {"command": [Path(command[0]).name, script], "packages": packages, **machine(), **found}
    (folder / name).write_text(json.dumps(facts, ensure_ascii=False) + "\n", encoding="utf-8")
