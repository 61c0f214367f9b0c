"""Plots as SVG inside the page: real text in the page's own font, sharp at any width, no drawing library.

A strip is one line of a forest plot; its places are percentages, so that it is as wide as the table it stands in. A
chart has a fixed frame and scales as a whole.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from zhumo.evaluate.markup import Markup, joined, tag
from zhumo.evaluate.report import Bin, Value

WIDTH, HEIGHT = 380, 270  # a chart, in its own units
LEFT, RIGHT, TOP, BOTTOM = 44, 10, 10, 34  # its margins
STRIP = 42  # height of a strip, in pixels
FAR = 15  # intervals between two values that no axis need hold both of
Point = tuple[float, float]


@dataclass(frozen=True)
class Axis:
    """A range of numbers and the round ones to be written along it."""

    low: float
    high: float
    ticks: tuple[float, ...]

    def at(self, value: float) -> float:
        """Where a number lies, from 0 to 1."""
        return (value - self.low) / (self.high - self.low)

    def begin(self, low: float) -> "Axis":
        """The same axis from another low end."""
        return Axis(low, self.high, tuple(tick for tick in self.ticks if tick >= low))


def axis(values: Sequence[float], count: int = 4) -> Axis:
    """An axis that holds all values with a little room, with at most about `count` round steps."""
    low, high = min(values), max(values)
    room = 0.06 * (high - low) or 0.05 * abs(high) or 1.0
    low, high = low - room, high + room
    rough = (high - low) / (count + 0.5)
    unit = 10.0 ** math.floor(math.log10(rough))
    step = next(unit * factor for factor in (1, 2, 2.5, 5, 10) if unit * factor >= rough)
    first = math.ceil(low / step)
    return Axis(low, high, tuple(index * step for index in range(first, math.floor(high / step) + 1)))


def over(scores: Sequence[Value], extra: Sequence[float | None] = ()) -> Axis:
    """The axis that holds these values and their intervals."""
    ends = [end for score in scores for end in (score["low"], score["value"], score["high"])]
    return axis([end for end in (*ends, *extra) if end is not None] or [0.0, 1.0])


def around(first: Value, others: Sequence[Value]) -> Axis:
    """The axis of a value and those near it; what lies so far off that these would shrink to one dot is left out."""
    width = (first["high"] or 0.0) - (first["low"] or 0.0)
    near = [other for other in others if abs((other["value"] or 0.0) - (first["value"] or 0.0)) <= FAR * width]
    return over([first, *(near or others)])


def strip(score: Value, along: Axis, kind: str, line: float | None, other: float | None = None) -> Markup:
    """A value with its interval. line: where the upright line of comparison stands; other: a hollow dot beside it."""
    marks = []
    if line is not None:
        marks.append(tag("line", x1=_part(along, line), x2=_part(along, line), y1=0, y2=STRIP, class_="ref"))
    if other is not None:
        marks.append(tag("circle", cx=_part(along, other), cy=STRIP / 2, r=4, class_="other"))
    if score["value"] is not None and score["low"] is not None and score["high"] is not None:
        marks += _outside(along.at(score["value"])) or _inside(score["low"], score["value"], score["high"], along)
    return tag("svg", *marks, class_=f"strip {kind}", width="100%", height=STRIP, aria_hidden="true")


def _inside(low: float, value: float, high: float, along: Axis) -> list[Markup]:
    interval = tag("line", x1=_part(along, low), x2=_part(along, high), y1=STRIP / 2, y2=STRIP / 2, class_="interval")
    return [interval, tag("circle", cx=_part(along, value), cy=STRIP / 2, r=5, class_="dot")]


def _outside(place: float) -> list[Markup]:
    """An arrow at the edge towards a value beyond it."""
    if 0 <= place <= 1:
        return []
    drawn = f"M0 {STRIP / 2}l10 -5v10z" if place < 0 else f"M0 {STRIP / 2}l-10 -5v10z"
    return [tag("svg", tag("path", d=drawn, class_="dot"), x="0" if place < 0 else "100%", overflow="visible")]


def scale(along: Axis) -> Markup:
    """The numbers under a column of strips."""
    marks = []
    for tick in along.ticks:
        place = _part(along, tick)
        marks.append(tag("line", x1=place, x2=place, y1=0, y2=5, class_="tick"))
        marks.append(tag("text", _tick(tick, along), x=place, y=19, text_anchor="middle"))
    rule = tag("line", x1=0, x2="100%", y1=0.5, y2=0.5, class_="tick")
    return tag("svg", rule, *marks, class_="strip scale", width="100%", height=24, aria_hidden="true")


def reliability(bins: Sequence[Bin], label: str) -> Markup:
    """How often answers of about one confidence are right; on the diagonal they are right as often as they say."""
    whole = Axis(0, 1, (0, 0.2, 0.4, 0.6, 0.8, 1))
    most = max(one["n"] for one in bins)
    diagonal = _path([(0, 0), (1, 1)], whole, whole)
    path = _path([(one["confidence"], one["accuracy"]) for one in bins], whole, whole)
    marks = [tag("path", d=diagonal, class_="ref"), tag("path", d=path, class_="curve")]
    for one in bins:
        size = round(2.5 + 5.5 * math.sqrt(one["n"] / most), 1)
        x, y = _x(whole, one["confidence"]), _y(whole, one["accuracy"])
        marks.append(tag("circle", cx=x, cy=y, r=size, class_="dot"))
    return _chart(whole, whole, marks, label)


def lines(curves: Sequence[tuple[str, Sequence[Point]]], label: str, *, from_zero: bool = False) -> Markup:
    """Curves in one frame, each (class, points)."""
    points = [point for _, curve in curves for point in curve]
    along = axis([x for x, _ in points], 5).begin(min(x for x, _ in points))
    up = axis([y for _, y in points] + ([0.0] if from_zero else []))
    up = up.begin(0.0) if from_zero else up
    drawn = [tag("path", d=_path(curve, along, up), class_=kind) for kind, curve in curves]
    return _chart(along, up, drawn, label)


def _chart(along: Axis, up: Axis, marks: Sequence[Markup], label: str) -> Markup:
    grid = []
    for tick in up.ticks:
        y = _y(up, tick)
        grid.append(tag("line", x1=LEFT, x2=WIDTH - RIGHT, y1=y, y2=y, class_="grid"))
        grid.append(tag("text", _tick(tick, up), x=LEFT - 8, y=y + 4, text_anchor="end"))
    for tick in along.ticks:
        grid.append(tag("text", _tick(tick, along), x=_x(along, tick), y=HEIGHT - BOTTOM + 20, text_anchor="middle"))
    base = tag("line", x1=LEFT, x2=WIDTH - RIGHT, y1=HEIGHT - BOTTOM, y2=HEIGHT - BOTTOM, class_="tick")
    view = f"0 0 {WIDTH} {HEIGHT}"
    return tag("svg", joined(*grid, base, *marks), class_="chart", viewBox=view, role="img", aria_label=label)


def _path(points: Sequence[Point], along: Axis, up: Axis) -> str:
    return "M" + "L".join(f"{_x(along, x)} {_y(up, y)}" for x, y in points)


def _x(along: Axis, value: float) -> float:
    return round(LEFT + along.at(value) * (WIDTH - LEFT - RIGHT), 1)


def _y(up: Axis, value: float) -> float:
    return round(HEIGHT - BOTTOM - up.at(value) * (HEIGHT - TOP - BOTTOM), 1)


def _part(along: Axis, value: float) -> str:
    return f"{100 * along.at(value):.2f}%"


def _tick(value: float, along: Axis) -> str:
    """A tick with just the digits that tell it from its neighbours."""
    step = along.ticks[1] - along.ticks[0] if len(along.ticks) > 1 else abs(value) or 1.0
    digits = next(
        digits for digits in range(20) if math.isclose(step * 10**digits, round(step * 10**digits), rel_tol=1e-6)
    )
    return f"{value:,.{digits}f}"
