"""What is known of the items themselves: from a catalogue with one row an item, and from what stands beside the
interactions."""

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from zhumo.errors import DataError
from zhumo.prepare.columns import Columns, Unusable
from zhumo.prepare.histories import Histories
from zhumo.recipe import Recipe
from zhumo.sources import Bad, open_rows
from zhumo.tasks import Field
from zhumo.tasks.catalogue import FIELDS

About = dict[str, Any]
"""The values of one item by column."""

_NUMBER = re.compile(r"-?(0|[1-9]\d*)(\.\d+)?")
_BARS = re.compile(r"\s*[|;；]\s*")
_MAYBE = (re.compile(r"\s*[,，、]\s*"), re.compile(r"\s+"))


def beside(train: Histories, names: Iterable[str]) -> dict[str, About]:
    """What the training interactions say: the last value by item, of prices the median."""
    about: dict[str, About] = {}
    for name in names:
        found = train.median(name) if FIELDS[name].kind is float else train.last(name)
        for item, value in found.items():
            about.setdefault(item, {})[name] = value
    return about


def read_items(
    source: str, recipe: Recipe, put_aside: Callable[[Bad, str | None], None]
) -> tuple[dict[str, About], dict[str, int]]:
    """Item -> its values, from a source with one row an item; and where its rows went. Of equals the last row counts.

    Raises:
        DataError: no row names an item.
    """
    fields = {"item": Field(str), **FIELDS}
    mapped = {name: column for name, column in recipe.prepare.columns.items() if name in fields}
    columns = Columns(fields, mapped, (), recipe.prepare.normalise)
    taken = {column for named in columns.columns.values() for column in named}
    about: dict[str, About] = {}
    counts = {"in": 0, "out": 0, "quarantined": 0, "deduplicated": 0}
    for record in open_rows(source):
        if isinstance(record, Bad) and record.piece:  # of a row that was counted with its first piece
            put_aside(record, "item")
            continue
        counts["in"] += 1
        try:
            if isinstance(record, Bad):
                raise Unusable(record.reason, "item")
            if counts["in"] == 1:
                columns.check(record.row, source)
            row = columns.row(record.row)
        except Unusable as error:
            counts["quarantined"] += 1
            put_aside(record if isinstance(record, Bad) else record.bad(error.reason), error.field)
            continue
        further = {name: _clean(columns, value) for name, value in record.row.items() if name not in taken}
        item = row.pop("item")
        counts["deduplicated"] += item in about
        about[item] = {name: value for name, value in (further | row).items() if value not in (None, "", [])}
    counts["out"] = len(about)
    if not about:
        raise DataError("data.no_rows", source=source, kept=0)
    return about, counts


def merged(described: Mapping[str, About], besides: Mapping[str, About]) -> dict[str, About]:
    """Both together, the catalogue first; its categories divided, and columns of nothing but numbers made numbers."""
    about = {item: besides.get(item, {}) | described.get(item, {}) for item in {**besides, **described}}
    for name in dict.fromkeys(name for values in about.values() for name in values):
        cells = {item: values[name] for item, values in about.items() if name in values}
        found = divided(cells) if name == "category" else _numbers(cells) if name not in FIELDS else cells
        for item, value in found.items():
            about[item][name] = value
    return about


def divided(cells: Mapping[str, list[Any]]) -> dict[str, list[str]]:
    """Categories as lists, also where a cell holds several in one text.

    Bars and semicolons always divide. Commas, or else blanks, do where that leaves at most half as many different
    values: "Action Drama" among films is two genres, "Health, Beauty" among shelves is one.
    """
    texts = {item: [str(value) for value in cell] for item, cell in cells.items()}
    barred = _split(texts, _BARS)
    whole = {value for values in barred.values() for value in values}
    for maybe in _MAYBE:
        parts = _split(barred, maybe)
        if 2 * len({value for values in parts.values() for value in values}) <= len(whole):
            return parts
    return barred


def _split(texts: Mapping[str, list[str]], at: re.Pattern[str]) -> dict[str, list[str]]:
    return {
        item: list(dict.fromkeys(part for value in values for part in at.split(value) if part))
        for item, values in texts.items()
    }


def _numbers(cells: Mapping[str, Any]) -> Mapping[str, Any]:
    """Texts as numbers where every one is; a code with a leading zero is no number."""
    if all(isinstance(value, str) and _NUMBER.fullmatch(value) for value in cells.values()):
        return {item: float(value) if "." in value else int(value) for item, value in cells.items()}
    return cells


def _clean(columns: Columns, value: Any) -> Any:
    return columns.text(value) if isinstance(value, str) else value
