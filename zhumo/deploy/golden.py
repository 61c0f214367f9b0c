"""What a bundle answered when it was made: asked again of every one that is loaded, before anybody else may ask.

The questions are ours and never a user's row, so nothing of the data goes into a bundle by them.
"""

import math
from typing import Any

from zhumo.bundle import FULL, Bundle
from zhumo.deploy.parity import TOLERANCE, difference
from zhumo.errors import ModelError
from zhumo.run import read_json, write_json
from zhumo.tasks import Row, Task
from zhumo.tasks.recommend import Recommend
from zhumo.tasks.softmax import LARGE

NAME = "golden.json"
TEXT = "The dress is lovely and fits well. 布料很好，很喜欢。"
WARMING: Row = {"prompt": TEXT, "max_tokens": 2}  # the first text that a server has its bundle write
NARROW = 5e-2  # how far numbers of weights in fewer bits may lie apart: kinds of processor read in other numbers
FIRST = 3  # items of the catalogue that a recommender is asked with


def write_golden(bundle: Bundle) -> None:
    """Put into a bundle's folder what it answers now."""
    assert bundle.task is not None
    write_json(bundle.folder / NAME, {"bits": bundle.bits, "answers": bundle.answer(_questions(bundle.task))})


def check_golden(bundle: Bundle) -> None:
    """See that a bundle answers as it did when it was made; of one that has no such file, that it answers in numbers.

    Raises:
        ModelError: it does not.
    """
    assert bundle.task is not None
    path, found = bundle.folder / NAME, bundle.answer(_questions(bundle.task))
    known = read_json(path) if path.is_file() else {}
    # A machine without the native core computes an 8-bit bundle in full: that is no damage.
    apart = difference(known["answers"], found) if known.get("bits") == bundle.bits else 0.0
    if not _finite(found) or not apart <= (NARROW if _rounded(bundle) else TOLERANCE):
        raise ModelError("model.golden", folder=bundle.folder, difference="" if math.isinf(apart) else f"{apart:.1e}")


def _questions(task: Task) -> list[Row]:
    if isinstance(task, Recommend):
        return [{"items": list(task.catalogue.items[:count])} for count in (0, FIRST)]
    if task.name == "rerank":
        return [{"text": TEXT, "documents": TEXT.split(". ")}]
    return [{"source" if task.name == "translate" else "text": TEXT}]


def _rounded(bundle: Bundle) -> bool:
    """Whether a processor, or whether there is a native core, has a say in the last digits."""
    large = isinstance(bundle.task, Recommend) and len(bundle.task.catalogue.items) > LARGE
    return bundle.bits != FULL or large


def _finite(value: Any) -> bool:
    if isinstance(value, dict | list | tuple):
        return all(map(_finite, value.values() if isinstance(value, dict) else value))
    return not isinstance(value, float) or math.isfinite(value)
