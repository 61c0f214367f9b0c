"""The one Transformer block. Every model of this package is a `Config` of it.

Shapes: x is (batch, time, width); inside attention (batch, heads, time, head_dim).
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zhumo.transformer.cache import LayerCache
from zhumo.transformer.dropout import Dropout

Rope = Callable[[Tensor], Tensor]

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "gelu": F.gelu,
    "gelu_tanh": partial(F.gelu, approximate="tanh"),
    "relu": F.relu,
    "silu": F.silu,
}


@dataclass(frozen=True, kw_only=True)
class Config:
    """Everything that tells one model of the family tree from another.

    A field exists because a published model needs it; its parity test stands in `tests/transformer/test_families.py`.
    Zeros mean "derive it": `kv_heads` as many as `heads`, `head_dim` width / heads, `hidden` four times the width.
    """

    vocabulary: int
    width: int
    depth: int
    heads: int
    kv_heads: int = 0  # fewer than heads: grouped-query attention (Ainslie et al. 2023)
    head_dim: int = 0
    hidden: int = 0  # inner width of the feed-forward
    length: int = 1024  # longest sequence the positions are made for
    positions: Literal["learned", "sinusoidal", "rotary", "none"] = "learned"
    rope_theta: float = 10_000.0
    rope: Literal["default", "linear", "dynamic", "yarn", "llama3"] = "default"  # how a rope reaches further
    rope_factor: float = 1.0  # how many times further
    rope_length: int = 0  # yarn, llama3: the length it was first learned for
    window: int = 0  # Mistral: how many tokens a query sees, its own the last; 0: all before it
    types: int = 0  # BERT's segment embedding; 0: none
    causal: bool = True
    norm: Literal["layer", "rms"] = "layer"
    norm_first: bool = True  # False: BERT and the original Transformer
    norm_eps: float = 1e-5
    activation: Literal["gelu", "gelu_tanh", "relu", "silu"] = "gelu"
    gated: bool = False  # SwiGLU and its relatives
    bias: Literal["all", "qkv", "none"] = "all"
    qk_norm: bool = False  # Qwen3
    head: Literal["tied", "own", "none"] = "tied"  # the language-model head over the vocabulary
    dropout: float = 0.0

    def __post_init__(self) -> None:
        derived = {
            "kv_heads": self.kv_heads or self.heads,
            "head_dim": self.head_dim or self.width // max(self.heads, 1),
            "hidden": self.hidden or 4 * self.width,
        }
        for name, value in derived.items():
            object.__setattr__(self, name, value)
        for name in ("vocabulary", "width", "depth", "heads", "kv_heads", "head_dim", "hidden", "length"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, not {getattr(self, name)}")
        if self.heads % self.kv_heads:
            raise ValueError(f"heads ({self.heads}) must be a multiple of kv_heads ({self.kv_heads})")
        if self.positions == "rotary" and (self.head_dim % 2 or (self.rope == "dynamic" and self.head_dim < 4)):
            raise ValueError(f"rotary positions need an even head_dim (dynamic ones from 4 on), not {self.head_dim}")
        if self.window and not self.causal:
            raise ValueError("a window looks back; it needs a causal model")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout must lie in [0, 1), not {self.dropout}")


def norm_layer(config: Config, width: int) -> nn.Module:
    """The normalisation `config` asks for, over the last axis of size `width`."""
    make = nn.LayerNorm if config.norm == "layer" else nn.RMSNorm
    return make(width, eps=config.norm_eps)


class Attention(nn.Module):
    """Scaled dot-product attention with grouped key-value heads (Vaswani et al. 2017)."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        width, head_dim = config.width, config.head_dim
        self.head_dim = head_dim
        self.causal = config.causal
        self.query = nn.Linear(width, config.heads * head_dim, bias=config.bias != "none")
        self.key = nn.Linear(width, config.kv_heads * head_dim, bias=config.bias != "none")
        self.value = nn.Linear(width, config.kv_heads * head_dim, bias=config.bias != "none")
        self.out = nn.Linear(config.heads * head_dim, width, bias=config.bias == "all")
        self.query_norm = norm_layer(config, head_dim) if config.qk_norm else nn.Identity()
        self.key_norm = norm_layer(config, head_dim) if config.qk_norm else nn.Identity()

    def forward(
        self, x: Tensor, *, mask: Tensor | None = None, rope: Rope | None = None, cache: LayerCache | None = None
    ) -> Tensor:
        """`mask` (batch, 1, time, time), True where a query may look; it replaces causality, so it must contain it."""
        query = self.query_norm(self._heads(self.query(x)))
        key = self.key_norm(self._heads(self.key(x)))
        value = self._heads(self.value(x))
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
        y = F.scaled_dot_product_attention(
            query,
            key,
            value,
            mask,
            is_causal=is_causal,
            enable_gqa=query.size(1) != key.size(1),
        )
        merged: Tensor = self.out(y.transpose(1, 2).flatten(2))
        return merged

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
        inner = self.activation(self.up(x)) if self.gate is None else self.activation(self.gate(x)) * self.up(x)
        y: Tensor = self.down(inner)
        return y


class Block(nn.Module):
    """Attention, then feed-forward, each on a residual path with its norm before (GPT) or after (BERT)."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.norm_first = config.norm_first
        self.attention = Attention(config)
        self.attention_norm = norm_layer(config, config.width)
        self.feed_forward = FeedForward(config)
        self.feed_forward_norm = norm_layer(config, config.width)
        self.attention_dropout = Dropout(config.dropout)
        self.feed_forward_dropout = Dropout(config.dropout)

    def forward(
        self, x: Tensor, *, mask: Tensor | None = None, rope: Rope | None = None, cache: LayerCache | None = None
    ) -> Tensor:
        if self.norm_first:
            y = self.attention(self.attention_norm(x), mask=mask, rope=rope, cache=cache)
            x = x + self.attention_dropout(y)
            x = x + self.feed_forward_dropout(self.feed_forward(self.feed_forward_norm(x)))
        else:
            y = self.attention(x, mask=mask, rope=rope, cache=cache)
            x = self.attention_norm(x + self.attention_dropout(y))
            x = self.feed_forward_norm(x + self.feed_forward_dropout(self.feed_forward(x)))
        return x
