"""Wrong answers that look right, beside the right ones of rows that name none, so that each row can be asked alone."""

from collections.abc import Iterable, Iterator, Mapping
from itertools import chain

from zhumo.prepare.split import Part
from zhumo.prepare.stored import Stored, write_rows
from zhumo.tasks import Row
from zhumo.tasks.pairs import mined


def beside_right(parts: Mapping[Part, Stored], count: int) -> None:
    """Rewrite the parts with `count` wrong answers in each row that names none and for which some are found.

    Training rows get theirs from among their own right answers; what validation and test rows are asked is to be told
    apart from the answers of all parts, as once it serves.
    """
    found = mined(parts["train"], count), mined(chain.from_iterable(parts.values()), count)
    for part, stored in parts.items():
        aside = stored.path.with_suffix(".whole")
        write_rows(aside, _completed(stored, found[part != "train"]))
        aside.replace(stored.path)


def _completed(rows: Iterable[Row], wrong: Mapping[str, list[str]]) -> Iterator[Row]:
    for row in rows:
        some = [] if row.get("negatives") else wrong.get(row["text"], [])
        yield {**row, "negatives": some} if some else row
