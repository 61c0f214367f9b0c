"""The report as one HTML file for the person who must sign it: no script, nothing fetched, readable in print."""

from collections.abc import Iterable, Mapping, Sequence
from importlib.resources import files
from typing import Any

from zhumo.evaluate import plots
from zhumo.evaluate.markup import Markup, joined, tag
from zhumo.evaluate.report import Dial, Gate, Report, Rival, Setting, Slice, Value, Weakest
from zhumo.evaluate.slices import called
from zhumo.evaluate.voice import Voice, chance, figure

LANG = {"en": "en", "zh": "zh-CN"}
POLICY = "default-src 'none'; style-src 'unsafe-inline'"
# A mould with its casting, drawn so that no font is needed.
MARK = tag(
    "svg",
    tag("rect", x=1, y=1, width=30, height=30, rx=7, class_="seal"),
    tag("path", d="M7 10h5.5v7.5a3.5 3.5 0 0 0 7 0V10H25M9 24.5h14", class_="mould"),
    viewBox="0 0 32 32",
    class_="mark",
    aria_hidden="true",
)


def page(report: Report, language: str) -> str:
    """The whole page in one language."""
    voice = Voice(language)
    parts = (_contenders, _protocols, _dials, _measures, _worst, _slices, _calibration, _data, _cost, _repeat, _limits)
    told = (_head(report, voice), _first(report, voice), *(part(report, voice) for part in parts), _foot(voice))
    return document(f"{report['name']} · {voice('title')}", language, *told)


def document(title: str, language: str, *content: Markup | None) -> str:
    """A page that needs nothing but itself."""
    style = files("zhumo.evaluate").joinpath("report.css").read_text(encoding="utf-8")
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", http_equiv="Content-Security-Policy", content=POLICY),
        tag("title", title),
        tag("style", Markup(style)),
    )
    body = tag("body", tag("main", *content))
    return f"<!doctype html>\n{tag('html', head, body, lang=LANG[language])}\n"


def everyone(report: Report) -> list[Rival]:
    """All contenders, the served answer first."""
    name, measures = report["served"], report["measures"]
    served: Rival = {"name": name, "kind": "model", "measures": measures, "p_better": None}
    return [served, *report["rivals"]]


def measure_of(one: Rival, name: str) -> Value | None:
    """A contender's measure by name."""
    return next((value for value in one["measures"] if value["name"] == name), None)


def spread(value: Value) -> str:
    """The 95% interval."""
    return f"{figure(value['low'], value['value'])} – {figure(value['high'], value['value'])}"


def _head(report: Report, voice: Voice) -> Markup:
    gate = "none" if not report["gate"] else "holds" if all(one["holds"] for one in report["gate"]) else "unmet"
    return header(report["name"], voice("title"), gate, report["task"], report["created"], voice)


def header(name: str, kind: str, gate: str, task: str, created: str, voice: Voice) -> Markup:
    """What stands at the top. kind: of page; gate: none, holds or unmet."""
    masthead = tag(
        "div",
        MARK,
        tag("span", "Zhumo 铸模", class_="brand"),
        tag("span", kind, class_="kind"),
        tag("span", voice(f"gate.{gate}"), class_=f"chip {gate}"),
        class_="masthead",
    )
    subtitle = tag("p", voice(f"task.{task}"), " · ", tag("time", created[:10]), class_="subtitle")
    return tag("header", masthead, tag("h1", name), subtitle)


def _first(report: Report, voice: Voice) -> Markup:
    """What a reader in a hurry takes away."""
    lead = report["measures"][0]
    hero = tag(
        "div",
        tag("span", voice.metric(lead["name"]), class_="label"),
        tag("span", figure(lead["value"]), class_="big"),
        tag("span", voice("interval", interval=spread(lead)), class_="label"),
        class_="hero",
    )
    told = [*(sentence[voice.language] for sentence in report["parts"]), *blend(report, voice), winner(report, voice)]
    protocol = tag("p", report["protocol"][voice.language], class_="protocol")
    text = tag("div", *(tag("p", sentence) for sentence in told), protocol, class_="told")
    sentence = tag("p", report["sentence"][voice.language], class_="sentence")
    return tag("section", sentence, tag("div", hero, text, class_="answer"), class_="first")


def winner(report: Report, voice: Voice) -> str:
    """Who is best, and who may be as good."""
    tied = [voice.who(name) for name in report["tied"]]
    key = "tied" if tied else "alone" if report["rivals"] else "only"
    return voice(f"winner.{key}", who=voice.who(report["winner"]), others=voice.join(tied))


def blend(report: Report, voice: Voice) -> list[str]:
    """What the answer is mixed of, where it is mixed."""
    weight = report["model"]["weight"]
    if weight is None:
        return []
    mixed = voice("blend", part=f"{weight:.0%}") if 0 < weight < 1 else voice(f"blend.{'all' if weight else 'none'}")
    trend, again = (report["model"].get(name) for name in ("trend", "again"))
    return [
        mixed,
        *([voice("blend.trend", power=f"{trend:g}")] if trend else []),
        *([voice("blend.again", part=f"{again:.0%}")] if again else []),
    ]


def section(name: str, voice: Voice, *content: Markup | None) -> Markup:
    """A part of the page under its heading, with a word on what it shows."""
    about = tag("div", tag("h2", voice(f"section.{name}")), tag("p", voice(f"about.{name}")), class_="about")
    return tag("section", about, tag("div", *content, class_="content"), class_=name)


def _contenders(report: Report, voice: Voice) -> Markup:
    """The forest plot of the leading measure."""
    found = [(one, measure_of(one, report["lead"])) for one in everyone(report)]
    scored = [(one, value) for one, value in found if value is not None]
    along = plots.around(report["measures"][0], [value for _, value in scored[1:]])
    line = report["measures"][0]["value"]
    rows = [_contender(one, value, along, line, voice) for one, value in scored]
    return section("contenders", voice, tag("table", tag("tbody", *rows, scale_row(along)), class_="forest"))


def _contender(one: Rival, value: Value, along: plots.Axis, line: float | None, voice: Voice) -> Markup:
    kind = one["kind"]
    return tag(
        "tr",
        tag("th", voice.who(one["name"]), tag("span", voice(f"kind.{kind}"), class_="tag"), scope="row"),
        tag("td", plots.strip(value, along, kind, line), class_="plot"),
        _cell(value),
        tag("td", None if kind == "model" else f"p {chance(one['p_better'])}", class_="number p"),
        class_=kind,
    )


def _protocols(report: Report, voice: Voice) -> Markup | None:
    """The leading measure of everyone, a column for each way to be asked."""
    ways = report["protocols"]
    if len(ways) < 2:
        return None
    names = (tag("th", voice(f"way.{way['name']}"), scope="col") for way in ways)
    columns = [{one["name"]: one for one in way["contenders"]} for way in ways]
    best = [max(one["measures"][0]["value"] or 0.0 for one in column.values()) for column in columns]
    rows = (
        tag("tr", tag("th", voice.who(name), scope="row"), *map(_asked, (column.get(name) for column in columns), best))
        for name in (one["name"] for one in everyone(report))
    )
    table = tag("table", tag("thead", tag("tr", tag("th"), *names)), tag("tbody", *rows), class_="measures")
    about = (tag("li", tag("b", voice(f"way.{way['name']}")), " ", way["said"][voice.language]) for way in ways)
    return section("protocols", voice, tag("div", table, class_="wide"), tag("ul", *about, class_="note"))


def _asked(one: Rival | None, best: float) -> Markup:
    """A value over its interval and the chance that the served answer is no better; bold where it is the best."""
    if one is None:
        return tag("td", "–", class_="number")
    value = one["measures"][0]
    p = tag("small", f"p {chance(one['p_better'])}") if one["p_better"] is not None else None
    bold = "b" if value["value"] == best else "span"
    return tag("td", tag(bold, figure(value["value"])), tag("small", spread(value)), p, class_="number")


def _dials(report: Report, voice: Voice) -> Markup | None:
    """What each dial costs."""
    if not report["dials"]:
        return None
    return section("dials", voice, *(_dial(dial, report["lead"], voice) for dial in report["dials"]))


def _dial(dial: Dial, lead: str, voice: Voice) -> Markup:
    names = (voice(f"dial.{dial['name']}"), voice.metric(lead), voice("dial.cost"),
             voice.metric(dial["settings"][0]["gain"]["name"]))  # fmt: skip
    rows = (
        tag(
            "tr",
            tag("th", f"{one['value']:g}", scope="row"),
            _cell(one["lead"]),
            tag("td", tag("span", cost(one, dial)), class_="number"),
            _cell(one["gain"]),
        )
        for one in dial["settings"]
    )
    head = tag("thead", tag("tr", *(tag("th", name, scope="col") for name in names)))
    return tag("div", tag("table", head, tag("tbody", *rows), class_="measures"), class_="wide")


def cost(one: Setting, dial: Dial) -> str:
    """How far the leading measure is from where the dial is at its usual value, with the interval."""
    usual = dial["settings"][0]
    if one is usual or one["lead"]["value"] is None or usual["lead"]["value"] is None:
        return "–"
    apart = one["lead"]["value"] - usual["lead"]["value"]
    return f"{apart:+.4f} ({one['low']:+.4f} – {one['high']:+.4f})"


def scale_row(along: plots.Axis) -> Markup:
    """The numbers under a column of strips."""
    return tag("tr", tag("td"), tag("td", plots.scale(along), class_="plot"), tag("td"), tag("td"), class_="scale")


def _cell(value: Value | None, best: float | None = None) -> Markup:
    """A value over its interval; bold where it is the best of its line."""
    if value is None:
        return tag("td", "–", class_="number")
    bold = best is not None and value["value"] == best
    return tag("td", tag("b" if bold else "span", figure(value["value"])), tag("small", spread(value)), class_="number")


def _measures(report: Report, voice: Voice) -> Markup:
    """Every measure of every contender."""
    names = (tag("th", voice.who(one["name"]), scope="col", class_=one["kind"]) for one in everyone(report))
    rows = [_line(report, measure, voice) for measure in report["measures"]]
    table = tag("table", tag("thead", tag("tr", tag("th"), *names)), tag("tbody", *rows), class_="measures")
    return section("measures", voice, tag("div", table, class_="wide"))


def _line(report: Report, measure: Value, voice: Voice) -> Markup:
    found = [measure_of(one, measure["name"]) for one in everyone(report)]
    known = [value["value"] for value in found if value is not None and value["value"] is not None]
    best = (max if measure["higher_is_better"] else min)(known, default=None)
    arrow = tag("span", "↑" if measure["higher_is_better"] else "↓", class_="arrow")
    return tag(
        "tr",
        tag("th", voice.metric(measure["name"]), " ", arrow, scope="row"),
        *(_cell(value, best if len(known) > 1 else None) for value in found),
    )


def _data(report: Report, voice: Voice) -> Markup:
    """Where every row went, and where it came from."""
    data = report["data"]
    order = ("in", "out", "quarantined", "deduplicated", "filtered")
    flow = {
        **{name: data["rows"][name] for name in order if name in data["rows"]},
        **data["parts"],
        "tested": data["tested"],
    }
    counts = (tag("li", tag("b", figure(count)), tag("span", voice(f"rows.{name}"))) for name, count in flow.items())
    reasons = [f"{voice.reason(reason)} ({figure(count)})" for reason, count in data["quarantined"].items()]
    why = tag("p", voice("reasons", reasons=voice.join(reasons)), class_="note") if reasons else None
    also = (tag("p", told, class_="note") for told in not_asked(report, voice))
    sources = (
        tag(
            "li",
            tag("b", name),
            tag("span", voice("licence", licence=facts.get("licence") or voice("unknown"))),
            *(tag("code", f"sha256 {digest}") for digest in digests(facts)),
        )
        for name, facts in data["sources"].items()
    )
    listed = tag("ul", *sources, class_="sources")
    return section("asked", voice, tag("ul", *counts, class_="counts"), why, *also, listed)


def not_asked(report: Report, voice: Voice) -> list[str]:
    """Which interactions no test row asks for, and why; and where the rows of the catalogue went."""
    data = report["data"]
    window = data["interactions"].get("test", {})
    told = []
    if data["since"]:
        told.append(voice("asked.time", **{name: figure(window[name]) for name in ("users", "new", "later")}))
    elif window and (short := data["parts"]["train"] - data["parts"]["test"]):
        told.append(voice("asked.last", users=figure(short)))
    if data["catalogue"]:
        told.append(voice("asked.catalogue", **{name: figure(count) for name, count in data["catalogue"].items()}))
    return told


def otherwise(report: Report, voice: Voice) -> list[str]:
    """What comes out where the same rows are asked in another way."""
    told = []
    for way in report["protocols"][1:]:
        served, *rivals = way["contenders"]
        if not rivals:
            continue
        rival = max(rivals, key=lambda one: one["measures"][0]["value"] or 0.0)
        facts = {"metric": voice.metric(report["lead"]), "baseline": voice.who(rival["name"])}
        facts |= {"value": figure(served["measures"][0]["value"]), "other": figure(rival["measures"][0]["value"])}
        p = chance(rival["p_better"]).removeprefix("= ")
        told.append(voice("otherwise", way=voice(f"way.{way['name']}"), p=p, **facts))
    return told


def digests(facts: Mapping[str, Any]) -> list[str]:
    """The sha256 of every file of a source."""
    return [digest for digest in (facts.get("sha256") or {}).values() if digest]


def _facts(pairs: Iterable[tuple[object, object]]) -> Markup:
    known = ((name, value) for name, value in pairs if value not in (None, "", "–"))
    return tag("dl", *(tag("div", tag("dt", name), tag("dd", value)) for name, value in known))


def _worst(report: Report, voice: Voice) -> Markup | None:
    """The groups that are surely worse than the other rows."""
    found = report["worst"]
    if not found["looked"]:
        return None
    facts = {name: figure(found[name]) for name in ("looked", "fewest")}
    groups = found["groups"]
    told = tag("p", voice(f"worst.{'some' if groups else 'none'}", **facts), class_="note" if groups else "told")
    if not groups:
        return section("worst", voice, told)
    line = report["measures"][0]["value"]
    along = plots.over([group["score"] for group in groups], [line, *(group["rest"] for group in groups)])
    rows = (_weakest(group, along, line, voice) for group in groups)
    return section("worst", voice, tag("table", tag("tbody", *rows, scale_row(along)), class_="forest"), told)


def _weakest(group: Weakest, along: plots.Axis, line: float | None, voice: Voice) -> Markup:
    name = called(group["name"], group["automatic"], group["value"], voice)
    return tag(
        "tr",
        tag("th", name, tag("span", f"{figure(group['n'])} {voice('n')}", class_="tag"), scope="row"),
        tag("td", plots.strip(group["score"], along, "weak", line, group["rest"]), class_="plot"),
        _cell(group["score"]),
        tag("td", f"p {chance(group['p'])}", class_="number p"),
    )


def _slices(report: Report, voice: Voice) -> Markup | None:
    if not report["slices"]:
        return None
    line = report["measures"][0]["value"]
    return section("slices", voice, *(_slice(part, line, voice) for part in report["slices"]))


def _slice(part: Slice, line: float | None, voice: Voice) -> Markup:
    groups = part["groups"]
    along = plots.over([group["score"] for group in groups], [line, *(group["baseline"] for group in groups)])
    rows = []
    for group in groups:
        weak = group["weak"]
        drawn = plots.strip(group["score"], along, "weak" if weak else "group", line, group["baseline"])
        name = tag("th", group["value"], tag("span", voice("weak"), class_="tag") if weak else None, scope="row")
        rows.append(
            tag(
                "tr",
                name,
                tag("td", drawn, class_="plot"),
                _cell(group["score"]),
                tag("td", figure(group["n"]), class_="number p"),
            )
        )
    title = tag("th", voice.column(part["name"], part["automatic"]), scope="col")
    head = tag("thead", tag("tr", title, tag("th"), tag("th"), tag("th", voice("n"), scope="col", class_="number")))
    others = tag("p", voice("others", n=figure(part["others"])), class_="note") if part["others"] else None
    return joined(tag("table", head, tag("tbody", *rows, scale_row(along)), class_="forest"), others)


def _calibration(report: Report, voice: Voice) -> Markup | None:
    found = report["calibration"]
    if found is None:
        return None
    error = voice("ece", value=figure(found["error"]["value"]), interval=spread(found["error"]))
    kept = [(100 * point["coverage"], 100 * point["error"]) for point in found["abstention"]]
    figures = (
        _figure("reliability", plots.reliability(found["bins"], error), voice),
        _figure("abstention", plots.lines([("curve", kept)], voice("figure.abstention"), from_zero=True), voice),
    )
    return section("calibration", voice, tag("p", error), tag("div", *figures, class_="figures"))


def _figure(name: str, drawn: Markup, voice: Voice) -> Markup:
    return tag("figure", tag("figcaption", voice(f"figure.{name}")), drawn)


def _cost(report: Report, voice: Voice) -> Markup:
    cost, model = report["cost"], report["model"]
    facts = {
        "family": model["family"],
        "start": model["start"] or voice("fresh"),
        "start_licence": model["licence"],
        "lora": model["lora"],
        "chosen": values(model["chosen"]),
        "parameters": figure(cost["parameters"]),
        "bytes": voice("unit.megabytes", n=figure(cost["bytes"] / 1e6)),
        "training": voice.time(cost["training_seconds"]),
        "steps": figure(cost["steps"]),
        "speed": figure(cost["tokens_per_second"]),
        "answer": voice.time(cost["answer_seconds"]),
    }
    table = _facts((voice(f"cost.{name}"), value) for name, value in facts.items())
    return section("cost", voice, table, _search(report, voice), _loss(report, voice))


def values(chosen: Mapping[str, object]) -> str:
    """Keys of the recipe and their values."""
    return ", ".join(f"{key} {value}" for key, value in chosen.items())


def _search(report: Report, voice: Voice) -> Markup | None:
    """What was tried to choose the values of the recipe, the furthest first, and how each did on validation rows."""
    tried = sorted(report["model"]["search"], key=lambda entry: -len(entry["looks"]))
    if not tried:
        return None
    rows = []
    for entry in tried:
        looks = " → ".join(figure(look) for look in entry["looks"])
        kind = "b" if entry["values"] == report["model"]["chosen"] else "span"
        rows.append(tag("tr", tag("th", tag(kind, values(entry["values"])), scope="row"), tag("td", looks)))
    names = (tag("th", voice(f"search.{name}"), scope="col") for name in ("values", "looks"))
    table = tag("table", tag("thead", tag("tr", *names)), tag("tbody", *rows), class_="search")
    return tag("div", table, class_="wide")


def _loss(report: Report, voice: Voice) -> Markup | None:
    curves = [
        (kind, [(step, loss) for step, loss in report["curve"][name]])
        for kind, name in (("faint", "loss"), ("curve", "valid_loss"))
        if len(report["curve"][name]) > 1
    ]
    if not curves:
        return None
    return tag("div", _figure("loss", plots.lines(curves, voice("figure.loss")), voice), class_="figures")


def _repeat(report: Report, voice: Voice) -> Markup:
    again = report["reproduce"]
    facts: list[tuple[object, object]] = [
        (voice(f"repeat.{name}"), again[name]) for name in ("seed", "threads", "machine")
    ]
    facts += again["versions"].items()
    facts += [(voice("repeat.step", step=name), tag("code", hash_)) for name, hash_ in again["steps"].items()]
    facts.append((voice("repeat.weights"), tag("code", again["weights"])))
    return section("repeat", voice, _facts(facts))


def _limits(report: Report, voice: Voice) -> Markup:
    limits: Sequence[Markup] = [tag("li", sentence[voice.language]) for sentence in report["limits"]]
    rules = [tag("li", rule(gate, voice), class_="holds" if gate["holds"] else "unmet") for gate in report["gate"]]
    return section("limits", voice, tag("p", voice(f"use.{report['task']}")), tag("ul", *limits, *rules))


def rule(gate: Gate, voice: Voice) -> str:
    """One rule of the gate, and what came of it."""
    facts = {"name": voice.metric(gate["name"]), "value": figure(gate["value"]), "bound": figure(gate["bound"])}
    return voice(f"rule.{'holds' if gate['holds'] else 'unmet'}", rule=gate["rule"], **facts)


def _foot(voice: Voice) -> Markup:
    lines = (tag("div", tag("span", voice(f"sign.{name}"))) for name in ("name", "decision", "date"))
    return tag("footer", tag("div", *lines, class_="signature"), tag("p", voice("foot")))
