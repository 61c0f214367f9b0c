"""Wrong answers that look right, beside the right ones of rows that name none, so that each row can be asked alone."""

from collections.abc import Iterable, Iterator, Mapping
from itertools import chain

import numpy as np

from zhumo.prepare.split import Part
from zhumo.prepare.stored import Stored, write_rows
from zhumo.tasks import Row
from zhumo.tasks.pairs import mined


def beside_right(parts: Mapping[Part, Stored], count: int) -> None:
    """Rewrite the parts with `count` wrong answers in each row that names none and for which some are found.

    Training rows get theirs from among their own right answers, none that is about as likely to be right. Validation
    and test rows get the likeliest of all parts, whatever they are: from those they are told apart once it serves.
    """
    valid, test = parts["valid"], parts["test"]
    found = {"train": mined(parts["train"], count)}
    found["valid"] = found["test"] = mined(chain(valid, test), count, parts["train"], np.inf)
    for part, stored in parts.items():
        aside = stored.path.with_suffix(".whole")
        write_rows(aside, _completed(stored, found[part]))
        aside.replace(stored.path)


def _completed(rows: Iterable[Row], wrong: Mapping[str, list[str]]) -> Iterator[Row]:
    for row in rows:
        some = [] if row.get("negatives") else wrong.get(row["text"], [])
        yield {**row, "negatives": some} if some else row
