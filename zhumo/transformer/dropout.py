"""Dropout whose mask is a function of the sample, not of a random stream.

A mask drawn from a generator depends on the batch a sample happens to travel in, so a run could not be resumed on
another number of workers with the same result. Here each element's coin is a hash of (sample key, place of this
layer, position, column): the same sample in the same epoch is dropped the same way wherever it is computed.
"""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_MIX_1, _MIX_2 = 0x7FEB352D, 0x846CA68B - 2**32  # the "lowbias32" integer mixer (Wellons 2018), as signed 32 bit


def _mix(x: Tensor) -> Tensor:
    """Scramble int32 numbers in place; every bit of the input moves about half of the bits of the output."""
    # Masked, because the right shift of a signed number copies its sign.
    x.bitwise_xor_((x >> 16).bitwise_and_(0xFFFF)).mul_(_MIX_1)
    x.bitwise_xor_((x >> 15).bitwise_and_(0x1FFFF)).mul_(_MIX_2)
    return x.bitwise_xor_((x >> 16).bitwise_and_(0xFFFF))


def _low(x: Tensor) -> Tensor:
    """The low 31 bits of int64 numbers, as int32."""
    return (x & 0x7FFFFFFF).to(torch.int32)


class Dropout(nn.Module):
    """Inverted dropout (Srivastava et al. 2014) over (batch, time, width), by the sample once `key_dropout` was called.

    seeds: (batch,) int64, this layer's own of each sample. All that tells layers apart is in them: a number would be a
    constant to torch.compile, which would make every block's code anew.
    """

    def __init__(self, probability: float) -> None:
        super().__init__()
        self.probability = probability
        self.seeds: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.probability == 0:
            return x
        if self.seeds is None:
            return F.dropout(x, self.probability)
        return x * self._mask(x, self.seeds)

    def _mask(self, x: Tensor, seeds: Tensor) -> Tensor:
        batch, time, width = x.shape
        rows = _mix(_low(seeds.view(batch, 1) + torch.arange(time, device=x.device) * 0x85EBCA77))
        columns = _mix(torch.arange(1, width + 1, device=x.device, dtype=torch.int32))
        # Rows and columns are already mixed, so one more round over the whole tensor is enough.
        coins = (rows.unsqueeze(-1) ^ columns).mul_(_MIX_1)
        coins.bitwise_xor_((coins >> 15).bitwise_and_(0x1FFFF)).mul_(_MIX_2)  # uniform over all int32
        keep = coins >= int(self.probability * 2**32) - 2**31
        return keep.to(x.dtype).div_(1 - self.probability)


def key_dropout(model: nn.Module, keys: Tensor | None) -> None:
    """Give every `Dropout` of `model` the keys of the next batch's samples.

    keys: (batch,) int64, one number per sample (seed, epoch and global index already mixed in; 62 bits count); None: a
    random stream.
    """
    layers = [
        (place, m) for place, m in enumerate(m for m in model.modules() if isinstance(m, Dropout)) if m.probability
    ]
    seeds = None if keys is None or not layers else _mix(_low(keys) ^ _mix(_low(keys >> 31))).long()
    for place, layer in layers:
        layer.seeds = None if seeds is None else seeds + place * 0x9E3779B1


def dropout_of(model: nn.Module, rows: Tensor) -> AbstractContextManager[None]:
    """A context: a batch is some of the samples whose keys were given, those at `rows`."""
    layers = _keyed(model)
    return _seeded(layers, [seeds[rows] for _, seeds in layers])


def same_dropout(model: nn.Module) -> AbstractContextManager[None]:
    """A context to enter later: what is computed in it is dropped out as it would be now."""
    layers = _keyed(model)
    return _seeded(layers, [seeds for _, seeds in layers])


def _keyed(model: nn.Module) -> list[tuple[Dropout, Tensor]]:
    layers = (module for module in model.modules() if isinstance(module, Dropout) and module.training)
    return [(layer, layer.seeds) for layer in layers if layer.seeds is not None]


@contextmanager
def _seeded(layers: Sequence[tuple[Dropout, Tensor]], seeds: Sequence[Tensor]) -> Iterator[None]:
    before = [layer.seeds for layer, _ in layers]
    try:
        for (layer, _), own in zip(layers, seeds, strict=True):
            layer.seeds = own
        yield
    finally:
        for (layer, _), kept in zip(layers, before, strict=True):
            layer.seeds = kept
