"""BART (Lewis et al. 2020) and Marian (Junczys-Dowmunt et al. 2018): encoder-decoders with norms after the residual and
a bias on the tied head.

What tells them apart: BART learns its positions, counted from 2 on, and norms the embeddings; Marian has sines and
cosines, embeddings times sqrt(width), and no norm after them.
"""

import re
from collections.abc import Callable, Mapping
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
    even_heads,
    language_head,
)

LED = 2  # rows of BART's positions that nothing stands at
ONE = {"encoder_attention_heads": "decoder_attention_heads", "encoder_ffn_dim": "decoder_ffn_dim",
       "decoder_vocab_size": "vocab_size"}  # fmt: skip
"""What published models have alike on both sides."""

_HARMLESS = """
activation_function attention_dropout activation_dropout encoder_layerdrop decoder_layerdrop init_std
tie_word_embeddings scale_embedding num_hidden_layers classif_dropout extra_pos_embeddings bad_words_ids
forced_bos_token_id forced_eos_token_id force_bos_token_to_be_generated
"""


def _reader(learned: bool) -> Callable[[Json], dict[str, Any]]:
    def read(hf: Json) -> dict[str, Any]:
        even_heads(hf, "d_model", "decoder_attention_heads")
        for one, other in ONE.items():
            if hf.get(one) not in (None, hf[other]):
                raise ValueError(f"{one} is {hf[one]!r} and {other} {hf[other]!r}; we compute only equal ones")
        scaled = hf.get("scale_embedding") or False
        if not isinstance(scaled, bool):
            raise ValueError(f"scale_embedding is {scaled!r}, not true or false")
        head = language_head(hf, tied=True)
        return {
            "positions": "learned" if learned else "sinusoidal",
            "norm_first": False,
            "stem_norm": learned,
            "activation": activation(hf.get("activation_function"), "activation_function", "gelu"),
            "scaled_embedding": scaled,
            "head": head,
            "head_bias": head != "none",
        }

    return read


def _writer(bare: str, full: str) -> Callable[[Config], Json]:
    def write(config: Config) -> Json:
        return {
            "architectures": [bare if config.head == "none" else full],
            "is_encoder_decoder": True,
            "encoder_attention_heads": config.heads,
            "encoder_ffn_dim": config.hidden,
            "activation_function": activation_word(config.activation),
            "scale_embedding": config.scaled_embedding,
            "attention_dropout": 0.0,
            "activation_dropout": 0.0,
            "tie_word_embeddings": config.head != "own",
            **dict.fromkeys(("bos_token_id", "eos_token_id", "pad_token_id", "forced_eos_token_id")),
        }

    return write


def _side(side: str, ours: str, looks: Mapping[str, str]) -> dict[str, str]:
    """The names of one stack. looks: our kinds of attention to theirs."""
    block, there = f"{ours}blocks.{{}}", f"model.{side}.layers.{{}}"
    names = {
        f"{ours}stem.positions": f"model.{side}.embed_positions",
        f"{ours}stem.norm": f"model.{side}.layernorm_embedding",
        f"{block}.feed_forward.up": f"{there}.fc1",
        f"{block}.feed_forward.down": f"{there}.fc2",
        f"{block}.feed_forward_norm": f"{there}.final_layer_norm",
    }
    for look, theirs in looks.items():
        names[f"{block}.{look}_norm"] = f"{there}.{theirs}_layer_norm"
        for part, word in {"query": "q", "key": "k", "value": "v", "out": "out"}.items():
            names[f"{block}.{look}.{part}"] = f"{there}.{theirs}.{word}_proj"
    return names


def _family(name: str, architectures: tuple[str, str], *, learned: bool, ignored: str) -> Family:
    return Family(
        name=name,
        keys=(
            Key("vocab_size", "vocabulary"),
            Key("d_model", "width"),
            Key("encoder_layers", "encoder_depth"),
            Key("decoder_layers", "depth"),
            Key("decoder_attention_heads", "heads"),
            Key("decoder_ffn_dim", "hidden"),
            Key("max_position_embeddings", "length", 1024),
            Key("dropout", "dropout", 0.1),
        ),
        fixed=FIXED
        | {
            "is_encoder_decoder": True,
            "normalize_before": False,
            "normalize_embedding": learned,
            "static_position_embeddings": not learned,
            "add_final_layer_norm": False,
            "add_bias_logits": False,
            "share_encoder_decoder_embeddings": True,
        },
        harmless=HARMLESS | ONE.keys() | set(_HARMLESS.split()),
        read=_reader(learned),
        write=_writer(*architectures),
        names={
            "stem.tokens": "model.shared",
            **_side("encoder", "encoder.", {"attention": "self_attn"}),
            **_side("decoder", "", {"attention": "self_attn", "cross": "encoder_attn"}),
            "head": "lm_head",
            "head.bias": "final_logits_bias",
        },
        prefix="model.",
        ignored=re.compile(rf"(encoder|decoder)\.(version|embed_tokens\.weight{ignored})|classification_head\..*"),
        led={f"model.{side}.embed_positions": LED for side in ("encoder", "decoder")},
    )


BART = _family("bart", ("BartModel", "BartForConditionalGeneration"), learned=True, ignored="")
MARIAN = _family("marian", ("MarianModel", "MarianMTModel"), learned=False, ignored=r"|embed_positions\.weight")
