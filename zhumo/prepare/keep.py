"""Which rows are wanted at all: `prepare.keep`."""

from collections.abc import Mapping, Sequence
from typing import Any

from zhumo.errors import DataError, nearest
from zhumo.prepare.columns import as_number, is_blank
from zhumo.prepare.texts import MEASURES, texts
from zhumo.recipe import Range
from zhumo.tasks import Row

Wanted = Sequence[str | int | float | bool] | Range


class Keep:
    """The conditions of a recipe. All must hold; what has no value does not fulfil any.

    computed: whether rows have texts to compute columns from.
    """

    def __init__(self, conditions: Mapping[str, Wanted], *, computed: bool) -> None:
        self.ranges = {name: wanted for name, wanted in conditions.items() if isinstance(wanted, Range)}
        self.values = {
            name: {_word(value) for value in wanted}
            for name, wanted in conditions.items()
            if not isinstance(wanted, Range)
        }
        self.measures = MEASURES if computed else {}

    def check(self, record: Mapping[str, Any], source: str) -> None:
        """See on the first record that the columns are there.

        Raises:
            DataError: one is not; names the nearest one.
        """
        known = [*record, *self.measures]
        for column in [*self.ranges, *self.values]:
            if column not in known:
                near = nearest(column, known) or "-"
                raise DataError(
                    "data.no_column", field="keep", column=column, source=source, near=near, known=", ".join(known)
                )

    def wants(self, record: Mapping[str, Any], row: Row) -> bool:
        """Whether all conditions hold. Values are compared as they are written: 5, 5.0 and "5" are the same.

        Raises:
            Unusable: numbers are asked for, and the value is none.
        """
        return all(self._is_one_of(column, record, row) for column in self.values) and all(
            self._lies_within(column, record, row) for column in self.ranges
        )

    def _is_one_of(self, column: str, record: Mapping[str, Any], row: Row) -> bool:
        value = self._value(column, record, row)
        values = value if isinstance(value, list) else [value]
        return any(not is_blank(one) and _word(one) in self.values[column] for one in values)

    def _lies_within(self, column: str, record: Mapping[str, Any], row: Row) -> bool:
        value = self._value(column, record, row)
        if is_blank(value):
            return False
        number, wanted = as_number(column, value), self.ranges[column]
        return (wanted.at_least is None or number >= wanted.at_least) and (
            wanted.at_most is None or number <= wanted.at_most
        )

    def _value(self, column: str, record: Mapping[str, Any], row: Row) -> Any:
        if column in self.measures and column not in record:
            return self.measures[column]("\n".join(texts(row)))
        return record.get(column)


def _word(value: object) -> str:
    """A value as people write it."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value)
