"""GPT-2 (Radford et al. 2019): norms first, learned positions; weights lie as (in, out), query, key, value joined."""

import re
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
    number,
)


def _read(hf: Json) -> dict[str, Any]:
    even_heads(hf, "n_embd", "n_head")
    return {
        "hidden": number(hf, Key("n_inner", "hidden", 0)),  # left out: four times the width
        "activation": activation(hf.get("activation_function"), "activation_function", "gelu_new"),
        "head": language_head(hf, tied=True),
    }


def _write(config: Config) -> Json:
    return {
        "architectures": ["GPT2Model" if config.head == "none" else "GPT2LMHeadModel"],
        "n_inner": config.hidden,
        "activation_function": activation_word(config.activation),
        "embd_pdrop": config.dropout,
        "attn_pdrop": 0.0,
        "tie_word_embeddings": config.head != "own",
        "bos_token_id": None,
        "eos_token_id": None,
    }


GPT2 = Family(
    name="gpt2",
    keys=(
        Key("vocab_size", "vocabulary"),
        Key("n_embd", "width"),
        Key("n_layer", "depth"),
        Key("n_head", "heads"),
        Key("n_positions", "length", 1024),
        Key("layer_norm_epsilon", "norm_eps", 1e-5),
        Key("resid_pdrop", "dropout", 0.1),
    ),
    fixed=FIXED
    | {
        "scale_attn_weights": True,
        "scale_attn_by_inverse_layer_idx": False,
        "reorder_and_upcast_attn": False,
    },
    harmless=HARMLESS
    | {
        "activation_function",
        "attn_pdrop",
        "embd_pdrop",
        "n_ctx",
        "n_inner",
        "summary_activation",
        "summary_first_dropout",
        "summary_proj_to_labels",
        "summary_type",
        "summary_use_proj",
        "tie_word_embeddings",
    },
    read=_read,
    write=_write,
    names={
        "stem.tokens": "transformer.wte",
        "stem.positions": "transformer.wpe",
        "blocks.{}.attention.query": "transformer.h.{}.attn.c_attn",
        "blocks.{}.attention.key": "transformer.h.{}.attn.c_attn",
        "blocks.{}.attention.value": "transformer.h.{}.attn.c_attn",
        "blocks.{}.attention.out": "transformer.h.{}.attn.c_proj",
        "blocks.{}.attention_norm": "transformer.h.{}.ln_1",
        "blocks.{}.feed_forward.up": "transformer.h.{}.mlp.c_fc",
        "blocks.{}.feed_forward.down": "transformer.h.{}.mlp.c_proj",
        "blocks.{}.feed_forward_norm": "transformer.h.{}.ln_2",
        "norm": "transformer.ln_f",
        "head": "lm_head",
    },
    turned=frozenset(
        {
            "transformer.h.{}.attn.c_attn",
            "transformer.h.{}.attn.c_proj",
            "transformer.h.{}.mlp.c_fc",
            "transformer.h.{}.mlp.c_proj",
        }
    ),
    prefix="transformer.",
    ignored=re.compile(r"h\.\d+\.attn\.(masked_)?bias|score\..*"),
)
