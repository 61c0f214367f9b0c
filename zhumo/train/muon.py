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
            for matrix in group["params"]:
                if matrix.grad is None:
                    continue
                state = self.state[matrix]
                if "momentum_buffer" not in state:
                    state["momentum_buffer"] = torch.zeros_like(matrix.grad)
                momentum = state["momentum_buffer"]
                momentum.lerp_(matrix.grad, 1 - MOMENTUM)
                step = orthogonal(matrix.grad.lerp(momentum, MOMENTUM), self.dtype)  # Nesterov's
                matrix.mul_(1 - group["lr"] * group["weight_decay"])
                matrix.add_(step, alpha=-group["lr"] * 0.2 * math.sqrt(max(matrix.shape)))


def orthogonal(matrix: Tensor, dtype: torch.dtype) -> Tensor:
    """Nearly the orthogonal matrix nearest to a (rows, columns) one, its singular values all between .5 and 1.5, by
    Newton and Schulz' iteration in `dtype`."""
    a, b, c = COEFFICIENTS
    tall = matrix.size(0) > matrix.size(1)
    x = matrix.to(dtype, copy=True)
    x = x.T if tall else x
    x.div_(x.norm().clamp(min=LEAST))
    for _ in range(ROUNDS):
        gram = x @ x.T
        x = torch.addmm(x, torch.addmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.T if tall else x
