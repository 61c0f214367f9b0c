"""Attention in fp32 where the rest of a training runs in bf16, for a CPU.

On a CPU torch goes backwards through attention several times as fast in fp32 as in bf16 (seen with torch 2.13 and
AVX-512), and a training in bf16 lost half of its time there.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode


class Float32Attention(TorchFunctionMode):
    """Inside it, `scaled_dot_product_attention` computes in fp32 whatever autocast says."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        kwargs = dict(kwargs or {})
        if func is not F.scaled_dot_product_attention:
            return func(*args, **kwargs)
        with torch.autocast("cpu", enabled=False):
            return func(*(_widened(value) for value in args), **kwargs)


def _widened(value: Any) -> Any:
    return value.float() if isinstance(value, Tensor) and value.is_floating_point() else value
