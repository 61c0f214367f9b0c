"""torch.compile where it works: the forward pass of the blocks while they learn; answers and validations stay plain.

Block by block: those that are alike are compiled once, where a whole model takes the longer the deeper it is. Compiled
kernels may add in another order, so whether they are used is settled once for a run (`pace.py`), and they are always
made on the run's first batch: a run that goes on gets the same ones.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from zhumo.transformer.block import Block


def hasten(model: nn.Module) -> None:
    """Let the blocks be computed by compiled code while they are in training mode."""
    for block in _blocks(model):
        setattr(block, "forward", _compiled(block, block.forward))  # noqa: B010, mypy would have it a method


def slow_down(model: nn.Module) -> None:
    """Undo `hasten`, where it was done."""
    for block in _blocks(model):
        block.__dict__.pop("forward", None)


def _blocks(model: nn.Module) -> list[Block]:
    return [module for module in model.modules() if isinstance(module, Block)]


def _compiled(block: Block, plain: Callable[..., Tensor]) -> Callable[..., Tensor]:
    # Its cache on disk is a pickle in a folder others may write to.
    quick = torch.compile(plain, dynamic=True, options={"fx_graph_cache": False})

    def forward(*args: Any, **kwargs: Any) -> Tensor:
        return quick(*args, **kwargs) if block.training else plain(*args, **kwargs)

    return forward
