"""One vector for a whole text."""

from typing import Literal

import torch
from torch import Tensor

from zhumo.transformer import Config, Transformer

Pooling = Literal["mean", "cls", "last"]


def pooling_of(pooling: Pooling | None, config: Config) -> Pooling:
    """As the weights were trained; else the mean of an encoder, and of a causal model the last."""
    return pooling or ("last" if config.causal else "mean")


def pool(model: Transformer, ids: Tensor, segments: Tensor, pooling: Pooling | None) -> Tensor:
    """The last hidden states of each text made one vector, (batch, width).

    pooling: as the weights were trained, their mean or the one at the first or last token. None: the mean of an
        encoder; of a causal model the last, since only there the whole text has been seen.
    segments: (batch, time), 0 on padding.
    """
    padded = bool((segments == 0).any())
    x = model.hidden(ids, segments=segments if padded else None)
    pooling = pooling_of(pooling, model.config)
    if pooling == "last":
        return x[torch.arange(len(x), device=x.device), segments.sum(1) - 1]
    if pooling == "cls":
        return x[:, 0]
    counted = segments.unsqueeze(-1).to(x.dtype)
    return (x * counted).sum(1) / counted.sum(1)
