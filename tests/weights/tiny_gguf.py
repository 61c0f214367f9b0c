"""Small GGUF files, written by the `gguf` package of llama.cpp: what the reader's tests read."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import torch
from gguf.quants import quantize

from benchmarks.parity import jitter
from zhumo.transformer import Config, Transformer
from zhumo.transformer.families import to_disk, write_config
from zhumo.transformer.positions import paces

SIZES = {"width": 64, "depth": 2, "heads": 4, "kv_heads": 2, "head_dim": 16, "hidden": 96, "length": 32}
SHARED = {"positions": "rotary", "rope_theta": 50_000.0, "norm": "rms", "norm_eps": 1e-5, "gated": True}
FAMILIES = {
    "llama": {},
    "qwen2": {"bias": "qkv"},
    "qwen3": {"qk_norm": True, "head_dim": 128},
}  # transformers believes 128
TEMPLATE = "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
MERGES = ["Ġ t", "h e", "Ġt he", "1 2", "ä ½", "ä½ ł"]
_NAMES = {
    "model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output",
    "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output", "self_attn.q_norm": "attn_q_norm", "self_attn.k_norm": "attn_k_norm",
    "input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down",
}  # fmt: skip


def alphabet() -> list[str]:
    """How byte-level BPE spells the 256 bytes: printable ones as themselves, the others from 256 on (GPT-2)."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in printable]
    return [chr(byte) for byte in printable] + [chr(256 + place) for place in range(len(others))]


def tokens() -> tuple[list[str], list[int]]:
    """The vocabulary and the kind of each token (1 normal, 3 control, 4 user-defined)."""
    words = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", *alphabet(), *(m.replace(" ", "") for m in MERGES)]
    return [*words, "<think>"], [3, 3, 3] + [1] * (len(words) - 3) + [4]


def small_model(family: str, head: str, vocabulary: int, **more: Any) -> Transformer:
    config = Config(
        vocabulary=vocabulary, activation="silu", head=head,
        **({"bias": "none"} | SIZES | SHARED | FAMILIES[family] | more),
    )  # type: ignore[arg-type]  # fmt: skip
    model = jitter(Transformer(config))
    assert isinstance(model, Transformer)
    return model


def twist(weight: np.ndarray, heads: int) -> np.ndarray:
    """The order llama.cpp's converter gives the rows of query and key of a Llama."""
    halves = weight.reshape(heads, 2, weight.shape[0] // heads // 2, *weight.shape[1:])
    return np.ascontiguousarray(halves.swapaxes(1, 2).reshape(weight.shape))


def llama_cpp_name(name: str) -> str:
    module, _, leaf = name.rpartition(".")
    if module.startswith("model.layers."):
        _, _, block, inner = module.split(".", 3)
        return f"blk.{block}.{_NAMES[inner]}.{leaf}"
    return f"{_NAMES[module]}.{leaf}"


def write_rope(writer: gguf.GGUFWriter, config: Config) -> None:
    """As llama.cpp's converter says it: llama3 by what its pairs come to alone."""
    if config.rope == "llama3":
        plain, slowed = (paces(c, torch.zeros(1)) for c in (replace(config, rope="default"), config))
        writer.add_tensor("rope_freqs.weight", (plain / slowed).numpy())
    elif config.rope != "default":
        writer.add_rope_scaling_type(gguf.RopeScalingType(config.rope))
        writer.add_rope_scaling_factor(config.rope_factor)
        if config.rope == "yarn":
            writer.add_rope_scaling_orig_ctx_len(config.rope_length)


def write_gguf(
    path: Path,
    family: str = "llama",
    head: str = "own",
    form: gguf.GGMLQuantizationType = gguf.GGMLQuantizationType.F32,
    pre: str = "smollm",
    pieces: tuple[list[str], list[int], list[float]] | None = None,
    led: bool | None = None,
    rope: Mapping[str, Any] = {},
) -> Transformer:
    """A random model as a `.gguf` file; matrices in `form`, vectors in F32.

    pieces: the words, kinds and scores of a SentencePiece tokenizer instead of a byte-level one.
    """
    words, kinds = pieces[:2] if pieces else tokens()
    model = small_model(family, head, len(words), **rope)
    config = model.config
    hf = write_config(config, family)
    writer = gguf.GGUFWriter(path, family)
    writer.add_block_count(config.depth)
    writer.add_context_length(config.length)
    writer.add_embedding_length(config.width)
    writer.add_feed_forward_length(config.hidden)
    writer.add_head_count(config.heads)
    writer.add_head_count_kv(config.kv_heads)
    writer.add_key_length(config.head_dim)
    writer.add_value_length(config.head_dim)
    writer.add_rope_freq_base(hf["rope_theta"])
    writer.add_rope_dimension_count(config.head_dim)
    write_rope(writer, config)
    writer.add_layer_norm_rms_eps(config.norm_eps)
    writer.add_vocab_size(config.vocabulary)
    writer.add_license("apache-2.0")
    writer.add_tokenizer_model("llama" if pieces else "gpt2")
    writer.add_tokenizer_pre("default" if pieces else pre)
    writer.add_token_list(words)
    writer.add_token_types(kinds)
    if pieces:
        writer.add_token_scores(pieces[2])
        writer.add_unk_token_id(0)
    else:
        writer.add_token_merges(MERGES)
    if led is not None:
        writer.add_add_space_prefix(led)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_chat_template(TEMPLATE)
    for name, tensor in to_disk(model.state_dict(), config, family).items():
        theirs, array = llama_cpp_name(name), tensor.to(torch.float32).numpy()
        if family == "llama" and ".attn_q." in theirs:
            array = twist(array, config.heads)
        if family == "llama" and ".attn_k." in theirs:
            array = twist(array, config.kv_heads)
        if array.ndim == 2:
            writer.add_tensor(theirs, quantize(array, form), raw_dtype=form)
        else:
            writer.add_tensor(theirs, array)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return model
