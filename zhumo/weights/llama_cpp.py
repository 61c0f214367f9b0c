"""A model in llama.cpp's words (a `.gguf` file) in ours: sizes, names, the order of rope's rows, tokenizer."""

import re
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from tokenizers import AddedToken, Regex, decoders, models, normalizers, pre_tokenizers, processors
from tokenizers import Tokenizer as Backend
from torch import Tensor

from zhumo.errors import ModelError
from zhumo.tokenizer import Tokenizer
from zhumo.transformer import Config
from zhumo.transformer.families import from_disk, read_config
from zhumo.weights.gguf import Fact, Gguf
from zhumo.weights.weights import Weights

ARCHITECTURES = {"llama": "LlamaForCausalLM", "qwen2": "Qwen2ForCausalLM", "qwen3": "Qwen3ForCausalLM"}
TURNED = ("llama",)  # whose converter puts the two halves of a rope side by side; the others keep them apart

_SIZES = {
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
_HARMLESS: Mapping[str, object] = {"rope.scaling.type": "none", "expert_count": 0, "attention.causal": True}

_TOP = {"token_embd": "model.embed_tokens", "output_norm": "model.norm", "output": "lm_head"}
_INNER = {
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
        config = read_config(hf)
    except ValueError as error:
        raise ModelError("weights.config", path=path, problem=error) from error
    family, licence = hf["model_type"], file.facts.get("general.license")
    tensors, tokenizer = partial(_tensors, file, config, family), partial(_tokenizer, file, config.vocabulary)
    return Weights(config, family, tensors, tokenizer, licence=licence if isinstance(licence, str) else None)


def _tensors(file: Gguf, config: Config, family: str) -> dict[str, Tensor]:
    heads = {"attn_q": config.heads, "attn_k": config.kv_heads}
    try:
        tensors = {_name(name): _untwisted(file, name, heads, family) for name in file.entries}
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
    for key, fact in said.items():
        if key not in _SIZES and key not in _SAID_ELSEWHERE and fact != _HARMLESS.get(key):
            raise ModelError("weights.config", path=file.path, problem=f"{name}.{key} is {str(fact)[:60]}")
    hf = {theirs: said[ours] for ours, theirs in _SIZES.items() if ours in said}
    embedding = file.entries.get("token_embd.weight")
    head_dim = hf.get("head_dim", said.get("rope.dimension_count"))
    if any(said.get(key, head_dim) != head_dim for key in ("rope.dimension_count", "attention.value_length")):
        raise ModelError("weights.config", path=file.path, problem="key, value and rope have different sizes")
    return hf | {
        "model_type": name,
        "architectures": [ARCHITECTURES[name]],
        "vocab_size": embedding.shape[0] if embedding else None,
        "head_dim": head_dim,
        "tie_word_embeddings": "output.weight" not in file.entries,
    }


def _name(theirs: str) -> str:
    """The name on disk of a Hugging Face folder, for llama.cpp's; one we do not know stays and is refused later."""
    module, _, leaf = theirs.rpartition(".")
    block = _BLOCK.fullmatch(theirs)
    if block and block[2] in _INNER:
        return f"model.layers.{int(block[1])}.{_INNER[block[2]]}.{block[3]}"
    return f"{_TOP.get(module, module)}.{leaf}"


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


_GPT2_SPLIT = pre_tokenizers.ByteLevel(add_prefix_space=False)


def _split(pattern: str) -> pre_tokenizers.PreTokenizer:
    """Cut where `pattern` says, then spell bytes as letters."""
    cut = pre_tokenizers.Split(Regex(pattern), behavior="isolated")
    return pre_tokenizers.Sequence([cut, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])


_WORDS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|\p{{N}}{digits}| ?[^\s\p{{L}}\p{{N}}]+[\r\n]*"
_WORDS += r"|\s*[\r\n]+|\s+(?!\S)|\s+"

SPLITS: Mapping[str, Callable[[], pre_tokenizers.PreTokenizer]] = {
    "gpt-2": lambda: _GPT2_SPLIT,
    "smollm": lambda: pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), _GPT2_SPLIT]),
    "llama-bpe": lambda: _split(_WORDS.format(digits="{1,3}")),
    "qwen2": lambda: _split(_WORDS.format(digits="")),
}
"""How a text is cut before its pieces are merged, by `tokenizer.ggml.pre`."""

_CONTROL, _USER_DEFINED = 3, 4
_ROLES = {"bos": "bos_token", "eos": "eos_token", "unknown": "unk_token", "padding": "pad_token"}


def _tokenizer(file: Gguf, vocabulary: int) -> Tokenizer:
    """The byte-level BPE tokenizer of the file, with its special tokens and chat template.

    vocabulary: embeddings there are for its tokens.
    """
    facts = file.facts
    kind, pre = facts.get("tokenizer.ggml.model"), facts.get("tokenizer.ggml.pre")
    if kind != "gpt2" or not isinstance(pre, str) or pre not in SPLITS:
        known = ", ".join(SPLITS)
        raise ModelError("weights.gguf_tokenizer", path=file.path, kind=kind, pre=pre, known=known)
    tokens = _texts(file, "tokens")
    backend = _backend(file, tokens)
    backend.pre_tokenizer = SPLITS[pre]()
    backend.decoder = decoders.ByteLevel()
    if pre == "qwen2":
        backend.normalizer = normalizers.NFC()
    for added, special in ((_CONTROL, True), (_USER_DEFINED, False)):
        words = [token for token, found in zip(tokens, _kinds(file, len(tokens)), strict=True) if found == added]
        backend.add_tokens([AddedToken(word, normalized=False, special=special) for word in words])
    config = {role: tokens[place] for name, role in _ROLES.items() if (place := _place(file, name, tokens)) is not None}
    if facts.get("tokenizer.ggml.add_bos_token") is True and "bos_token" in config:
        bos = config["bos_token"]
        backend.post_processor = processors.TemplateProcessing(
            single=f"{bos} $A", pair=f"{bos} $A $B", special_tokens=[(bos, tokens.index(bos))]
        )
    template = facts.get("tokenizer.chat_template")
    tokenizer = Tokenizer(backend, config | ({"chat_template": template} if isinstance(template, str) else {}))
    if tokenizer.size > vocabulary:
        raise ModelError("weights.tensors", path=file.path, problem=f"{tokenizer.size} tokens, {vocabulary} embeddings")
    return tokenizer


def _backend(file: Gguf, tokens: list[str]) -> Backend:
    merges = [tuple(merge.split(" ")) for merge in _texts(file, "merges")]
    vocabulary = {token: place for place, token in enumerate(tokens)}
    pairs = [(merge[0], merge[1]) for merge in merges if len(merge) == 2]
    strangers = [merge for merge in pairs if not {*merge, "".join(merge)} <= vocabulary.keys()]
    if len(pairs) < len(merges) or strangers or len(vocabulary) < len(tokens):
        raise file.fail("the tokenizer's merges or tokens do not fit together")
    return Backend(models.BPE(vocabulary, pairs))


def _texts(file: Gguf, name: str) -> list[str]:
    return [text for text in _many(file, name) if isinstance(text, str)]


def _kinds(file: Gguf, count: int) -> list[Fact]:
    kinds = _many(file, "token_type")
    if len(kinds) != count:
        raise file.fail("tokenizer.ggml.token_type")
    return kinds


def _many(file: Gguf, name: str) -> list[Fact]:
    found = file.facts.get(f"tokenizer.ggml.{name}")
    if not isinstance(found, list):
        raise file.fail(f"tokenizer.ggml.{name}")
    return list(found)


def _place(file: Gguf, name: str, tokens: list[str]) -> int | None:
    """The id of a special token; files without it, or with -1 for none, have none."""
    place = file.facts.get(f"tokenizer.ggml.{name}_token_id")
    if not isinstance(place, int) or not 0 <= place < len(tokens):
        return None
    return place
