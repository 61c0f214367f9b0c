"""Dealing rows to train, valid and test so that nothing of the test leaks into the training."""

import hashlib
import re
import unicodedata
from collections.abc import Sequence
from typing import Literal

import numpy as np

from zhumo.tasks import Row

Part = Literal["train", "valid", "test"]
PARTS: tuple[Part, ...] = ("train", "valid", "test")
_FOLD = re.compile(r"\W+")


def cluster(row: Row) -> str:
    """What makes two rows duplicates of each other for the split: the folded text of what is asked."""
    if "messages" in row:
        text = "\n".join(message["content"] for message in row["messages"] if message["role"] == "user")
    else:
        text = str(row.get("text", row))
    folded = _FOLD.sub(" ", unicodedata.normalize("NFKC", text).casefold()).strip()
    return folded or text


def key_of(text: str) -> bytes:
    """Sixteen bytes that stand for a text."""
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()


def by_hash(key: bytes, valid: float, test: float) -> Part:
    """The part of a row, from its key alone: the same wherever and in whatever order it is read."""
    place = int.from_bytes(hashlib.blake2b(key, digest_size=8, person=b"zhumo split").digest(), "big") / 2**64
    return "test" if place < test else "valid" if place < test + valid else "train"


def by_time(times: Sequence[float], valid: float, test: float) -> list[Part]:
    """The newest rows are the test, those before them the validation. Rows of one moment stay together."""
    ordered = np.sort(np.asarray(times, dtype=np.float64))
    count = len(ordered)
    last = count - 1
    test_from = ordered[min(last, round(count * (1 - test)))] if test else np.inf
    valid_from = ordered[min(last, round(count * (1 - test - valid)))] if valid else test_from
    return ["test" if time >= test_from else "valid" if time >= valid_from else "train" for time in times]
