"""Llama (Touvron et al. 2023), Mistral, Qwen2 and Qwen3: RMS norms, rotary positions, a gated feed-forward.

What tells them apart: Mistral looks back no further than its window; Qwen2 has a bias on query, key and value; Qwen3
norms query and key and sizes its heads freely.
"""

import re
from collections.abc import Callable, Mapping
from typing import Any, Literal

from zhumo.transformer.config import Config
from zhumo.transformer.families.family import (
    FIXED,
    HARMLESS,
    Family,
    Json,
    Key,
    activation,
    activation_word,
    even_heads,
    language_head,
    number,
)
from zhumo.transformer.families.rope import read_rope, write_rope

FULL = "full_attention"
WINDOW = Key("sliding_window", "window", 4096)


def _reader(bias: Literal["none", "qkv"], qk_norm: bool, even: bool, window: bool) -> Callable[[Json], dict[str, Any]]:
    def read(hf: Json) -> dict[str, Any]:
        if even or hf.get("head_dim") is None:
            even_heads(hf, "hidden_size", "num_attention_heads")
        layers = hf.get("layer_types") or []
        if not isinstance(layers, list) or any(layer != FULL for layer in layers):
            raise ValueError(f"layer_types is {layers!r}; we compute only {FULL!r}")
        return {
            "positions": "rotary",
            **read_rope(hf),
            "window": _window(hf) if window else 0,
            "norm": "rms",
            "activation": activation(hf.get("hidden_act"), "hidden_act", "silu"),
            "gated": True,
            "bias": bias,
            "qk_norm": qk_norm,
            "head": language_head(hf, tied=False),
        }

    return read


def _window(hf: Json) -> float:
    """How far Mistral looks back: 4,096 where the file is silent, and without end where it says null."""
    if hf.get("sliding_window", WINDOW.default) is None:
        return 0
    if (window := number(hf, WINDOW)) < 1:
        raise ValueError(f"sliding_window is {window}; nothing could be seen")
    return window


def _writer(name: str, window: bool) -> Callable[[Config], Json]:
    def write(config: Config) -> Json:
        return {
            "architectures": [f"{name}Model" if config.head == "none" else f"{name}ForCausalLM"],
            "hidden_act": activation_word(config.activation),
            **write_rope(config),
            **({"sliding_window": config.window or None} if window else {}),
            "attention_dropout": 0.0,
            "tie_word_embeddings": config.head == "tied",
            "bos_token_id": None,
            "eos_token_id": None,
        }

    return write


def _family(
    name: str,
    *,
    fixed: Mapping[str, object] = {},
    harmless: frozenset[str] = frozenset(),
    head_dim: int = 0,
    bias: Literal["none", "qkv"] = "none",
    qk_norm: bool = False,
    even: bool = False,
    window: bool = False,
) -> Family:
    norms = {f"blocks.{{}}.attention.{x}_norm": f"model.layers.{{}}.self_attn.{x[0]}_norm" for x in ("query", "key")}
    return Family(
        name=name,
        keys=(
            Key("vocab_size", "vocabulary"),
            Key("hidden_size", "width"),
            Key("num_hidden_layers", "depth"),
            Key("num_attention_heads", "heads"),
            Key("num_key_value_heads", "kv_heads", 0),
            Key("head_dim", "head_dim", head_dim),
            Key("intermediate_size", "hidden"),
            Key("max_position_embeddings", "length", 2048),
            Key("rms_norm_eps", "norm_eps", 1e-6),
            Key("resid_pdrop", "dropout", 0.0),  # GPT-2's word; these families have none of their own
        ),
        fixed=FIXED
        | {"attention_bias": False, "mlp_bias": False, "partial_rotary_factor": 1.0}
        | {"rope_interleaved": False}
        | dict(fixed),
        harmless=HARMLESS
        | {
            "attention_dropout",
            "hidden_act",
            "is_llama_config",
            "layer_types",
            "pretraining_tp",
            "rope_parameters",
            "rope_scaling",
            "rope_theta",
            "tie_word_embeddings",
        }
        | harmless,
        read=_reader(bias, qk_norm, even, window),
        write=_writer(name.capitalize(), window),
        names={
            "stem.tokens": "model.embed_tokens",
            "blocks.{}.attention.query": "model.layers.{}.self_attn.q_proj",
            "blocks.{}.attention.key": "model.layers.{}.self_attn.k_proj",
            "blocks.{}.attention.value": "model.layers.{}.self_attn.v_proj",
            "blocks.{}.attention.out": "model.layers.{}.self_attn.o_proj",
            "blocks.{}.attention_norm": "model.layers.{}.input_layernorm",
            "blocks.{}.feed_forward.gate": "model.layers.{}.mlp.gate_proj",
            "blocks.{}.feed_forward.up": "model.layers.{}.mlp.up_proj",
            "blocks.{}.feed_forward.down": "model.layers.{}.mlp.down_proj",
            "blocks.{}.feed_forward_norm": "model.layers.{}.post_attention_layernorm",
            "norm": "model.norm",
            "head": "lm_head",
        }
        | (norms if qk_norm else {}),
        prefix="model.",
        ignored=re.compile(r"(layers\.\d+\.self_attn\.)?rotary_emb\.inv_freq|score\..*"),
    )


NO_WINDOW: Mapping[str, object] = {"use_sliding_window": False}
UNUSED_WINDOW = frozenset({"sliding_window", "max_window_layers"})  # the sizes of a window that is switched off

LLAMA = _family("llama", even=True)
MISTRAL = _family("mistral", harmless=frozenset({"sliding_window"}), window=True)
QWEN2 = _family("qwen2", fixed=NO_WINDOW, harmless=UNUSED_WINDOW, bias="qkv")
QWEN3 = _family("qwen3", fixed=NO_WINDOW, harmless=UNUSED_WINDOW, head_dim=128, qk_norm=True)
