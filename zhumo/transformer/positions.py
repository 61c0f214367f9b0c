"""Where a token stands: an embedding that is added, or a rotation of queries and keys."""

import math
from functools import partial

import torch
from torch import Tensor

from zhumo.transformer.block import Rope


def sinusoids(length: int, width: int) -> Tensor:
    """The fixed sine and cosine table of Vaswani et al. 2017, (length, width), sines on even columns."""
    place = torch.arange(length, dtype=torch.float32).unsqueeze(1)
    pace = torch.exp(torch.arange(0, width, 2, dtype=torch.float32) * (-math.log(10_000.0) / width))
    table = torch.zeros(length, width)
    table[:, 0::2] = torch.sin(place * pace)
    table[:, 1::2] = torch.cos(place * pace[: width // 2])
    return table


def rope(positions: Tensor, head_dim: int, theta: float) -> Rope:
    """Rotary positions (Su et al. 2021) in the two-halves layout that Llama's published weights use.

    positions: (time,) or (batch, time) integers. The returned function turns (batch, heads, time, head_dim).
    """
    pace = theta ** (-torch.arange(0, head_dim, 2, device=positions.device, dtype=torch.float32) / head_dim)
    angle = positions.unsqueeze(-1) * pace  # (..., time, head_dim / 2)
    angle = torch.cat((angle, angle), dim=-1)
    if angle.dim() == 3:
        angle = angle.unsqueeze(1)  # one axis for the heads
    return partial(_rotate, cos=angle.cos(), sin=angle.sin())


def _rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    left, right = x.chunk(2, dim=-1)
    turned = torch.cat((-right, left), dim=-1)
    return x * cos.to(x.dtype) + turned * sin.to(x.dtype)


def places(segments: Tensor) -> Tensor:
    """Position of each token inside its own segment, counted from 0. segments: (batch, time) integers."""
    index = torch.arange(segments.size(1), device=segments.device).expand_as(segments)
    starts = torch.ones_like(segments, dtype=torch.bool)
    starts[:, 1:] = segments[:, 1:] != segments[:, :-1]
    return index - torch.where(starts, index, 0).cummax(dim=1).values


def visible(segments: Tensor, causal: bool) -> Tensor:
    """Who may look at whom, (batch, 1, time, time): tokens of one segment, not ahead where `causal`."""
    same = segments.unsqueeze(1) == segments.unsqueeze(2)
    return (same.tril() if causal else same).unsqueeze(1)
