"""Dealing rows to train, valid and test so that nothing of the test leaks into the training."""

import hashlib
import re
import unicodedata
from collections.abc import Sequence
from typing import Literal

import numpy as np

from zhumo.prepare.columns import as_time
from zhumo.tasks import Row

Part = Literal["train", "valid", "test"]
PARTS: tuple[Part, ...] = ("train", "valid", "test")
_WORDS = re.compile(r"[\w ]+")
_ASCII = bytes(byte if byte == ord("_") or chr(byte).isalnum() else ord(" ") for byte in range(128)).lower().ljust(256)
_MARKS = "，！？：；（）…～"  # no words in any form; without them NFKC has little left to do


def cluster(row: Row) -> str:
    """What makes two rows duplicates of each other for the split: the folded text of what is asked."""
    if "messages" in row:
        text = "\n".join(message["content"] for message in row["messages"] if message["role"] == "user")
    else:
        text = str(row.get("text", row.get("source", row)))
    return folded(text) or text


def folded(text: str) -> str:
    """The words of a text alone, in one case and one Unicode form (NFKC), one space between them."""
    if text.isascii():
        return b" ".join(text.encode().translate(_ASCII).split()).decode()
    for mark in _MARKS:
        text = text.replace(mark, " ")
    return " ".join(" ".join(_WORDS.findall(unicodedata.normalize("NFKC", text).casefold())).split())


def key_of(text: str | bytes) -> bytes:
    """Sixteen bytes that stand for a text."""
    raw = text.encode("utf-8", "surrogatepass") if isinstance(text, str) else text
    return hashlib.blake2b(raw, digest_size=16).digest()


def by_hash(key: bytes, valid: float, test: float) -> Part:
    """The part of a row, from its key alone: the same wherever and in whatever order it is read."""
    place = int.from_bytes(hashlib.blake2b(key, digest_size=8, person=b"zhumo split").digest(), "big") / 2**64
    return "test" if place < test else "valid" if place < test + valid else "train"


def cuts(times: Sequence[float] | np.ndarray, valid: float | str, test: float | str) -> tuple[float, float]:
    """The moments at which the validation and the test begin, each given as a share of the rows or as a day (UTC)."""
    ordered = np.sort(np.asarray(times, dtype=np.float64))
    last = len(ordered) - 1
    if isinstance(test, str):
        test_from = as_time(test)
        test = 1 - float(np.searchsorted(ordered, test_from)) / len(ordered)
    else:
        test_from = float(ordered[min(last, round(len(ordered) * (1 - test)))]) if test else np.inf
    if isinstance(valid, str):
        return as_time(valid), test_from
    first = min(last, max(0, round(len(ordered) * (1 - test - valid))))
    return (float(ordered[first]) if valid else test_from), test_from


def by_time(times: Sequence[float], valid: float | str, test: float | str) -> list[Part]:
    """The newest rows are the test, those before them the validation. Rows of one moment stay together."""
    valid_from, test_from = cuts(times, valid, test)
    return ["test" if time >= test_from else "valid" if time >= valid_from else "train" for time in times]
