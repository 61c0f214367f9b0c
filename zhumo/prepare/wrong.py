"""Wrong answers that look right, beside the right ones of rows that name none, so that each row can be asked alone."""

import random
from collections.abc import Iterable, Iterator, Mapping
from itertools import chain

from zhumo.prepare.split import Part
from zhumo.prepare.stored import Stored, write_rows
from zhumo.tasks import Row
from zhumo.tasks.pairs import WEIGHED, looked_up
from zhumo.tasks.shelf import best


def beside_right(parts: Mapping[Part, Stored], count: int) -> None:
    """Rewrite the parts with up to `count` wrong answers in each row that names none and for which some are found.

    Training rows get theirs from among their own right answers, validation and test rows from those of all parts.
    """
    valid, test = parts["valid"], parts["test"]
    found = {"train": _found(parts["train"], count)}
    found["valid"] = found["test"] = _found(chain(valid, test), count, parts["train"])
    for part, stored in parts.items():
        aside = stored.path.with_suffix(".whole")
        write_rows(aside, _completed(stored, found[part]))
        aside.replace(stored.path)


def _found(rows: Iterable[Row], count: int, among: Iterable[Row] = ()) -> dict[str, list[str]]:
    """For each text wrong answers out of the WEIGHED first of a search, drawn evenly, where a right one is among those.

    So right and wrong ones are met as they are once it serves. A right one that no search found beside wrong ones that
    one did would teach that the worse match is right, and wrong ones below the right one that the better match is.
    """
    found: dict[str, list[str]] = {}
    for text, documents, scores, own in looked_up(rows, among):
        first = [one for one in best(scores, WEIGHED) if scores[one] > 0]
        wrong = [documents[one] for one in first if one not in own]
        if len(wrong) < len(first):
            found[text] = random.Random(text).sample(wrong, min(count, len(wrong)))
    return found


def _completed(rows: Iterable[Row], wrong: Mapping[str, list[str]]) -> Iterator[Row]:
    for row in rows:
        some = [] if row.get("negatives") else wrong.get(row["text"], [])
        yield {**row, "negatives": some} if some else row
