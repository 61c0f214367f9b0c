"""Matrices in whole numbers, in the order in which the native core reads them.

32 numbers of a row share a scale, as in llama.cpp's formats: 8 bits are scale * q (Q8_0), 4 bits scale * q + minimum
(Q4_1) or scale * q (Q4_0). A matrix that was read from such a file comes out as it lay there.
"""

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

Bits = Literal[4, 8]

TILE, BLOCK, FEW = 16, 32, 64


@dataclass(frozen=True)
class Packed:
    """A matrix of `rows` x `columns`, both filled up with zeros to a multiple of 32.

    quants: (tiles, blocks, groups, 16 rows, 4 columns) bytes, 8 groups of 8 bits or 4 of twice 4: group g in the lower
        half of a byte and group g + 4 in the upper.
    scales, minima: (tiles, blocks, 16 rows) float16; without minima a weight is scale * (quant - half its range).
    bias: (rows filled up,) float32.
    """

    rows: int
    columns: int
    bits: Bits
    quants: Tensor
    scales: Tensor
    minima: Tensor | None
    bias: Tensor | None

    @property
    def bytes(self) -> int:
        """How many bytes one pass over the matrix reads."""
        return sum(part.nbytes for part in (self.quants, self.scales, self.minima, self.bias) if part is not None)


def filled(size: int) -> int:
    """`size` up to a whole number of blocks."""
    return -(-size // BLOCK) * BLOCK


def vector(values: Tensor) -> Tensor:
    """A bias, a gain or a shift, filled up."""
    return F.pad(values.detach().float(), (0, filled(len(values)) - len(values))).contiguous()


def pack(weight: Tensor, bias: Tensor | None = None, bits: Bits = 8) -> Packed:
    """A linear layer's weight (rows, columns) in so many bits, or in 4 where they say exactly the same.

    Raises:
        ValueError: a number that is not finite, or too large for a float16 scale.
    """
    rows, columns = weight.shape
    padded = F.pad(weight.detach().float(), (0, filled(columns) - columns, 0, filled(rows) - rows))
    blocks = torch.unflatten(padded, 1, (-1, BLOCK))  # (rows, blocks, 32)
    found = _exact(blocks) or (_four(blocks) if bits == 4 else _eight(blocks))
    bits, quants, scales, minima = found
    if not scales.isfinite().all() or (minima is not None and not minima.isfinite().all()):
        raise ValueError("a weight is not finite, or too large for 16 bits")
    return Packed(
        rows, columns, bits, _tiles(quants, bits), _rows_last(scales), None if minima is None else _rows_last(minima),
        None if bias is None else vector(bias),
    )  # fmt: skip


_Found = tuple[Bits, Tensor, Tensor, Tensor | None]


def _exact(blocks: Tensor) -> _Found | None:
    """In 4 bits, if nothing is lost; a few rows tell most matrices."""
    for form in (_four_even, _four):
        if _same(blocks[:FEW], form(blocks[:FEW])) and _same(blocks, found := form(blocks)):
            return found
    return None


def _same(blocks: Tensor, found: _Found) -> bool:
    bits, quants, scales, minima = found
    low = -(2.0 ** (bits - 1)) * scales.float() if minima is None else minima.float()
    return torch.equal(quants.float() * scales.float().unsqueeze(-1) + low.unsqueeze(-1), blocks)


def _eight(blocks: Tensor) -> _Found:
    scales = (blocks.abs().amax(-1) / 127).half()
    return 8, _quants(blocks, scales, 128, 1, 255), scales, None


def _four(blocks: Tensor) -> _Found:
    low, high = blocks.aminmax(dim=-1)
    minima, scales = low.half(), ((high - low) / 15).half()
    return 4, _quants(blocks - minima.float().unsqueeze(-1), scales, 0, 0, 15), scales, minima


def _four_even(blocks: Tensor) -> _Found:
    low, high = blocks.aminmax(dim=-1)
    scales = (torch.where(high > -low, high, low) / -8).half()
    return 4, _quants(blocks, scales, 8, 0, 15), scales, None


def _quants(blocks: Tensor, scales: Tensor, offset: int, low: int, high: int) -> Tensor:
    steps = torch.where(scales != 0, 1 / scales.float(), 0).unsqueeze(-1)
    return (blocks * steps).round_().add_(offset).clamp_(low, high).to(torch.uint8)


def _tiles(quants: Tensor, bits: Bits) -> Tensor:
    grouped = torch.unflatten(torch.unflatten(quants, 0, (-1, TILE)), -1, (8, 4))
    ordered: Tensor = grouped.permute(0, 2, 3, 1, 4)
    if bits == 4:
        ordered = ordered[:, :, :4] | ordered[:, :, 4:] << 4
    return ordered.contiguous()


def _rows_last(values: Tensor) -> Tensor:
    return torch.unflatten(values, 0, (-1, TILE)).transpose(1, 2).contiguous()
