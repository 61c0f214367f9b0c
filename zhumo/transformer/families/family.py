"""What a family of published models is: its `config.json` and its tensor names, each as one table used both ways.

- Names are those on disk, which last; the names a library gives its modules in memory do not.
- A configuration is a closed list. A key that is not on it may change the maths, so it is refused, not skipped.
"""

import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, NamedTuple

from zhumo.transformer.config import Config

Json = dict[str, Any]


class Key(NamedTuple):
    """A number of `config.json` and the field of `Config` it becomes. default: where the file may leave it out."""

    theirs: str
    ours: str
    default: float | None = None


@dataclass(frozen=True)
class Family:
    """One published architecture.

    keys: numbers that only change their name.
    fixed: keys of which we compute one value, which a missing key means too.
    harmless: keys that say nothing about the maths, or that `read` looks at itself.
    read: the remaining fields of `Config`, from the checked file. write: the remaining keys, from a `Config`.
    names: our module to theirs on disk, `{}` the number of the block. Several of ours under one of theirs lie joined
        there, in this order, along the output axis. A single tensor (with `.bias`) is one with an axis of 1 before it.
    turned: modules on disk whose weight is stored as (in, out).
    led: modules on disk that begin with so many rows nothing of ours stands in.
    prefix: what a checkpoint with a head puts before the names, and one without it may leave out.
    gated: what is called otherwise on disk where the feed-forward is gated.
    stand_in: the tensor on disk that is the head of its own where a file keeps none.
    ignored: names on disk that hold nothing of ours (buffers, heads of other tasks).
    """

    name: str
    keys: tuple[Key, ...]
    fixed: Mapping[str, object]
    harmless: frozenset[str]
    read: Callable[[Json], dict[str, Any]]
    write: Callable[[Config], Json]
    names: Mapping[str, str]
    prefix: str
    ignored: re.Pattern[str]
    turned: frozenset[str] = field(default_factory=frozenset)
    gated: Mapping[str, str] = field(default_factory=dict)
    stand_in: str | None = None
    led: Mapping[str, int] = field(default_factory=dict)


ACTIVATIONS = {
    "gelu": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_fast": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "relu": "relu",
    "silu": "silu",
    "swish": "silu",
}
"""Their word for an activation to ours; the first that fits is the one written."""

LARGEST = {
    "vocabulary": 2**24,
    "width": 2**17,
    "depth": 2**10,
    "encoder_depth": 2**10,
    "heads": 2**12,
    "kv_heads": 2**12,
    "head_dim": 2**14,
    "hidden": 2**20,
    "length": 2**26,
    "types": 2**16,
    "buckets": 2**16,
    "reach": 2**26,
    "window": 2**26,
    "rope_length": 2**26,
}
"""Sizes no model reaches: a hostile file is stopped before anything is made of its numbers."""

FIXED: dict[str, object] = {
    "is_decoder": False,
    "is_encoder_decoder": False,
    "add_cross_attention": False,
    "pruned_heads": {},
}

_HARMLESS = """
architectures auto_map model_type transformers_version dtype torch_dtype name_or_path tokenizer_class
bos_token_id eos_token_id pad_token_id sep_token_id cls_token_id unk_token_id mask_token_id decoder_start_token_id
initializer_range use_cache gradient_checkpointing chunk_size_feed_forward tie_encoder_decoder torchscript
id2label label2id num_labels problem_type finetuning_task task_specific_params classifier_dropout
output_hidden_states output_attentions output_past return_dict use_return_dict use_bfloat16 transformers.js_config
do_sample early_stopping length_penalty max_length min_length no_repeat_ngram_size num_beams num_return_sequences
repetition_penalty temperature top_k top_p prefix
"""
HARMLESS = frozenset(_HARMLESS.split())
"""Keys of every family that say nothing about the maths."""


def check_keys(family: Family, hf: Json) -> None:
    """Refuse what the family cannot compute.

    Raises:
        ValueError: a key that is not on the list, or a value that is not among those it may have.
    """
    for key, value in family.fixed.items():
        if hf.get(key) is not None and hf[key] != value:
            raise ValueError(f"{key} is {hf[key]!r}; of {family.name} we compute only {value!r}")
    known = {key.theirs for key in family.keys} | family.fixed.keys() | family.harmless
    unknown = [key for key, value in hf.items() if key not in known and not key.startswith("_") and value is not None]
    if unknown:
        raise ValueError(f"not known of {family.name}, so it might change the result: {listed(sorted(unknown))}")


def number(hf: Json, key: Key) -> float:
    """The value of `key`, checked for kind and size."""
    value = hf.get(key.theirs)
    if value is None:
        value = key.default
    if value is None:
        raise ValueError(f"{key.theirs} is missing")
    whole = key.ours in LARGEST
    if isinstance(value, bool) or not isinstance(value, int if whole else (int, float)):
        raise ValueError(f"{key.theirs} is {value!r}, not a {'whole ' if whole else ''}number")
    if not 0 <= value <= LARGEST.get(key.ours, math.inf) or not math.isfinite(value):
        raise ValueError(f"{key.theirs} is {value!r}, beyond what any model needs")
    return value if whole else float(value)


def numbers(family: Family, hf: Json) -> dict[str, Any]:
    """All plain numbers of `hf` under our names."""
    return {key.ours: number(hf, key) for key in family.keys}


def activation(word: object, key: str, default: str = "") -> str:
    """Our word for an activation. key: where it was found, for the error. default: where there was none."""
    word = default if word is None else word
    if not isinstance(word, str) or word not in ACTIVATIONS:
        raise ValueError(f"{key} is {word!r}; known are {', '.join(ACTIVATIONS)}")
    return ACTIVATIONS[word]


def activation_word(ours: str) -> str:
    """Their word for our activation."""
    return next(word for word, meaning in ACTIVATIONS.items() if meaning == ours)


def language_head(hf: Json, tied: bool) -> str:
    """`own` or `tied` for a language model; `none` where the file names a bare model or one with another head."""
    names = ["ForCausalLM"] if hf.get("architectures") is None else hf["architectures"]
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ValueError(f"architectures is {names!r}, not a list of names")
    if not any(name.endswith(("ForCausalLM", "LMHeadModel", "ForConditionalGeneration", "MTModel")) for name in names):
        return "none"
    said = hf.get("tie_word_embeddings")
    if not isinstance(said, bool | None):
        raise ValueError(f"tie_word_embeddings is {said!r}, not true or false")
    return "tied" if (tied if said is None else said) else "own"


def even_heads(hf: Json, width: str, heads: str) -> None:
    """Refuse heads that do not divide the width, where the family derives the size of a head from both."""
    if hf[width] % max(hf[heads], 1):
        raise ValueError(f"{width} ({hf[width]}) must be a multiple of {heads} ({hf[heads]})")


def differences(wanted: Config, got: Config) -> str:
    """The fields in which two configurations differ, for an error."""
    pairs = ((f.name, getattr(wanted, f.name), getattr(got, f.name)) for f in fields(Config))
    return ", ".join(f"{name}={one!r} (it has {other!r})" for name, one, other in pairs if one != other)


LISTED = 6  # names in an error


def listed(names: Iterable[str]) -> str:
    """Names for an error, the rest counted."""
    every = list(names)
    more = f" and {len(every) - LISTED} more" if len(every) > LISTED else ""
    return ", ".join(every[:LISTED]) + more
