"""One vector for a whole text."""

from typing import Literal

import torch
from torch import Tensor

from zhumo.transformer import Transformer

Pooling = Literal["mean", "cls"]


def pool(model: Transformer, ids: Tensor, segments: Tensor, pooling: Pooling) -> Tensor:
    """The last hidden states of each text made one vector, (batch, width).

    An encoder's are averaged (`mean`) or taken at the first token (`cls`), as its weights were trained; a causal model
    has seen the whole text only at its last token, so that is taken. segments: (batch, time), 0 on padding.
    """
    padded = bool((segments == 0).any())
    x = model.hidden(ids, segments=segments if padded else None)
    if model.config.causal:
        last = segments.sum(1) - 1
        return x[torch.arange(len(x), device=x.device), last]
    if pooling == "cls":
        return x[:, 0]
    counted = segments.unsqueeze(-1).to(x.dtype)
    return (x * counted).sum(1) / counted.sum(1)
