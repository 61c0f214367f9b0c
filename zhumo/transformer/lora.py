"""Low-rank adapters (Hu et al. 2021): small matrices beside frozen layers, put on and folded in from outside.

A layer computes W x; with an adapter W x + (alpha / rank) B A x, where only A (rank, in) and B (out, rank) learn.
"""

import math
from collections.abc import Collection, Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zhumo.transformer.model import Transformer

TARGETS = ("query", "key", "value", "out", "up", "gate", "down")
"""The linear layers of a block, by the names they have in it."""


class LoraLinear(nn.Module):
    """A frozen linear layer with an adapter beside it. Fresh adapters change nothing: B begins at zero."""

    def __init__(self, base: nn.Linear, rank: int, alpha: float, generator: torch.Generator) -> None:
        super().__init__()
        self.base = base.requires_grad_(False)
        self.scale = alpha / rank
        bound = 1 / math.sqrt(base.in_features)  # PEFT's: Kaiming uniform with a = sqrt(5)
        drawn = torch.empty(rank, base.in_features).uniform_(-bound, bound, generator=generator)
        self.a = nn.Parameter(drawn.to(base.weight))
        self.b = nn.Parameter(torch.zeros(base.out_features, rank).to(base.weight))

    def forward(self, x: Tensor) -> Tensor:
        y = F.linear(x, self.base.weight.to(x.dtype), self.base.bias)
        low = F.linear(x, self.a)
        # added up inside the product: no pass over what is as large as y
        return torch.addmm(y.flatten(0, -2), low.flatten(0, -2), self.scale * self.b.T).view_as(y)

    @torch.no_grad()
    def folded(self) -> nn.Linear:
        """The plain layer that computes the same; the sum is taken in float32."""
        change = self.scale * (self.b.float() @ self.a.float())
        self.base.weight.data = (self.base.weight.float() + change).to(self.a.dtype)
        return self.base


def layers(model: Transformer) -> Iterator[tuple[str, nn.Module, str, nn.Module]]:
    """Every layer an adapter may stand beside: its full name, its parent, its name there, itself."""
    for index, block in enumerate(model.blocks):
        for part, parent in block.named_children():
            for name, layer in parent.named_children():
                if name in TARGETS:
                    yield f"blocks.{index}.{part}.{name}", parent, name, layer
    for whole, parent, name, layer in layers(model.encoder) if model.encoder is not None else ():
        yield f"encoder.{whole}", parent, name, layer


def add_lora(model: Transformer, rank: int, alpha: float, targets: Collection[str], seed: int) -> Transformer:
    """Put adapters beside the layers `targets` of each block and freeze everything else but a task's own head.

    A target the architecture lacks, such as `gate` where nothing is gated, is passed over.

    Raises:
        ValueError: an unknown target, a model with adapters already, or no layer at all to adapt.
    """
    if unknown := set(targets) - set(TARGETS):
        raise ValueError(f"no layer of a block is called {', '.join(sorted(unknown))}; there are {', '.join(TARGETS)}")
    chosen = [(parent, name, layer) for _, parent, name, layer in layers(model) if name in targets]
    if not chosen:
        raise ValueError("no layer of this model is among the targets")
    for _, name, layer in chosen:  # before anything is changed
        if not isinstance(layer, nn.Linear):
            raise ValueError(f"{name} is a {type(layer).__name__}; adapters go beside plain linear layers")
    generator = torch.Generator().manual_seed(seed)
    model.requires_grad_(False)
    if model.head is not None and model.config.head == "none":
        model.head.requires_grad_(True)
    for parent, name, layer in chosen:
        assert isinstance(layer, nn.Linear)
        setattr(parent, name, LoraLinear(layer, rank, alpha, generator))
    return model


@torch.no_grad()
def halve_frozen(model: nn.Module) -> None:
    """Hold the layers that adapters stand beside in bf16 where it says their weights exactly, as it does most published
    ones: a training in bf16 then has half as much to keep, and nothing to convert in each update."""
    for layer in model.modules():
        if isinstance(layer, LoraLinear) and layer.base.weight.dtype == torch.float32:
            half = layer.base.weight.bfloat16()
            if torch.equal(half.float(), layer.base.weight):
                layer.base.weight.data = half  # the parameter stays the one that others may hold


def merge_lora(model: Transformer) -> Transformer:
    """Fold every adapter into its layer: a plain model again, all of it able to learn. Without adapters, nothing."""
    adapted = [(parent, name, layer) for _, parent, name, layer in layers(model) if isinstance(layer, LoraLinear)]
    for parent, name, layer in adapted:
        setattr(parent, name, layer.folded())
    return model.requires_grad_(True) if adapted else model


def lora_state(model: Transformer) -> dict[str, Tensor]:
    """The adapters' own tensors by name: `blocks.0.attention.query.a` (rank, in) and `.b` (out, rank)."""
    return {
        f"{name}.{part}": getattr(layer, part).detach()
        for name, _, _, layer in layers(model)
        if isinstance(layer, LoraLinear)
        for part in ("a", "b")
    }
