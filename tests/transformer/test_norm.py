"""RMSNorm: torch's own forward, a quicker way back."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from zhumo.transformer.norm import RMSNorm


def norm(width: int, kind: torch.dtype = torch.float32) -> RMSNorm:
    found = RMSNorm(width, eps=1e-5, dtype=kind)
    torch.nn.init.normal_(found.weight, 1, 0.3, generator=torch.Generator().manual_seed(1))
    return found


def test_its_slopes_are_those_of_numbers_a_little_apart() -> None:
    layer = norm(6, torch.float64)
    x = torch.randn(3, 2, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x, _: layer(x), (x, layer.weight))


@pytest.mark.parametrize("kind", [torch.float32, torch.bfloat16])
def test_it_is_torchs_forward_and_backward(kind: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(0)
    layer = norm(32, kind)
    x = torch.randn(2, 5, 3, 32, generator=generator).to(kind).transpose(1, 2).requires_grad_()
    slope = torch.randn(2, 3, 5, 32, generator=generator).to(kind)

    def both(y: Tensor) -> tuple[Tensor, ...]:
        return y, *torch.autograd.grad(y, (x, layer.weight), slope)

    found, true = both(layer(x)), both(F.rms_norm(x, (32,), layer.weight, 1e-5))
    assert torch.equal(found[0], true[0])
    tolerance = {"atol": 1e-5, "rtol": 1e-5} if kind == torch.float32 else {"atol": 0.1, "rtol": 0.02}
    for one, other in zip(found, true, strict=True):
        assert one.dtype == kind
        torch.testing.assert_close(one, other, **tolerance)  # type: ignore[arg-type]


def test_where_nothing_is_learned_it_is_torchs_alone() -> None:
    layer, x = norm(8), torch.randn(4, 8)
    assert "RMSNorm" in type(layer(x).grad_fn).__name__
    with torch.no_grad():
        assert torch.equal(layer(x), F.rms_norm(x, (8,), layer.weight, 1e-5))
    assert "RMSNorm" not in type(torch.nn.RMSNorm(8)(x).grad_fn).__name__
