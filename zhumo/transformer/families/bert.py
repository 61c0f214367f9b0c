"""BERT (Devlin et al. 2018) and XLM-RoBERTa (Conneau et al. 2020): norms after the residual, learned positions, segment
types, no language-model head. XLM-RoBERTa counts positions from 2 on, so its table is led by two rows of no use."""

import re
from dataclasses import replace
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
    number,
)


def _read(hf: Json) -> dict[str, Any]:
    even_heads(hf, "hidden_size", "num_attention_heads")
    if hf.get("type_vocab_size") == 0:
        raise ValueError("type_vocab_size is 0; a BERT has at least one type")
    return {
        "activation": activation(hf.get("hidden_act"), "hidden_act", "gelu"),
        "causal": False,
        "norm_first": False,
        "head": "none",
    }


def _write(config: Config) -> Json:
    return {
        "architectures": ["BertModel"],
        "hidden_act": activation_word(config.activation),
        "attention_probs_dropout_prob": 0.0,
        "position_embedding_type": "absolute",
    }


_NAMES = {
    "stem.tokens": "embeddings.word_embeddings",
    "stem.positions": "embeddings.position_embeddings",
    "stem.types": "embeddings.token_type_embeddings",
    "stem.norm": "embeddings.LayerNorm",
    "blocks.{}.attention.query": "encoder.layer.{}.attention.self.query",
    "blocks.{}.attention.key": "encoder.layer.{}.attention.self.key",
    "blocks.{}.attention.value": "encoder.layer.{}.attention.self.value",
    "blocks.{}.attention.out": "encoder.layer.{}.attention.output.dense",
    "blocks.{}.attention_norm": "encoder.layer.{}.attention.output.LayerNorm",
    "blocks.{}.feed_forward.up": "encoder.layer.{}.intermediate.dense",
    "blocks.{}.feed_forward.down": "encoder.layer.{}.output.dense",
    "blocks.{}.feed_forward_norm": "encoder.layer.{}.output.LayerNorm",
}

BERT = Family(
    name="bert",
    keys=(
        Key("vocab_size", "vocabulary"),
        Key("hidden_size", "width"),
        Key("num_hidden_layers", "depth"),
        Key("num_attention_heads", "heads"),
        Key("intermediate_size", "hidden"),
        Key("max_position_embeddings", "length"),
        Key("type_vocab_size", "types", 2),
        Key("layer_norm_eps", "norm_eps", 1e-12),
        Key("hidden_dropout_prob", "dropout", 0.1),
    ),
    fixed=FIXED | {"position_embedding_type": "absolute"},
    harmless=HARMLESS
    | {
        "hidden_act",
        "attention_probs_dropout_prob",
        "tie_word_embeddings",
        "directionality",
        "pooler_fc_size",
        "pooler_num_attention_heads",
        "pooler_num_fc_layers",
        "pooler_size_per_head",
        "pooler_type",
    },
    read=_read,
    write=_write,
    names=_NAMES,
    prefix="bert.",
    ignored=re.compile(r"embeddings\.position_ids|pooler\..*|cls\..*|classifier\..*|qa_outputs\..*"),
)

LED = 2  # position 0 is the padding token's id, 1, and one more


def _read_led(hf: Json) -> dict[str, Any]:
    length = number(hf, Key("max_position_embeddings", "length"))
    return _read(hf) | {"length": length - LED}


def _write_led(config: Config) -> Json:
    return _write(config) | {
        "architectures": ["XLMRobertaModel"],
        "max_position_embeddings": config.length + LED,
        "pad_token_id": LED - 1,
    }


XLM_ROBERTA = replace(
    BERT,
    name="xlm-roberta",
    fixed={**BERT.fixed, "pad_token_id": LED - 1},
    read=_read_led,
    write=_write_led,
    prefix="roberta.",
    ignored=re.compile(r"embeddings\.position_ids|pooler\..*|lm_head\..*|classifier\..*|qa_outputs\..*"),
    led={_NAMES["stem.positions"]: LED},
)
