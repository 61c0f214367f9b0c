"""Models of ours as `.gguf` files: read back by the gguf package, by our own reader, and written with by llama.cpp."""

import json
import subprocess
from pathlib import Path

import gguf
import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy

from benchmarks.engines import llama_cpp_python
from tests.weights.tiny_gguf import small_model
from zhumo.bundle import assemble
from zhumo.errors import ModelError
from zhumo.tokenizer import CHATML, Tokenizer, learn_bpe, learn_characters
from zhumo.transformer import Config, Transformer, initialise
from zhumo.weights import read_weights, write_gguf
from zhumo.weights.blocks import F16, F32, Q8_0, Format

TEXTS = ["the cloth is soft and warm", "布料很好，很喜欢", "it tore at once, 12 times"]
ROPES = {
    "llama3": {"rope": "llama3", "rope_factor": 8.0, "rope_length": 8192},
    "linear": {"rope": "linear", "rope_factor": 2.0},
}
FAMILIES = ["llama", "qwen2", "qwen3"]
HEADS = {"llama": 64, "qwen2": 32, "qwen3": 128}
SIZES = {"width": 64, "depth": 2, "heads": 2, "hidden": 128, "length": 64}
FORMS = {"F32": F32, "F16": F16, "Q8_0": Q8_0}


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return learn_bpe(TEXTS * 3, 320)


def model_of(family: str, vocabulary: int, **more: object) -> Transformer:
    if family == "gpt2":
        config = Config(vocabulary=vocabulary, activation="gelu_tanh", **SIZES)  # type: ignore[arg-type]
        return initialise(Transformer(config), 1).eval()
    sizes = SIZES | {"kv_heads": 1, "head_dim": HEADS[family]}
    return small_model(family, "own", vocabulary, **(sizes | more)).eval()


def written(path: Path, model: Transformer, family: str, tokenizer: Tokenizer, form: Format) -> Path:
    write_gguf(path, model.state_dict(), model.config, family, tokenizer, form)
    return path


@pytest.mark.parametrize("rope", [None, *ROPES])
@pytest.mark.parametrize("family", FAMILIES)
def test_what_is_written_is_read_back(family: str, rope: str | None, tokenizer: Tokenizer, tmp_path: Path) -> None:
    model = model_of(family, 328, **ROPES.get(rope or "", {}))
    weights = read_weights(written(tmp_path / "m.gguf", model, family, tokenizer, F32))
    again = assemble(weights, None).eval()
    assert again.config == model.config
    ids = torch.randint(0, 320, (1, 20), generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        assert torch.equal(again(ids), model(ids))
    assert weights.tokenizer is not None and weights.tokenizer.template == CHATML
    chat = [{"role": "user", "content": TEXTS[1]}]
    assert weights.tokenizer.encode_chat(chat, prompt=True) == tokenizer.encode_chat(chat, prompt=True)
    assert all(weights.tokenizer.encode(text) == tokenizer.encode(text) for text in TEXTS)
    for role in ("bos", "eos", "pad"):
        assert weights.tokenizer.special(role) == tokenizer.special(role)


@pytest.mark.parametrize("form", FORMS)
def test_matrices_lie_in_the_form_that_was_asked_for(form: str, tokenizer: Tokenizer, tmp_path: Path) -> None:
    model = model_of("llama", 320)
    file = gguf.GGUFReader(written(tmp_path / "m.gguf", model, "llama", tokenizer, FORMS[form]))
    found = {tensor.name: tensor for tensor in file.tensors}
    assert found["blk.1.ffn_up.weight"].tensor_type.name == form
    assert found["output_norm.weight"].tensor_type.name == "F32"
    ours = model.state_dict()["blocks.1.feed_forward.up.weight"].numpy()
    theirs = gguf.dequantize(found["blk.1.ffn_up.weight"].data, found["blk.1.ffn_up.weight"].tensor_type)
    assert abs(ours - theirs).max() <= {"F32": 0, "F16": 1e-3, "Q8_0": 6e-3}[form] * abs(ours).max()
    if form == "Q8_0":
        quantised = gguf.quantize(ours, gguf.GGMLQuantizationType.Q8_0)
        assert np.array_equal(found["blk.1.ffn_up.weight"].data, quantised)


def test_what_llama_cpp_does_not_know_is_refused(tokenizer: Tokenizer, tmp_path: Path) -> None:
    gelu = Transformer(Config(vocabulary=320, activation="gelu", **SIZES))  # type: ignore[arg-type]
    for family, model, cutter in (
        ("gpt2", gelu, tokenizer),
        ("llama", model_of("llama", 320, rope="dynamic", rope_factor=2.0), tokenizer),
        ("qwen2", model_of("qwen2", 320, head_dim=64), tokenizer),
        ("llama", model_of("llama", 320), learn_characters(TEXTS)),
    ):
        with pytest.raises(ModelError, match=r"llama\.cpp cannot"):
            written(tmp_path / "m.gguf", model, family, cutter, F32)


SCRIPT = """
import json, sys
from llama_cpp import Llama
task = json.loads(sys.argv[1])
model = Llama(task["file"], n_ctx=64, verbose=False, logits_all=False)
for text in task["texts"]:
    ids = model.tokenize(text.encode(), add_bos=True, special=False)
    said = []
    for token in model.generate(ids, temp=0.0, repeat_penalty=1.0):
        said.append(token)
        if len(said) == len(ids):
            break
    print(json.dumps([ids, said, model.metadata.get("tokenizer.chat_template")]))
"""


@pytest.mark.long  # llama.cpp is compiled on first use
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("family", [*FAMILIES, "gpt2"])
def test_llama_cpp_writes_the_same(family: str, tokenizer: Tokenizer, tmp_path: Path) -> None:
    model = taught(model_of(family, 320), tokenizer)
    lines = [tokenizer.encode(text) for text in TEXTS]
    wanted = [[ids, greedy(model, ids), CHATML] for ids in lines]
    for form in FORMS:
        file = written(tmp_path / f"{form}.gguf", model, family, tokenizer, FORMS[form])
        task = json.dumps({"file": str(file), "texts": TEXTS})
        done = subprocess.run([*llama_cpp_python(), "-c", SCRIPT, task], capture_output=True, text=True, check=True)
        assert [json.loads(line) for line in done.stdout.splitlines()] == wanted, form


def taught(model: Transformer, tokenizer: Tokenizer) -> Transformer:
    """A model that says each text again: what it says next is far likelier than all else, in 8 bits too."""
    lines = [[*ids, *ids] for ids in map(tokenizer.encode, TEXTS)]
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
    for _ in range(60):
        for ids in lines:
            optimizer.zero_grad()
            row = torch.tensor([ids])
            cross_entropy(model(row[:, :-1])[0], row[0, 1:]).backward()
            optimizer.step()
    return model


@torch.inference_mode()
def greedy(model: Transformer, ids: list[int]) -> list[int]:
    """As many tokens as there are ids."""
    said: list[int] = []
    for _ in ids:
        said.append(int(model(torch.tensor([[*ids, *said]]))[0, -1].argmax()))
    assert said == ids, "it has not learned them"
    return said
