"""What tells one model of the family tree from another."""

from dataclasses import dataclass, replace
from typing import Literal


@dataclass(frozen=True, kw_only=True)
class Config:
    """Everything that tells one model of the family tree from another.

    A field exists because a published model needs it; its parity test stands in `tests/transformer/test_families.py`.
    Zeros mean "derive it": `kv_heads` as many as `heads`, `head_dim` width / heads, `hidden` four times the width. What
    was derived stays when a configuration is replaced: a new `heads` then needs a new `kv_heads` and `head_dim`.

    Raises:
        ValueError: numbers that describe no model.
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
    positions: Literal["learned", "sinusoidal", "rotary", "relative"] = "learned"
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
        if self.encoder_depth and (self.window or not self.causal):
            raise ValueError("a decoder with an encoder is causal and has no window")
        if self.positions == "relative" and not (self.buckets >= 4 and self.buckets // 2 < self.reach):
            raise ValueError(f"{self.buckets} buckets up to {self.reach}: it takes 4, and a reach above half")
        if self.rope_factor < 1 or (self.rope in ("yarn", "llama3") and self.rope_length < 1):
            raise ValueError("a rope reaches no less far than it was learned for, and that must be said")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout must lie in [0, 1), not {self.dropout}")

    @property
    def endless(self) -> bool:
        """Whether positions have no end: a longer sequence than `length` is unpractised, not impossible."""
        return self.positions in ("rotary", "relative")

    @property
    def encoder(self) -> "Config":
        """The encoder's configuration: the same block, all positions seen, no head."""
        return replace(self, depth=self.encoder_depth, encoder_depth=0, causal=False, head="none", scaled_states=False)
