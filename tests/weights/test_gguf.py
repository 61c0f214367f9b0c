"""GGUF files: the same numbers, names and tokens as llama.cpp's own package and `transformers` read in them."""

import random
import struct
from pathlib import Path

import gguf
import numpy as np
import pytest
import torch
import transformers
from gguf.quants import dequantize, quantize
from tiny_gguf import FAMILIES, TEMPLATE, tokens, write_gguf

from zhumo.errors import ModelError
from zhumo.transformer import Transformer
from zhumo.transformer.families import shapes
from zhumo.weights import Weights, read_weights
from zhumo.weights.blocks import Format, dequantise
from zhumo.weights.gguf import FORMATS as KNOWN
from zhumo.weights.gguf import Gguf

TYPES = gguf.GGMLQuantizationType
FORMATS = {TYPES(kind): form for kind, form in KNOWN.items()}
WRITTEN = {kind: form for kind, form in FORMATS.items() if not kind.name.endswith("_K")}  # the package only reads those
TEXTS = ("the cat, 12 of the 3412 cats", "你好，世界", "x = {\n    'a': 1\n}", "😀 naïve\t\r\n  the", "", "<think>the")


def whole(path: Path) -> Weights:
    """The weights, with everything that is read only when it is asked for."""
    weights = read_weights(path)
    assert weights.tensors
    assert weights.tokenizer
    return weights


def model_of(weights: Weights) -> Transformer:
    model = Transformer(weights.config)
    model.load_state_dict(weights.tensors)
    return model.eval()


def test_the_formats_are_those_of_the_gguf_package() -> None:
    wanted = "F32 F16 BF16 Q4_0 Q4_1 Q5_0 Q5_1 Q8_0 Q2_K Q3_K Q4_K Q5_K Q6_K"
    assert {kind.name for kind in FORMATS} == {form.name for form in FORMATS.values()} == set(wanted.split())
    assert {kind: (form.numbers, form.size) for kind, form in FORMATS.items()}.items() <= gguf.GGML_QUANT_SIZES.items()


@pytest.mark.parametrize(("kind", "form"), WRITTEN.items(), ids=lambda value: getattr(value, "name", ""))
def test_blocks_are_the_numbers_of_the_gguf_package(kind: TYPES, form: Format) -> None:
    values = np.random.default_rng(0).normal(size=(7, 96)).astype(np.float32)
    raw = quantize(values, kind)
    wanted = dequantize(raw, kind)
    found = dequantise(np.ascontiguousarray(raw).view(np.uint8).reshape(-1), form)
    assert np.array_equal(found, wanted.reshape(-1))
    assert np.abs(found - values.reshape(-1)).max() < 0.5


@pytest.mark.parametrize(("kind", "form"), FORMATS.items(), ids=lambda value: getattr(value, "name", ""))
def test_any_bytes_give_the_numbers_of_the_gguf_package(kind: TYPES, form: Format) -> None:
    raw = np.random.default_rng(1).integers(0, 256, size=(500, form.size), dtype=np.uint8)
    with np.errstate(all="ignore"):
        wanted, found = dequantize(raw, kind).reshape(-1), dequantise(raw.reshape(-1), form)
    assert np.array_equal(found, wanted, equal_nan=True)


def test_tensors_of_every_format_are_read_from_one_file(tmp_path: Path) -> None:
    chance, writer = np.random.default_rng(2), gguf.GGUFWriter(tmp_path / "all.gguf", "llama")
    wanted = {}
    for kind, form in FORMATS.items():
        raw = chance.integers(0, 64, size=(3, 2 * form.size), dtype=np.uint8)  # so small that no scale is infinite
        writer.add_tensor(kind.name, raw, raw_shape=raw.shape, raw_dtype=kind)
        wanted[kind.name] = dequantize(raw, kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    file = Gguf(tmp_path / "all.gguf")
    for name, values in wanted.items():
        assert np.array_equal(file.tensor(name).numpy(), values), name


@pytest.mark.parametrize("head", ["tied", "own"])
@pytest.mark.parametrize("family", FAMILIES)
def test_a_float_file_gives_back_the_very_weights(tmp_path: Path, family: str, head: str) -> None:
    model = write_gguf(tmp_path / "model.gguf", family, head)
    weights = read_weights(tmp_path / "model.gguf")
    assert (weights.config, weights.family, weights.licence) == (model.config, family, "apache-2.0")
    assert weights.tensors.keys() == model.state_dict().keys()
    assert all(torch.equal(weights.tensors[name], tensor) for name, tensor in model.state_dict().items())


@pytest.mark.parametrize("form", [TYPES.Q4_1, TYPES.Q8_0, TYPES.F16, TYPES.BF16], ids=lambda form: form.name)
@pytest.mark.parametrize("family", FAMILIES)
@torch.no_grad()
def test_logits_are_those_of_transformers(tmp_path: Path, family: str, form: TYPES) -> None:
    write_gguf(tmp_path / "model.gguf", family, "own", form)
    weights = read_weights(tmp_path / "model.gguf")
    theirs = transformers.AutoModelForCausalLM.from_pretrained(
        tmp_path, gguf_file="model.gguf", dtype=torch.float32
    ).eval()
    ids = torch.randint(0, weights.config.vocabulary, (2, 11), generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(model_of(weights)(ids), theirs(ids).logits, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("pre", ["gpt-2", "qwen2", "llama-bpe"])
def test_tokens_are_those_of_transformers(tmp_path: Path, pre: str) -> None:
    write_gguf(tmp_path / "model.gguf", "qwen2" if pre == "qwen2" else "llama", pre=pre)
    ours = read_weights(tmp_path / "model.gguf").tokenizer
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path, gguf_file="model.gguf")
    assert ours is not None
    words, _ = tokens()
    for text in TEXTS:
        ids = ours.encode(text)
        assert ids == theirs(text)["input_ids"], text
        assert ours.decode(ids) == text
    assert ours.encode_trusted("<|im_end|>") == [2]
    assert ours.encode("<|im_end|>") != [2]
    assert (ours.special("bos"), ours.special("eos"), ours.template, ours.size) == (1, 2, TEMPLATE, len(words))
    chat = [{"role": "user", "content": "你好"}]
    rendered = theirs.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)
    assert ours.render(chat, prompt=True) == rendered


PIECES = ["▁", "a", "b", "c", "▁a", "ab", "▁ab", "bc", "abc", "▁abc", "▁▁", "ca", "▁b", "é", "cab"]
SCORES = [-9.0, -8.0, -8.5, -8.6, -1.0, -2.0, -4.0, -3.0, -5.0, -6.0, -0.5, -1.5, -2.5, -7.0, -1.2]


@pytest.mark.parametrize("led", [None, True])
def test_pieces_are_those_of_transformers(tmp_path: Path, led: bool | None) -> None:
    """SentencePiece: pieces by their scores, what has none as bytes, a blank before the text."""
    words = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), *PIECES, "[INST]"]
    kinds = [2, 3, 3, *[6] * 256, *[1] * len(PIECES), 4]
    scores = [0.0, 0.0, 0.0, *[0.0] * 256, *SCORES, 0.0]
    write_gguf(tmp_path / "model.gguf", "llama", pieces=(words, kinds, scores), led=led)
    ours = read_weights(tmp_path / "model.gguf").tokenizer
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path, gguf_file="model.gguf")
    assert ours is not None
    for text in ("abc", "ab  cab", " a", "abcabcab", "é 你好 ab", "", "a\nb\tc", "[INST]ab"):
        wanted = theirs(text)["input_ids"]
        assert ours.encode(text) == wanted, text
        assert ours.decode(wanted) == theirs.decode(wanted, skip_special_tokens=True)
    assert ours.encode("ab")[0] == ours.special("bos") == 1 and ours.special("eos") == 2
    assert 2 not in ours.encode("</s>ab")
    assert ours.decode(ours.encode("é 你好 ab", special=False)) == "é 你好 ab"


ROPES = {"linear": {"rope_factor": 4.0}, "yarn": {"rope_factor": 2.0, "rope_length": 16}}


@pytest.mark.parametrize("rope", ROPES)
def test_ropes_that_reach_further_are_read(tmp_path: Path, rope: str) -> None:
    model = write_gguf(tmp_path / "model.gguf", "llama", rope={"rope": rope, **ROPES[rope]})
    assert read_weights(tmp_path / "model.gguf").config == model.config


def test_the_rope_of_llama3_is_known_by_its_numbers(tmp_path: Path) -> None:
    rope = {"rope": "llama3", "rope_factor": 32.0, "rope_length": 8192, "rope_theta": 500_000.0}
    model = write_gguf(tmp_path / "model.gguf", "llama", rope=rope)
    weights = read_weights(tmp_path / "model.gguf")
    assert weights.config == model.config and weights.tensors.keys() == model.state_dict().keys()
    write_gguf(tmp_path / "other.gguf", "llama", rope=rope | {"rope_length": 4096})
    with pytest.raises(ModelError, match="llama3 rope"):
        read_weights(tmp_path / "other.gguf")


def test_digits_are_cut_one_by_one_where_the_model_learned_them_so(tmp_path: Path) -> None:
    """SmolLM's way: though the vocabulary has a merge for it, `12` is two tokens."""
    write_gguf(tmp_path / "model.gguf", "llama")
    tokenizer = read_weights(tmp_path / "model.gguf").tokenizer
    assert tokenizer is not None
    words, _ = tokens()
    assert [words[token] for token in tokenizer.encode("12")] == ["1", "2"]


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("llama.rope.scaling.type", "longrope", "longrope"),
        ("llama.rope.scaling.type", "yarn", "factor is missing"),
        ("llama.rope.scaling.attn_factor", 2, "attn_factor"),
        ("llama.expert_count", 8, "expert_count"),
        ("llama.attention.sliding_window", 512, "sliding_window"),
        ("llama.rope.dimension_count", 8, "different sizes"),
        ("llama.attention.head_count", 3, "multiple|rows"),
        ("llama.block_count", 3, "missing"),
        ("llama.block_count", 1, "unknown"),
        ("llama.feed_forward_length", 64, "instead of"),
        ("general.architecture", "mamba", "known are llama, qwen2, qwen3"),
        ("tokenizer.ggml.model", "llama", "scores"),
        ("tokenizer.ggml.model", "bert", "gpt2"),
        ("tokenizer.ggml.pre", "tekken", "smollm"),
        ("general.alignment", 12, "alignment"),
    ],
)
def test_what_we_do_not_compute_is_refused(tmp_path: Path, key: str, value: int | str, said: str) -> None:
    write_gguf(tmp_path / "model.gguf", "llama")
    change(tmp_path / "model.gguf", key, value)
    with pytest.raises(ModelError, match=said):
        whole(tmp_path / "model.gguf")


def fact(key: str, value: int | str) -> bytes:
    """A fact as it lies in a file."""
    name = struct.pack("<Q", len(key)) + key.encode()
    if isinstance(value, int):
        return name + struct.pack("<II", 4, value)
    return name + struct.pack("<IQ", 8, len(value)) + value.encode()


def change(path: Path, key: str, value: int | str) -> None:
    """Set a fact, or add it, and move the tensors so that they lie on the grid again."""
    reader = gguf.GGUFReader(path)
    raw = path.read_bytes()
    facts = [field for name, field in reader.fields.items() if not name.startswith("GGUF.")]
    end = max(field.offset + sum(part.nbytes for part in field.parts) for field in facts)
    kept = b"".join(
        raw[field.offset : field.offset + sum(part.nbytes for part in field.parts)]
        for field in facts
        if field.name != key
    )
    headers = raw[end : reader.tensors[-1].field.offset + sum(p.nbytes for p in reader.tensors[-1].field.parts)]
    count = sum(field.name != key for field in facts) + 1
    start = raw[:16] + struct.pack("<Q", count) + fact(key, value) + kept + headers
    path.write_bytes(start + b"\0" * (-len(start) % 32) + raw[reader.data_offset :])


def test_every_cut_of_a_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    write_gguf(path, "llama", "tied", TYPES.Q8_0)
    raw = path.read_bytes()
    for end in [*range(0, 400, 7), *range(400, len(raw) - 1, len(raw) // 40), len(raw) - 64]:
        path.write_bytes(raw[:end])
        with pytest.raises(ModelError):
            whole(path)


def mutate(raw: bytes, header: int, chance: random.Random) -> bytes:
    """A file with a few bytes or numbers of its header changed."""
    changed = bytearray(raw)
    for _ in range(chance.choice((1, 1, 1, 2, 5))):
        place = chance.randrange(4, header)
        width = chance.choice((1, 1, 4, 8))
        value = chance.choice((0, 1, 2, 255, 2**31, 2**32 - 1, 2**63, 2**64 - 1, chance.getrandbits(64), len(raw)))
        changed[place : place + width] = (value % 2 ** (8 * width)).to_bytes(width, "little")
    return bytes(changed)


@pytest.mark.parametrize(
    ("family", "count"),
    [("llama", 2000)] + [pytest.param(family, 20_000, marks=pytest.mark.long) for family in FAMILIES],
)
def test_a_mutated_header_is_read_or_refused_and_nothing_else(tmp_path: Path, family: str, count: int) -> None:
    path = tmp_path / "model.gguf"
    write_gguf(path, family, "own", TYPES.Q8_0)
    raw = path.read_bytes()
    header = gguf.GGUFReader(path).data_offset
    chance = random.Random(family)
    read = refused = 0
    for _ in range(count):
        path.write_bytes(mutate(raw, header, chance))
        try:
            weights = whole(path)
        except ModelError as error:
            assert error.say("zh") and error.say("en")
            refused += 1
        else:
            wanted = shapes(weights.config)
            assert {name: tuple(weights.tensors[name].shape) for name in wanted} == wanted
            read += 1
    assert read > count / 20 and refused > count / 3


def test_the_tokenizer_is_read_without_the_tensors(tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    model = write_gguf(path, "llama", "own")
    raw = bytearray(path.read_bytes())
    raw[gguf.GGUFReader(path).data_offset :] = b"\xff" * (len(raw) - gguf.GGUFReader(path).data_offset)  # not numbers
    path.write_bytes(raw)
    weights = read_weights(path)
    assert weights.config == model.config
    assert weights.tokenizer is not None and weights.tokenizer.size == len(tokens()[0])
    with pytest.raises(ModelError, match="not finite"):
        _ = weights.tensors


def test_tensors_that_lie_in_one_another_are_refused(tmp_path: Path) -> None:
    """A small file must not unfold into a large memory: here every tensor would be the whole file."""
    names = [f"blk.{block}.ffn_up.weight" for block in range(1000)]
    headers = b"".join(
        struct.pack("<Q", len(name)) + name.encode() + struct.pack("<IQQIQ", 2, 1024, 64, 8, 0) for name in names
    )
    start = b"GGUF" + struct.pack("<IQQ", 3, len(names), 1) + fact("general.architecture", "llama") + headers
    path = tmp_path / "bomb.gguf"
    path.write_bytes(start + b"\0" * (-len(start) % 32) + b"\1" * (1024 * 64 // 32 * 34))
    with pytest.raises(ModelError, match="lie in one another"):
        Gguf(path)
