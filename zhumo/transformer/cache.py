"""Keys and values of the tokens seen so far, so that a decode step reads them instead of computing them again."""

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

    def __init__(
        self,
        config: Config,
        *,
        batch: int = 1,
        length: int,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
    ) -> None:
        """length: how many positions there is room for; what is not filled takes no memory where the system gives it
        page by page."""
        shape = (2, batch, config.kv_heads, length, config.head_dim)
        self.layers = [LayerCache(torch.empty(shape, dtype=dtype, device=device)) for _ in range(config.depth)]

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
