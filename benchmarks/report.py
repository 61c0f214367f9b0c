"""Writes RESULTS.md and the tables and plots of the pages, from what was measured: `python -m benchmarks.report`."""

import json
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks import speed

HERE = Path(__file__).parent
CURVE = 6  # points of a curve that are shown
MEASURED = re.compile(r"(?<=<!-- measured -->\n).*?(?=<!-- /measured -->)", re.S)
LIBRARIES = re.compile(r"(recbole|rectools)-[a-z-]+")
SHOPS: Mapping[str, tuple[str, str]] = {
    "movielens": ("MovieLens-100K", "MovieLens-100K"), "beauty": ("Amazon Beauty", "Amazon Beauty"),
    "games": ("Amazon Video Games", "Amazon Video Games"),
    "retail": ("Online Retail, the next invoice", "Online Retail，下一张发票"),
    "retail-new": ("Online Retail, new items alone", "Online Retail，只要新商品"),
}  # fmt: skip
HEADS: Mapping[str, tuple[str, ...]] = {
    "recommend.md": ("NDCG@10", "served", "Transformer alone", "best library", "Markov + item-kNN", "lately popular",
                     "own favourites", "p"),
    "recommend.zh-CN.md": ("NDCG@10", "服务的回答", "仅 Transformer", "最好的库", "马尔可夫 + item-kNN", "近来热门",
                           "自己常买的", "p"),
}  # fmt: skip
SPEED = {"performance.md": "en", "performance.zh-CN.md": "zh"}
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
    machines = sorted(
        {
            ", ".join([*filter(None, [row.get("gpu")]), row["cpu"], f"{row['cores']} cores", f"Python {row['python']}"])
            for row in record["rows"]
        }
    )
    return "\n".join([*lines, "", f"Measured on: {'; '.join(machines)}."])


def libraries(runs: dict[str, dict[str, Any]]) -> str:
    """The recorded runs of libraries: how each learned, over its CPU time, and with which settings."""
    lines = [
        "## Libraries' recorded runs",
        "",
        "Validation NDCG@10 of a run after so many minutes of CPU time (and of wall time); its best epoch answered.",
        "All epochs, all settings and what was hit by every row stand in `benchmarks/results/peers/`.",
        "",
        "| run | version | settings | learned | best epoch | ended by | measured |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, run in runs.items():
        curve = run["curve"]
        best = max(curve, key=lambda entry: (entry["ndcg@10"], -entry["epoch"]))
        shown = [*curve[:: 1 + len(curve) // CURVE], curve[-1]]
        told = ", ".join(
            f"{entry['ndcg@10']:.4f} at {minutes(entry)}" for entry in {e["epoch"]: e for e in shown}.values()
        )
        settings = ", ".join(f"{key} {value}" for key, value in run["settings"].items())
        best_epoch = f"{best['epoch']} of {curve[-1]['epoch']}: {best['ndcg@10']:.4f}"
        measured = f"{run['date']}, {run['threads']} threads, load {run['load']}"
        cells = (name, run["version"], settings, told, best_epoch, run["ended"], measured)
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def page(name: str, rows: Mapping[str, float]) -> str:
    """The table on a page of `HEADS`. rows: values by the name of the row."""
    lines = [f"| {' | '.join(HEADS[name])} |", "|---" * len(HEADS[name]) + "|"]
    for shop, titles in SHOPS.items():
        found = {row.removeprefix(f"{shop}.").removesuffix(".ndcg@10"): value for row, value in rows.items()
                 if row.startswith(f"{shop}.") and row.endswith(".ndcg@10")}  # fmt: skip
        libraries_ = {who: value for who, value in found.items() if LIBRARIES.fullmatch(who)}
        if not libraries_:
            continue  # a shop is shown once a library has been asked about it
        library, best = max(libraries_.items(), key=lambda one: one[1])
        textbook = max(found["textbook"], found["textbook-and-validation"])
        again = found.get("own-favourites", 0.0)  # nothing where an answer holds nothing that was taken
        cells = [titles["zh" in name], short(found["served"]), short(found["transformer"]),
                 f"{short(best)} ({library})", short(textbook), short(found["lately"]), short(again) if again else "–",
                 short(rows[f"{shop}.served.p_over_all"])]  # fmt: skip
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def pages() -> dict[str, str]:
    """What is written into docs/ from measurements, by the name of the file."""
    docs, fast = HERE.parent / "docs", speed.speeds()
    tables = {name: page(name, measured("recommend")) for name in HEADS}
    tables |= {name: speed.table(fast, language) for name, language in SPEED.items()}
    written = {name: MEASURED.sub(lambda _, text=text: text, (docs / name).read_text(encoding="utf-8"))
               for name, text in tables.items()}  # fmt: skip
    return written | {f"{Path(name).stem}.svg": speed.plot(fast, language) for name, language in SPEED.items()}


def short(value: float) -> str:
    return f"{value:.4f}".removeprefix("0")


def measured(script: str) -> dict[str, float]:
    """The values of a script's rows that have one."""
    rows = json.loads((HERE / "results" / f"{script}.json").read_text(encoding="utf-8"))["rows"]
    return {row["name"]: row["value"] for row in rows if row["value"] is not None}


def minutes(entry: dict[str, float]) -> str:
    return f"{entry['cpu'] / 60:.1f} ({entry['wall'] / 60:.1f}) min"


def read(folder: Path) -> dict[str, dict[str, Any]]:
    return {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("*.json"))}


if __name__ == "__main__":
    learned = {name: run for name, run in read(HERE / "results" / "peers").items() if "curve" in run}
    parts = [HEAD.strip(), *map(table, read(HERE / "results").values()), *([libraries(learned)] if learned else [])]
    (HERE / "RESULTS.md").write_text("\n\n".join(parts) + "\n", encoding="utf-8")
    for name, text in pages().items():
        (HERE.parent / "docs" / name).write_text(text, encoding="utf-8")
