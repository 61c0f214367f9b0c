"""A model as the structures that the native core reads (`native/core.h`), and all the memory they point to."""

import math
from ctypes import byref

import torch
from torch import Tensor

from zhumo.engine.library import ACTIVATIONS, Layer, Matrix, Model, library
from zhumo.engine.packed import BLOCK, Bits, Packed, pack, vector
from zhumo.transformer import Block, Transformer


class LaidOut:
    """What C points to lives as long as this."""

    def __init__(self) -> None:
        self._kept: list[object] = []

    def model(self, model: Transformer, bits: Bits) -> Model:
        """A model's blocks and last norm. Its head, its ropes and where keys and values lie are still to be said."""
        config = model.config
        layers = (Layer * config.depth)()
        for layer, block in zip(layers, model.blocks, strict=True):
            assert isinstance(block, Block)
            look, feed = block.attention, block.feed_forward
            norms = {"attention": block.attention_norm, "query": look.query_norm, "key": look.key_norm}
            for name, norm in (norms | {"feed": block.feed_forward_norm}).items():
                setattr(layer, f"{name}_gain", self.vector(getattr(norm, "weight", None)))
                setattr(layer, f"{name}_shift", self.vector(getattr(norm, "bias", None)))
            linear = {"query": look.query, "key": look.key, "value": look.value, "out": look.out}
            for name, part in (linear | {"gate": feed.gate, "up": feed.up, "down": feed.down}).items():
                if part is not None:
                    setattr(layer, name, self.matrix(pack(part.weight, part.bias, bits)))
        self._kept.append(layers)
        # Where norms come after, a block leaves its own to the next, and the last one's is the last of all.
        last = model.norm if config.norm_first else model.blocks[-1].feed_forward_norm
        return Model(
            layers=layers, gain=self.vector(getattr(last, "weight", None)),
            shift=self.vector(getattr(last, "bias", None)), depth=config.depth, width=config.width,
            heads=config.heads, kv_heads=config.kv_heads, head_dim=config.head_dim, hidden=config.hidden,
            window=config.window, norm_first=config.norm_first, centred=config.norm == "layer",
            activation=ACTIVATIONS.index(config.activation), epsilon=config.norm_eps,
            scale=1 / math.sqrt(config.head_dim),
        )  # fmt: skip

    def matrix(self, packed: Packed) -> Matrix:
        """A packed matrix."""
        self._kept.append(packed)
        minima, bias = (None if part is None else part.data_ptr() for part in (packed.minima, packed.bias))
        tiles, blocks = packed.quants.shape[:2]
        return Matrix(packed.quants.data_ptr(), packed.scales.data_ptr(), minima, bias, tiles, blocks, packed.bits, 0)

    def vector(self, values: Tensor | None) -> int | None:
        """Where a bias, a gain or a shift lies, filled up."""
        return None if values is None else self.pointer(vector(values))

    def pointer(self, values: Tensor) -> int:
        """Where numbers lie."""
        values = values.contiguous()
        self._kept.append(values)
        return values.data_ptr()


def taken(matrix: Matrix, rows: Tensor) -> Tensor:
    """These rows (count,) int32 of a matrix as float32, (count, columns filled up).

    Numbers of a row lie far apart, so a processor must look for many at once, which torch does not.

    Raises:
        ValueError: there is no core.
    """
    core = library()
    if core is None:
        raise ValueError("there is no native core here")
    found = torch.empty(len(rows), matrix.blocks * BLOCK)
    core.zhumo_take(byref(matrix), rows.data_ptr(), len(rows), found.data_ptr())
    return found
