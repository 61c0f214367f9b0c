"""Near-duplicates: texts that share most of their runs of letters, found without comparing each with every other.

MinHash (Broder 1997): under a random order of all runs, two texts have the same smallest run as often as they share
runs. There are 64 such orders in 16 bands of four. Texts whose four smallest runs are equal in some band are looked at
(Leskovec, Rajaraman and Ullman, Mining of Massive Datasets, chapter 3): of pairs that share .7 that finds 98.8%, of
those that share .8 it finds 99.98%. Where all 64 together say that it may be, they are compared run by run, so nothing
is called alike that is not.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
from scipy import sparse
from scipy.sparse.csgraph import connected_components

RUN = 5  # characters
BANDS, WIDTH = 16, 4
AT_ONCE = 1 << 17  # characters or numbers, so that all about them stays in the processor's cache
DOUBT = 0.15  # what 64 orders may be wrong by; 2.6 standard deviations at .7
MOST = np.uint32(2**32 - 1)
_DRAW = np.random.default_rng(20_240_229)
TURNS = _DRAW.integers(0, 2**32, (BANDS * WIDTH, 2), dtype=np.uint32) | np.uint32(1)


def alike(read: Callable[[int], str], places: Sequence[int], least: float, scratch: Path) -> np.ndarray:
    """Pairs of places, (pairs, 2), whose texts share at least so much of their runs.

    read: the text at a place. scratch: a folder for 256 bytes a text.
    """
    if not places:
        return np.empty((0, 2), dtype=np.int64)
    path = scratch / "smallest"
    with path.open("wb") as file:
        for part in _portions(map(read, places)):
            file.write(_smallest(part).tobytes())
    smallest = np.memmap(path, dtype=np.uint32, mode="r").reshape(-1, len(TURNS))
    runs = lru_cache(1_000)(lambda place: _runs(read(place)))
    asked = _likely(smallest, _candidates(smallest), least - DOUBT)
    found = [pair for pair in asked.tolist() if _shared(*(runs(places[one]) for one in pair)) >= least]
    path.unlink()
    pairs: np.ndarray = np.asarray(places)[np.array(found, dtype=np.int64).reshape(-1, 2)]
    return pairs


def likeness(one: str, other: str) -> float:
    """What share of their runs two texts have in common."""
    return _shared(_runs(one), _runs(other))


def grouped(groups: np.ndarray, pairs: np.ndarray) -> np.ndarray:
    """Groups, each row's given as the place of its first row, joined where a pair says so."""
    left, right = np.append(np.arange(len(groups)), pairs[:, 0]), np.append(groups, pairs[:, 1])
    graph = sparse.coo_array((np.ones(len(left), dtype=bool), (left, right)), shape=(len(groups), len(groups)))
    _, labels = connected_components(graph, directed=False)
    first: np.ndarray = np.unique(labels, return_index=True)[1][labels]
    return first


def _portions(texts: Iterable[str]) -> Iterator[list[str]]:
    """Texts some 130,000 characters at a time, none shorter than a run."""
    part: list[str] = []
    size = 0
    for text in texts:
        part.append(text.ljust(RUN, "\0"))
        size += len(part[-1])
        if size >= AT_ONCE:
            yield part
            part, size = [], 0
    if part:
        yield part


def _smallest(texts: Sequence[str]) -> np.ndarray:
    """Of each text the smallest run in every order, (texts, orders) uint32."""
    lengths = np.array([len(text) for text in texts])
    ends = lengths.cumsum()
    letters = np.frombuffer("".join(texts).encode("utf-32-le", "surrogatepass"), dtype=np.uint32)
    runs = np.zeros(len(letters) - RUN + 1, dtype=np.uint32)
    for place in range(RUN):
        runs = _mixed(runs + letters[place : len(letters) - RUN + 1 + place])
    torn = (ends[:-1, None] - np.arange(1, RUN)).ravel()  # runs that would reach into the next text
    smallest = np.empty((len(texts), len(TURNS)), dtype=np.uint32)
    for order, (shift, factor) in enumerate(TURNS):
        turned = (runs ^ shift) * factor
        turned[torn] = MOST
        np.minimum.reduceat(turned, ends - lengths, out=smallest[:, order])
    return smallest


def _mixed(numbers: np.ndarray) -> np.ndarray:
    """Each bit of a number spread over all of them (the finaliser of MurmurHash3)."""
    numbers = (numbers ^ (numbers >> np.uint32(16))) * np.uint32(0x85EBCA6B)
    numbers = (numbers ^ (numbers >> np.uint32(13))) * np.uint32(0xC2B2AE35)
    numbers ^= numbers >> np.uint32(16)
    return numbers


def _candidates(smallest: np.ndarray) -> np.ndarray:
    """Pairs of texts, by number, that stand beside each other among those with an equal band; each pair once."""
    pairs = []
    for start in range(0, len(TURNS), WIDTH):
        band = np.zeros(len(smallest), dtype=np.uint32)
        for order in range(start, start + WIDTH):
            band = _mixed(band + smallest[:, order])
        ranked = np.argsort(band, kind="stable")
        equal = np.flatnonzero(band[ranked[1:]] == band[ranked[:-1]])
        pairs.append(ranked[equal] * len(ranked) + ranked[equal + 1])
    found = np.unique(np.concatenate(pairs))
    return np.stack([found // len(smallest), found % len(smallest)], axis=1)


def _likely(smallest: np.ndarray, pairs: np.ndarray, least: float) -> np.ndarray:
    """Pairs that have at least so much of their smallest runs in common."""
    said = [(smallest[part[:, 0]] == smallest[part[:, 1]]).mean(axis=1) for part in _slices(pairs)]
    likely: np.ndarray = pairs[np.concatenate([np.zeros(0), *said]) >= least]
    return likely


def _slices(pairs: np.ndarray) -> Iterator[np.ndarray]:
    size = AT_ONCE // len(TURNS)
    for start in range(0, len(pairs), size):
        yield pairs[start : start + size]


def _runs(text: str) -> frozenset[str]:
    return frozenset(text[start : start + RUN] for start in range(max(1, len(text) - RUN + 1)))


def _shared(one: frozenset[str], other: frozenset[str]) -> float:
    """Jaccard's index."""
    both = len(one & other)
    return both / (len(one) + len(other) - both)
