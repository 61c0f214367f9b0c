"""Hugging Face folders: whole or in shards, with what sentence-transformers adds; and what is refused."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from benchmarks.parity import CASES, our_config, our_folder, their_folder
from zhumo.errors import ModelError
from zhumo.tokenizer import learn_bpe
from zhumo.transformer import Transformer
from zhumo.transformer.families import to_disk
from zhumo.weights import read_weights, tensor_files, write_tensors

BERT = next(case for case in CASES if case.family == "bert")
LLAMA = next(case for case in CASES if case.family == "llama")


def write(path: Path, value: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value), encoding="utf-8")


@pytest.mark.parametrize("case", [BERT, LLAMA], ids=lambda case: case.family)
def test_a_folder_is_read(tmp_path: Path, case: object) -> None:
    model = our_folder(our_config(case), case.family, tmp_path)
    weights = read_weights(tmp_path)
    assert (weights.config, weights.family) == (model.config, case.family)
    assert (weights.tokenizer, weights.pooling, weights.prefixes, weights.normalise) == (None, None, None, False)
    assert all(torch.equal(weights.tensors[name], tensor) for name, tensor in model.state_dict().items())


def test_the_tokenizer_and_the_licence_come_along(tmp_path: Path) -> None:
    our_folder(our_config(LLAMA), "llama", tmp_path)
    learn_bpe(["one two"], 300).save(tmp_path)
    (tmp_path / "README.md").write_text("---\nlanguage: zh\nlicense: mit\n---\n# A model\n", encoding="utf-8")
    weights = read_weights(tmp_path)
    assert weights.licence == "mit"
    assert weights.tokenizer is not None
    assert weights.tokenizer.special("eos") is not None


def in_shards(folder: Path) -> dict[str, str]:
    """Cut the one file of a folder in two, with an index; the index's map."""
    tensors = load_file(folder / "model.safetensors")
    names = sorted(tensors)
    parts = {
        "model-00001-of-00002.safetensors": names[: len(names) // 2],
        "model-00002-of-00002.safetensors": names[len(names) // 2 :],
    }
    for file, inside in parts.items():
        save_file({name: tensors[name] for name in inside}, folder / file)
    (folder / "model.safetensors").unlink()
    shards = {name: file for file, inside in parts.items() for name in inside}
    write(folder / "model.safetensors.index.json", {"metadata": {"total_size": 1}, "weight_map": shards})
    return shards


def test_shards_are_put_together(tmp_path: Path) -> None:
    model = our_folder(our_config(LLAMA), "llama", tmp_path)
    in_shards(tmp_path)
    state = read_weights(tmp_path).tensors
    assert all(torch.equal(state[name], tensor) for name, tensor in model.state_dict().items())


@pytest.mark.parametrize("most", [1, 3_000, 10_000, 10**9])
def test_shards_are_written_and_read_by_all(tmp_path: Path, most: int) -> None:
    config = our_config(LLAMA)
    model = our_folder(config, "llama", tmp_path)
    (tmp_path / "model.safetensors").unlink()
    disk = to_disk(model.state_dict(), config, "llama")
    write_tensors(tmp_path, disk, most)
    files = tensor_files(tmp_path)
    biggest = max(most, *(tensor.nbytes for tensor in disk.values()))
    assert all(sum(t.nbytes for t in load_file(file).values()) <= biggest for file in files)
    assert (len(files), files[0].name == "model.safetensors") == (
        {1: len(disk), 10**9: 1}.get(most, len(files)),
        most == 10**9,
    )
    state = read_weights(tmp_path).tensors
    assert all(torch.equal(state[name], tensor) for name, tensor in model.state_dict().items())
    theirs = AutoModelForCausalLM.from_pretrained(tmp_path)
    assert torch.equal(theirs.lm_head.weight, model.head.weight)


def test_a_missing_shard_is_named(tmp_path: Path) -> None:
    our_folder(our_config(LLAMA), "llama", tmp_path)
    in_shards(tmp_path)
    (tmp_path / "model-00002-of-00002.safetensors").unlink()
    with pytest.raises(ModelError, match="model-00002-of-00002"):
        _ = read_weights(tmp_path).tensors


def test_half_precision_is_kept_until_it_is_loaded(tmp_path: Path) -> None:
    config = our_config(LLAMA)
    our_folder(config, "llama", tmp_path)
    tensors = {name: tensor.bfloat16() for name, tensor in load_file(tmp_path / "model.safetensors").items()}
    save_file(tensors, tmp_path / "model.safetensors")
    weights = read_weights(tmp_path)
    assert {tensor.dtype for tensor in weights.tensors.values()} == {torch.bfloat16}
    model = Transformer(config)
    model.load_state_dict(weights.tensors)
    assert {tensor.dtype for tensor in model.state_dict().values()} == {torch.float32}


MODULES = [
    {"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"},
    {"idx": 1, "name": "1", "path": "1_Pooling", "type": "sentence_transformers.models.Pooling"},
    {"idx": 2, "name": "2", "path": "2_Normalize", "type": "sentence_transformers.models.Normalize"},
]


def sentence_folder(folder: Path, modules: list[dict[str, object]], pooling: dict[str, object]) -> None:
    our_folder(our_config(BERT), "bert", folder)
    write(folder / "modules.json", modules)
    write(folder / "1_Pooling" / "config.json", pooling)


@pytest.mark.parametrize(
    ("pooling", "wanted"),
    [
        ({"pooling_mode_mean_tokens": True, "pooling_mode_cls_token": False, "word_embedding_dimension": 21}, "mean"),
        ({"pooling_mode_mean_tokens": False, "pooling_mode_cls_token": True}, "cls"),
        ({"pooling_mode_lasttoken": True}, "last"),
        ({"pooling_mode": "mean", "embedding_dimension": 21}, "mean"),
        ({"pooling_mode": "lasttoken"}, "last"),
    ],
)
def test_pooling_of_sentence_transformers_is_read(tmp_path: Path, pooling: dict[str, object], wanted: str) -> None:
    sentence_folder(tmp_path, MODULES, pooling)
    weights = read_weights(tmp_path)
    assert (weights.pooling, weights.normalise) == (wanted, True)
    write(tmp_path / "modules.json", MODULES[:2])
    assert not read_weights(tmp_path).normalise


@pytest.mark.parametrize(
    ("modules", "pooling", "said"),
    [
        (MODULES, {"pooling_mode_max_tokens": True}, "max_tokens"),
        (MODULES, {"pooling_mode_mean_tokens": True, "pooling_mode_cls_token": True}, "cls_token"),
        (MODULES, {"pooling_mode": ["mean", "max"]}, "max"),
        (MODULES, {"pooling_mode": "mean", "include_prompt": False}, "mean"),
        (MODULES, {}, "pooling_mode"),
        (
            [*MODULES, {"type": "sentence_transformers.models.Dense"}],
            {"pooling_mode": "cls"},
            "Dense",
        ),
    ],
)
def test_steps_we_do_not_compute_are_refused(
    tmp_path: Path, modules: list[dict[str, object]], pooling: dict[str, object], said: str
) -> None:
    sentence_folder(tmp_path, modules, pooling)
    with pytest.raises(ModelError, match=said):
        read_weights(tmp_path)


def test_prompts_for_question_and_passage_are_read(tmp_path: Path) -> None:
    our_folder(our_config(BERT), "bert", tmp_path)
    write(tmp_path / "config_sentence_transformers.json", {"prompts": {"query": "query: ", "document": "passage: "}})
    assert read_weights(tmp_path).prefixes == ("query: ", "passage: ")
    write(tmp_path / "config_sentence_transformers.json", {"prompts": {"query": "", "document": ""}})
    assert read_weights(tmp_path).prefixes is None


def test_a_folder_of_transformers_itself_is_read(tmp_path: Path) -> None:
    their_folder(LLAMA, tmp_path)
    assert read_weights(tmp_path).family == "llama"


def test_wrong_tensors_name_the_folder(tmp_path: Path) -> None:
    our_folder(our_config(LLAMA), "llama", tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    del tensors["model.norm.weight"]
    save_file(tensors, tmp_path / "model.safetensors")
    with pytest.raises(ModelError, match=r"missing: norm\.weight") as error:
        _ = read_weights(tmp_path).tensors
    assert str(tmp_path) in str(error.value)


def test_wrong_tensors_name_their_shard(tmp_path: Path) -> None:
    our_folder(our_config(LLAMA), "llama", tmp_path)
    shards = in_shards(tmp_path)
    file = shards["model.norm.weight"]
    tensors = load_file(tmp_path / file)
    save_file(tensors | {"model.norm.weight": torch.ones(7)}, tmp_path / file)
    with pytest.raises(ModelError, match=r"misshapen: norm\.weight \(7,\) instead of \(24,\)") as error:
        _ = read_weights(tmp_path).tensors
    assert file in str(error.value)
    assert (set(shards.values()) - {file}).pop() not in str(error.value)


def test_nothing_to_read_says_what_is_read(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no weights that Zhumo reads"):
        read_weights(tmp_path)
    with pytest.raises(ModelError, match="no weights that Zhumo reads"):
        read_weights(tmp_path / "nowhere")
    (tmp_path / "notes.txt").write_text("nothing")
    with pytest.raises(ModelError, match="no weights that Zhumo reads"):
        read_weights(tmp_path / "notes.txt")


def test_configuration_and_tokenizer_are_read_without_the_tensors(tmp_path: Path) -> None:
    our_folder(our_config(LLAMA), "llama", tmp_path)
    learn_bpe(["one two"], 300).save(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"not a tensor in it")
    weights = read_weights(tmp_path)
    assert weights.config == our_config(LLAMA)
    assert weights.tokenizer is not None
    with pytest.raises(ModelError, match=r"model\.safetensors"):
        _ = weights.tensors
