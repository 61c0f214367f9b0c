"""The one Transformer block. Every model of this package is a `Config` of it.

Shapes: x is (batch, time, width); inside attention (batch, heads, time, head_dim).
"""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zhumo.transformer.cache import LayerCache, RowLayer
from zhumo.transformer.config import Config
from zhumo.transformer.dropout import Dropout
from zhumo.transformer.norm import RMSNorm

Rope = Callable[[Tensor], Tensor]

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "gelu": F.gelu,
    "gelu_tanh": partial(F.gelu, approximate="tanh"),
    "relu": F.relu,
    "silu": F.silu,
}


def norm_layer(config: Config, width: int) -> nn.Module:
    """The normalisation `config` asks for, over the last axis of size `width`."""
    make = nn.LayerNorm if config.norm == "layer" else RMSNorm
    return make(width, eps=config.norm_eps)


def lowered(x: Tensor) -> Tensor:
    """x in autocast's type, where it is on: several products that read it would each make a copy of their own."""
    device = x.device.type
    return x.to(torch.get_autocast_dtype(device)) if torch.is_autocast_enabled(device) else x


class Source(NamedTuple):
    """A source text as one block of a decoder sees it.

    keys, values: (batch, kv_heads, time, head_dim). mask: (batch, 1, 1, time), True where there is no padding; None
    where there is none at all.
    """

    keys: Tensor
    values: Tensor
    mask: Tensor | None


class Attention(nn.Module):
    """Scaled dot-product attention with grouped key-value heads (Vaswani et al. 2017)."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        width, head_dim = config.width, config.head_dim
        self.heads, self.kv_heads, self.head_dim = config.heads, config.kv_heads, head_dim
        self.causal = config.causal
        self.scale = None if config.scaled_scores else 1.0  # None: 1 / sqrt(head_dim)
        self.query = nn.Linear(width, config.heads * head_dim, bias=config.bias != "none")
        self.key = nn.Linear(width, config.kv_heads * head_dim, bias=config.bias != "none")
        self.value = nn.Linear(width, config.kv_heads * head_dim, bias=config.bias != "none")
        self.out = nn.Linear(config.heads * head_dim, width, bias=config.bias == "all")
        self.query_norm = norm_layer(config, head_dim) if config.qk_norm else nn.Identity()
        self.key_norm = norm_layer(config, head_dim) if config.qk_norm else nn.Identity()

    def forward(
        self,
        x: Tensor,
        *,
        mask: Tensor | None = None,
        rope: Rope | None = None,
        cache: LayerCache | RowLayer | None = None,
    ) -> Tensor:
        """Look at x itself.

        mask: (asked, known), or with axes for batch and heads before: True where a query may look, or what is added to
            the scores. It replaces causality, so it must contain it.
        rope: turns queries and keys. cache: where the keys and values of earlier positions are, and these go.
        """
        x = lowered(x)
        query, (key, value) = self._query(x), self.keys_and_values(x)
        if rope is not None:
            query, key = rope(query), rope(key)
        if cache is not None:
            key, value = cache.append(key, value)
        asked, known = query.size(2), key.size(2)
        is_causal = self.causal and mask is None
        if is_causal and asked < known:
            # torch aligns is_causal to the top left; a later chunk needs the bottom right, and a single query nothing.
            is_causal = False
            if asked > 1:
                mask = torch.ones(asked, known, dtype=torch.bool, device=x.device).tril(known - asked)
        return self._look(query, key, value, mask, is_causal)

    def look_at(self, x: Tensor, source: Source) -> Tensor:
        """Look from x at a source."""
        return self._look(self._query(x), source.keys, source.values, source.mask)

    def keys_and_values(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """What can be looked at in x, each (batch, kv_heads, time, head_dim)."""
        return self.key_norm(self._heads(self.key(x))), self._heads(self.value(x))

    def _look(self, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, is_causal: bool = False) -> Tensor:
        gqa = self.heads != self.kv_heads
        if gqa and query.size(2) == 1 and (mask is None or mask.dim() == 2 or mask.size(-3) == 1):
            # Heads that share keys are as good as several queries of one head, which every kernel knows.
            several = query.reshape(len(query), self.kv_heads, -1, self.head_dim)
            y = F.scaled_dot_product_attention(several, key, value, mask, scale=self.scale).reshape(query.shape)
        else:
            y = F.scaled_dot_product_attention(
                query, key, value, mask, is_causal=is_causal, scale=self.scale, enable_gqa=gqa
            )
        merged: Tensor = self.out(y.transpose(1, 2).flatten(2))
        return merged

    def _query(self, x: Tensor) -> Tensor:
        query: Tensor = self.query_norm(self._heads(self.query(x)))
        return query

    def _heads(self, x: Tensor) -> Tensor:
        return torch.unflatten(x, -1, (-1, self.head_dim)).transpose(1, 2)  # (batch, heads, time, head_dim)


class FeedForward(nn.Module):
    """Two linear layers around an activation, gated (Shazeer 2020) or not."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        bias = config.bias == "all"
        self.activation = ACTIVATIONS[config.activation]
        self.up = nn.Linear(config.width, config.hidden, bias=bias)
        self.gate = nn.Linear(config.width, config.hidden, bias=bias) if config.gated else None
        self.down = nn.Linear(config.hidden, config.width, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        x = lowered(x)
        inner = self.activation(self.up(x)) if self.gate is None else self.activation(self.gate(x)) * self.up(x)
        y: Tensor = self.down(inner)
        return y


class Block(nn.Module):
    """Attention, then in a decoder attention to its source, then feed-forward.

    Each stands on a residual path with its norm before (GPT) or after (BERT).
    """

    def __init__(self, config: Config) -> None:
        super().__init__()
        decoder = config.encoder_depth > 0
        self.norm_first = config.norm_first
        self.attention = Attention(config)
        self.attention_norm = norm_layer(config, config.width)
        self.cross = Attention(config) if decoder else None
        self.cross_norm = norm_layer(config, config.width) if decoder else nn.Identity()
        self.feed_forward = FeedForward(config)
        self.feed_forward_norm = norm_layer(config, config.width)
        self.attention_dropout = Dropout(config.dropout)
        self.cross_dropout = Dropout(config.dropout) if decoder else nn.Identity()
        self.feed_forward_dropout = Dropout(config.dropout)

    def forward(
        self,
        x: Tensor,
        *,
        mask: Tensor | None = None,
        rope: Rope | None = None,
        cache: LayerCache | RowLayer | None = None,
        source: Source | None = None,
    ) -> Tensor:
        """One block further. mask, rope, cache: as in `Attention`; source: what a decoder looks at."""
        if self.norm_first:
            y = self.attention(self.attention_norm(x), mask=mask, rope=rope, cache=cache)
            x = x + self.attention_dropout(y)
            if self.cross is not None and source is not None:
                x = x + self.cross_dropout(self.cross.look_at(self.cross_norm(x), source))
            x = x + self.feed_forward_dropout(self.feed_forward(self.feed_forward_norm(x)))
        else:
            y = self.attention(x, mask=mask, rope=rope, cache=cache)
            x = self.attention_norm(x + self.attention_dropout(y))
            if self.cross is not None and source is not None:
                x = self.cross_norm(x + self.cross_dropout(self.cross.look_at(x, source)))
            x = self.feed_forward_norm(x + self.feed_forward_dropout(self.feed_forward(x)))
        return x
