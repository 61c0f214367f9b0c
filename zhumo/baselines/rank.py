"""What a shop can do without a neural network: bestsellers, and the neighbours of what was just bought.

`Neighbours` is last-item Markov and item-kNN in one matrix: two items are close when many users have both, closer when
one soon follows the other, and bestsellers are held down (Sarwar et al. 2001). A history asks the matrix with its
newest items loudest. How much each of these counts differs from shop to shop, so it is learned by hiding the newest
item of some histories. That makes it a rival to be taken seriously, a part worth blending in, and a reason to show.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
import scipy.sparse as sparse
from scipy.sparse.linalg import eigsh

FADE = 0.8  # of what one step right after the other counts, what is left a step further away
REACH = 10  # steps after which nothing is left of it
KEPT = 512  # neighbours an item keeps in a small catalogue; in a large one it has to do with 64
ALL_KEPT = 2**22  # neighbours that all items together keep in between
PAIRS_AT_ONCE = 2**21  # pairs of items counted at once, to bound memory
HIDDEN = 1_000  # histories whose newest item is hidden to learn the settings; more would hardly move them
SMOOTH = 0.001  # share of what the neighbours say that is left to popularity
NEWEST = 0.1  # share of all interactions that is called lately
PRIOR = 5.0  # interactions as usual that every item is given beside its own, so that few do not look like a trend
EXACT = 2**16  # items up to which the best factors are found to the last digit
NEAR = 0.01  # relative error of the factors of more
LEAST = 1e-12  # below this a probability is noise

History = np.ndarray
"""Indices of items, 0-based, oldest first."""


@dataclass(frozen=True)
class Settings:
    """near: what one step right after the other counts, beside 1 for being in the same history. held: the power of
    its number of users that an item is divided by when it is recommended. recent: what an item of the history weighs
    beside the one after it."""

    near: float = 4.0
    held: float = 0.5
    recent: float = 0.75


TRIED = [Settings(near, held, recent) for near, held, recent in product((4.0, 16.0), (0.5, 0.35, 0.2), (0.75, 0.5))]


def popularity(histories: Sequence[History], items: int) -> np.ndarray:
    """Share of the histories that hold each item, (items,) float32."""
    own = [np.unique(history) for history in histories]
    counts = np.bincount(np.concatenate([*own, np.zeros(0, np.int64)]).astype(np.int64), minlength=items)
    return (counts / max(len(own), 1)).astype(np.float32)


def trend(histories: Sequence[History], times: Sequence[np.ndarray], items: int) -> np.ndarray:
    """How much more of what was taken lately each item is than of all that was taken, as a logarithm, (items,) float32.

    times: of each history's items. Lately is the NEWEST part of all interactions.
    """
    item, time = (np.concatenate([*parts, np.zeros(0)]) for parts in (histories, times))
    late = time >= (np.quantile(time, 1 - NEWEST, method="higher") if len(time) else 0)
    lately, always = (np.bincount(some.astype(np.int64), minlength=items) for some in (item[late], item))
    usual = late.mean() if len(late) else 1.0
    ratio = (lately + PRIOR * usual) / (usual * (always + PRIOR))
    return np.log(ratio).astype(np.float32)


def neighbours(histories: Sequence[History], items: int, settings: Settings = Settings()) -> sparse.csr_array:
    """How close each item is to those that may follow it, (items, items), the closest of each."""
    users = popularity(histories, items) * len(histories)
    found = []
    for part, together, followed in _Company(histories, items).parts(np.arange(items), after=True):
        close = (together + settings.near * followed).tocoo()
        apart = part[close.row] != close.col
        row, column = close.row[apart], close.col[apart]
        held = np.sqrt(users[part[row]]) * users[column] ** settings.held
        found.append(_closest(row, column, close.data[apart] / held, together.shape))
    matrix: sparse.csr_array = sparse.vstack(found, format="csr")
    return matrix


def learned(histories: Sequence[History], items: int) -> Settings:
    """The settings that put the newest item of some histories highest when it is hidden; of equals the first tried."""
    able = [index for index, history in enumerate(histories) if len(np.unique(history)) > 2]
    hidden = set(able[:: 1 + len(able) // HIDDEN])
    known = [history[:-1] if index in hidden else history for index, history in enumerate(histories)]
    asked = [known[index] for index in sorted(hidden)]
    wanted = np.array([histories[index][-1] for index in sorted(hidden)])
    if not asked:
        return TRIED[0]
    company = _Company(known, items)
    worth, above = np.zeros((len(TRIED), len(asked))), np.zeros((len(TRIED), len(asked)), dtype=np.int64)
    for part, lines in _said(company, asked, np.unique(wanted)):
        there = np.flatnonzero(np.isin(wanted, part))
        for index, said in enumerate(lines):
            worth[index, there] = said[there, np.searchsorted(part, wanted[there])]
    for _, lines in _said(company, asked, np.arange(items)):
        for index, said in enumerate(lines):
            row = np.repeat(np.arange(len(asked)), np.diff(said.indptr))
            above[index] += np.bincount(row[said.data > worth[index, row]], minlength=len(asked))
    gains = np.where((worth > 0) & (above < 10), 1 / np.log2(above + 2), 0.0)  # NDCG@10
    return TRIED[int(np.argmax(gains.mean(axis=1)))]


def _said(
    company: "_Company", asked: Sequence[History], items: np.ndarray
) -> Iterator[tuple[np.ndarray, list[sparse.csr_array]]]:
    """Some of the items at a time: how loudly each setting says them to each of the histories that do not hold them."""
    users = np.maximum(company.users, 1)
    own = _sparse([np.unique(history) for history in asked], None, len(users)).tocsc()
    even = sparse.diags_array(1 / np.sqrt(users))
    loud = {recent: _loudness(asked, len(users), recent) @ even for recent in {one.recent for one in TRIED}}
    for part, together, before in company.parts(items, after=False):
        met = {recent: (line @ together.T, line @ before.T) for recent, line in loud.items()}
        lines = []
        for settings in TRIED:
            close, steps = met[settings.recent]
            said = (close + settings.near * steps) @ sparse.diags_array(users[part] ** -settings.held)
            lines.append((said - said.multiply(own[:, part])).tocsr())
        yield part, lines


class Neighbours:
    """The neighbours, ready to be asked.

    matrix: from `neighbours`. shares: from `popularity`. alike: (others, items), further items between those of the
    matrix, which ask and are found by way of them.
    popular: the logarithm of how likely every item is by its popularity alone, (items,) float32.
    """

    def __init__(
        self, matrix: sparse.csr_array, shares: np.ndarray, settings: Settings, alike: sparse.csr_array | None = None
    ) -> None:
        self.matrix, self.settings, self.alike = matrix, settings, alike
        others = np.zeros(0 if alike is None else alike.shape[0])
        self._usual = np.concatenate([shares / max(float(shares.sum()), LEAST), others])
        self.popular = np.log(np.maximum(self._usual, LEAST)).astype(np.float32)
        self._quiet = self.popular + np.float32(np.log(SMOOTH))  # of what no neighbour says

    def ask(self, histories: Sequence[History]) -> np.ndarray:
        """The logarithm of how likely the neighbours find every item, (histories, items) float32.

        SMOOTH is left to popularity, so that items without a neighbour, and histories without an item, have an order.
        """
        lines = np.empty((len(histories), len(self.popular)), dtype=np.float32)
        for line, history in zip(lines, histories, strict=True):
            found, loud = self._found(history, self.settings.recent ** np.arange(len(history) - 1, -1, -1.0))
            line[:] = self._quiet if len(found) else self.popular
            share = (1 - SMOOTH) * loud / loud.sum() + SMOOTH * self._usual[found]
            line[found] = np.log(np.maximum(share, LEAST))
        return lines

    def _found(self, history: History, loud: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """What the neighbours of a history, each item so loud, say: items, and how loudly, above 0."""
        if self.alike is None:
            return _summed(self.matrix, history, loud)
        own, items = history < self.matrix.shape[0], self.matrix.shape[0]
        beside, known = _summed(self.alike, history[~own] - items, loud[~own])
        asked, asking = _together(np.concatenate([history[own], beside]), np.concatenate([loud[own], known]), items)
        close = _summed(self.matrix, asked, asking)
        others = self.alike @ np.bincount(*close, items)
        further = np.flatnonzero(others > 0)
        return np.concatenate([close[0], items + further]), np.concatenate([close[1], others[further]])


def _summed(matrix: sparse.csr_array, rows: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The sum of some rows, each so many times: columns and values above 0. Of a few rows scipy's product is mostly
    checks."""
    spans = [slice(*matrix.indptr[row : row + 2].tolist()) for row in rows.tolist()]
    columns = np.concatenate([np.zeros(0, np.int32), *(matrix.indices[span] for span in spans)])
    values = [matrix.data[span] * weight for span, weight in zip(spans, weights.tolist(), strict=True)]
    return _together(columns, np.concatenate([np.zeros(0), *values]), matrix.shape[1])


def _together(columns: np.ndarray, values: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Each of some columns below `size` once, with the sum of its values where that is above 0. Nothing is sorted, and
    of memory for all columns only what is named is touched."""
    place, order = np.empty(size, dtype=np.int32), np.arange(len(columns), dtype=np.int32)
    place[columns] = order  # one of each, whichever is written last
    summed = np.bincount(place[columns], values, len(columns))
    loud = np.flatnonzero(summed > 0)
    return columns[loud], summed[loud]


def places(matrix: sparse.csr_array, width: int) -> np.ndarray:
    """Where each item stands if close items are to stand close together, (items, width), of variance 1.

    The inner product of two places is, as nearly as so few dimensions allow, how close the two items are: the best
    factors of the symmetric matrix, which is what word embeddings learn too (Levy & Goldberg 2014). Turned at random,
    so that no dimension is louder than another.
    """
    even = (matrix + matrix.T).tocsr() / 2
    items = even.shape[0]
    if items > max(EXACT, 4 * width):
        even = (even / max(float(even.max()), LEAST)).astype(np.float32)  # numbers that seven digits are plenty for
        values, axes = eigsh(even, k=width, which="LA", v0=np.ones(items, dtype=np.float32), tol=NEAR)
    elif items > 4 * width:
        values, axes = eigsh(even, k=width, which="LA", v0=np.ones(items))
    else:
        values, axes = np.linalg.eigh(even.toarray())
    best = np.argsort(values)[::-1][:width]
    loud = axes[:, best] * np.sqrt(np.maximum(values[best], 0))
    turn, _ = np.linalg.qr(np.random.default_rng(0).normal(size=(width, width)))
    stand = loud @ turn[: len(best)]
    even_out: np.ndarray = stand / max(float(stand.std()), LEAST)
    return even_out


class _Company:
    """What is taken together, and what soon before or after what, for some items at a time: for all of them at once it
    would be a table as large as the square of the catalogue.
    """

    def __init__(self, histories: Sequence[History], items: int) -> None:
        self.members = _sparse([np.unique(history) for history in histories], None, items)
        self.holders = self.members.T.tocsr()
        self.users = np.diff(self.holders.indptr)
        self.line = np.concatenate([*histories, np.zeros(0, np.int64)]).astype(np.int32)
        lengths = np.array([len(history) for history in histories], dtype=np.int64)
        self.owner = np.repeat(np.arange(len(histories), dtype=np.int32), lengths)
        self.order = np.argsort(self.line, kind="stable")
        self.starts = np.searchsorted(self.line, np.arange(items + 1), sorter=self.order)

    def parts(
        self, items: np.ndarray, *, after: bool
    ) -> Iterator[tuple[np.ndarray, sparse.csr_array, sparse.csr_array]]:
        """Some of the items, (part,); in how many histories each meets every item, and how often every item follows it
        (else: it follows every item), both (part, items).
        """
        met = np.minimum((self.holders @ np.diff(self.members.indptr))[items], len(self.users))
        pairs = np.cumsum(met + REACH * np.diff(self.starts)[items])
        for part in np.split(items, np.flatnonzero(np.diff(pairs // PAIRS_AT_ONCE)) + 1):
            yield part, (self.holders[part] @ self.members).tocsr(), self._beside(part, 1 if after else -1)

    def _beside(self, part: np.ndarray, sign: int) -> sparse.csr_array:
        """How often an item stands within REACH steps of each of the part, each time counted FADE ** (steps - 1)."""
        counts = self.starts[part + 1] - self.starts[part]
        row = np.repeat(np.arange(len(part)), counts)
        place = self.order[np.arange(len(row)) + np.repeat(self.starts[part] - np.cumsum(counts) + counts, counts)]
        total = sparse.csr_array((len(part), len(self.users)))
        for step in range(1, REACH + 1):
            other = place + sign * step
            there = (other >= 0) & (other < len(self.line))
            there[there] = self.owner[other[there]] == self.owner[place[there]]
            weight = np.full(int(there.sum()), FADE ** (step - 1))
            total = total + sparse.csr_array((weight, (row[there], self.line[other[there]])), shape=total.shape)
        return total


def _closest(row: np.ndarray, column: np.ndarray, value: np.ndarray, shape: tuple[int, int]) -> sparse.csr_array:
    """The largest values of each row; of equals those of the smaller column."""
    order = np.lexsort((column, -value, row))
    row, column, value = row[order], column[order], value[order]
    starts = np.searchsorted(row, np.arange(shape[0]))
    kept = np.arange(len(row)) - starts[row] < min(KEPT, max(64, ALL_KEPT // shape[1]))
    return sparse.csr_array((value[kept].astype(np.float32), (row[kept], column[kept])), shape=shape)


def _loudness(histories: Sequence[History], items: int, recent: float) -> sparse.csr_array:
    weights = [recent ** np.arange(len(history) - 1, -1, -1.0) for history in histories]
    return _sparse(histories, weights, items)


def _sparse(rows: Sequence[np.ndarray], weights: Sequence[np.ndarray] | None, items: int) -> sparse.csr_array:
    """One line a row, holding its weights (1 each if None) at its items; an item that comes twice is added up."""
    # 32 bits everywhere, as in the matrix of neighbours: else every product would begin by copying that.
    offsets = np.cumsum([0, *map(len, rows)], dtype=np.int32)
    columns = np.concatenate([*rows, np.zeros(0, np.int64)]).astype(np.int32)
    data = np.ones(len(columns)) if weights is None else np.concatenate([*weights, np.zeros(0)])
    return sparse.csr_array((data.astype(np.float32), columns, offsets), shape=(len(rows), items))
