"""torch.compile where it works: the forward pass of the blocks, while they learn or in a step that is captured.

Block by block: those that are alike are compiled once, where a whole model takes the longer the deeper it is. Compiled
kernels may add in another order, so whether a run uses them is settled once for it (`train/pace.py`), and they are
always made on its first batch: a run that goes on gets the same ones.
"""

import os
import shutil
import subprocess
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from zhumo.transformer.block import Block


def compiler() -> bool:
    """Whether there is a compiler here."""
    return any(shutil.which(name) for name in (os.environ.get("CXX", "c++"), "g++"))


def hasten(model: nn.Module, rehearse: Callable[[], object], learning: bool = True) -> str | None:
    """Let compiled code compute the blocks while they are in training mode or, if not `learning`, in the other.

    rehearse: computes with the model once, so that the code is made. Where that fails all stays plain, and why is told.
    """
    if not compiler():
        return "no C++ compiler"
    for block in _blocks(model):
        setattr(block, "forward", _compiled(block, block.forward, learning))  # noqa: B010, mypy would have it a method
    try:
        rehearse()
    except (RuntimeError, OSError, subprocess.SubprocessError) as error:  # it does not work, or not for this code
        slow_down(model)
        return str(error).strip().partition("\n")[0]
    return None


def slow_down(model: nn.Module) -> None:
    """Undo `hasten`, where it was done."""
    for block in _blocks(model):
        block.__dict__.pop("forward", None)


def _blocks(model: nn.Module) -> list[Block]:
    return [module for module in model.modules() if isinstance(module, Block)]


def _compiled(block: Block, plain: Callable[..., Tensor], learning: bool) -> Callable[..., Tensor]:
    # Its cache on disk is a pickle in a folder others may write to.
    quick = torch.compile(plain, dynamic=True, options={"fx_graph_cache": False})

    def forward(*args: Any, **kwargs: Any) -> Tensor:
        return quick(*args, **kwargs) if block.training == learning else plain(*args, **kwargs)

    return forward
