"""Step 4, evaluate: answer the test rows, measure them beside honest baselines, and write the report card.

What a reader of the run finds: `rows.jsonl` and `answers.jsonl` (exactly what was asked and said, in order), the report
as `report.json`, `report.en.html` and `report.zh.html`, and the model card `card.en.md` and `card.zh.md`.
"""

import platform
import random
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import torch
from rich.console import Console
from rich.progress import Progress

from zhumo.bundle import Bundle, load, load_task
from zhumo.errors import DataError, GateError, ModelError, RecipeError
from zhumo.evaluate.card import card
from zhumo.evaluate.gate import parse
from zhumo.evaluate.lines import Lines
from zhumo.evaluate.page import page
from zhumo.evaluate.report import (
    CURVE,
    FORMAT,
    SURE,
    Contender,
    Dial,
    Kind,
    Protocol,
    Report,
    Rival,
    Said,
    Setting,
    Worst,
    best,
    calibration,
    chances,
    gates,
    languages,
    ranked,
    said,
    value_of,
    verdict,
)
from zhumo.evaluate.slices import looks, named, slices, weakness, words, worst
from zhumo.evaluate.summary import summary
from zhumo.evaluate.voice import Voice, figure
from zhumo.metrics.measure import Measure
from zhumo.prepare import read_rows
from zhumo.recipe import Recipe
from zhumo.run import Run, file_digest, read_json, write_json, write_text
from zhumo.tasks import Answer, Row, Task
from zhumo.weights import tensor_files
from zhumo.words import LANGUAGES, say

__all__ = ["Report", "evaluate", "read_report", "summary"]

TRANSFORMER, BLEND = "transformer", "blend"  # the model among contenders and variants; what answers for several of them
OLD = "old"  # the bundle that is to be replaced
K = 20  # items a recommender is asked for, so that its lists can be measured so far down
AT_ONCE = 128  # rows answered between two steps of the progress bar
PATIENCE = 2.0  # seconds of work that need no progress bar
DIALLED = 500  # rows that are asked again for each value of a dial
FEW = 300  # test rows below which the report warns


def evaluate(recipe: Recipe, run: Run) -> None:
    """Make `runs/NAME/evaluate/`. The step is finished only where its gate holds; the report is there either way.

    Raises:
        GateError: a rule of the gate does not hold.
        DataError: there are no test rows.
        RecipeError: a gate that is not in the grammar, or on a measure the task does not have.
        ModelError: evaluate.old is not a bundle of this task.
    """
    old = recipe.evaluate.old
    for name, rule in recipe.evaluate.gate.items():
        if parse(rule).rival == OLD and old is None:
            raise RecipeError("gate.no_old", name=name, rule=rule)
    step = run.begin("evaluate", recipe, {} if old is None else {old: _weights(old, recipe.task)}, resume=True)
    if step.done:
        return
    if not (step.folder / "report.json").is_file():
        _write(step.folder, _measure(recipe, run, step.folder))
    report = read_report(run)
    for gate in report["gate"]:
        if not gate["holds"]:
            raise GateError("gate.unmet", name=gate["name"], rule=gate["rule"], value=figure(gate["value"]),
                            bound=figure(gate["bound"]), report=step.folder / "report.json")  # fmt: skip
    lead = report["measures"][0]
    step.finish(
        said=f"{lead['name']} {figure(lead['value'])}",
        rows=lead["n"],
        winner=report["winner"],
        verdict=report["verdict"],
    )


def read_report(run: Run) -> Report:
    """The report of a run.

    Raises:
        RunError: it has none yet.
    """
    report: Report = read_json(run.step("evaluate") / "report.json")
    return report


def _weights(folder: str, task: str) -> str:
    """The sha256 of a bundle's weights.

    Raises:
        ModelError: it is no bundle of this task.
    """
    if not (Path(folder) / "task.json").is_file() or load_task(Path(folder)).name != task:
        raise ModelError("model.not_of_task", folder=folder, task=task)
    return weights_sum(Path(folder))


def weights_sum(folder: Path) -> str:
    """The sha256 of the weights; of shards, of all their sums."""
    sums = [file_digest(path) for path in tensor_files(folder)]
    return sums[0] if len(sums) == 1 else sha256("".join(sums).encode()).hexdigest()


def _write(folder: Path, report: Report) -> None:
    """All forms of the report; the JSON comes last and says that the others are whole."""
    for language in LANGUAGES:
        write_text(folder / f"report.{language}.html", page(report, language))
        write_text(folder / f"card.{language}.md", card(report, language))
    write_json(folder / "report.json", report)


def _measure(recipe: Recipe, run: Run, folder: Path) -> Report:
    """Answer, score, compare."""
    bundle = load(run.step("train"))
    task = bundle.task
    assert task is not None  # train leaves a bundle with its task
    train = Lines(run.step("prepare") / "train.jsonl")
    chosen = _chosen(read_rows(run.step("prepare") / "test.jsonl"), recipe.evaluate.rows)
    if not chosen:
        raise DataError("evaluate.no_rows", path=run.step("prepare") / "test.jsonl")
    ways = _ways(task)
    rows = [_asked(recipe, next(iter(ways.values())), row) for row in chosen]
    started = time.perf_counter()
    answers = answered(bundle.answer, rows)
    seconds = time.perf_counter() - started
    _write_lines(folder / "rows.jsonl", rows)
    _write_lines(folder / "answers.jsonl", answers)
    all_ = _contenders(bundle, train, rows, answers)
    if recipe.evaluate.old is not None:
        before = answered(load(recipe.evaluate.old).answer, rows)
        all_.append(_contender(task, OLD, "old", before, rows))
    report = _report(recipe, run, task, rows, all_, _takers(train))
    protocols = [_protocol(task, name, all_) for name in list(ways)[:1]]
    for name, options in list(ways.items())[1:]:
        otherwise = [_asked(recipe, options, row) for row in chosen]
        again = _contenders(bundle, train, otherwise, answered(bundle.answer, otherwise), all_[0].name)
        protocols.append(_protocol(task, name, again))
    dials = [_dial(bundle, name, settings, _chosen(rows, DIALLED)) for name, settings in task.dials.items()]
    return {**report, "protocols": protocols, "dials": dials, "cost": _cost(run, bundle, seconds / len(rows))}


def _ways(task: Task) -> dict[str, Row]:
    """The ways the task is asked, the leading one first; one without a name where there is no other."""
    lead = task.state.get("protocol", next(iter(task.protocols), ""))
    return {lead: task.protocols.get(lead, {}), **task.protocols}


def _contenders(
    bundle: Bundle, train: Sequence[Row], rows: Sequence[Row], answers: Sequence[Answer], name: str | None = None
) -> list[Contender]:
    """The served answers under their name, the parts they are blended from, and all baselines that apply."""
    task = bundle.task
    assert task is not None
    with torch.inference_mode():
        variants = task.variants(bundle.model, rows)
    if name is None:
        alone = next((name for name, theirs in variants.items() if theirs == answers), BLEND)
        name = alone if variants else TRANSFORMER
    served = _contender(task, name, "model", answers, rows)
    others = [_contender(task, other, "variant", theirs, rows) for other, theirs in variants.items() if other != name]
    baselines = [
        _contender(task, other, "baseline", fit(task, train, rows), rows) for other, fit in task.baselines.items()
    ]
    return [served, *(one for one in (*others, *baselines) if one.measures)]


def _protocol(task: Task, name: str, all_: Sequence[Contender]) -> Protocol:
    lead = all_[0].measures[task.metric]
    found: list[Rival] = []
    for one in all_:
        mine = one.measures.get(task.metric)
        if mine is not None:
            p = None if one is all_[0] or len(mine.values) != len(lead.values) else lead.beats(mine)
            found.append({"name": one.name, "kind": one.kind, "measures": [value_of(mine)], "p_better": p})
    return {"name": name, "said": said(f"candidates.{name}") if name else {}, "contenders": found}


def _dial(bundle: Bundle, name: str, settings: Sequence[Row], rows: Sequence[Row]) -> Dial:
    """What it costs to turn an option away from its usual value, and what for."""
    task = bundle.task
    assert task is not None
    found = []
    for options in settings:
        asked = [{**row, **options} for row in rows]
        found.append({measure.name: measure for measure in task.score(answered(bundle.answer, asked), asked)})
    gain = next(measure for measure in found[0] if measure.startswith(name))
    return {"name": name, "settings": [_setting(options[name], one, found[0], task.metric, gain)
                                       for options, one in zip(settings, found, strict=True)]}  # fmt: skip


def _setting(value: float, found: Mapping[str, Measure], usual: Mapping[str, Measure], lead: str, gain: str) -> Setting:
    low, high = found[lead].ahead(usual[lead])
    return {"value": value, "lead": value_of(found[lead]), "low": low, "high": high, "gain": value_of(found[gain])}


def _takers(train: Sequence[Row]) -> Counter[str]:
    """How many training rows hold each item; none where rows hold no items."""
    if "items" not in next(iter(train), {}):
        return Counter()
    return Counter(item for row in train for item in set(row["items"]))


def _report(
    recipe: Recipe, run: Run, task: Task, rows: Sequence[Row], all_: Sequence[Contender], takers: Mapping[str, int]
) -> Report:
    """What the answers of all contenders, the served ones first, say."""
    served = all_[0]
    variants, baselines, before = (
        ranked([one for one in all_ if one.kind == kind], task.metric) for kind in ("variant", "baseline", "old")
    )
    lead, rival = served.measures[task.metric], best(baselines, task.metric)
    found = chances(all_, task.metric)
    winner = ranked([*baselines, *variants, *before, served], task.metric)[0].name  # of equals the cheaper one
    judged, sentence = verdict(served, baselines, task.metric, found)
    # Where the answer is a blend, the Transformer in it is judged by itself as well.
    parts = [verdict(one, baselines, task.metric, found, part=True)[1] for one in variants if one.name == TRANSFORMER]
    seen = looks(rows, recipe.evaluate.slices, takers, _described(task, rows)) if len(lead.values) == len(rows) else []
    also = [words(rows)] if len(lead.values) == len(rows) else []
    sure = weakness([*seen, *also], lead)
    weakest = worst([*seen, *also], lead, sure)
    return {
        "format": FORMAT,
        "task": task.name,
        "name": recipe.name or recipe.task,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "lead": task.metric,
        "protocol": _how(recipe, task, _data(run, rows)),
        "protocols": [],
        "dials": [],
        "served": served.name,
        "measures": served.values(task.metric),
        "rivals": [_rival(one, task.metric, found[served.name]) for one in (*variants, *before, *baselines)],
        "winner": winner,
        "tied": [name for name, p in found[winner].items() if p >= SURE],
        "chances": found,
        "verdict": judged,
        "sentence": sentence,
        "parts": parts,
        "gate": gates(recipe.evaluate.gate, served, baselines, *before),
        "slices": slices(seen, lead, rival.measures[task.metric] if rival else None, sure),
        "worst": weakest,
        "calibration": calibration(served.measures.get("ece")),
        "data": _data(run, rows),
        "cost": {},
        "model": _model(recipe, run, task),
        "curve": _curve(run.step("train") / "metrics.jsonl"),
        "reproduce": _reproduce(recipe, run),
        "limits": _limits(task.name, len(rows), weakest),
    }


def _rival(one: Contender, lead: str, against: Mapping[str, float]) -> Rival:
    return {"name": one.name, "kind": one.kind, "measures": one.values(lead), "p_better": against.get(one.name)}


def _contender(task: Task, name: str, kind: Kind, answers: Sequence[Answer], rows: Sequence[Row]) -> Contender:
    return Contender(name, kind, {measure.name: measure for measure in task.score(answers, rows)})


def _chosen(rows: list[Row], limit: int | None) -> list[Row]:
    """All rows, or as many as asked for, drawn evenly from all and left in their order."""
    if limit is None or limit >= len(rows):
        return rows
    return [rows[index] for index in sorted(random.Random(0).sample(range(len(rows)), limit))]


def _asked(recipe: Recipe, options: Row, row: Row) -> Row:
    """A test row as it is asked, in one of the task's ways."""
    usual: Row = {"max_tokens": recipe.evaluate.tokens} if recipe.task == "write" else {}
    return {**({"k": K} if recipe.task == "recommend" else usual), **options, **row}


def _how(recipe: Recipe, task: Task, data: Mapping[str, Any]) -> Said:
    """How the rows came to be asked, and in which of the task's ways."""
    key = f"{task.protocol}.{recipe.prepare.split.by}" if task.histories else task.protocol
    way = next(iter(_ways(task)))
    told = {}
    for voice in map(Voice, LANGUAGES):
        how = say(key, voice.language, **data["since"])
        told[voice.language] = voice("protocol.both", how=how, candidates=voice(f"candidates.{way}")) if way else how
    return told


def answered(answer: Callable[[Sequence[Row]], list[Answer]], rows: Sequence[Row]) -> list[Answer]:
    """The answers to all rows, with a progress bar on the error stream once it takes longer than a moment."""
    answers: list[Answer] = []
    started = time.monotonic()
    console = Console(stderr=True)
    bar = Progress(console=console, transient=True, disable=not console.is_terminal)
    asked = bar.add_task(say("report.answering"), total=len(rows))
    try:
        while len(answers) < len(rows):
            answers += answer(rows[len(answers) : len(answers) + AT_ONCE])
            bar.update(asked, completed=len(answers))
            if time.monotonic() - started > PATIENCE:
                bar.start()
    finally:
        bar.stop()
    return answers


def _write_lines(path: Path, values: Sequence[dict[str, Any]]) -> None:
    with path.open("wb") as file:
        for value in values:
            file.write(orjson.dumps(value) + b"\n")


def _data(run: Run, rows: Sequence[Row]) -> dict[str, Any]:
    """What the model was made from and asked, from the data card."""
    described = read_json(run.step("prepare") / "card.json")
    texts = [row["text"] for row in rows if isinstance(row.get("text"), str)]
    return {
        "rows": described["rows"],
        "quarantined": described["quarantined"],
        "parts": described["parts"],
        "sources": described["sources"],
        "since": described.get("since", {}),
        "interactions": described.get("interactions", {}),
        "catalogue": described.get("catalogue", {}),
        "tested": len(rows),
        "languages": languages(texts, described.get("chinese", 0.0)),
    }


def _cost(run: Run, bundle: Bundle, seconds: float) -> dict[str, Any]:
    facts = run.facts("train")
    return {
        "parameters": sum(weights.numel() for weights in bundle.model.parameters()),
        "bytes": sum(path.stat().st_size for path in tensor_files(bundle.folder)),
        "training_seconds": facts.get("seconds"),
        "steps": facts.get("steps"),
        "tokens_per_second": facts.get("tokens_per_second"),
        "answer_seconds": seconds,
    }


def _model(recipe: Recipe, run: Run, task: Task) -> dict[str, Any]:
    facts, trained = run.facts("build"), run.facts("train")
    chosen = trained.get("chosen", {})
    lora = recipe.changed({**chosen, "train.search": {}}).build.lora
    return {
        "family": facts.get("family"),
        "start": recipe.build.start,
        "licence": facts.get("licence"),
        "weight": task.state.get("weight"),
        "trend": task.state.get("trend"),
        "again": task.state["again"] if task.state.get("protocol") == "again" else None,
        "lora": lora.rank if lora else None,
        "chosen": chosen,
        "search": trained.get("search", []),
    }


def _curve(path: Path) -> dict[str, list[list[float]]]:
    """The loss as it fell, (step, loss): in training as means over at most CURVE stretches, in validation as it is."""
    found: dict[str, list[list[float]]] = {"loss": [], "valid_loss": []}
    for line in path.read_bytes().splitlines() if path.is_file() else ():
        record = orjson.loads(line)
        for name, points in found.items():
            if record.get(name) is not None:
                points.append([record["step"], record[name]])
    stretches = np.array_split(np.array(found["loss"]), min(CURVE, len(found["loss"])) or 1)
    found["loss"] = [stretch.mean(axis=0).tolist() for stretch in stretches if len(stretch)]
    return found


def _reproduce(recipe: Recipe, run: Run) -> dict[str, Any]:
    return {
        "seed": recipe.seed,
        "threads": run.facts("train").get("threads"),
        "versions": {
            "python": platform.python_version(),
            **{name: version(name) for name in ("zhumo", "torch", "numpy")},
        },
        "machine": f"{platform.system()} {platform.machine()}",
        "steps": {name: run.facts(name)["hash"] for name in ("prepare", "build", "train")},
        "weights": weights_sum(run.step("train")),
    }


def _described(task: Task, rows: Sequence[Row]) -> dict[str, Row]:
    """What is known of each item that a row wants, where a task has a catalogue."""
    catalogue, wanted = task.state.get("catalogue", {}), {item for row in rows for item in row.get("next", ())}
    return {
        item: {name: values[place] for name, values in catalogue.items() if values[place] is not None}
        for place, item in enumerate(task.state.get("items", ()))
        if item in wanted
    }


def _limits(task: str, rows: int, weakest: Worst) -> list[Said]:
    """What a reader must not conclude from the report."""
    limits = [said("limits.rows", rows=figure(rows)), said(f"limits.{task}")]
    if rows < FEW:
        limits.append(said("limits.few", rows=figure(rows)))
    weak = {voice.language: voice.join(named(weakest, voice)) for voice in map(Voice, LANGUAGES)}
    if weakest["groups"]:
        limits.append({language: Voice(language)("limits.weak", groups=groups) for language, groups in weak.items()})
    return limits
