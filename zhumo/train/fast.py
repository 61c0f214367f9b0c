"""torch.compile where it works: the model's forward pass while it learns; answers and validations stay plain.

Compiled kernels may add in another order, so whether they are used is settled once for a run (`pace.py`), and they are
always made on the run's first batch: a run that goes on gets the same ones.
"""

from typing import Any

import torch
from torch import Tensor

from zhumo.transformer import Transformer


def hasten(model: Transformer) -> None:
    """Let the model's hidden states be computed by compiled code while it is in training mode."""
    plain = model.hidden
    # Its cache on disk is a pickle in a folder others may write to.
    compiled = torch.compile(plain, dynamic=True, options={"fx_graph_cache": False})

    def hidden(*args: Any, **kwargs: Any) -> Tensor:
        return compiled(*args, **kwargs) if model.training else plain(*args, **kwargs)

    model.hidden = hidden  # type: ignore[method-assign]


def slow_down(model: Transformer) -> None:
    """Undo `hasten`, where it was done."""
    model.__dict__.pop("hidden", None)
