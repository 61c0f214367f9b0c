"""A record of the source -> a row in the task's own words, or the reason why not."""

import math
import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Literal

from zhumo.errors import DataError, nearest
from zhumo.privacy import mask
from zhumo.tasks import Field, Row

_DATE_FORMS = (
    "%Y/%m/%d %H:%M:%S",
    "%Y/%m/%d %H:%M",
    "%Y/%m/%d",
    "%m/%d/%Y %H:%M",
    "%m/%d/%Y",
    "%d.%m.%Y",
    "%Y年%m月%d日",
    "%Y%m%d",
)
_CONTROL = re.compile("[\0-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")  # categories Cc and Cs but for tab and line break
_FORMS: Mapping[str, Literal["NFC", "NFKC"] | None] = {"nfc": "NFC", "nfkc": "NFKC", "none": None}


class Unusable(Exception):
    """A row cannot be used. reason: why, `bad.REASON` in the word lists; field: where in the row."""

    def __init__(self, reason: str, field: str) -> None:
        super().__init__(reason, field)
        self.reason = reason
        self.field = field


class Columns:
    """Turns records into rows.

    fields: what the task needs; mapping: field -> column or columns of the source; extra: columns kept as they are;
    covered: whether personal data in texts is masked.
    """

    def __init__(
        self, fields: Mapping[str, Field], mapping: Mapping[str, str | Sequence[str]], extra: Sequence[str], form: str,
        *, covered: bool = False,
    ) -> None:  # fmt: skip
        for name in mapping:
            if name not in fields:
                raise DataError(
                    "data.unknown_field", name=name, near=nearest(name, fields) or "-", known=", ".join(fields)
                )
        self.fields = fields
        self.extra = extra
        self.covered = covered
        self.form: Literal["NFC", "NFKC"] | None = _FORMS[form]
        self.columns = {name: _listed(mapping.get(name, name)) for name in fields}

    def check(self, record: Mapping[str, Any], source: str) -> None:
        """See on the first record that the mapped columns are there.

        Raises:
            DataError: a needed column is missing; names the nearest one.
        """
        for name, field in self.fields.items():
            for column in self.columns[name] if field.needed else []:
                if column not in record:
                    raise DataError("data.no_column", field=name, column=column, source=source,
                                    near=_nearest(column, field, record), known=", ".join(record))  # fmt: skip

    def row(self, record: Mapping[str, Any]) -> Row:
        """The row of one record.

        Raises:
            Unusable: a needed value is missing or is not what it should be.
        """
        row: Row = {}
        for name, field in self.fields.items():
            values = [record[column] for column in self.columns[name] if not is_blank(record.get(column))]
            if not values:
                if field.needed:
                    raise Unusable("no_value", name)
                continue
            row[name] = self._convert(name, field, values)
        for column in self.extra:
            row[column] = record.get(column)
        return row

    def _convert(self, name: str, field: Field, values: list[Any]) -> Any:
        if field.kind is list:
            listed = values[0] if isinstance(values[0], list) else values
            if field.texts:
                return [self._text(name, [value]) for value in listed]
            return [self.text(value) if isinstance(value, str) else value for value in listed]
        if field.kind is float:
            return as_time(values[0]) if name == "time" else as_number(name, values[0])
        if name == "label" and isinstance(values[0], list):
            return [self.text(_plain(name, value)) for value in values[0]]
        return self._text(name, values)

    def _text(self, name: str, values: Sequence[Any]) -> str:
        text = "\n".join(self.text(_plain(name, value)) for value in values)
        if not text.strip():
            raise Unusable("no_value", name)
        return text

    def text(self, text: str) -> str:
        """A text in the recipe's Unicode form, control characters and outer blanks gone; with `none` as it is."""
        cleaned = text if self.form is None else self.part(text).strip()
        return mask(cleaned).text if self.covered else cleaned

    def part(self, text: str) -> str:
        """A part of a text in the same form, its outer blanks kept."""
        return text if self.form is None else _CONTROL.sub("", unicodedata.normalize(self.form, text))


def _nearest(column: str, field: Field, headings: Iterable[str]) -> str:
    """The heading that is spelt most like the column, else the one that usually means the field."""
    usual = max(headings, key=field.likeness, default="-")
    return nearest(column, headings) or (usual if field.likeness(usual) else "-")


def _listed(columns: str | Sequence[str]) -> list[str]:
    return [columns] if isinstance(columns, str) else list(columns)


def is_blank(value: Any) -> bool:
    """Whether there is no value."""
    return value is None or (isinstance(value, str) and not value.strip())


def _plain(name: str, value: Any) -> str:
    if isinstance(value, bool):
        return str(int(value))
    if isinstance(value, float):
        if not math.isfinite(value):
            raise Unusable("not_finite", name)
        return str(int(value)) if value.is_integer() else str(value)
    if isinstance(value, str | int):
        return str(value)
    raise Unusable("not_text", name)


def as_number(name: str, value: Any) -> float:
    """A finite number from what a file holds."""
    try:
        number = float(value)
    except (TypeError, ValueError):
        raise Unusable("not_number", name) from None
    if not math.isfinite(number):
        raise Unusable("not_finite", name)
    return number


def as_time(value: Any) -> float:
    """Seconds since 1970 from a number, an ISO date or one of the forms people write; dates without a zone are UTC."""
    if isinstance(value, datetime):
        moment = value
    else:
        try:
            return as_number("time", value)
        except Unusable:
            moment = _date(str(value).strip())
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def _date(text: str) -> datetime:
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        pass
    for form in _DATE_FORMS:
        try:
            return datetime.strptime(text, form)
        except ValueError:
            continue
    raise Unusable("not_time", "time")
