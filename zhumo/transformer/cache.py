"""Keys and values of the tokens seen so far, so that a decode step reads them instead of computing them again.

`Cache` is of sequences that grow in step, `RowCache` of texts that each stand at a place of their own.
"""

from collections.abc import Iterable, Sequence
from typing import Self

import torch
from torch import Tensor

from zhumo.transformer.config import Config


class LayerCache:
    """One block's keys and values, (batch, kv_heads, room, head_dim), filled from the left."""

    def __init__(self, room: Tensor) -> None:
        self.keys, self.values = room[0], room[1]
        self.used = 0

    def append(self, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """Store the new positions and return all positions so far.

        Raises:
            ValueError: there is no room left.
        """
        end = self.used + key.size(2)
        if end > self.keys.size(2):
            raise ValueError(f"the cache has room for {self.keys.size(2)} positions, asked for {end}")
        self.keys[:, :, self.used : end] = key
        self.values[:, :, self.used : end] = value
        self.used = end
        return self.keys[:, :, :end], self.values[:, :, :end]


class Cache:
    """The caches of all blocks, for a batch of sequences that grow in step."""

    def __init__(self, rooms: Iterable[Tensor]) -> None:
        """rooms: of each block, (2, batch, kv_heads, length, head_dim)."""
        self.layers = [LayerCache(room) for room in rooms]

    @classmethod
    def empty(
        cls,
        config: Config,
        *,
        batch: int = 1,
        length: int,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
    ) -> Self:
        """length: how many positions there is room for; what is not filled takes no memory where the system gives it
        page by page."""
        shape = (2, batch, config.kv_heads, length, config.head_dim)
        return cls(torch.empty(shape, dtype=dtype, device=device) for _ in range(config.depth))

    @property
    def used(self) -> int:
        """Positions filled so far."""
        return self.layers[0].used

    def keep(self, count: int) -> None:
        """Forget all but the first `count` positions."""
        for layer in self.layers:
            layer.used = count

    def take(self, rows: Tensor) -> None:
        """Go on with these sequences of the batch, in this order, each as often as it is named. rows: (batch,)"""
        for layer in self.layers:
            layer.keys[:, :, : layer.used] = layer.keys[rows, :, : layer.used]
            layer.values[:, :, : layer.used] = layer.values[rows, :, : layer.used]


class RowLayer:
    """One block's keys and values, (slots, kv_heads, room, head_dim), where each text has places of its own."""

    def __init__(self, room: Tensor, slots: Tensor, places: Tensor, reach: int) -> None:
        self.keys, self.values = room[0], room[1]
        self.slots, self.places, self.reach = slots, places, reach

    def append(self, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """Store each token at its place and return the first positions of the texts, what is not filled among them."""
        return self._kept(self.keys, key), self._kept(self.values, value)

    def _kept(self, known: Tensor, new: Tensor) -> Tensor:
        known[self.slots[:, None], :, self.places] = new.transpose(1, 2)
        reached = known[:, :, : self.reach]
        return reached if len(self.slots) == len(known) else reached[self.slots]


class RowCache:
    """The caches of all blocks, for texts in slots of their own, each at places of its own.

    No size in it depends on where a text stands, only the numbers in `slots` and `places`: so a step that reads by it
    can be captured once and run again.
    """

    def __init__(self, rooms: Sequence[Tensor], slots: Tensor, places: Tensor, reach: int) -> None:
        """rooms: of each block, (2, slots, kv_heads, room, head_dim), zero where nothing was stored yet. slots:
        (rows,), where the texts are, each once; if there are as many as slots, all in their order. places: (rows,
        time), where their tokens go. reach: how many positions are looked at; one beyond it is stored and sees those.
        """
        self.places, self.reach = places, reach
        self.layers = [RowLayer(room, slots, places, reach) for room in rooms]

    def mask(self, window: int, dtype: torch.dtype) -> Tensor:
        """What is added to the scores, (rows, 1, time, reach): a token looks at what stands before it in its text,
        within a window if there is one."""
        # A row that sees nothing would not come to a number.
        back = self.places.clamp(max=self.reach - 1).unsqueeze(-1) - torch.arange(self.reach, device=self.places.device)
        seen = (back >= 0) & (back < window) if window else back >= 0
        return torch.zeros(seen.shape, dtype=dtype, device=seen.device).masked_fill_(~seen, -torch.inf).unsqueeze(1)
