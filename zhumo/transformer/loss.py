"""Cross-entropy over a large vocabulary without a table of all logits."""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

AT_ONCE = {"cpu": 2**22, "cuda": 2**28}  # logits held at once: 16 MiB in float32, and 1 GiB on a GPU


def linear_cross_entropy(
    hidden: Tensor, weight: Tensor, targets: Tensor, bias: Tensor | None = None, smoothing: float = 0.0
) -> Tensor:
    """The summed cross-entropy of `hidden @ weight.T + bias` against `targets`, in nats: a scalar in float32.

    The same as `F.cross_entropy(F.linear(hidden, weight, bias), targets, reduction="sum")` where no target is to be
    ignored, computed some rows at a time. The gradient of the logits is known as soon as they are, so it is turned into
    that of `hidden` and `weight` at once, and the logits are forgotten (as in Liger, Hsu et al. 2024): three matrix
    products, like the plain form. Its gradient can be asked for once.

    hidden: (rows, width); weight: (classes, width); targets: (rows,); bias: (classes,).
    smoothing: the share of a target that is spread evenly over all classes (Szegedy et al. 2016).
    """
    if not torch.is_grad_enabled():  # a Function is told what requires a gradient, not whether anybody wants one
        hidden, weight, bias = hidden.detach(), weight.detach(), None if bias is None else bias.detach()
    loss: Tensor = _LinearCrossEntropy.apply(hidden, weight, targets, bias, smoothing)  # type: ignore[no-untyped-call]
    return loss


class _LinearCrossEntropy(torch.autograd.Function):
    """Forward also computes the gradients, for an incoming gradient of 1."""

    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, weight: Tensor, targets: Tensor, bias: Tensor | None, smoothing: float
    ) -> Tensor:
        device, kind = hidden.device.type, hidden.dtype
        if torch.is_autocast_enabled(device):
            kind = torch.get_autocast_dtype(device)
        needed, inputs = ctx.needs_input_grad, (hidden, weight, bias)
        grads = [
            torch.zeros_like(value, dtype=torch.float32) if value is not None and need else None
            for value, need in zip(inputs, (needed[0], needed[1], needed[3]), strict=True)
        ]
        matrix, total = weight.to(kind), hidden.new_zeros((), dtype=torch.float32)
        size = max(1, AT_ONCE[device] // len(weight))
        with torch.autocast(device, enabled=False):
            for start in range(0, len(hidden), size):
                rows = slice(start, start + size)
                total += _part(hidden[rows].to(kind), matrix, targets[rows], bias, smoothing, rows, grads)
        ctx.grads = grads
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        grads, ctx.grads = ctx.grads, None  # they are changed in place
        hidden, weight, bias = (None if grad is None else grad.mul_(gradient) for grad in grads)
        return hidden, weight, None, bias, None


def _part(
    hidden: Tensor,
    weight: Tensor,
    targets: Tensor,
    bias: Tensor | None,
    smoothing: float,
    rows: slice,
    grads: list[Tensor | None],
) -> Tensor:
    """The loss of some rows; their part of each gradient is added up in `grads` (of hidden, weight and bias)."""
    logits = (hidden @ weight.T).float()
    if bias is not None:
        logits += bias
    places = torch.arange(len(targets), device=targets.device)
    every = logits.logsumexp(1)
    loss = (every - logits[places, targets]).sum()
    if smoothing:
        loss = (1 - smoothing) * loss + smoothing * (every - logits.mean(1)).sum()
    if not any(grad is not None for grad in grads):
        return loss
    slope = logits.sub_(every[:, None]).exp_()  # the probabilities, less what they should be
    if smoothing:
        slope -= smoothing / slope.size(1)
    slope[places, targets] -= 1 - smoothing
    if grads[2] is not None:
        grads[2] += slope.sum(0)
    slope = slope.to(weight.dtype)
    if grads[0] is not None:
        grads[0][rows] = (slope @ weight).float()
    if grads[1] is not None:
        if slope.dtype == torch.float32:
            grads[1].addmm_(slope.T, hidden)
        else:
            grads[1] += slope.T @ hidden
    return loss
