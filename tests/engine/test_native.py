"""The native core beside torch: every decoder family, every kind of processor code, any cut of any number of texts."""

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from zhumo.engine.library import PATHS, library, path_of
from zhumo.engine.native import CacheBits, NativeModel, computes
from zhumo.engine.packed import Bits
from zhumo.engine.parts import Part
from zhumo.transformer import Config, Transformer, initialise

LLAMA = Config(
    vocabulary=203, width=64, depth=3, heads=4, kv_heads=2, head_dim=32, hidden=160, length=64, positions="rotary",
    norm="rms", activation="silu", gated=True, bias="none",
)  # fmt: skip
CASES = {
    "llama": LLAMA,
    "llama3": replace(LLAMA, rope="llama3", rope_factor=8.0, rope_length=32),
    "yarn": replace(LLAMA, rope="yarn", rope_factor=4.0, rope_length=16),
    "qwen2": replace(LLAMA, bias="qkv", head="own"),
    "qwen3": replace(LLAMA, qk_norm=True, kv_heads=1),
    "mistral": replace(LLAMA, window=5),
    "gpt2": replace(
        LLAMA, width=72, kv_heads=4, positions="learned", norm="layer", activation="gelu_tanh", gated=False, bias="all"
    ),
    "gelu": replace(LLAMA, activation="gelu", head="own", head_bias=True),
    "relu": replace(LLAMA, activation="relu", gated=False, width=65),
}
IDS = torch.randint(0, 203, (1, 37), generator=torch.Generator().manual_seed(3))
TEXT = IDS[0].tolist()
here = pytest.mark.skipif(library() is None, reason="no compiler")
paths = PATHS[: 1 + (core.zhumo_path() if (core := library()) else 0)]


def model_of(name: str) -> Transformer:
    return weighted(CASES[name])


def weighted(config: Config) -> Transformer:
    """With weights large enough to matter and nothing left at zero or one."""
    model = initialise(Transformer(config), 0).eval()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.mul_(4)
            else:
                parameter.add_(torch.randn(parameter.shape, generator=generator), alpha=0.1)
    return model


@here
@pytest.mark.parametrize("cache_bits", [16, 8])
@pytest.mark.parametrize("path", paths)
@pytest.mark.parametrize("name", CASES)
def test_logits_are_those_of_torch_up_to_whole_numbers(name: str, path: str, cache_bits: CacheBits) -> None:
    model = model_of(name)
    core = NativeModel(model, slots=3, length=48, path=path, cache_bits=cache_bits)
    with torch.inference_mode():
        wanted = model(IDS)[0]
    got = torch.cat([core.step([Part(1, place, [token])])[0] for place, token in enumerate(TEXT)])
    assert got.shape == wanted.shape
    assert (got - wanted).norm() <= 0.03 * wanted.norm()
    assert (got.argmax(-1) == wanted.argmax(-1)).float().mean() >= 0.9


@here
@pytest.mark.parametrize("cache_bits", [16, 8])
@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("path", paths)
def test_however_a_text_is_cut_and_whoever_else_is_there_it_reads_the_same(
    path: str, threads: int, cache_bits: CacheBits
) -> None:
    model = model_of("llama")
    alone = NativeModel(model, slots=1, length=48, path=path, cache_bits=cache_bits)
    wanted = torch.cat([alone.step([Part(0, place, [token])])[0] for place, token in enumerate(TEXT)])
    core = NativeModel(model, slots=4, length=48, threads=threads, path=path, cache_bits=cache_bits)
    whole = torch.cat(core.step([Part(2, 0, TEXT), Part(0, 0, TEXT[:9]), Part(3, 0, TEXT[:1])]))
    assert torch.allclose(whole, wanted[[36, 8, 0]], atol=1e-4)
    cut = core.step([Part(0, 9, TEXT[9:20]), Part(1, 0, TEXT[:7]), Part(3, 1, TEXT[1:36], every=True)])
    assert torch.allclose(torch.cat(cut), wanted[[19, 6, *range(1, 36)]], atol=1e-4)


@here
@pytest.mark.parametrize("bits", [8, 4])
@pytest.mark.parametrize("path", paths)
@pytest.mark.parametrize("name", CASES)
def test_a_prompt_is_no_further_from_torch_than_what_is_written(name: str, path: str, bits: Bits) -> None:
    model = model_of(name)
    core = NativeModel(model, slots=2, length=48, path=path, bits=bits)
    with torch.inference_mode():
        wanted = model(IDS)[0]
    prompt, written = core.step([Part(0, 0, TEXT, every=True, prompt=True), Part(1, 0, TEXT, every=True)])
    errors = [(got - wanted).norm() for got in (prompt, written)]
    assert torch.equal(prompt, written) if core.alike else not torch.equal(prompt, written)
    assert errors[0] <= 1.02 * errors[1], "bfloat16 is nearer than whole numbers, but for 4 bits that outweigh it"


@here
@pytest.mark.parametrize("cache_bits", [16, 8])
@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("path", paths)
def test_a_prompt_reads_the_same_however_it_is_cut_and_whoever_else_is_there(
    path: str, threads: int, cache_bits: CacheBits
) -> None:
    model = model_of("gpt2")
    alone = NativeModel(model, slots=1, length=48, threads=1, path=path, cache_bits=cache_bits)
    wanted = torch.cat([alone.step([Part(0, i, [token], prompt=i < 30)])[0] for i, token in enumerate(TEXT)])
    least = 1e-4 if alone.alike else 0.0  # through tiles it is the same bit for bit
    core = NativeModel(model, slots=4, length=48, threads=threads, path=path, cache_bits=cache_bits)
    core.step([Part(1, 0, TEXT[:30], prompt=True)])
    cut = [Part(2, 0, TEXT[:17], True, True), Part(1, 30, TEXT[30:34], True), Part(0, 0, TEXT[:1], prompt=True)]
    assert torch.allclose(torch.cat(core.step(cut)), wanted[[*range(17), *range(30, 34), 0]], atol=1e-4)
    assert torch.allclose(core.step([Part(0, 0, TEXT[:5], True, True)])[0], wanted[:5], rtol=0, atol=least)
    rest = [Part(0, 1, TEXT[1:30], prompt=True), Part(1, 34, TEXT[34:]), Part(2, 17, TEXT[17:30], True, True)]
    assert torch.allclose(torch.cat(core.step(rest)), wanted[[29, 36, *range(17, 30)]], atol=1e-4)


@here
@pytest.mark.parametrize("prompt", [True, False])
def test_a_call_of_many_rows_is_cut(prompt: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    core = NativeModel(model_of("llama"), slots=2, length=48)
    parts = [Part(0, 0, TEXT, prompt=prompt), Part(1, 0, TEXT[:30], every=True)]
    whole = torch.cat(core.step(parts))
    monkeypatch.setattr(core, "rows", 5)
    assert torch.equal(torch.cat(core.step(parts)), whole)


@here
def test_a_slot_is_used_again() -> None:
    core = NativeModel(model_of("llama"), slots=1, length=48)
    first = core.step([Part(0, 0, TEXT)])[0]
    core.step([Part(0, 0, TEXT[::-1])])
    assert torch.equal(core.step([Part(0, 0, TEXT)])[0], first)
    core.step([Part(0, 20, TEXT[::-1][:10])])
    assert torch.equal(core.step([Part(0, 20, TEXT[20:])])[0], first), "what stood before the new tokens still stands"


@here
@pytest.mark.parametrize("cache_bits", [16, 8])
@pytest.mark.parametrize("count", [1, 15, 16, 36])
def test_a_text_goes_on_from_what_another_has_read(count: int, cache_bits: CacheBits) -> None:
    core = NativeModel(model_of("llama"), slots=3, length=48, cache_bits=cache_bits)
    wanted = core.step([Part(2, 0, TEXT)])[0]
    core.step([Part(0, 0, TEXT[::-1])])
    core.copy(2, 0, count)
    assert torch.equal(core.step([Part(0, count, TEXT[count:])])[0], wanted)


@here
def test_keys_and_values_of_eight_bits_take_half_the_room_and_are_a_little_further_off() -> None:
    model = model_of("llama")
    with torch.inference_mode():
        wanted = model(IDS)[0, -1:]
    wide, narrow = (NativeModel(model, slots=2, length=48, cache_bits=bits) for bits in (16, 8))
    assert narrow.keys.nbytes + narrow.values.nbytes == (wide.keys.nbytes + wide.values.nbytes) // 2
    errors = [(core.step([Part(0, 0, TEXT)])[0] - wanted).norm() for core in (wide, narrow)]
    assert errors[0] < errors[1] < 0.03 * wanted.norm()


@here
def test_four_bits_are_further_off_than_eight() -> None:
    model = model_of("llama")
    with torch.inference_mode():
        wanted = model(IDS)[0, -1:]
    eight, four = (NativeModel(model, slots=1, length=48, bits=bits).step([Part(0, 0, TEXT)])[0] for bits in (8, 4))
    assert (eight - wanted).norm() < (four - wanted).norm() < 0.4 * wanted.norm()


@here
@pytest.mark.parametrize(
    "parts",
    [
        [Part(0, 0, [])],
        [Part(2, 0, [1])],
        [Part(-1, 0, [1])],
        [Part(0, -1, [1])],
        [Part(0, 47, [1, 1])],
        [Part(0, 0, [203])],
        [Part(0, 0, [-1])],
        [Part(0, 0, [1]), Part(0, 1, [1])],
    ],
)
def test_what_is_not_there_is_refused_before_the_call(parts: list[Part]) -> None:
    core = NativeModel(model_of("llama"), slots=2, length=48)
    with pytest.raises(ValueError):
        core.step(parts)


def test_other_maths_is_left_to_torch() -> None:
    assert all(computes(config) for config in CASES.values())
    assert not computes(replace(LLAMA, head_dim=16))
    assert not computes(replace(LLAMA, rope="dynamic", rope_factor=2.0))
    assert not computes(Config(vocabulary=8, width=64, depth=1, encoder_depth=1, heads=2, positions="relative"))


@here
@pytest.mark.parametrize("change", [{"slots": 0}, {"length": 0}, {"threads": 0}, {"path": "avx1024"}])
def test_sizes_that_make_no_sense_are_refused(change: dict[str, object]) -> None:
    with pytest.raises(ValueError):
        NativeModel(model_of("llama"), **({"slots": 1, "length": 8} | change))  # type: ignore[arg-type]
    with pytest.raises(ValueError):
        NativeModel(model_of("gpt2"), slots=1, length=65)


def test_code_that_the_processor_does_not_run_is_refused() -> None:
    old: Any = SimpleNamespace(zhumo_path=lambda: PATHS.index("avx2"))
    assert path_of(old, None) == path_of(old, "avx2") == 1 and path_of(old, "plain") == 0
    with pytest.raises(ValueError, match="has no amx; it has avx2"):
        path_of(old, "amx")


@here
def test_torch_works_with_one_thread_only_in_a_step(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its other threads would spin on the cores that the core's own need."""
    core, before, told = NativeModel(model_of("llama"), slots=1, length=48), torch.get_num_threads(), list[int]()
    call = core._call

    def watched(*asked: Any) -> None:
        told.append(torch.get_num_threads())
        call(*asked)

    monkeypatch.setattr(core, "_call", watched)
    torch.set_num_threads(3)
    try:
        core.step([Part(0, 0, TEXT)])
        assert told == [1] and torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)
