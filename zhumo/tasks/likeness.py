"""How like two items are by what is known of them: so an item nobody took yet can stand beside those that were.

What is known becomes words: those of its title and text, its categories, its price on a scale of halvings, and every
other column with its value. A word counts more the fewer items have it (tf-idf); it is known by a hash, so no list of
words is kept.
"""

import math
import re
from collections.abc import Iterable, Iterator, Mapping
from itertools import pairwise
from typing import Any
from zlib import crc32

import numpy as np
import scipy.sparse as sparse

HASHES = 2**18
KEPT = 20  # items that a new one is placed between
AT_ONCE = 1_024  # new items compared at once, to bound memory
_WORD = re.compile(r"[^\W\d_]+|\d+")
_HAN = re.compile(r"[\u4e00-\u9fff]")
_READ = ("title", "text")  # columns of free text
_LEFT = ("picture",)  # columns that say nothing about an item

About = Mapping[str, Any]
"""Columns of one item that are not empty."""


def words(about: About) -> Iterator[str]:
    """What is known of an item, as words."""
    for name, value in about.items():
        if name in _LEFT:
            continue
        if name in _READ:
            yield from _split(str(value))
        elif isinstance(value, int | float) and not isinstance(value, bool):
            yield f"{name}={math.floor(2 * math.log2(value)) if value > 0 else value}"
        else:
            yield from (f"{name}={one}" for one in (value if isinstance(value, list) else [value]))


def _split(text: str) -> Iterator[str]:
    """Words; Chinese, which has no blanks, as pairs of characters."""
    for word in _WORD.findall(text.casefold()):
        if _HAN.search(word) and len(word) > 2:
            yield from (word[start : start + 2] for start in range(len(word) - 1))
        else:
            yield word


def counted(items: Iterable[About]) -> sparse.csr_array:
    """Words of each item, (items, HASHES), 1 where it has one."""
    rows = [sorted({crc32(word.encode()) % HASHES for word in words(about)}) for about in items]
    offsets = np.cumsum([0, *map(len, rows)])
    columns = np.array([column for row in rows for column in row], dtype=np.int64)
    return sparse.csr_array((np.ones(len(columns), dtype=np.float32), columns, offsets), shape=(len(rows), HASHES))


class Known:
    """Items between which others are placed. items: their words, from `counted`."""

    def __init__(self, items: sparse.csr_array) -> None:
        have = np.bincount(items.indices, minlength=HASHES)
        self._weights = np.log((1 + items.shape[0]) / (1 + have)).astype(np.float32)  # what is rare counts more
        self._turned = _even(items, self._weights).T.tocsr()

    def alike(self, new: sparse.csr_array) -> sparse.csr_array:
        """Where each new item stands between the KEPT known ones most like it, (new, known).

        A line adds up to 1 and is the square of the cosines, so that one very like item outweighs many a little like
        it; it is empty where no word is shared.
        """
        new, known = _even(new, self._weights), self._turned.shape[1]
        kept: list[tuple[np.ndarray, np.ndarray]] = []
        for start in range(0, new.shape[0], AT_ONCE):
            kept += _nearest((new[start : start + AT_ONCE] @ self._turned).tocsr())
        offsets = np.cumsum([0, *(len(places) for places, _ in kept)])
        places = np.concatenate([np.zeros(0, np.int64), *(places for places, _ in kept)])
        data = np.concatenate([np.zeros(0, np.float32), *(like for _, like in kept)]).astype(np.float32)
        return sparse.csr_array((data, places, offsets), shape=(new.shape[0], known))


def among(items: sparse.csr_array) -> sparse.csr_array:
    """How like each item is to the others most like it, (items, items); a line adds up to less than 1."""
    like = Known(items).alike(items).tocoo()
    others = like.row != like.col
    return sparse.csr_array((like.data[others], (like.row[others], like.col[others])), shape=like.shape)


def _even(items: sparse.csr_array, weights: np.ndarray) -> sparse.csr_array:
    weighted: sparse.csr_array = items.copy()
    weighted.data = weights[items.indices]
    norms = np.sqrt(np.maximum(weighted.multiply(weighted).sum(axis=1), np.finfo(np.float32).tiny))
    weighted.data /= np.repeat(norms, np.diff(items.indptr)).astype(np.float32)
    return weighted


def _nearest(cosines: sparse.csr_array) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    for start, end in pairwise(cosines.indptr):
        like = cosines.data[start:end] ** 2
        best = np.argsort(-like, kind="stable")[:KEPT]
        yield cosines.indices[start:end][best], like[best] / max(float(like[best].sum()), 1e-12)
