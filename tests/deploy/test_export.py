"""What a bundle leaves for other programs: graphs, files of llama.cpp, a folder of sentence-transformers."""

import json
import shutil
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from zhumo.bundle import load
from zhumo.deploy.export import export
from zhumo.deploy.step import _write_sentence_transformer
from zhumo.errors import ModelError
from zhumo.tasks.embed import Embed
from zhumo.weights import read_weights

TEXTS = ["布料很好", "soft", "the dress is lovely and fits"]


def test_an_embed_bundle_is_a_graph_and_a_sentence_transformer(bundles: dict[str, Path], tmp_path: Path) -> None:
    from sentence_transformers import SentenceTransformer

    folder = tmp_path / "e"
    shutil.copytree(bundles["embed"], folder)
    bundle = load(folder)
    assert isinstance(bundle.task, Embed) and bundle.tokenizer is not None
    bundle.task.state |= {"prefix": "query: ", "match_prefix": "passage: ", "pooling": "cls"}
    _write_sentence_transformer(folder, bundle.task)
    export(bundle, ["onnx"])
    answers = bundle.answer([{"text": text, "match": text} for text in TEXTS])
    ours = np.array([answer["embedding"] for answer in answers])
    matches = np.array([answer["match_embedding"] for answer in answers])
    theirs = SentenceTransformer(str(folder), device="cpu")
    assert abs(theirs.encode(TEXTS) - ours).max() < 1e-5
    assert abs(theirs.encode(TEXTS, prompt_name="document") - matches).max() < 1e-5
    assert abs(ours - matches).max() > 1e-3, "a prefix that changes nothing proves nothing"
    session = onnxruntime.InferenceSession(str(folder / "export" / "model.onnx"), providers=["CPUExecutionProvider"])
    for text, vector in zip(TEXTS, ours, strict=True):
        ids = np.array([bundle.tokenizer.encode("query: " + text)])
        [found] = session.run(["sentence_embedding"], {"input_ids": ids, "attention_mask": np.ones_like(ids)})
        assert abs(found[0] - vector).max() < 1e-5


def test_a_classifier_leaves_its_encoder(bundles: dict[str, Path], tmp_path: Path) -> None:
    shutil.copytree(bundles["classify"], tmp_path / "c")
    export(load(tmp_path / "c"), ["onnx"])
    session = onnxruntime.InferenceSession(str(tmp_path / "c" / "export" / "model.onnx"))
    assert [output.name for output in session.get_outputs()] == ["last_hidden_state"]


def test_a_bundle_that_writes_leaves_files_of_llama_cpp(bundles: dict[str, Path], tmp_path: Path) -> None:
    shutil.copytree(bundles["write"], tmp_path / "w")
    bundle = load(tmp_path / "w")
    export(bundle, ["gguf-f16", "gguf-q8_0"])
    names = sorted(path.name for path in (tmp_path / "w" / "export").iterdir())
    assert names == ["model-F16.gguf", "model-Q8_0.gguf"]
    assert read_weights(tmp_path / "w" / "export" / names[0]).config == bundle.model.config
    assert json.loads((tmp_path / "w" / "config.json").read_text())["model_type"] == "llama"


@pytest.mark.parametrize(("task", "form"), [("recommend", "gguf-f32"), ("embed", "gguf-f32"), ("write", "onnx")])
def test_a_form_that_does_not_know_the_model_is_refused(
    task: str, form: str, bundles: dict[str, Path], tmp_path: Path
) -> None:
    shutil.copytree(bundles[task], tmp_path / "b")
    with pytest.raises(ModelError, match=r"deploy\.export"):
        export(load(tmp_path / "b"), [form])
