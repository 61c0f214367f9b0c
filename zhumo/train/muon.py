"""Muon (Jordan et al. 2024): momentum whose matrix is made orthogonal before it is a step.

torch's own multiplies in bf16 wherever it runs, which a processor without instructions for it does a hundred times
slower than in fp32; this one multiplies in what it is told to, and is otherwise the same.
"""

import math
from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

MOMENTUM = 0.95
ROUNDS = 5
COEFFICIENTS = (3.4445, -4.7750, 2.0315)  # of the quintic; chosen by Jordan for its slope at zero
AT_ONCE = 2**23  # numbers of matrices of one shape that are made orthogonal together
LEAST = 1e-7  # a gradient smaller than this is as good as none


class Muon(Optimizer):
    """For matrices alone. Its steps have the size AdamW's would have (Liu et al. 2025), so both take one learning rate.

    dtype: in which matrices are multiplied.
    """

    def __init__(self, matrices: Iterable[nn.Parameter], *, weight_decay: float, dtype: torch.dtype) -> None:
        self.dtype = dtype
        super().__init__(matrices, {"lr": 1e-3, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: object = None) -> None:  # type: ignore[override]
        """One update of every matrix that has a gradient."""
        for group in self.param_groups:
            alike: dict[torch.Size, list[Tensor]] = {}
            for matrix in group["params"]:
                if matrix.grad is not None:
                    alike.setdefault(matrix.shape, []).append(matrix)
            for shape, matrices in alike.items():
                size = max(1, AT_ONCE // shape.numel())
                for start in range(0, len(matrices), size):
                    self._step(matrices[start : start + size], group["lr"], group["weight_decay"])

    def _step(self, matrices: list[Tensor], rate: float, weight_decay: float) -> None:
        """Matrices of one shape at once: a product of many is far quicker than many products."""
        steps = orthogonal(torch.stack(self._wishes(matrices)), self.dtype)
        torch._foreach_mul_(matrices, 1 - rate * weight_decay)
        torch._foreach_add_(matrices, steps.unbind(), alpha=-rate * 0.2 * math.sqrt(max(matrices[0].shape)))

    def _wishes(self, matrices: list[Tensor]) -> tuple[Tensor, ...]:
        """Where the gradients so far point, after Nesterov."""
        gradients, momenta = list[Tensor](), list[Tensor]()
        for matrix in matrices:
            assert matrix.grad is not None
            state = self.state[matrix]
            if "momentum_buffer" not in state:
                state["momentum_buffer"] = torch.zeros_like(matrix.grad)
            gradients.append(matrix.grad)
            momenta.append(state["momentum_buffer"])
        torch._foreach_lerp_(momenta, gradients, 1 - MOMENTUM)
        return torch._foreach_lerp(gradients, momenta, MOMENTUM)


def orthogonal(matrices: Tensor, dtype: torch.dtype) -> Tensor:
    """Nearly the orthogonal matrix nearest to each, its singular values all between .5 and 1.5, by Newton and Schulz'
    iteration in `dtype`. matrices: (many, rows, columns)."""
    a, b, c = COEFFICIENTS
    tall = matrices.size(1) > matrices.size(2)
    x = matrices.mT.to(dtype, copy=True) if tall else matrices.to(dtype, copy=True)
    x.div_(torch.linalg.vector_norm(x, dim=(1, 2), keepdim=True).clamp(min=LEAST))
    for _ in range(ROUNDS):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.mT if tall else x
