"""Matrices in whole numbers: how far they are off, and that what a file stored in blocks comes out as it lay there."""

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from zhumo.engine.laid_out import LaidOut, taken
from zhumo.engine.library import library
from zhumo.engine.packed import Bits, Packed, pack
from zhumo.weights.blocks import Q4_0, Q4_1, Q8_0, Format, dequantise

here = pytest.mark.skipif(library() is None, reason="no compiler")


def stored(form: Format, rows: int, columns: int, seed: int = 0) -> torch.Tensor:
    """Weights that llama.cpp's own quantiser has put into a file and we have read out again."""
    from gguf import GGMLQuantizationType, quants

    values = np.random.default_rng(seed).normal(0, 0.05, (rows, columns)).astype(np.float32)
    raw = quants.quantize(values, GGMLQuantizationType[form.name])
    return torch.from_numpy(dequantise(raw.reshape(-1), form)).view(rows, columns)


def rows_of(packed: Packed, rows: Sequence[int]) -> torch.Tensor:
    laid_out = LaidOut()
    return taken(laid_out.matrix(packed), torch.tensor(rows, dtype=torch.int32))


@here
@pytest.mark.parametrize(("form", "bits"), [(Q8_0, 8), (Q4_1, 4), (Q4_0, 4)], ids=["Q8_0", "Q4_1", "Q4_0"])
def test_what_a_file_stored_is_packed_without_loss(form: Format, bits: Bits) -> None:
    weight = stored(form, 96, 64)
    packed = pack(weight)
    assert packed.bits == bits and (packed.minima is None) == (form is not Q4_1)
    assert torch.equal(rows_of(packed, range(96)), weight)
    assert packed.bytes <= weight.numel() * (form.size / form.numbers)


@here
@given(rows=st.integers(1, 70), columns=st.integers(1, 70), bits=st.sampled_from((4, 8)), seed=st.integers(0, 9))
def test_a_weight_is_at_most_half_a_step_off(rows: int, columns: int, bits: Bits, seed: int) -> None:
    weight = torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed))
    got = rows_of(pack(weight, bits=bits), range(rows))[:, :columns]
    step = weight.abs().max() / 127 if bits == 8 else (weight.max() - weight.min()) / 15
    assert (got - weight).abs().max() <= 0.52 * step + 0.003


@here
@pytest.mark.parametrize("bits", [4, 8])
def test_rows_are_taken_in_any_order(bits: Bits) -> None:
    packed = pack(torch.randn(50, 40, generator=torch.Generator().manual_seed(1)), bits=bits)
    rows = [49, 0, 17, 17]
    assert torch.equal(rows_of(packed, rows), rows_of(packed, range(50))[rows])


@here
def test_zeros_stay_zeros() -> None:
    assert not rows_of(pack(torch.zeros(40, 40)), range(40)).any()


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), 1e9])
def test_numbers_beyond_a_scale_are_refused(bad: float) -> None:
    weight = torch.ones(32, 32)
    weight[3, 4] = bad
    with pytest.raises(ValueError, match="not finite"):
        pack(weight)
