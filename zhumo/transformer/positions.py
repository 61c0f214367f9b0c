"""Where a token stands: an embedding that is added, or a rotation of queries and keys."""

import math
from functools import partial

import torch
from torch import Tensor

from zhumo.transformer.block import Rope
from zhumo.transformer.config import Config


def sinusoids(length: int, width: int) -> Tensor:
    """The fixed table of Vaswani et al. 2017, (length, width): sines in the first half of the columns, cosines in the
    second, as in their program and in Marian."""
    place = torch.arange(length, dtype=torch.float64).unsqueeze(1)
    pace = torch.exp(torch.arange(0, width, 2, dtype=torch.float64) * (-math.log(10_000.0) / width))
    return torch.cat((torch.sin(place * pace), torch.cos(place * pace[: width // 2])), dim=1).float()


def rope(positions: Tensor, config: Config) -> Rope:
    """Rotary positions (Su et al. 2021) in the two-halves layout that Llama's published weights use.

    positions: (time,) or (batch, time) integers. The returned function turns (batch, heads, time, head_dim).
    """
    cos, sin = (torch.cat((half, half), dim=-1) for half in turns(positions, config))
    if cos.dim() == 3:
        cos, sin = cos.unsqueeze(1), sin.unsqueeze(1)  # one axis for the heads
    return partial(_rotate, cos=cos, sin=sin)


def turns(positions: Tensor, config: Config) -> tuple[Tensor, Tensor]:
    """Cosine and sine of what a rope turns each pair of numbers by at each position, (..., head_dim / 2)."""
    angle = positions.unsqueeze(-1) * paces(config, positions)
    sharpness = 1 + 0.1 * math.log(config.rope_factor) if config.rope == "yarn" else 1.0
    return angle.cos() * sharpness, angle.sin() * sharpness


def _rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    left, right = x.chunk(2, dim=-1)
    turned = torch.cat((-right, left), dim=-1)
    return x * cos.to(x.dtype) + turned * sin.to(x.dtype)


def paces(config: Config, positions: Tensor) -> Tensor:
    """How far a rope turns each pair of numbers from one position to the next, (head_dim / 2,) radians.

    `linear` slows down all. `yarn` (Peng et al. 2023) and `llama3` slow down those that turn less than once within the
    length first learned, and leave alone those that turn often. `dynamic` (NTK) slows down as the sequence outgrows the
    length of the model, so there what a cache holds was turned otherwise than a whole text would be.
    """
    theta: float | Tensor = config.rope_theta
    factor = config.rope_factor
    pair = torch.arange(0, config.head_dim, 2, device=positions.device, dtype=torch.float32) / config.head_dim
    if config.rope == "dynamic":
        longest = (positions.max() + 1).clamp(min=config.length)
        beyond = factor * longest / config.length - (factor - 1)
        theta = theta * beyond ** (config.head_dim / (config.head_dim - 2))
    pace: Tensor = theta**-pair
    if config.rope == "linear":
        return pace / factor
    if config.rope == "llama3":
        turns = config.rope_length * pace / (2 * math.pi)
        return _mixed(pace, factor, kept=(turns - 1) / (4 - 1))
    if config.rope == "yarn":
        first, last = (_pair_that_turns(times, config) for times in (32, 1))
        low, high = max(math.floor(first), 0), min(math.ceil(last), config.head_dim - 1)
        ramp = torch.arange(config.head_dim // 2, device=positions.device, dtype=torch.float32) - low
        return _mixed(pace, factor, kept=1 - ramp / (high - low or 0.001))
    return pace


def _mixed(pace: Tensor, factor: float, kept: Tensor) -> Tensor:
    """Between slowed down by `factor`, where `kept` is 0 or less, and as it was, where it is 1 or more."""
    kept = kept.clamp(0, 1)
    return pace * kept + pace / factor * (1 - kept)


def _pair_that_turns(times: int, config: Config) -> float:
    """Which pair, counted from 0, turns so often within the length first learned; a fraction between two."""
    return config.head_dim * math.log(config.rope_length / (times * 2 * math.pi)) / (2 * math.log(config.rope_theta))


def places(segments: Tensor) -> Tensor:
    """Position of each token inside its own segment, counted from 0. segments: (batch, time) integers."""
    index = torch.arange(segments.size(1), device=segments.device).expand_as(segments)
    starts = torch.ones_like(segments, dtype=torch.bool)
    starts[:, 1:] = segments[:, 1:] != segments[:, :-1]
    return index - torch.where(starts, index, 0).cummax(dim=1).values


def visible(segments: Tensor, causal: bool, window: int = 0) -> Tensor:
    """Who may look at whom, (batch, 1, time, time): tokens of one segment, where `causal` not ahead, and where there is
    a window not further back than it reaches."""
    same = segments.unsqueeze(1) == segments.unsqueeze(2)
    if window:
        same = same & near(segments.size(1), segments.size(1), window, segments.device)
    return (same.tril() if causal else same).unsqueeze(1)


def near(asked: int, known: int, window: int, device: torch.device) -> Tensor:
    """Which of the `known` tokens each of the last `asked` sees, (asked, known): the `window` up to itself."""
    back = torch.arange(known - asked, known, device=device).unsqueeze(1) - torch.arange(known, device=device)
    return (back >= 0) & (back < window)
