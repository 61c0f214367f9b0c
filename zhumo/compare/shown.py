"""A comparison as a person reads it: a page, Markdown, or a table for the terminal, in one language each."""

from collections.abc import Mapping, Sequence

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from zhumo.compare import Change, Comparison
from zhumo.evaluate import plots
from zhumo.evaluate.card import listed, plain, table
from zhumo.evaluate.markup import Markup, tag
from zhumo.evaluate.page import document, header, rule, scale_row, section, spread
from zhumo.evaluate.report import Value
from zhumo.evaluate.slices import called
from zhumo.evaluate.voice import Voice, chance, figure

SIGN: Mapping[str, str] = {"better": "▲", "same": "=", "worse": "▼"}


def page(found: Comparison, language: str) -> str:
    """One HTML file in the report card's style."""
    voice = Voice(language)
    title = _title(found)
    gate = "holds" if found["passes"] else "unmet"
    told = tag("p", found["sentence"][language], class_="sentence")
    notes = [tag("li", note) for note in notes_of(found, voice)]
    rules = [tag("li", rule(one, voice), class_="holds" if one["holds"] else "unmet") for one in found["gate"]]
    return document(
        f"{title} · {voice('compare')}",
        language,
        header(title, voice("compare"), gate, found["task"], found["created"], voice),
        tag("section", told, tag("div", tag("p", verdict(found, voice)), class_="answer"), class_="first"),
        section("differences", voice, *_forests(found["measures"], voice)),
        section("moved", voice, tag("p", looked(found, voice)), *_forests(found["groups"], voice)),
        section("sides", voice, tag("ul", *(tag("li", line) for line in sides(found, voice)), class_="sources")),
        tag("section", tag("div"), tag("ul", *notes, *rules), class_="limits") if notes or rules else None,
        tag("footer", tag("p", voice("compare.foot"))),
    )


def text(found: Comparison, language: str) -> str:
    """Markdown."""
    voice = Voice(language)
    head = ["", voice("n"), voice("compare.old"), voice("compare.new"), voice("compare.difference"), "p", ""]
    parts = [
        f"# {plain(_title(found))}",
        f"**{plain(found['sentence'][language])}**",
        verdict(found, voice),
        f"## {voice('section.differences')}",
        _table(head, found["measures"], voice),
        f"## {voice('section.moved')}",
        looked(found, voice),
        table(head, [[plain(cell) for cell in _cells(line, voice)] for line in found["groups"]])
        if found["groups"]
        else "",
        listed([*sides(found, voice), *notes_of(found, voice), *(rule(one, voice) for one in found["gate"])]),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def summary(found: Comparison, language: str) -> RenderableType:
    """For the terminal."""
    voice = Voice(language)
    shown = Table(box=None, pad_edge=False, header_style="bold")
    for number, name in enumerate(("", "n", "compare.old", "compare.new", "compare.difference", "", "")):
        shown.add_column(voice(name) if name else ("", "p")[number == 5], justify="right" if number else "left")
    for line in (*found["measures"], *found["groups"]):
        style = {"better": "green", "worse": "red"}.get(line["outcome"], "")
        shown.add_row(*(Text(cell) for cell in _cells(line, voice)), style=style)
    told = [looked(found, voice), *notes_of(found, voice), *(rule(one, voice) for one in found["gate"])]
    return Group(shown, Text(found["sentence"][language], style="bold"), *map(Text, told), Text(verdict(found, voice)))


def verdict(found: Comparison, voice: Voice) -> str:
    """Whether the new one may replace the old."""
    return voice("compare.passes" if found["passes"] else "compare.fails")


def looked(found: Comparison, voice: Voice) -> str:
    """How many groups of rows were looked at, and how many of them moved."""
    worse = sum(group["outcome"] == "worse" for group in found["groups"])
    facts = {"looked": found["looked"], "worse": worse, "better": len(found["groups"]) - worse}
    return voice("compare.looked", **{name: figure(count) for name, count in facts.items()})


def sides(found: Comparison, voice: Voice) -> list[str]:
    """Which two models these are, and where their answers come from."""
    told = []
    for name, side in (("old", found["old"]), ("new", found["new"])):
        how = voice("compare.measured" if side["measured"] else "compare.asked")
        told.append(f"{voice(f'compare.{name}')}: {side['folder']}. {how} sha256 {side['weights']}")
    return told


def notes_of(found: Comparison, voice: Voice) -> list[str]:
    """What a reader must know before believing the numbers."""
    return [note[voice.language] for note in found["notes"]]


def _table(head: list[str], lines: Sequence[Change], voice: Voice) -> str:
    return table(head, [[plain(cell) for cell in _cells(line, voice)] for line in lines])


def _title(found: Comparison) -> str:
    return f"{found['old']['name']} → {found['new']['name']}"


def _name(line: Change, voice: Voice) -> str:
    if line["value"] is not None:
        return called(line["name"], line["automatic"], line["value"], voice)
    return f"{voice.metric(line['name'])} {'↑' if line['new']['higher_is_better'] else '↓'}"


def _signed(value: Value) -> str:
    sign = "+" if (value["value"] or 0) > 0 else ""
    return f"{sign}{figure(value['value'])} ({spread(value)})"


def _cells(line: Change, voice: Voice) -> list[str]:
    values = [figure(line[side]["value"], line["old"]["value"]) for side in ("old", "new")]
    p = chance(line["p"]).removeprefix("= ")
    return [_name(line, voice), figure(line["n"]), *values, _signed(line["difference"]), p, SIGN[line["outcome"]]]


def _forests(lines: Sequence[Change], voice: Voice) -> list[Markup]:
    """Differences as strips around no difference; measures of unlike size each on an axis of their own."""
    groups = [line for line in lines if line["value"] is not None]
    return [_forest(part, voice) for part in ([line] for line in lines if line["value"] is None)] + (
        [_forest(groups, voice)] if groups else []
    )


def _forest(lines: Sequence[Change], voice: Voice) -> Markup:
    along = plots.over([line["difference"] for line in lines], [0.0])
    rows = []
    for line in lines:
        kind = {"better": "group", "worse": "weak"}.get(line["outcome"], "baseline")
        both = f"{figure(line['old']['value'])} → {figure(line['new']['value'], line['old']['value'])}"
        rows.append(
            tag(
                "tr",
                tag("th", f"{SIGN[line['outcome']]} {_name(line, voice)}", tag("span", both, class_="tag")),
                tag("td", plots.strip(line["difference"], along, kind, 0.0), class_="plot"),
                tag("td", tag("span", figure(line["difference"]["value"])), tag("small", spread(line["difference"])),
                    class_="number"),
                tag("td", f"p {chance(line['p'])}", class_="number p"),
            )
        )  # fmt: skip
    return tag("table", tag("tbody", *rows, scale_row(along)), class_="forest")
