"""The report as a table for the terminal."""

from functools import partial

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from zhumo.evaluate.page import blend, everyone, measure_of, otherwise, rule, spread, winner
from zhumo.evaluate.report import Report, Value
from zhumo.evaluate.voice import Voice, chance, figure
from zhumo.words import language


def summary(report: Report) -> RenderableType:
    """Every measure beside the baselines, the honest sentence and the gate, in the user's language."""
    voice = Voice(language())
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column()
    for one in everyone(report):
        table.add_column(Text(voice.who(one["name"])), justify="right", style="bold" if one["kind"] == "model" else "")
    for measure in filter(partial(_worth_a_line, report), report["measures"]):
        found = [measure_of(one, measure["name"]) for one in everyone(report)]
        table.add_row(Text(voice.metric(measure["name"])), *map(_cell, found))
    chances = [chance(one["p_better"]).removeprefix("= ") for one in report["rivals"]]
    table.add_row(Text("p"), Text(), *map(Text, chances), style="dim")
    parts = [sentence[voice.language] for sentence in report["parts"]]
    told = [*parts, *blend(report, voice), winner(report, voice), *otherwise(report, voice)]
    return Group(
        Text(voice("summary", rows=figure(report["measures"][0]["n"])), style="dim"),
        table,
        Text(report["sentence"][voice.language], style="bold"),
        *map(Text, told),
        *(
            Text(f"✓ {rule(g, voice)}" if g["holds"] else f"✗ {rule(g, voice)}", "" if g["holds"] else "red")
            for g in report["gate"]
        ),
    )


def _worth_a_line(report: Report, measure: Value) -> bool:
    """On a small screen the same measure further up or down the list is left to the report card."""
    base, _, k = measure["name"].partition("@")
    lead = report["lead"].partition("@")[2]
    return k == lead or all(other["name"] != f"{base}@{lead}" for other in report["measures"])


def _cell(value: Value | None) -> Text:
    """A value over its interval, narrow enough for five columns on a small terminal."""
    if value is None:
        return Text("–")
    return Text(figure(value["value"])).append("\n" + spread(value).replace(" ", ""), style="not bold dim")
