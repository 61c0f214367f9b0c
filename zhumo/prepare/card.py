"""What a person should know of the training rows."""

import re
from array import array
from collections import Counter
from collections.abc import Iterable
from typing import Any

import numpy as np

from zhumo.prepare.texts import texts
from zhumo.tasks import Row

_CHINESE = re.compile("[\u4e00-\u9fff]+")


def describe(rows: Iterable[Row]) -> dict[str, Any]:
    """Of histories how many users and items there are, of texts how much is Chinese and which labels they carry; of
    either how long they are."""
    lengths, chinese = array("q"), 0
    items: set[str] = set()
    labels: Counter[str] = Counter()
    users = 0
    for row in rows:
        if "items" in row:
            users += 1
            items.update(row["items"])
            lengths.append(len(row["items"]))
        for text in texts(row):
            lengths.append(len(text))
            chinese += sum(map(len, _CHINESE.findall(text)))
        if "label" in row:
            labels.update(row["label"] if isinstance(row["label"], list) else [row["label"]])
    if users:
        return {"users": users, "items": len(items), "length": _spread(lengths)}
    facts = {"length": _spread(lengths), "chinese": chinese / max(1, sum(lengths))}
    return {**facts, "labels": dict(labels.most_common(100))} if labels else facts


def _spread(lengths: "array[int]") -> dict[str, int]:
    ordered = np.sort(np.frombuffer(lengths, dtype=np.int64))
    return {
        "min": int(ordered[0]),
        "median": int(ordered[len(ordered) // 2]),
        "p95": int(ordered[len(ordered) * 95 // 100]),
        "max": int(ordered[-1]),
    }
