"""The one Transformer block. Every model of this package is a `Config` of it.

Shapes: x is (batch, time, width); inside attention (batch, heads, time, head_dim).
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal, NamedTuple

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
    encoder_depth: int = 0  # blocks of an encoder, whose states every other block looks at; 0: no encoder
    heads: int
    kv_heads: int = 0  # fewer than heads: grouped-query attention (Ainslie et al. 2023)
    head_dim: int = 0
    hidden: int = 0  # inner width of the feed-forward
    length: int = 1024  # longest sequence the positions are made for
    positions: Literal["learned", "sinusoidal", "rotary", "relative", "none"] = "learned"
    buckets: int = 32  # relative: how many distances are told apart
    reach: int = 128  # relative: from here on all distances are one
    rope_theta: float = 10_000.0
    rope: Literal["default", "linear", "dynamic", "yarn", "llama3"] = "default"  # how a rope reaches further
    rope_factor: float = 1.0  # how many times further
    rope_length: int = 0  # yarn, llama3: the length it was first learned for
    window: int = 0  # Mistral: how many tokens a query sees, its own the last; 0: all before it
    types: int = 0  # BERT's segment embedding; 0: none
    causal: bool = True
    norm: Literal["layer", "rms"] = "layer"
    norm_first: bool = True  # False: BERT and the original Transformer
    stem_norm: bool = True  # where norms are not first, one after the embeddings; False: Marian
    norm_eps: float = 1e-5
    activation: Literal["gelu", "gelu_tanh", "relu", "silu"] = "gelu"
    gated: bool = False  # SwiGLU and its relatives
    bias: Literal["all", "qkv", "none"] = "all"
    qk_norm: bool = False  # Qwen3
    scaled_embedding: bool = False  # times sqrt(width): Marian
    scaled_scores: bool = True  # over sqrt(head_dim); False: T5
    scaled_states: bool = False  # what a tied head sees, over sqrt(width): T5 1.0
    head: Literal["tied", "own", "none"] = "tied"  # the language-model head over the vocabulary
    head_bias: bool = False  # BART, Marian
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
        if self.encoder_depth and not self.causal:
            raise ValueError("an encoder has no encoder of its own")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout must lie in [0, 1), not {self.dropout}")

    @property
    def encoder(self) -> "Config":
        """The encoder's configuration: the same block, all positions seen, no head."""
        return replace(self, depth=self.encoder_depth, encoder_depth=0, causal=False, head="none", scaled_states=False)


def norm_layer(config: Config, width: int) -> nn.Module:
    """The normalisation `config` asks for, over the last axis of size `width`."""
    make = nn.LayerNorm if config.norm == "layer" else nn.RMSNorm
    return make(width, eps=config.norm_eps)


class Source(NamedTuple):
    """A source text as one block of a decoder sees it.

    keys, values: (batch, kv_heads, time, head_dim). mask: (batch, 1, 1, time), True where there is no padding.
    """

    keys: Tensor
    values: Tensor
    mask: Tensor | None


class Attention(nn.Module):
    """Scaled dot-product attention with grouped key-value heads (Vaswani et al. 2017)."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        width, head_dim = config.width, config.head_dim
        self.head_dim = head_dim
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
        cache: LayerCache | None = None,
        source: Source | None = None,
    ) -> Tensor:
        """Look at x itself, or at a source instead.

        mask: (batch, 1 or heads, time, time), True where a query may look, or what is added to the scores; it replaces
            causality, so it must contain it.
        """
        query = self.query_norm(self._heads(self.query(x)))
        if source is not None:
            return self._look(query, source.keys, source.values, source.mask)
        key, value = self.keys_and_values(x)
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

    def keys_and_values(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """What can be looked at in x, each (batch, kv_heads, time, head_dim)."""
        return self.key_norm(self._heads(self.key(x))), self._heads(self.value(x))

    def _look(self, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, is_causal: bool = False) -> Tensor:
        gqa = query.size(1) != key.size(1)
        y = F.scaled_dot_product_attention(
            query, key, value, mask, is_causal=is_causal, scale=self.scale, enable_gqa=gqa
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
    """Attention, then in a decoder attention to its source, then feed-forward.

    Each stands on a residual path with its norm before (GPT) or after (BERT).
    """

    def __init__(self, config: Config) -> None:
        super().__init__()
        decoder = config.encoder_depth > 0
        self.norm_first = config.norm_first
        self.attention = Attention(config)
        self.attention_norm = norm_layer(config, config.width)
        self.cross = Attention(config) if decoder else nn.Identity()
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
        cache: LayerCache | None = None,
        source: Source | None = None,
    ) -> Tensor:
        if self.norm_first:
            y = self.attention(self.attention_norm(x), mask=mask, rope=rope, cache=cache)
            x = x + self.attention_dropout(y)
            if source is not None:
                x = x + self.cross_dropout(self.cross(self.cross_norm(x), source=source))
            x = x + self.feed_forward_dropout(self.feed_forward(self.feed_forward_norm(x)))
        else:
            y = self.attention(x, mask=mask, rope=rope, cache=cache)
            x = self.attention_norm(x + self.attention_dropout(y))
            if source is not None:
                x = self.cross_norm(x + self.cross_dropout(self.cross(x, source=source)))
            x = self.feed_forward_norm(x + self.feed_forward_dropout(self.feed_forward(x)))
        return x
