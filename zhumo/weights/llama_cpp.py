"""A model in llama.cpp's words (a `.gguf` file) in ours: sizes, names, ropes and the order of their rows."""

import re
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from zhumo.errors import ModelError
from zhumo.transformer import Config
from zhumo.transformer.families import from_disk, read_config
from zhumo.transformer.positions import paces
from zhumo.weights.gguf import Gguf
from zhumo.weights.llama_cpp_tokenizer import read_tokenizer
from zhumo.weights.weights import Weights

ARCHITECTURES = {"llama": "LlamaForCausalLM", "qwen2": "Qwen2ForCausalLM", "qwen3": "Qwen3ForCausalLM"}
TURNED = ("llama",)  # whose converter puts the two halves of a rope side by side; the others keep them apart

SIZES = {
    "block_count": "num_hidden_layers",
    "context_length": "max_position_embeddings",
    "embedding_length": "hidden_size",
    "feed_forward_length": "intermediate_size",
    "attention.head_count": "num_attention_heads",
    "attention.head_count_kv": "num_key_value_heads",
    "attention.key_length": "head_dim",
    "attention.layer_norm_rms_epsilon": "rms_norm_eps",
    "rope.freq_base": "rope_theta",
}
_SAID_ELSEWHERE = ("vocab_size", "rope.dimension_count", "attention.value_length")
_HARMLESS: Mapping[str, object] = {"expert_count": 0, "attention.causal": True}

_SCALING = {"type": "type", "factor": "factor", "original_context_length": "original_max_position_embeddings"}
_SCALING |= {"finetuned": "finetuned"}
SLOWED = "rope_freqs.weight"  # how many times slower each pair of a llama3 rope turns
LLAMA3_LENGTH = 8192  # the length every Llama 3 learned first, which the file does not say

TOP = {"token_embd": "model.embed_tokens", "output_norm": "model.norm", "output": "lm_head"}
INNER = {
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "attn_q_norm": "self_attn.q_norm",
    "attn_k_norm": "self_attn.k_norm",
    "attn_norm": "input_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
    "ffn_norm": "post_attention_layernorm",
}
_BLOCK = re.compile(r"blk\.(\d{1,4})\.(\w+)\.(weight|bias)")


def read_llama_cpp(path: Path) -> Weights:
    """The model of a `.gguf` file.

    Raises:
        ModelError: as `read_weights`.
    """
    file = Gguf(path)
    hf = _config(file)
    try:
        config = _slowed(file, read_config(hf))
    except ValueError as error:
        raise ModelError("weights.config", path=path, problem=error) from error
    family, licence = hf["model_type"], file.facts.get("general.license")
    tensors, tokenizer = partial(_tensors, file, config, family), partial(read_tokenizer, file, config.vocabulary)
    return Weights(config, family, tensors, tokenizer, licence=licence if isinstance(licence, str) else None)


def _tensors(file: Gguf, config: Config, family: str) -> dict[str, Tensor]:
    heads = {"attn_q": config.heads, "attn_k": config.kv_heads}
    try:
        tensors = {_name(name): _untwisted(file, name, heads, family) for name in file.entries if name != SLOWED}
        return from_disk(tensors, config, family)
    except ValueError as error:
        raise ModelError("weights.tensors", path=file.path, problem=error) from error


def _config(file: Gguf) -> dict[str, Any]:
    """What the Hugging Face `config.json` of this model would say. Facts of the architecture that we do not know, or
    that ask for other maths, are refused."""
    name = file.facts.get("general.architecture")
    if not isinstance(name, str) or name not in ARCHITECTURES:
        raise ModelError(
            "weights.config",
            path=file.path,
            problem=f"general.architecture is {name!r}; known are {', '.join(ARCHITECTURES)}",
        )
    said = {key.removeprefix(f"{name}."): fact for key, fact in file.facts.items() if key.startswith(f"{name}.")}
    scaling = {theirs: said.pop(f"rope.scaling.{ours}", None) for ours, theirs in _SCALING.items()}
    for key, fact in said.items():
        if key not in SIZES and key not in _SAID_ELSEWHERE and fact != _HARMLESS.get(key):
            raise ModelError("weights.config", path=file.path, problem=f"{name}.{key} is {str(fact)[:60]}")
    hf = {theirs: said[ours] for ours, theirs in SIZES.items() if ours in said}
    embedding = file.entries.get("token_embd.weight")
    head_dim = hf.get("head_dim", said.get("rope.dimension_count"))
    if any(said.get(key, head_dim) != head_dim for key in ("rope.dimension_count", "attention.value_length")):
        raise ModelError("weights.config", path=file.path, problem="key, value and rope have different sizes")
    return hf | {
        "rope_scaling": scaling if scaling["type"] not in (None, "none") else None,
        "model_type": name,
        "architectures": [ARCHITECTURES[name]],
        "vocab_size": embedding.shape[0] if embedding else None,
        "head_dim": head_dim,
        "tie_word_embeddings": "output.weight" not in file.entries,
    }


def _slowed(file: Gguf, config: Config) -> Config:
    """The configuration with the llama3 rope a file speaks of only by the numbers it comes to."""
    if SLOWED not in file.entries:
        return config
    slower, place = file.tensor(SLOWED), torch.zeros(1)
    factor = float(slower.max())
    llama3 = replace(config, rope="llama3", rope_factor=factor, rope_length=LLAMA3_LENGTH)
    wanted = paces(config, place) / paces(llama3, place)
    if config.rope != "default" or slower.shape != wanted.shape or not torch.allclose(slower, wanted, rtol=1e-4):
        raise ValueError(f"{SLOWED} is not that of a llama3 rope, which is the only one we know")
    return llama3


def _name(theirs: str) -> str:
    """The name on disk of a Hugging Face folder, for llama.cpp's; one we do not know stays and is refused later."""
    module, _, leaf = theirs.rpartition(".")
    block = _BLOCK.fullmatch(theirs)
    if block and block[2] in INNER:
        return f"model.layers.{int(block[1])}.{INNER[block[2]]}.{block[3]}"
    return f"{TOP.get(module, module)}.{leaf}"


def _untwisted(file: Gguf, name: str, heads: Mapping[str, int], family: str) -> Tensor:
    """A tensor with the rows of query and key in the order of Hugging Face: first halves first."""
    tensor = file.tensor(name)
    block = _BLOCK.fullmatch(name)
    if family not in TURNED or block is None or block[2] not in heads:
        return tensor
    count = heads[block[2]]
    if tensor.size(0) % (2 * count):
        raise ValueError(f"{name} has {tensor.size(0)} rows for {count} heads")
    halves = torch.unflatten(tensor, 0, (count, -1, 2))  # (heads, head_dim / 2, halves, ...)
    return halves.transpose(1, 2).flatten(0, 2)
