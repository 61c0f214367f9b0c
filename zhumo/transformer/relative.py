"""Relative positions: what is added to the scores of attention for each distance."""

import math

import torch
from torch import Tensor, nn

from zhumo.transformer.config import Config


class RelativeBias(nn.Module):
    """One learned number for each head and each bucket of distances (T5, Raffel et al. 2020).

    Half of the buckets hold one distance each; the others grow wider and wider up to `reach`, the last holds the rest.
    Where a model looks both ways, one half of all is for what lies ahead.
    """

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.causal, self.reach = config.causal, config.reach
        self.buckets = nn.Embedding(config.buckets, config.heads)

    def forward(self, start: int, end: int, mask: Tensor | None) -> Tensor:
        """What is added to the scores of positions `start` to `end` for all up to `end`: (batch or 1, heads, asked,
        known), -inf where `mask`, or causality, hides one from another. mask: (batch, 1, asked, known) or None."""
        known = torch.arange(end, device=self.buckets.weight.device)
        ahead = known - known[start:].unsqueeze(1)
        bias: Tensor = self.buckets(self.bucket(ahead)).permute(2, 0, 1).unsqueeze(0)
        if mask is None and self.causal:
            mask = ahead <= 0
        return bias if mask is None else bias.masked_fill(~mask, -torch.inf)

    def bucket(self, ahead: Tensor) -> Tensor:
        """The bucket of each distance; below 0 lies what was before."""
        count = self.buckets.num_embeddings
        if self.causal:
            first, distance = torch.zeros_like(ahead), (-ahead).clamp(min=0)
        else:
            count //= 2
            first, distance = (ahead > 0) * count, ahead.abs()
        exact = count // 2
        wider = torch.log(distance.clamp(min=exact) / exact) / math.log(self.reach / exact) * (count - exact)
        return first + torch.where(distance < exact, distance, (exact + wider.long()).clamp(max=count - 1))
