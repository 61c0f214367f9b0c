"""RMSNorm (Zhang and Sennrich 2019) that learns quickly on a CPU."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable


class RMSNorm(nn.RMSNorm):
    """torch's own, with a backward pass of its own on a CPU: torch has none there, and goes back through each operation
    it is made of. Forward the numbers are torch's, bit by bit."""

    def forward(self, x: Tensor) -> Tensor:
        """x: (..., width)."""
        if x.is_cpu and torch.is_grad_enabled() and not torch.compiler.is_compiling():
            found: Tensor = _RMSNorm.apply(x, self.weight, self.eps)  # type: ignore[no-untyped-call]
            return found
        return super().forward(x)


class _RMSNorm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, eps: float) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.eps = eps
        return F.rms_norm(x, weight.shape, weight, eps)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor | None, None]:
        x, weight = ctx.saved_tensors
        width, kind = len(weight), torch.promote_types(x.dtype, torch.float32)
        rows, slope = (value.reshape(-1, width).to(kind) for value in (x, gradient))
        size = torch.linalg.vector_norm(rows, dim=1, keepdim=True).square_().div_(width).add_(ctx.eps)
        inverse = size.rsqrt_()
        normed = rows * inverse
        by_place = slope * normed
        # how far each row's gradient goes along the row itself, which the norm takes out
        along = (by_place @ weight.to(kind)).div_(width).unsqueeze(1)
        back = (slope * weight).addcmul_(normed, along, value=-1).mul_(inverse)
        gain = by_place.sum(0).to(weight.dtype) if ctx.needs_input_grad[1] else None
        return back.view_as(x).to(x.dtype), gain, None
