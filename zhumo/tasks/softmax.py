"""Cross-entropy over the items of a catalogue, by the cosine of a hidden state and an item's embedding.

"Something new, or something again?" and "which?" are two questions, so a target is compared with the new items or with
the seen ones, never across. Of a large catalogue some items are drawn to stand for all (Bengio & Senecal 2008).

hidden: (asked, width) and table: (ids, width), all of length 1; targets: (asked,) ids; seen: (asked, time) ids, 0 where
there is none.
"""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from zhumo.engine import Product, library

SHARP = 1 / 0.07  # what a cosine is multiplied by to be the logarithm of odds
DRAWN = 2**12  # items that stand for a large catalogue
LARGE = 2**16  # items from which a softmax is sampled when it is learned, and rounded when it is asked


class Items:
    """The embeddings of all items, each of length 1, (items, width): what an answer compares hidden states with.

    A large catalogue is compared in whole numbers where there is a native core: all items are read for every answer,
    and a fourth of the bytes is a fourth of what must be read.
    """

    def __init__(self, exact: Tensor) -> None:
        self.exact = exact
        large = len(exact) > LARGE and exact.device.type == "cpu" and library() is not None
        self._rough = Product(exact) if large else None

    def scores(self, hidden: Tensor) -> Tensor:
        """The logarithm of the odds of every item after some hidden states, (states, items), up to a constant a line.

        hidden: (states, width), of length 1.
        """
        return SHARP * hidden @ self.exact.T if self._rough is None else self._rough(SHARP * hidden)


def drawn(popularity: np.ndarray, seed: np.ndarray, device: torch.device) -> tuple[Tensor, Tensor]:
    """Ids of some items, and the logarithm of how likely each was to be among them.

    Half the draws are even, half by popularity: what is often wanted is also what is often wrongly said. They depend on
    the seed, whole numbers, alone, so a run that goes on draws what it would have drawn.
    """
    generator = np.random.default_rng(seed)
    popular = popularity.astype(np.float64)
    share = 0.5 / len(popular) + 0.5 * popular / popular.sum()
    places = np.unique(np.searchsorted(np.cumsum(share), generator.random(DRAWN) * (1 - 1e-9)))
    places = np.minimum(places, len(popular) - 1)
    chance = np.log(-np.expm1(DRAWN * np.log1p(-share[places])))
    return torch.from_numpy(places + 1).to(device), torch.from_numpy(chance).float().to(device)


def narrowed(
    targets: Tensor, seen: Tensor, drawn: tuple[Tensor, Tensor]
) -> tuple[Tensor, Tensor, Tensor, tuple[Tensor, Tensor]]:
    """Which ids of a large catalogue a batch speaks of, rising, padding first; and targets, seen and drawn as places
    among them. Of the table only their rows are then read, and written when it learns."""
    ids = torch.unique(torch.cat([targets, seen.flatten(), drawn[0]]))
    place = torch.zeros(int(ids[-1]) + 1, dtype=torch.int64, device=ids.device)
    place[ids] = torch.arange(len(ids), device=ids.device)
    return ids, place[targets], place[seen], (place[drawn[0]], drawn[1])


def among_new(
    hidden: Tensor, table: Tensor, targets: Tensor, seen: Tensor, drawn: tuple[Tensor, Tensor] | None
) -> Tensor:
    """Summed cross-entropy among the items that are not seen: all of them, or the target and those that were drawn,
    each standing for as many as it was likely to stand for."""
    if drawn is None:
        logits = (SHARP * hidden @ table.T).scatter(1, seen, -torch.inf)
        return F.cross_entropy(logits, targets, reduction="sum")
    ids, chance = drawn
    # A last column is for what was not drawn, and then for the target.
    column = torch.full((len(table),), len(ids), device=ids.device)
    column[ids] = torch.arange(len(ids), device=ids.device)
    rows, bias = F.pad(table[ids], (0, 0, 0, 1)), F.pad(-chance, (0, 1))
    own = SHARP * (hidden * table[targets]).sum(-1, keepdim=True)
    logits = torch.addmm(bias, SHARP * hidden, rows.T)
    logits = logits.scatter_(1, column[torch.cat([seen, targets[:, None]], 1)], -torch.inf)
    logits = logits.scatter_(1, torch.full_like(targets, len(ids))[:, None], own)
    return (logits.logsumexp(dim=1) - own[:, 0]).sum()


def among_seen(hidden: Tensor, table: Tensor, targets: Tensor, seen: Tensor) -> Tensor:
    """Summed cross-entropy among the items that are seen, each once."""
    logits = SHARP * torch.einsum("nw,ntw->nt", hidden, table[seen])
    earlier = torch.ones(seen.size(1), seen.size(1), dtype=torch.bool, device=seen.device).tril(-1)
    twice = ((seen[:, :, None] == seen[:, None, :]) & earlier).any(-1)
    logits = logits.masked_fill(twice | (seen == 0), -torch.inf)
    own = (seen == targets[:, None]).int().argmax(1)  # the first, which is the one that stays
    return F.cross_entropy(logits, own, reduction="sum")
