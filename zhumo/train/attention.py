"""Attention of a bf16 training on a CPU: forward in torch's one kernel, backward in plain products.

On a CPU torch goes backwards through attention in bf16 more slowly than in fp32 (seen with torch 2.13, with AVX-512 and
with AMX), and in fp32 it leaves unused what makes bf16 fast. With AMX products of small matrices are fast in bf16.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

AT_ONCE = 2**21  # scores held at once when going backwards: 4 MiB
LONGEST = 768  # beyond, the kernel that holds no table of scores wins in fp32 too


class QuickAttention(TorchFunctionMode):
    """Inside it, `scaled_dot_product_attention` computes in bf16 and goes backwards quickly.

    Where a mask learns (as T5's positions do) or sequences are long it computes in fp32, whatever autocast says.
    """

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        kwargs = dict(kwargs or {})
        return func(*args, **kwargs) if func is not F.scaled_dot_product_attention else attend(*args, **kwargs)


def attend(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    *,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Tensor:
    """What `F.scaled_dot_product_attention` computes without dropout, with its arguments; see `QuickAttention`."""
    mask_learns = attn_mask is not None and attn_mask.requires_grad
    if mask_learns or (torch.is_grad_enabled() and max(query.size(2), key.size(2)) > LONGEST):
        with torch.autocast("cpu", enabled=False):
            return F.scaled_dot_product_attention(
                query.float(),
                key.float(),
                value.float(),
                attn_mask,
                is_causal=is_causal,
                scale=scale,
                enable_gqa=enable_gqa,
            )
    if attn_mask is not None and attn_mask.dtype != torch.bool:
        attn_mask = attn_mask.bfloat16()
    scale = query.size(-1) ** -0.5 if scale is None else scale
    found: Tensor = _attention(query.bfloat16(), key.bfloat16(), value.bfloat16(), attn_mask, is_causal, scale)
    return found.transpose(1, 2)


# Operators of their own: to torch.compile each is one thing, however many pieces it is computed in.
@torch.library.custom_op("zhumo::attention", mutates_args=())
def _attention(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, is_causal: bool, scale: float) -> Tensor:
    """query: (batch, heads, asked, head_dim); key, value: (batch, kv_heads, known, head_dim); all bf16. Returns (batch,
    asked, heads, head_dim), as torch's kernel lays it down."""
    gqa = query.size(1) != key.size(1)
    out = F.scaled_dot_product_attention(query, key, value, mask, 0.0, is_causal, scale=scale, enable_gqa=gqa)
    return out.transpose(1, 2).contiguous()


@torch.library.custom_op("zhumo::attention_backward", mutates_args=())
def _backward(
    gradient: Tensor, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, is_causal: bool, scale: float
) -> list[Tensor]:
    """The gradients of query, key and value."""
    batch, heads, asked, width = query.shape
    known, kv_heads = key.size(2), key.size(1)
    if is_causal:
        mask = torch.ones(asked, known, dtype=torch.bool).tril()
    if mask is not None:
        if mask.dtype == torch.bool:
            mask = torch.zeros(mask.shape, dtype=query.dtype).masked_fill_(~mask, -torch.inf)
        sees = (mask > -torch.inf).any(-1, keepdim=True)  # of a query that sees nothing nothing is learned
        mask, gradient = mask.where(sees, 0).expand(batch, heads, asked, known), gradient.where(sees, 0)
    found = [torch.empty(x.shape, dtype=x.dtype) for x in (query, key, value)]
    # heads that share keys are more queries of one head
    query, gradient = (x.reshape(batch, kv_heads, -1, width) for x in (query, gradient))
    size = max(1, AT_ONCE // (heads * asked * known))
    for start in range(0, batch, size):
        rows = slice(start, start + size)
        some = [x[rows].flatten(0, 1) for x in (query, key, value, gradient)]
        some.append(query.new_zeros(()) if mask is None else mask[rows].reshape(-1, query.size(2), known))
        for whole, part in zip(found, _slopes(scale, *some), strict=True):
            whole[rows] = part.view_as(whole[rows])
    return found


@_attention.register_fake
def _(query: Tensor, *_: object) -> Tensor:
    return torch.empty_like(query.transpose(1, 2), memory_format=torch.contiguous_format)


@_backward.register_fake
def _(_: Tensor, *inputs: Any) -> list[Tensor]:
    return [torch.empty_like(x, memory_format=torch.contiguous_format) for x in inputs[:3]]


def _keep(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    *tensors, ctx.is_causal, ctx.scale = inputs
    ctx.save_for_backward(*tensors)


def _learn(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
    return *_backward(gradient.transpose(1, 2), *ctx.saved_tensors, ctx.is_causal, ctx.scale), None, None, None


_attention.register_autograd(_learn, setup_context=_keep)


def _slopes(
    scale: float, query: Tensor, key: Tensor, value: Tensor, gradient: Tensor, bias: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """The gradients of query, key and value, each (some, time, head_dim); bias is added to the scores."""
    chances = torch.baddbmm(bias, query, key.transpose(1, 2), alpha=scale).softmax(-1)
    values = chances.transpose(1, 2) @ gradient
    slope = torch._softmax_backward_data(gradient @ value.transpose(1, 2), chances, -1, chances.dtype)
    queries = torch.baddbmm(query, slope, key, beta=0, alpha=scale)
    keys = torch.baddbmm(key, slope.transpose(1, 2), query, beta=0, alpha=scale)
    return queries, keys, values
