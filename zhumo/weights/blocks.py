"""The number formats of ggml: rows cut into blocks of 32 numbers that share a scale, here turned into float32."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Bytes = NDArray[np.uint8]
Floats = NDArray[np.float32]

BLOCK = 32


@dataclass(frozen=True)
class Format:
    """How `numbers` values lie in `size` bytes; `read` takes (blocks, size) bytes and gives (blocks, numbers)."""

    name: str
    numbers: int
    size: int
    read: Callable[[Bytes], Floats]


def half(raw: Bytes) -> Floats:
    """Float16 numbers, two bytes each."""
    return raw.copy().view(np.float16).astype(np.float32)


def _nibbles(raw: Bytes) -> Floats:
    """(blocks, 16) bytes as (blocks, 32) numbers: the low halves first, then the high ones."""
    return np.concatenate((raw & 0x0F, raw >> 4), axis=1).astype(np.float32)


def _f32(raw: Bytes) -> Floats:
    return raw.copy().view(np.float32)


def _bf16(raw: Bytes) -> Floats:
    return (raw.copy().view(np.uint16).astype(np.uint32) << 16).view(np.float32)


def _q4_0(raw: Bytes) -> Floats:
    return half(raw[:, :2]) * (_nibbles(raw[:, 2:]) - 8)


def _q4_1(raw: Bytes) -> Floats:
    return half(raw[:, :2]) * _nibbles(raw[:, 4:]) + half(raw[:, 2:4])


def _fives(high: Bytes, low: Bytes) -> Floats:
    """(blocks, 32) numbers of five bits, of which the highest lie together in 4 bytes."""
    return _nibbles(low) + 16 * np.unpackbits(high, axis=1, bitorder="little").astype(np.float32)


def _q5_0(raw: Bytes) -> Floats:
    return half(raw[:, :2]) * (_fives(raw[:, 2:6], raw[:, 6:]) - 16)


def _q5_1(raw: Bytes) -> Floats:
    return half(raw[:, :2]) * _fives(raw[:, 4:8], raw[:, 8:]) + half(raw[:, 2:4])


def _q8_0(raw: Bytes) -> Floats:
    return half(raw[:, :2]) * raw[:, 2:].view(np.int8).astype(np.float32)


F32 = Format("F32", 1, 4, _f32)
F16 = Format("F16", 1, 2, half)
BF16 = Format("BF16", 1, 2, _bf16)
Q4_0 = Format("Q4_0", BLOCK, 18, _q4_0)
Q4_1 = Format("Q4_1", BLOCK, 20, _q4_1)
Q5_0 = Format("Q5_0", BLOCK, 22, _q5_0)
Q5_1 = Format("Q5_1", BLOCK, 24, _q5_1)
Q8_0 = Format("Q8_0", BLOCK, 34, _q8_0)

_AT_ONCE = 2**21  # numbers turned at once, so that the steps between need little memory


def dequantise(raw: Bytes, form: Format) -> Floats:
    """The float32 numbers in `raw`, a whole number of blocks."""
    blocks = raw.reshape(-1, form.size)
    result = np.empty((len(blocks), form.numbers), dtype=np.float32)
    with np.errstate(all="ignore"):  # a scale may be infinite in a damaged file; whoever reads it looks
        rows = _AT_ONCE // form.numbers
        for start in range(0, len(blocks), rows):
            result[start : start + rows] = form.read(np.ascontiguousarray(blocks[start : start + rows]))
    return result.reshape(-1)
