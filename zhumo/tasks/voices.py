"""What is said of every item after a history: by the Transformer, by neighbours, by popularity and its trend.

Each voice is an `Ask`. They read what a task has counted (`state`, `arrays`) and change nothing.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import scipy.sparse as sparse
import torch
import torch.nn.functional as F
from torch import Tensor

from zhumo.baselines import rank as shop
from zhumo.tasks import softmax
from zhumo.transformer import Transformer


class Visitor(NamedTuple):
    """Who asks.

    items: places in the catalogue of what they took, oldest first. traits: ids of what else is known of them.
    """

    items: shop.History
    traits: np.ndarray


Ask = Callable[[Sequence[Visitor]], np.ndarray]
"""Visitors -> the logarithm of how likely each item comes next, (visitors, items), up to a constant a line."""


def keep(arrays: dict[str, np.ndarray], name: str, matrix: sparse.csr_array) -> None:
    """Put a sparse matrix into the arrays of a task."""
    arrays |= {f"{name}.data": matrix.data, f"{name}.indices": matrix.indices, f"{name}.indptr": matrix.indptr}


class Voices:
    """The voices of a shop. state, arrays, length: of a `Recommend` that has learned."""

    def __init__(self, state: Mapping[str, Any], arrays: Mapping[str, np.ndarray], length: int) -> None:
        self.state, self.arrays, self.length = state, arrays, length
        self.warm, self.size = int(state["warm"]), len(state["items"])
        self.near = self._kept("neighbours")
        self.alike = self._kept("alike") if "alike.data" in arrays else None

    def _kept(self, name: str) -> sparse.csr_array:
        """A sparse matrix of the arrays with a column a warm item."""
        data, indices, indptr = (self.arrays[f"{name}.{part}"] for part in ("data", "indices", "indptr"))
        return sparse.csr_array((data, indices, indptr), shape=(len(indptr) - 1, self.warm))

    @cached_property
    def _neighbours(self) -> shop.Neighbours:
        settings = shop.Settings(**self.state["neighbours"])
        return shop.Neighbours(self.near, self.arrays["popularity"], settings, self.alike)

    @cached_property
    def _stand_in(self) -> np.ndarray:
        """The warm item that each item is read as in a history: itself, or the one most like it; -1 where none is."""
        stand = np.arange(self.size)
        if self.alike is not None:
            most = np.asarray(self.alike.argmax(axis=1)).ravel()
            stand[self.warm :] = np.where(np.diff(self.alike.indptr) > 0, most, -1)
        return stand

    def popularity(self, visitors: Sequence[Visitor]) -> np.ndarray:
        """What an Ask says that looks at nobody."""
        return np.tile(self._neighbours.popular, (len(visitors), 1))

    def trend(self, visitors: Sequence[Visitor]) -> np.ndarray:
        """What an Ask says of each item for being taken more or less often lately; of an item nobody took, nothing."""
        return np.tile(np.pad(self.arrays["trend"], (0, self.size - self.warm)), (len(visitors), 1))

    def neighbours(self, visitors: Sequence[Visitor]) -> np.ndarray:
        """What the neighbours of each history say."""
        return self._neighbours.ask([visitor.items for visitor in visitors])

    def transformer(self, model: Transformer) -> Ask:
        """An Ask of the Transformer. It cannot be asked by somebody nothing is known of; they get the bestsellers."""

        def ask(visitors: Sequence[Visitor]) -> np.ndarray:
            rows = [self._ids(visitor) for visitor in visitors]
            read = [index for index, ids in enumerate(rows) if len(ids)]
            if read and len(read) == len(rows):
                return self._logits(model, rows)
            scores = self.popularity(visitors)
            if read:
                scores[read] = self._logits(model, [rows[index] for index in read])
            return scores

        return ask

    def _ids(self, visitor: Visitor) -> np.ndarray:
        """What the Transformer reads: traits, then the newest items."""
        places = self._stand_in[visitor.items]
        room = self.length - len(visitor.traits)
        return np.concatenate([visitor.traits, places[places >= 0][-room:] + 1])

    def _logits(self, model: Transformer, rows: Sequence[np.ndarray]) -> np.ndarray:
        lengths = np.array([len(ids) for ids in rows])
        ids = np.zeros((len(rows), lengths.max()), dtype=np.int64)
        for line, row in zip(ids, rows, strict=True):
            line[: len(row)] = row
        ends = torch.from_numpy(np.arange(0, ids.size, ids.shape[1]) + lengths - 1)
        with torch.inference_mode():
            device = model.stem.tokens.weight.device
            hidden = model.hidden(torch.from_numpy(ids).to(device)).flatten(0, 1)
            asked = F.normalize(hidden[ends.to(device)].float(), dim=-1)
            scores: np.ndarray = self._items(model).scores(asked).cpu().numpy()
        return scores

    def _items(self, model: Transformer) -> softmax.Items:
        """The embeddings of all items, kept until they change. What nobody has taken stands between the warm items it
        is like."""
        weight = model.stem.tokens.weight
        if self._even is None or self._even[0] is not weight or self._even[1] != weight._version:
            even = F.normalize(weight.detach()[1 : self.warm + 1].float(), dim=-1)
            if self.alike is not None:
                new = torch.from_numpy(self.alike @ even.cpu().numpy()).to(even)
                even = torch.cat([even, F.normalize(new, dim=-1)])
            self._even = (weight, weight._version, softmax.Items(even))
        return self._even[2]

    _even: tuple[Tensor, int, softmax.Items] | None = None

    def like(self, model: Transformer, place: int) -> np.ndarray:
        """The cosine of where the model puts one item and every item, (items,)."""
        even = self._items(model).exact
        cosines: np.ndarray = (even @ even[place]).cpu().numpy()
        return cosines

    def taken_with(self, place: int) -> np.ndarray:
        """What share each item has in what follows one, (items,), -inf where it has none."""
        line = np.full(self.size, -np.inf, dtype=np.float32)
        if (stand := int(self._stand_in[place])) >= 0:
            near = self.near[[stand]]
            line[near.indices] = near.data / max(float(near.data.sum()), shop.LEAST)
        return line

    def likeness(self, places: np.ndarray) -> Callable[[int], np.ndarray]:
        """For one of some items how like all of them are, (places,): the cosine of what is near to each."""
        rows = self._company[places]
        length = np.sqrt(rows.multiply(rows).sum(axis=1))
        even = (sparse.diags_array(1 / np.maximum(length, shop.LEAST)) @ rows).tocsr()

        def like(place: int) -> np.ndarray:
            cosines: np.ndarray = even @ even[[place]].toarray()[0]
            return cosines

        return like

    @cached_property
    def _company(self) -> sparse.csr_array:
        """What is near to every item, (items, warm)."""
        if self.alike is None:
            return self.near
        everything: sparse.csr_array = sparse.vstack([self.near, self.alike @ self.near], format="csr")
        return everything
