"""T5 (Raffel et al. 2020), Flan-T5 and mT5 (Xue et al. 2021): an encoder-decoder with RMS norms, relative positions and
scores as they are.

What tells them apart: T5 1.0 has one embedding for words and answers and a plain feed-forward; T5 1.1 and its children
Flan-T5 and mT5 have a head of their own and a gated one. `transformers` 5 says of all that the head is tied, and unties
it where a file holds one; where there is none, the embedding stands in.
"""

import re
from collections.abc import Callable
from typing import Any

from zhumo.transformer.config import Config
from zhumo.transformer.families.family import (
    FIXED,
    HARMLESS,
    Family,
    Json,
    Key,
    activation,
    activation_word,
    language_head,
    number,
)

GATED = "gated-"


def _reader(own: bool) -> Callable[[Json], dict[str, Any]]:
    def read(hf: Json) -> dict[str, Any]:
        word = hf.get("feed_forward_proj") or (f"{GATED}gelu" if own else "relu")
        if not isinstance(word, str):
            raise ValueError(f"feed_forward_proj is {word!r}, not a name")
        apart = own or hf.get("scale_decoder_outputs") is False or hf.get("tie_word_embeddings") is False
        head = language_head(hf | {"tie_word_embeddings": not apart}, tied=True)
        plain = word.removeprefix(GATED)
        return {
            "encoder_depth": number(hf, Key("num_layers", "depth")),
            "depth": number(hf, Key("num_decoder_layers", "depth", hf["num_layers"])),
            "positions": "relative",
            "norm": "rms",
            "activation": "gelu_tanh" if word == f"{GATED}gelu" else activation(plain, "feed_forward_proj"),
            "gated": word.startswith(GATED),
            "bias": "none",
            "scaled_scores": False,
            "head": head,
            "scaled_states": head == "tied",
        }

    return read


def _writer(name: str) -> Callable[[Config], Json]:
    def write(config: Config) -> Json:
        word = "gelu" if config.gated and config.activation == "gelu_tanh" else activation_word(config.activation)
        return {
            "architectures": [f"{name}Model" if config.head == "none" else f"{name}ForConditionalGeneration"],
            "is_encoder_decoder": True,
            "num_layers": config.encoder_depth,
            "num_decoder_layers": config.depth,
            "feed_forward_proj": f"{GATED}{word}" if config.gated else word,
            "tie_word_embeddings": config.head == "tied",
        }

    return write


def _side(side: str, ours: str, layers: dict[str, str]) -> dict[str, str]:
    """The names of one stack. layers: our layers to theirs."""
    attention = {"query": "q", "key": "k", "value": "v", "out": "o"}
    names = {
        f"{ours}relative.buckets": f"{side}.block.0.layer.0.SelfAttention.relative_attention_bias",
        f"{ours}norm": f"{side}.final_layer_norm",
    }
    for layer, theirs in layers.items():
        block, there = f"{ours}blocks.{{}}.{layer}", f"{side}.block.{{}}.{theirs}"
        names[f"{block}_norm"] = f"{there.rpartition('.')[0]}.layer_norm"
        parts = {"up": "wi", "down": "wo"} if layer == "feed_forward" else attention
        names |= {f"{block}.{part}": f"{there}.{word}" for part, word in parts.items()}
    return names


_ENCODER = {"attention": "layer.0.SelfAttention", "feed_forward": "layer.1.DenseReluDense"}
_DECODER = {
    "attention": "layer.0.SelfAttention",
    "cross": "layer.1.EncDecAttention",
    "feed_forward": "layer.2.DenseReluDense",
}
_NAMES = _side("encoder", "encoder.", _ENCODER) | _side("decoder", "", _DECODER)


def _family(name: str, title: str, *, own: bool) -> Family:
    return Family(
        name=name,
        keys=(
            Key("vocab_size", "vocabulary"),
            Key("d_model", "width"),
            Key("num_heads", "heads"),
            Key("d_kv", "head_dim", 64),
            Key("d_ff", "hidden"),
            Key("n_positions", "length", 512),  # relative positions have no end; what it was trained on
            Key("relative_attention_num_buckets", "buckets", 32),
            Key("relative_attention_max_distance", "reach", 128),
            Key("layer_norm_epsilon", "norm_eps", 1e-6),
            Key("dropout_rate", "dropout", 0.1),
        ),
        fixed=FIXED | {"is_encoder_decoder": True},
        harmless=HARMLESS
        | {
            "num_layers",
            "num_decoder_layers",
            "feed_forward_proj",
            "dense_act_fn",
            "is_gated_act",
            "tie_word_embeddings",
            "scale_decoder_outputs",
            "initializer_factor",
        },
        read=_reader(own),
        write=_writer(title),
        names={"stem.tokens": "shared", **_NAMES, "head": "lm_head"},
        gated={
            f"{ours}.{part}": f"{_NAMES[f'{ours}.up']}_{number}"
            for ours in ("blocks.{}.feed_forward", "encoder.blocks.{}.feed_forward")
            for number, part in enumerate(("gate", "up"))
        },
        prefix="",
        ignored=re.compile(
            r"(encoder|decoder)\.embed_tokens\.weight|decoder.*EncDecAttention\.relative_attention_bias.*"
        ),
        stand_in="shared.weight",
    )


T5 = _family("t5", "T5", own=False)
MT5 = _family("mt5", "MT5", own=True)
