"""The model card: Markdown with the front matter that Hugging Face reads (license, datasets, metrics, model-index)."""

import re
from collections.abc import Iterable
from typing import Any

import yaml

from zhumo.evaluate.page import blend, cost, digests, everyone, measure_of, not_asked, rule, spread, values, winner
from zhumo.evaluate.report import Report, Rival
from zhumo.evaluate.slices import called
from zhumo.evaluate.voice import Voice, chance, figure

PIPELINES = {
    "classify": "text-classification",
    "tag": "token-classification",
    "write": "text-generation",
    "embed": "sentence-similarity",
    "rerank": "text-ranking",
    "translate": "translation",
}


def card(report: Report, language: str) -> str:
    """The card in one language."""
    voice = Voice(language)
    front = yaml.safe_dump(_front(report), allow_unicode=True, sort_keys=False, width=110)
    parts = [
        f"# {plain(report['name'])}",
        voice(f"task.{report['task']}"),
        f"**{plain(report['sentence'][language])}**",
        *(plain(sentence[language]) for sentence in report["parts"]),
        *(plain(sentence) for sentence in (*blend(report, voice), winner(report, voice))),
        report["protocol"][language],
        _section("measures", _measures(report, voice), voice),
        _section("protocols", _protocols(report, voice), voice) if len(report["protocols"]) > 1 else "",
        _section("dials", _dials(report, voice), voice) if report["dials"] else "",
        _section("worst", _worst(report, voice), voice) if report["worst"]["looked"] else "",
        _section("slices", _slices(report, voice), voice) if report["slices"] else "",
        _section("asked", _data(report, voice), voice),
        _section("cost", _cost(report, voice), voice),
        _section("repeat", _repeat(report, voice), voice),
        _section("limits", voice(f"use.{report['task']}"), voice),
        listed([sentence[language] for sentence in report["limits"]]),
        listed([f"{'✓' if gate['holds'] else '✕'} {rule(gate, voice)}" for gate in report["gate"]]),
    ]
    return f"---\n{front}---\n\n" + "\n\n".join(part for part in parts if part) + "\n"


def _front(report: Report) -> dict[str, Any]:
    """What machines read. Names come from the user's data, so they stay data: YAML quotes what needs quoting."""
    task = {"type": PIPELINES.get(report["task"], "other"), "name": report["task"]}
    sources = list(report["data"]["sources"])
    data = {"name": ", ".join(sources), "type": "private", "split": "test"}
    metrics = [{"type": value["name"], "name": value["name"], "value": value["value"]} for value in report["measures"]]
    front = {
        "library_name": "zhumo",
        "license": _licence_id(report["model"]["licence"]),
        "language": report["data"]["languages"],
        "pipeline_tag": PIPELINES.get(report["task"]),
        "base_model": (report["model"]["start"] or "").removeprefix("hf:"),
        "datasets": sources,
        "metrics": [value["name"] for value in report["measures"]],
        "tags": ["zhumo", report["task"]],
        "model-index": [{"name": report["name"], "results": [{"task": task, "dataset": data, "metrics": metrics}]}],
    }
    return {key: value for key, value in front.items() if value}


def _licence_id(licence: str | None) -> str:
    """The start weights' licence as Hugging Face spells it; a fresh model belongs to who made it: `other`."""
    return re.sub(r"[^a-z0-9.]+", "-", licence.lower()).strip("-") if licence else "other"


def plain(text: object) -> str:
    """Text from data as text: no markup of Markdown or HTML, no end of a table cell."""
    return re.sub(r"([\\`*_{}\[\]<>|#&])", r"\\\1", " ".join(str(text).split()))


def _section(name: str, content: str, voice: Voice) -> str:
    return f"## {voice(f'section.{name}')}\n\n{content}"


def listed(lines: Iterable[str]) -> str:
    """A Markdown list of plain lines."""
    return "\n".join(f"- {plain(line)}" for line in lines)


def table(head: list[str], rows: list[list[str]]) -> str:
    """A Markdown table, numbers to the right."""
    lines = [head, ["---", *("---:" for _ in head[1:])], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _measures(report: Report, voice: Voice) -> str:
    rows = []
    for measure in report["measures"]:
        found = [measure_of(one, measure["name"]) for one in everyone(report)]
        cells = [f"{figure(value['value'])} ({spread(value)})" if value else "–" for value in found]
        rows.append([plain(voice.metric(measure["name"])), *cells])
    return table(["", *(plain(voice.who(one["name"])) for one in everyone(report))], rows)


def _protocols(report: Report, voice: Voice) -> str:
    ways = report["protocols"]
    rows = []
    for name in (one["name"] for one in everyone(report)):
        found = (next((one for one in way["contenders"] if one["name"] == name), None) for way in ways)
        rows.append([plain(voice.who(name)), *map(_way, found)])
    names = [voice(f"way.{way['name']}") for way in ways]
    about = listed(f"{name}: {way['said'][voice.language]}" for name, way in zip(names, ways, strict=True))
    return f"{table(['', *names], rows)}\n\n{about}"


def _dials(report: Report, voice: Voice) -> str:
    tables = []
    for dial in report["dials"]:
        gain = voice.metric(dial["settings"][0]["gain"]["name"])
        head = [voice(f"dial.{dial['name']}"), voice.metric(report["lead"]), voice("dial.cost"), gain]
        rows = [
            [f"{one['value']:g}", figure(one["lead"]["value"]), cost(one, dial), figure(one["gain"]["value"])]
            for one in dial["settings"]
        ]
        tables.append(table(head, rows))
    return "\n\n".join(tables)


def _way(one: Rival | None) -> str:
    if one is None:
        return "–"
    value = one["measures"][0]
    p = "" if one["p_better"] is None else f", p {plain(chance(one['p_better']))}"
    return f"{figure(value['value'])} ({spread(value)}{p})"


def _worst(report: Report, voice: Voice) -> str:
    found = report["worst"]
    facts = {name: figure(found[name]) for name in ("looked", "fewest")}
    if not found["groups"]:
        return voice("worst.none", **facts)
    head = ["", voice("n"), plain(voice.metric(report["lead"])), voice("rest")]
    rows = []
    for group in found["groups"]:
        name = plain(called(group["name"], group["automatic"], group["value"], voice))
        value = f"{figure(group['score']['value'])} ({spread(group['score'])}, p {plain(chance(group['p']))})"
        rows.append([name, figure(group["n"]), value, figure(group["rest"])])
    return table(head, rows)


def _slices(report: Report, voice: Voice) -> str:
    head = ["", voice("n"), plain(voice.metric(report["lead"])), voice("kind.baseline")]
    rows = []
    for part in report["slices"]:
        name = voice.column(part["name"], part["automatic"])
        for group in part["groups"]:
            value = f"{figure(group['score']['value'])} ({spread(group['score'])})"
            rows.append([plain(f"{name}: {group['value']}"), figure(group["n"]), value, figure(group["baseline"])])
    return table(head, rows)


def _data(report: Report, voice: Voice) -> str:
    data = report["data"]
    lines = [f"{voice(f'rows.{name}')}: {figure(count)}" for name, count in {**data["rows"], **data["parts"]}.items()]
    lines += not_asked(report, voice)
    for name, facts in data["sources"].items():
        licence = voice("licence", licence=facts.get("licence") or voice("unknown"))
        lines.append(f"{name}. {licence}; sha256 {', '.join(digests(facts)) or '–'}")
    return listed(lines)


def _cost(report: Report, voice: Voice) -> str:
    cost, model = report["cost"], report["model"]
    facts = {
        "start": model["start"] or "–",
        "chosen": values(model["chosen"]) or "–",
        "parameters": figure(cost["parameters"]),
        "training": voice.time(cost["training_seconds"]),
        "answer": voice.time(cost["answer_seconds"]),
    }
    return listed(f"{voice(f'cost.{name}')}: {value}" for name, value in facts.items() if value != "–")


def _repeat(report: Report, voice: Voice) -> str:
    again = report["reproduce"]
    versions = ", ".join(f"{name} {version}" for name, version in again["versions"].items())
    return listed(
        [versions, f"{voice('repeat.seed')}: {again['seed']}", f"{voice('repeat.weights')}: {again['weights']}"]
    )
