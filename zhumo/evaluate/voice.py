"""How a report says numbers, names and sentences, in one language."""

import math
from dataclasses import dataclass

from zhumo.words import say, words

MINUTES = 120.0  # seconds from which a time is said in minutes


def figure(value: float | None, like: float | None = None) -> str:
    """A number with as many digits as it is worth, or as `like` is worth."""
    if value is None or not math.isfinite(value):
        return "–"
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:,.{_digits(value if like is None else like)}f}"


def _digits(value: float) -> int:
    size = abs(value)
    if size >= 1000 or (value.is_integer() and size >= 2):
        return 0
    return 1 if size >= 100 else 2 if size >= 2 else 3 if size >= 0.2 else 4


def chance(p: float | None) -> str:
    """A p-value, with its sign of relation."""
    if p is None:
        return "–"
    return "< 0.001" if p < 0.001 else f"= {p:.3f}"


@dataclass(frozen=True)
class Voice:
    """The report's sentences in one language."""

    language: str

    def __call__(self, key: str, /, **facts: object) -> str:
        """The sentence `report.KEY`."""
        return say(f"report.{key}", self.language, **facts)

    def who(self, name: str) -> str:
        """A contender, by what people call it."""
        return self._named("who", name)

    def metric(self, name: str) -> str:
        """A measure, by what people call it."""
        return self._named("metric", name)

    def column(self, name: str, automatic: bool) -> str:
        """What a slice looks at: the user's own column by its name, ours by a word."""
        return self._named("slice", name) if automatic else name

    def reason(self, name: str) -> str:
        """Why a row was put aside."""
        return words(self.language).get(f"bad.{name}", name).rstrip(".。")

    def join(self, parts: list[str]) -> str:
        """A list in a sentence."""
        return self("comma").join(parts)

    def time(self, seconds: float | None) -> str:
        """A time a person can read."""
        if seconds is None:
            return "–"
        if seconds < 1:
            return self("unit.milliseconds", n=figure(seconds * 1000))
        if seconds < MINUTES:
            return self("unit.seconds", n=figure(seconds))
        return self("unit.minutes", n=figure(seconds / 60))

    def _named(self, kind: str, name: str) -> str:
        """The word list's word, `ndcg@10` by that of `ndcg`; where it has none, the name itself."""
        table = words(self.language)
        base, at, cut = name.partition("@")
        return table.get(f"report.{kind}.{name}") or table.get(f"report.{kind}.{base}", base) + at + cut
