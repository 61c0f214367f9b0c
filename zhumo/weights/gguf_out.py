"""A model of ours as a `.gguf` file that llama.cpp runs: Llama, Mistral, Qwen2, Qwen3 and GPT-2, tokenizer and chat
template included. What is read back is in `gguf` and `llama_cpp`."""

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from tokenizers import Tokenizer as Backend
from tokenizers import models
from torch import Tensor

from zhumo.errors import ModelError
from zhumo.tokenizer import Tokenizer
from zhumo.transformer import Config
from zhumo.transformer.families import FAMILIES, to_disk, write_config
from zhumo.transformer.positions import paces
from zhumo.weights.blocks import BLOCK, F16, F32, Q8_0, Format
from zhumo.weights.gguf import FORMATS, MAGIC, VERSIONS, Fact
from zhumo.weights.llama_cpp import INNER, SIZES, SLOWED, TOP, TURNED
from zhumo.weights.llama_cpp_tokenizer import SPLITS

ALIGNMENT = 32
FILE_TYPES = {F32: 0, F16: 1, Q8_0: 7}
"""The formats matrices may have, and llama.cpp's number of a file of them. Vectors stay in float32."""

_GPT2_SIZES = {"n_positions": "context_length", "n_embd": "embedding_length", "n_layer": "block_count",
               "n_inner": "feed_forward_length", "n_head": "attention.head_count",
               "layer_norm_epsilon": "attention.layer_norm_epsilon"}  # fmt: skip
_GPT2_TOP = {"wte": "token_embd", "wpe": "position_embd", "ln_f": "output_norm", "lm_head": "output"}
_GPT2_INNER = {"attn.c_attn": "attn_qkv", "attn.c_proj": "attn_output", "ln_1": "attn_norm", "ln_2": "ffn_norm",
               "mlp.c_fc": "ffn_up", "mlp.c_proj": "ffn_down"}  # fmt: skip
_NORMAL, _CONTROL, _USER_DEFINED, _UNUSED = 1, 3, 4, 5
_NUMBERS: Mapping[type, tuple[int, str]] = {bool: (7, "?"), int: (4, "<u4"), float: (6, "<f4")}
_TEXT, _LIST, _SIGNED = 8, 9, (5, "<i4")


def write_gguf(
    path: Path, state: Mapping[str, Tensor], config: Config, family: str, tokenizer: Tokenizer, form: Format
) -> None:
    """Write the file, matrices in `form` where their rows are whole blocks of it.

    Raises:
        ModelError: llama.cpp has no such maths, or no such tokenizer.
    """
    if problem := _unknown(config, family):
        raise ModelError("export.gguf", problem=problem)
    name = "llama" if family == "mistral" else family
    facts: dict[str, Fact] = {"general.architecture": name, "general.file_type": FILE_TYPES[form]}
    facts |= {f"{name}.{key}": fact for key, fact in _sizes(config, family).items()}
    facts |= {f"tokenizer.{key}": fact for key, fact in _tokens(tokenizer, config.vocabulary).items()}
    with path.open("wb") as file:
        _write(file, facts, _tensors(state, config, family), form)


def _unknown(config: Config, family: str) -> str | None:
    """What llama.cpp does not compute."""
    if family not in ("llama", "mistral", "qwen2", "qwen3", "gpt2") or config.head == "none":
        return f"a {family} that writes no text" if config.head == "none" else f"a {family}"
    if config.rope == "dynamic" or 0 < config.window < config.length:
        return "a dynamic rope" if config.rope == "dynamic" else f"a window of {config.window} tokens"
    if family in ("qwen2", "gpt2") and config.heads * config.head_dim != config.width:
        return f"{family} with heads of {config.head_dim}"
    activation = "gelu_tanh" if family == "gpt2" else "silu"
    return None if config.activation == activation else f"{family} with {config.activation}"


def _sizes(config: Config, family: str) -> dict[str, Fact]:
    hf = write_config(config, family)
    if family == "gpt2":
        return {ours: hf[theirs] for theirs, ours in _GPT2_SIZES.items()}
    facts: dict[str, Fact] = {ours: hf[theirs] for ours, theirs in SIZES.items() if theirs in hf}
    facts |= {"attention.key_length": config.head_dim, "attention.value_length": config.head_dim}
    facts |= {"rope.dimension_count": config.head_dim, "vocab_size": config.vocabulary}
    if config.rope in ("linear", "yarn"):
        facts |= {"rope.scaling.type": config.rope, "rope.scaling.factor": config.rope_factor}
    if config.rope == "yarn":
        facts["rope.scaling.original_context_length"] = config.rope_length
    return facts


def _tensors(state: Mapping[str, Tensor], config: Config, family: str) -> dict[str, Tensor]:
    """By llama.cpp's names, (out, in), the rows of query and key in its order."""
    kind = FAMILIES[family]
    inner, top = (_GPT2_INNER, _GPT2_TOP) if family == "gpt2" else (_turned(INNER), _turned(TOP))
    heads = {"attn_q": config.heads, "attn_k": config.kv_heads}
    found: dict[str, Tensor] = {}
    for name, tensor in to_disk(state, config, family).items():
        module, _, leaf = name.rpartition(".")
        parts = module.split(".", 3)
        if len(parts) == 4 and parts[2].isdigit():
            theirs, template = f"blk.{parts[2]}.{inner[parts[3]]}", f"{parts[0]}.{parts[1]}.{{}}.{parts[3]}"
            if family in (*TURNED, "mistral") and (count := heads.get(inner[parts[3]])):
                halves = torch.unflatten(tensor, 0, (count, 2, -1))
                tensor = halves.transpose(1, 2).flatten(0, 2)
            if template in kind.turned and tensor.dim() == 2:
                tensor = tensor.t()
        else:
            theirs = top[module.removeprefix("transformer.")]
        found[f"{theirs}.{leaf}"] = tensor
    if config.rope == "llama3":
        plain, slowed = (paces(one, torch.zeros(1)) for one in (replace(config, rope="default"), config))
        found[SLOWED] = plain / slowed
    return found


def _turned(names: Mapping[str, str]) -> dict[str, str]:
    return {theirs: ours for ours, theirs in names.items()}


def _tokens(tokenizer: Tokenizer, size: int) -> dict[str, Fact]:
    """Byte-level BPE in GPT-2's manner, cut in one of the ways llama.cpp knows."""
    said = json.loads(tokenizer.backend.to_str())
    pre = next((name for name in SPLITS if _cut(_known_cut(name)) == _cut(said["pre_tokenizer"])), None)
    normalised = (said["normalizer"] or {}).get("type") not in (None, "NFC" if pre == "qwen2" else None)
    if said["model"]["type"] != "BPE" or pre is None or normalised:
        raise ModelError("export.gguf", problem=f"a tokenizer that is no byte-level BPE cut as {', '.join(SPLITS)}")
    words = [f"[PAD{place}]" for place in range(size)]
    kinds = [_UNUSED] * size
    for word, place in said["model"]["vocab"].items():
        words[place], kinds[place] = word, _NORMAL
    for added in said["added_tokens"]:
        words[added["id"]], kinds[added["id"]] = added["content"], _CONTROL if added["special"] else _USER_DEFINED
    merges = [merge if isinstance(merge, str) else " ".join(merge) for merge in said["model"]["merges"]]
    begin = tokenizer.special("bos")
    facts: dict[str, Fact] = {
        "ggml.model": "gpt2", "ggml.pre": pre, "ggml.tokens": words, "ggml.token_type": kinds, "ggml.merges": merges,
        "ggml.add_bos_token": begin is not None and tokenizer.encode("a")[0] == begin,
    }  # fmt: skip
    for role, theirs in {"bos": "bos", "eos": "eos", "pad": "padding"}.items():
        if (place := tokenizer.special(role)) is not None:
            facts[f"ggml.{theirs}_token_id"] = place
    return facts if tokenizer.template is None else facts | {"chat_template": tokenizer.template}


def _known_cut(name: str) -> Any:
    backend = Backend(models.BPE())
    backend.pre_tokenizer = SPLITS[name]()
    return json.loads(backend.to_str())["pre_tokenizer"]


def _cut(said: Any) -> Any:
    """A pre-tokenizer without what changes no id."""
    if isinstance(said, dict):
        return {name: _cut(value) for name, value in said.items() if name != "trim_offsets"}
    return [_cut(one) for one in said] if isinstance(said, list) else said


def _write(file: BinaryIO, facts: Mapping[str, Fact], tensors: Mapping[str, Tensor], form: Format) -> None:
    file.write(MAGIC + _whole(VERSIONS[-1], 4) + _whole(len(tensors), 8) + _whole(len(facts), 8))
    for key, fact in facts.items():
        file.write(_text(key) + _fact(fact))
    forms = {name: _form(name, tensor, form) for name, tensor in tensors.items()}
    kinds = {known: number for number, known in FORMATS.items()}
    offset = 0
    for name, tensor in tensors.items():
        shape = b"".join(_whole(size, 8) for size in tensor.shape[::-1])
        file.write(_text(name) + _whole(tensor.dim(), 4) + shape + _whole(kinds[forms[name]], 4) + _whole(offset, 8))
        size = tensor.numel() // forms[name].numbers * forms[name].size
        offset += size + -size % ALIGNMENT
    file.write(bytes(-file.tell() % ALIGNMENT))
    for name, tensor in tensors.items():
        raw = _raw(tensor, forms[name])
        file.write(raw + bytes(-len(raw) % ALIGNMENT))


def _form(name: str, tensor: Tensor, form: Format) -> Format:
    """Of one tensor: vectors and positions are float32 always."""
    if tensor.dim() < 2 or name.startswith("position"):
        return F32
    return F16 if tensor.size(1) % form.numbers else form


def _raw(tensor: Tensor, form: Format) -> bytes:
    values = tensor.detach().float().contiguous().numpy()
    if form is F32:
        return values.astype("<f4").tobytes()
    if form is F16:
        return values.astype("<f2").tobytes()
    blocks = values.reshape(-1, BLOCK)
    scales = np.abs(blocks).max(1, keepdims=True) / np.float32(127)
    steps = np.divide(1, scales, out=np.zeros_like(scales), where=scales > 0)
    quants = np.rint(blocks * steps).astype(np.int8)
    return np.concatenate((scales.astype("<f2").view(np.uint8), quants.view(np.uint8)), axis=1).tobytes()


def _fact(fact: Fact) -> bytes:
    if isinstance(fact, str):
        return _whole(_TEXT, 4) + _text(fact)
    if not isinstance(fact, list):
        number, kind = _NUMBERS[type(fact)]
        return _whole(number, 4) + np.array(fact, dtype=kind).tobytes()
    head = _whole(_LIST, 4)
    if fact and isinstance(fact[0], str):
        return head + _whole(_TEXT, 4) + _whole(len(fact), 8) + b"".join(_text(str(one)) for one in fact)
    number, kind = _SIGNED
    return head + _whole(number, 4) + _whole(len(fact), 8) + np.array(fact, dtype=kind).tobytes()


def _text(text: str) -> bytes:
    raw = text.encode()
    return _whole(len(raw), 8) + raw


def _whole(number: int, size: int) -> bytes:
    return number.to_bytes(size, "little")
