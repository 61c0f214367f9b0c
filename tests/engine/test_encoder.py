"""Models that only read, by the native core: every kind of them beside torch, and a text alone or among others."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity

from tests.engine.test_native import LLAMA, here, paths, weighted
from zhumo.engine import NativeEncoder, encoder
from zhumo.transformer import Config, Transformer, initialise

BERT = Config(
    vocabulary=203, width=64, depth=3, heads=2, hidden=160, length=64, types=2, causal=False, norm_first=False,
    norm_eps=1e-12, head="none",
)  # fmt: skip
READERS = {
    "bert": BERT,
    "relu": replace(BERT, activation="relu", width=96, heads=3, kv_heads=3, head_dim=32, hidden=130),
    "llama": replace(LLAMA, head="none"),
    "two-sided llama": replace(LLAMA, head="none", causal=False),
}
SIZES = [1, 64, 7, 16, 33, 2]
IDS = torch.zeros(len(SIZES), 64, dtype=torch.long)
SEGMENTS = torch.zeros_like(IDS)
for row, size in enumerate(SIZES):
    IDS[row, :size] = torch.randint(0, 203, (size,), generator=torch.Generator().manual_seed(row))
    SEGMENTS[row, :size] = 1
KEPT = SEGMENTS.bool()


def reader_of(name: str) -> Transformer:
    return weighted(READERS[name])


@here
@pytest.mark.parametrize("path", paths)
@pytest.mark.parametrize("name", READERS)
def test_states_are_those_of_torch_up_to_whole_numbers(name: str, path: str) -> None:
    model = reader_of(name)
    with torch.inference_mode():
        wanted = model.hidden(IDS, segments=SEGMENTS)[KEPT]
    got = NativeEncoder(model, path=path).hidden(IDS, segments=SEGMENTS)
    assert not got[~KEPT].any()
    assert cosine_similarity(got[KEPT], wanted).min() > 0.999
    assert (got[KEPT] - wanted).norm() <= 0.02 * wanted.norm()


@here
def test_rows_without_segments_are_a_text_each() -> None:
    core = NativeEncoder(reader_of("llama"))
    together = core.hidden(IDS)
    for row in range(len(IDS)):
        assert torch.equal(core.hidden(IDS[row : row + 1])[0], together[row])
    assert core.hidden(IDS[:0]).shape == (0, 64, core.config.width)
    assert core.hidden(IDS[:, :0]).shape == (len(IDS), 0, core.config.width)


@here
@pytest.mark.parametrize("path", paths)
@pytest.mark.parametrize("threads", [1, 2, 3])
def test_a_text_reads_the_same_alone_and_among_others(path: str, threads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    model = reader_of("bert")
    core = NativeEncoder(model, path=path, threads=threads)
    together = core.hidden(IDS, segments=SEGMENTS)
    for row, size in enumerate(SIZES):
        alone = NativeEncoder(model, path=path, threads=1).hidden(IDS[row : row + 1, :size])
        assert torch.equal(alone[0], together[row, :size])
    monkeypatch.setattr(encoder, "AT_ONCE", 1)
    assert torch.equal(core.hidden(IDS, segments=SEGMENTS), together), "a call holds as many texts as it likes"
    packed = torch.cat([IDS[row, :size] for row, size in enumerate(SIZES)])[None]
    numbers = torch.cat([torch.full((size,), row + 1) for row, size in enumerate(SIZES)])[None]
    assert torch.equal(core.hidden(packed, segments=numbers)[0], together[KEPT]), "texts may share a row"


@here
def test_what_it_cannot_read_is_refused_before_the_call() -> None:
    core = NativeEncoder(reader_of("bert"))
    for ids in ([[203]], [[-1]], [[1] * 65]):
        with pytest.raises(ValueError):
            core.hidden(torch.tensor(ids))
    with pytest.raises(ValueError):
        core.hidden(IDS, types=torch.zeros_like(IDS))
    with pytest.raises(ValueError):
        NativeEncoder(initialise(Transformer(replace(BERT, head_dim=16)), 0))
    assert core.hidden(torch.zeros(0, 4, dtype=torch.long)).shape == (0, 4, 64)


@here
def test_it_tells_the_size_of_the_model_it_stands_for() -> None:
    model = reader_of("bert")
    assert NativeEncoder(model).parameter_count() == model.parameter_count()


@here
def test_torch_works_with_one_thread_only_while_it_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its other threads would spin on the cores that the core's own need."""
    core, before = NativeEncoder(reader_of("bert")), torch.get_num_threads()
    told, reads = list[int](), core._read

    def watched(*asked: Any) -> Tensor:
        told.append(torch.get_num_threads())
        return reads(*asked)

    monkeypatch.setattr(core, "_read", watched)
    torch.set_num_threads(3)
    try:
        core.hidden(IDS)
        assert set(told) == {1} and torch.get_num_threads() == 3
        monkeypatch.setattr(core, "_read", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            core.hidden(IDS)
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)
