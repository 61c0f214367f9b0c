"""Llama (Touvron et al. 2023) and its children Qwen2 and Qwen3: RMS norms, rotary positions, a gated feed-forward.

What tells them apart: Qwen2 has a bias on query, key and value; Qwen3 norms query and key and sizes its heads freely.
"""

import re
from collections.abc import Callable, Mapping
from typing import Any, Literal

from zhumo.transformer.block import Config
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

ROPE = Key("rope_theta", "rope_theta", 10_000.0)
SAID_BY_LAYER = "full_attention"


def _theta(hf: Json) -> float:
    """The base of the rotation, in the old spelling (`rope_theta`, `rope_scaling`) or the new (`rope_parameters`)."""
    found = {number(hf, ROPE)} if hf.get("rope_theta") is not None else set()
    for spelling in ("rope_parameters", "rope_scaling"):
        rope = hf.get(spelling)
        if rope is None:
            continue
        if not isinstance(rope, dict):
            raise ValueError(f"{spelling} is {rope!r}, not a table")
        kind = rope.get("rope_type", rope.get("type", "default"))
        extra = rope.keys() - {"rope_type", "type", "rope_theta", "partial_rotary_factor"}
        if kind != "default" or extra or rope.get("partial_rotary_factor", 1.0) != 1.0:
            raise ValueError(f"{spelling} is {rope!r}; we compute only rope_type 'default'")
        if rope.get("rope_theta") is not None:
            found.add(number(rope, ROPE))
    if len(found) > 1:
        raise ValueError(f"rope_theta is said twice and differently: {sorted(found)}")
    return found.pop() if found else 10_000.0


def _reader(bias: Literal["none", "qkv"], qk_norm: bool, even: bool) -> Callable[[Json], dict[str, Any]]:
    def read(hf: Json) -> dict[str, Any]:
        if even or hf.get("head_dim") is None:
            even_heads(hf, "hidden_size", "num_attention_heads")
        layers = hf.get("layer_types") or []
        if not isinstance(layers, list) or any(layer != SAID_BY_LAYER for layer in layers):
            raise ValueError(f"layer_types is {layers!r}; we compute only {SAID_BY_LAYER!r}")
        return {
            "positions": "rotary",
            "rope_theta": _theta(hf),
            "norm": "rms",
            "activation": activation(hf, "hidden_act", "silu"),
            "gated": True,
            "bias": bias,
            "qk_norm": qk_norm,
            "head": language_head(hf, tied=False),
        }

    return read


def _writer(name: str) -> Callable[[Config], Json]:
    def write(config: Config) -> Json:
        return {
            "architectures": [f"{name}Model" if config.head == "none" else f"{name}ForCausalLM"],
            "hidden_act": activation_word(config.activation),
            "rope_theta": config.rope_theta,
            "rope_parameters": {"rope_theta": config.rope_theta, "rope_type": "default"},
            "attention_dropout": 0.0,
            "tie_word_embeddings": config.head == "tied",
            "bos_token_id": None,
            "eos_token_id": None,
        }

    return write


def _family(
    name: str,
    *,
    fixed: Mapping[str, tuple[object, ...]] = {},
    harmless: frozenset[str] = frozenset(),
    head_dim: int = 0,
    bias: Literal["none", "qkv"] = "none",
    qk_norm: bool = False,
    even: bool = False,
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
        | {"attention_bias": (False,), "mlp_bias": (False,), "partial_rotary_factor": (1.0,)}
        | {"rope_interleaved": (False,)}
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
        read=_reader(bias, qk_norm, even),
        write=_writer(name.capitalize()),
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


WINDOW: Mapping[str, tuple[object, ...]] = {"use_sliding_window": (False,)}
UNUSED_WINDOW = frozenset({"sliding_window", "max_window_layers"})  # the sizes of a window that is switched off

LLAMA = _family("llama", even=True)
QWEN2 = _family("qwen2", fixed=WINDOW, harmless=UNUSED_WINDOW, bias="qkv")
QWEN3 = _family("qwen3", fixed=WINDOW, harmless=UNUSED_WINDOW, head_dim=128, qk_norm=True)
