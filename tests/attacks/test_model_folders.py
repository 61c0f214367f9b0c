"""Hostile model folders: none of them runs anything, leaves its folder, or does more than a clear refusal."""

import json
import pickle
import random
import struct
import sys
from pathlib import Path

import pytest
import torch

from benchmarks.parity import CASES, our_config, our_folder
from zhumo.errors import ModelError
from zhumo.weights import Weights, read_weights

LLAMA = next(case for case in CASES if case.family == "llama")


def whole(path: Path) -> Weights:
    """The weights, with everything that is read only when it is asked for."""
    weights = read_weights(path)
    assert weights.tensors
    _ = weights.tokenizer
    return weights


class Bomb:
    """Unpickling this would write a file."""

    def __init__(self, proof: Path) -> None:
        self.proof = proof

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return (Path.touch, (self.proof,))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A good folder, to be spoilt."""
    path = tmp_path / "model"
    path.mkdir()
    our_folder(our_config(LLAMA), "llama", path)
    whole(path)
    return path


def refused(path: Path, said: str) -> None:
    with pytest.raises(ModelError, match=said) as error:
        whole(path)
    assert error.value.say("zh") != error.value.say("en")


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pt", "model.pth", "model.ckpt", "weights.pkl"])
def test_a_pickle_is_refused_by_its_name(folder: Path, tmp_path: Path, name: str) -> None:
    proof = tmp_path / "proof"
    (folder / "model.safetensors").unlink()
    (folder / name).write_bytes(pickle.dumps(Bomb(proof)))
    refused(folder, f"{name} is a pickle")
    refused(folder / name, "is a pickle")
    assert not proof.exists()


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_a_pickle_is_refused_by_its_first_bytes(folder: Path, tmp_path: Path, protocol: int) -> None:
    proof = tmp_path / "proof"
    for name in ("model.safetensors", "model.gguf"):
        (folder / name).write_bytes(pickle.dumps(Bomb(proof), protocol=protocol))
    refused(folder, r"model\.safetensors is a pickle")
    refused(folder / "model.gguf", "is a pickle")
    assert not proof.exists()


def test_a_checkpoint_of_torch_under_another_name_is_refused(folder: Path) -> None:
    torch.save({"model.norm.weight": torch.ones(24)}, folder / "model.safetensors")
    refused(folder, r"model\.safetensors is a pickle")


def test_safetensors_win_over_a_pickle_beside_them(folder: Path, tmp_path: Path) -> None:
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps(Bomb(tmp_path / "proof")))
    whole(folder)
    assert not (tmp_path / "proof").exists()


@pytest.mark.parametrize(
    "name",
    [
        "../other/model.safetensors",
        "/etc/model.safetensors",
        "..",
        "a/../../b.safetensors",
        "pytorch_model.bin",
        "",
        7,
        None,
    ],
)
def test_a_shard_outside_the_folder_is_refused(folder: Path, tmp_path: Path, name: object) -> None:
    (tmp_path / "other").mkdir()
    (folder / "model.safetensors").rename(tmp_path / "other" / "model.safetensors")
    index = {"weight_map": {"model.norm.weight": name}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    refused(folder, "outside its own folder")


def test_pooling_outside_the_folder_is_refused(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"pooling_mode": "cls"}))
    modules = [{"type": "Transformer", "path": ""}, {"type": "Pooling", "path": ".."}]
    (folder / "modules.json").write_text(json.dumps(modules))
    refused(folder, "Pooling")


def test_code_of_a_folder_is_never_imported(folder: Path, tmp_path: Path) -> None:
    proof = tmp_path / "proof"
    code = f"import pathlib; pathlib.Path({str(proof)!r}).touch()"
    for name in ("modeling_evil.py", "configuration_evil.py", "tokenization_evil.py"):
        (folder / name).write_text(code)
    auto = {"AutoConfig": "configuration_evil.Config", "AutoModelForCausalLM": "modeling_evil.Model"}
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"auto_map": auto, "_name_or_path": "../.."}))
    before = set(sys.modules)
    whole(folder)
    assert not proof.exists()
    assert not any("evil" in name for name in set(sys.modules) - before)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "null",
        "[" * 100_000,
        '{"a":' * 50_000,
        '{"model_type": "llama", "vocab_size": ' + "9" * 10_000 + "}",
        '{"model_type": "llama", "vocab_size": NaN}',
        '{"model_type": "llama"}',
        "\udcff",
    ],
    ids=range(10),
)
def test_a_hostile_configuration_is_refused(folder: Path, text: str) -> None:
    (folder / "config.json").write_bytes(text.encode("utf-8", "surrogateescape"))
    refused(folder, "config.json")


@pytest.mark.parametrize("key", ["hidden_size", "num_hidden_layers", "vocab_size", "num_attention_heads", "head_dim"])
def test_sizes_beyond_all_bounds_cost_no_memory(folder: Path, key: str) -> None:
    config = json.loads((folder / "config.json").read_text())
    for value in (2**20, 2**62, -1, 1e308, "8", [8], {"a": 8}):
        (folder / "config.json").write_text(json.dumps(config | {key: value}))
        with pytest.raises(ModelError):
            whole(folder)


def test_a_hostile_safetensors_header_is_refused(folder: Path) -> None:
    path = folder / "model.safetensors"
    raw = path.read_bytes()
    for length in (0, 7, 2**31, 2**62, 2**64 - 1, len(raw)):
        path.write_bytes(struct.pack("<Q", length) + raw[8:])
        refused(folder, "model.safetensors")


def test_mutated_safetensors_are_read_or_refused_and_nothing_else(folder: Path) -> None:
    path = folder / "model.safetensors"
    raw = path.read_bytes()
    header = 8 + struct.unpack("<Q", raw[:8])[0]
    chance = random.Random(0)
    outcomes = set()
    for _ in range(500):
        changed = bytearray(raw)
        for _ in range(chance.choice((1, 2, 8))):
            changed[chance.randrange(header)] = chance.randrange(256)
        path.write_bytes(bytes(changed))
        try:
            whole(folder)
            outcomes.add("read")
        except ModelError:
            outcomes.add("refused")
    assert "refused" in outcomes


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{}",
        "[]",
        '{"model": {"type": "BPE", "vocab": {"a": -1}, "merges": ["a b"]}}',
        '{"model": 3}',
    ],
)
def test_a_hostile_tokenizer_is_refused(folder: Path, text: str) -> None:
    (folder / "tokenizer.json").write_text(text)
    refused(folder, "tokenizer")


def test_a_file_of_noise_is_refused(tmp_path: Path) -> None:
    chance = random.Random(1)
    for name in ("model.gguf", "other.gguf"):
        for start in (b"", b"GGUF", b"GGUF\x03\0\0\0"):
            (tmp_path / name).write_bytes(start + chance.randbytes(300))
            refused(tmp_path / name, "cannot be read")
