"""Writes RESULTS.md from what the scripts measured: `python -m benchmarks.report`."""

import json
import tomllib
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
HEAD = """# Results

Written by `python -m benchmarks.report` from `benchmarks/results/`; nothing here is typed by hand. Each script runs by
itself: `python -m benchmarks.NAME [--quick] [--peers] [--json]`. Bars are copied from what was asked for
(`benchmarks/bars.toml`); a row due and not measured does not hold. Where the data come from: `benchmarks/data.toml`.
"""


def number(value: float | None) -> str:
    return "–" if value is None else f"{value:,.4g}"


def table(record: dict[str, Any]) -> str:
    """One script's rows, with the machine, the day and the commit they were measured on."""
    lines = [
        f"## {record['script']}{' (quick)' if record.get('quick') else ''}",
        "",
        "| row | value | interval | peer | ratio | bar | holds | note | measured |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for row in record["rows"]:
        interval = "–" if row["low"] is None else f"{number(row['low'])} to {number(row['high'])}"
        peer = f"{row['peer']} {number(row['peer_value'])}" if row["peer_value"] is not None else "–"
        value = "not measured" if row["value"] is None else f"{number(row['value'])}{row['unit']}"
        cells = [row["name"], value, interval, peer, number(row["ratio"]), number(row["at_least"])]
        measured = f"{row['date']}, {row['commit']}, load {row['load']}"
        lines.append(f"| {' | '.join(cells)} | {'yes' if row['holds'] else 'no'} | {row['note']} | {measured} |")
    bars = tomllib.loads((HERE / "bars.toml").read_text(encoding="utf-8"))[record["script"]]
    measured_names = {row["name"] for row in record["rows"]}
    for name, bar in bars.items():
        if name not in measured_names and (bar.get("quick", False) or not record["quick"]):
            bound = number(bar.get("at_least", bar.get("at_most")))
            lines.append(f"| {name} | not measured | – | – | – | {bound} | no | due and not measured | – |")
    machines = sorted({f"{row['cpu']}, {row['cores']} cores, Python {row['python']}" for row in record["rows"]})
    return "\n".join([*lines, "", f"Measured on: {'; '.join(machines)}."])


if __name__ == "__main__":
    records = [json.loads(path.read_text(encoding="utf-8")) for path in sorted((HERE / "results").glob("*.json"))]
    (HERE / "RESULTS.md").write_text("\n\n".join([HEAD.strip(), *map(table, records)]) + "\n", encoding="utf-8")
