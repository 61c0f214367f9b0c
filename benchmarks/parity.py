"""Parity: largest difference between our logits and those of `transformers`, for each family, in both directions.

    python -m benchmarks.parity            a Markdown table
    python -m benchmarks.parity --json     one row a line
    python -m benchmarks.parity --quick    without the published weights

Random weights, norms and biases jittered too, in odd shapes; plain and padded batches. Then published weights, beside
the programs they were made for. The tests use the same cases.
"""

import argparse
import json
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any

import torch
import transformers
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from benchmarks import published
from zhumo.transformer import Config, Source, Transformer
from zhumo.transformer.families import from_disk, read_config, to_disk, write_config

LIMIT = 1e-5
ENCODERS = ("bert", "xlm-roberta")  # never with a language-model head
TWO_SIDED = ("t5", "mt5", "bart", "marian")  # with an encoder
LENGTHS = (9, 4, 1)  # real tokens of the three padded rows


@dataclass(frozen=True)
class Case:
    """A tiny model of one family, in the words of `transformers`."""

    name: str
    family: str
    numbers: dict[str, Any] = field(default_factory=dict)
    bare: bool = False  # no language-model head
    own: bool = False  # a head of its own, though `transformers` ties it until a file holds one

    @property
    def auto(self) -> Any:
        if self.bare or self.family in ENCODERS:
            return transformers.AutoModel
        return transformers.AutoModelForSeq2SeqLM if self.family in TWO_SIDED else transformers.AutoModelForCausalLM


_BERT = {"vocab_size": 67, "num_hidden_layers": 2, "max_position_embeddings": 16, "pad_token_id": 0}
_GPT2 = {"vocab_size": 67, "n_layer": 2, "n_positions": 16, "bos_token_id": 1, "eos_token_id": 1}
_LLAMA = {"vocab_size": 67, "num_hidden_layers": 2, "max_position_embeddings": 16, "rms_norm_eps": 1e-5}
_BERT_ODD = {"hidden_size": 21, "num_attention_heads": 3, "intermediate_size": 50}
_ROPE = {"rope_type": "default", "rope_theta": 500_000.0}
_FAR = _LLAMA | {"hidden_size": 36, "num_attention_heads": 3, "num_key_value_heads": 1, "intermediate_size": 44}
_FAR |= {"head_dim": 12, "max_position_embeddings": 6}
_YARN = {"rope_type": "yarn", "rope_theta": 20.0, "factor": 3.0, "original_max_position_embeddings": 5}
_LLAMA3 = {"rope_type": "llama3", "rope_theta": 20.0, "factor": 4.0, "original_max_position_embeddings": 8}
_LLAMA3 |= {"low_freq_factor": 1.0, "high_freq_factor": 4.0}
_XLM = _BERT | {"pad_token_id": 1, "type_vocab_size": 1}
_T5 = {"vocab_size": 67, "d_model": 20, "d_ff": 33, "num_layers": 2}
_GATED = {"feed_forward_proj": "gated-gelu"}
_NEAR = {"relative_attention_num_buckets": 8, "relative_attention_max_distance": 6}
_BART = {"vocab_size": 67, "d_model": 24, "encoder_layers": 2, "decoder_layers": 2, "max_position_embeddings": 32}
_BART |= {"encoder_attention_heads": 3, "decoder_attention_heads": 3, "encoder_ffn_dim": 33, "decoder_ffn_dim": 33}
_BART |= {"pad_token_id": 1, "eos_token_id": 2, "decoder_start_token_id": 2, "forced_eos_token_id": 2}

CASES = (
    Case("odd width", "bert", _BERT | _BERT_ODD),
    Case(
        "tanh gelu, one type",
        "bert",
        _BERT | _BERT_ODD | {"hidden_act": "gelu_new", "type_vocab_size": 1, "layer_norm_eps": 1e-5},
    ),
    Case("odd width", "xlm-roberta", _XLM | _BERT_ODD),
    Case(
        "two types",
        "xlm-roberta",
        _XLM | _BERT_ODD | {"max_position_embeddings": 14, "type_vocab_size": 2},
    ),
    Case("tied", "gpt2", _GPT2 | {"n_embd": 21, "n_head": 3}),
    Case(
        "own head, odd hidden", "gpt2", _GPT2 | {"n_embd": 20, "n_head": 5, "n_inner": 33, "tie_word_embeddings": False}
    ),
    Case("no head, exact gelu", "gpt2", _GPT2 | {"n_embd": 24, "n_head": 2, "activation_function": "gelu"}, bare=True),
    Case(
        "grouped 3:1, own head",
        "llama",
        _LLAMA | {"hidden_size": 24, "num_attention_heads": 6, "num_key_value_heads": 2, "intermediate_size": 50},
    ),
    Case(
        "tied, free head_dim",
        "llama",
        _LLAMA
        | {"hidden_size": 18, "num_attention_heads": 3, "num_key_value_heads": 1, "intermediate_size": 44}
        | {"head_dim": 10, "tie_word_embeddings": True, "rope_parameters": _ROPE},
    ),
    Case(
        "no head",
        "llama",
        _LLAMA | {"hidden_size": 16, "num_attention_heads": 2, "num_key_value_heads": 2, "intermediate_size": 30},
        bare=True,
    ),
    Case("linear rope", "llama", _FAR | {"rope_parameters": _ROPE | {"rope_type": "linear", "factor": 2.5}}),
    Case(
        "dynamic rope beyond its length",
        "llama",
        _FAR | {"rope_parameters": _ROPE | {"rope_type": "dynamic", "factor": 2.0}, "tie_word_embeddings": True},
    ),
    Case("llama3 rope beyond its length", "llama", _FAR | {"rope_parameters": _LLAMA3}),
    Case("yarn rope beyond its length", "llama", _FAR | {"rope_parameters": _YARN}),
    Case("window of 4", "mistral", _FAR | {"sliding_window": 4}),
    Case(
        "window of 3, tied, yarn",
        "mistral",
        _FAR | {"sliding_window": 3, "rope_parameters": _YARN, "tie_word_embeddings": True},
    ),
    Case("no window", "mistral", _FAR | {"sliding_window": None}),
    Case("window beyond the text", "mistral", _FAR | {"sliding_window": 40}, bare=True),
    Case(
        "grouped 3:1, tied",
        "qwen2",
        _LLAMA
        | {"hidden_size": 24, "num_attention_heads": 6, "num_key_value_heads": 2, "intermediate_size": 50}
        | {"tie_word_embeddings": True, "rope_parameters": _ROPE},
    ),
    Case(
        "heads do not divide the width, linear rope",
        "qwen2",
        _LLAMA
        | {"hidden_size": 20, "num_attention_heads": 3, "num_key_value_heads": 3, "intermediate_size": 50}
        | {"head_dim": 8, "rope_parameters": _ROPE | {"rope_type": "linear", "factor": 4.0}},
    ),
    Case(
        "grouped 3:1, heads do not divide the width",
        "qwen3",
        _LLAMA
        | {"hidden_size": 20, "num_attention_heads": 6, "num_key_value_heads": 2, "intermediate_size": 50}
        | {"head_dim": 10, "rope_parameters": _ROPE},
    ),
    Case(
        "yarn rope, tied, one kv head",
        "qwen3",
        _LLAMA
        | {"hidden_size": 16, "num_attention_heads": 4, "num_key_value_heads": 1, "intermediate_size": 30}
        | {"head_dim": 6, "tie_word_embeddings": True, "rope_parameters": _YARN | {"rope_theta": 1e6}},
    ),
    Case("1.0, tied", "t5", _T5 | {"num_heads": 3, "d_kv": 7, "num_decoder_layers": 1}),
    Case("1.1, own head", "t5", _T5 | _GATED | {"num_heads": 5, "d_kv": 4, "tie_word_embeddings": False}, own=True),
    Case("1.1, no head, few distances", "t5", _T5 | _GATED | {"num_heads": 3, "d_kv": 5} | _NEAR, bare=True),
    Case("own head", "mt5", _T5 | {"num_heads": 3, "d_kv": 6, "num_decoder_layers": 3}, own=True),
    Case("head not on disk", "mt5", _T5 | {"num_heads": 3, "d_kv": 6}),
    Case("tied", "bart", _BART | {"max_position_embeddings": 18}),
    Case("scaled, deeper encoder", "bart", _BART | {"encoder_layers": 3, "scale_embedding": True}),
    Case("no head, relu", "bart", _BART | {"activation_function": "relu"}, bare=True),
    Case("scaled, swish", "marian", _BART | {"scale_embedding": True, "activation_function": "swish"}),
    Case("odd width", "marian", _BART | {"d_model": 21, "decoder_layers": 1}),
    Case("no head", "marian", _BART, bare=True),
    Case("no head", "mt5", _T5 | {"num_heads": 1, "d_kv": 6}, bare=True),
)


def jitter(model: nn.Module, seed: int = 0) -> nn.Module:
    """Random weights everywhere, norms and biases included, so that no tensor can be left out or swapped unseen."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in (weight for weight in model.parameters() if weight.requires_grad):
            noise = torch.randn(weight.shape, generator=generator)
            weight.copy_(weight + 0.3 * noise if weight.dim() == 1 else 0.25 * noise)
    return model.eval()


def their_folder(case: Case, folder: Path) -> nn.Module:
    """A model made and saved by `transformers`."""
    config = transformers.AutoConfig.for_model(case.family, **case.numbers)
    model = case.auto.from_config(config)
    if case.own:
        model.lm_head.weight = nn.Parameter(torch.empty_like(model.lm_head.weight))
    jitter(model)
    model.save_pretrained(folder)
    return model


def our_config(case: Case) -> Config:
    """The same sizes as our configuration."""
    hf = transformers.AutoConfig.for_model(case.family, **case.numbers).to_dict()
    return read_config(hf | {"architectures": ["Model" if case.bare else "ForCausalLM"]})


def our_folder(config: Config, family: str, folder: Path) -> Transformer:
    """A model made and saved by us."""
    model = jitter(Transformer(config), seed=1)
    assert isinstance(model, Transformer)
    hf = write_config(config, family)
    (folder / "config.json").write_text(json.dumps(hf), encoding="utf-8")
    save_file(to_disk(model.state_dict(), config, family), folder / "model.safetensors", metadata={"format": "pt"})
    return model


def load_ours(folder: Path) -> Transformer:
    """A Hugging Face folder as our model."""
    hf = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    config = read_config(hf)
    model = Transformer(config)
    model.load_state_dict(from_disk(load_file(folder / "model.safetensors"), config, hf["model_type"]))
    return model.eval()


@torch.no_grad()
def difference(theirs: nn.Module, ours: Transformer) -> float:
    """Largest difference of logits (hidden states without a head): a plain batch, then a right-padded one."""
    time = max(LENGTHS)
    generator = torch.Generator().manual_seed(2)
    ids = torch.randint(2, ours.config.vocabulary, (len(LENGTHS), time), generator=generator)  # 1 pads for XLM-RoBERTa
    mask = (torch.arange(time) < torch.tensor(LENGTHS).unsqueeze(1)).long()
    types: dict[str, Tensor] = {}
    if ours.config.types:
        types = {"types": torch.randint(0, ours.config.types, ids.shape, generator=generator)}
    if ours.encoder is not None:
        return _two_sided(theirs, ours, ids, mask)
    kinds = {"token_type_ids": types["types"]} if types else {}
    plain = theirs(ids, **kinds)[0] - ours(ids, **types)
    padded = theirs(ids, attention_mask=mask, **kinds)[0] - ours(ids, segments=mask, **types)
    return max(plain.abs().max().item(), padded[mask.bool()].abs().max().item())


def beside(model: Transformer, batch: int = 1) -> dict[str, list[Source]]:
    """What a model needs beside its ids: where there is an encoder, sources, the last of them padded."""
    if model.encoder is None:
        return {}
    generator = torch.Generator().manual_seed(3)
    ids = torch.randint(0, model.config.vocabulary, (batch, 5), generator=generator)
    segments = torch.ones_like(ids)
    segments[-1, 3:] = 0
    return {"source": model.read(ids, segments=segments)}


def _two_sided(theirs: nn.Module, ours: Transformer, ids: Tensor, mask: Tensor) -> float:
    """The same with a source, which is longer than the target and padded otherwise."""
    source, there = torch.cat((ids, ids.flip(1)), dim=1), torch.cat((mask.flip(0), torch.zeros_like(mask)), dim=1)
    plain = theirs(input_ids=source, decoder_input_ids=ids)[0] - ours(ids, source=ours.read(source))
    both = {"attention_mask": there, "decoder_attention_mask": mask}
    padded = theirs(input_ids=source, decoder_input_ids=ids, **both)[0]
    padded -= ours(ids, segments=mask, source=ours.read(source, segments=there))
    return max(plain.abs().max().item(), padded[mask.bool()].abs().max().item())


def theirs_to_ours(case: Case) -> float:
    """Their folder loads in ours."""
    with tempfile.TemporaryDirectory() as name:
        theirs = their_folder(case, Path(name))
        return difference(theirs, load_ours(Path(name)))


def ours_to_theirs(case: Case) -> float:
    """Our folder loads in theirs, by `AutoModel*.from_pretrained`."""
    with tempfile.TemporaryDirectory() as name:
        ours = our_folder(our_config(case), case.family, Path(name))
        return difference(case.auto.from_pretrained(name).eval(), ours)


DIRECTIONS = {"theirs to ours": theirs_to_ours, "ours to theirs": ours_to_theirs}


def rows() -> Iterator[dict[str, object]]:
    """One row for each case and direction."""
    for case in CASES:
        for direction, measure in DIRECTIONS.items():
            value = measure(case)
            name = f"{case.family}, {case.name}, {direction}"
            peer = f"transformers {transformers.__version__}"
            yield published.row(name, value, "largest difference", peer, value <= LIMIT)


def _said(value: object, unit: object) -> str:
    return "not measured" if value is None else f"{value:.6f}" if unit == "cosine" else f"{value:.1e}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="one JSON row a line")
    parser.add_argument("--quick", action="store_true", help="the random weights alone")
    parser.add_argument("--peers", action="store_true", help="nothing more: the peers run beside it every time")
    arguments = parser.parse_args()
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    if not arguments.json:
        print("| family, shapes, direction | measure | value | beside |\n|---|---|---|---|")
    for row in rows() if arguments.quick else chain(rows(), published.rows()):
        line = f"| {row['name']} | {row['unit']} | {_said(row['value'], row['unit'])} | {row['peer']} |"
        print(json.dumps(row) if arguments.json else line, flush=True)


if __name__ == "__main__":
    main()
