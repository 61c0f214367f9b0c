"""The K formats of ggml: blocks of 256 numbers in 8 or 16 parts, whose scales are themselves small whole numbers."""

import numpy as np
from numpy.typing import NDArray

from zhumo.weights.blocks import Bytes, Floats, Format, half

BLOCK = 256


def _bits(raw: Bytes, width: int, chunk: int) -> Bytes:
    """Numbers of `width` bits: in each `chunk` of bytes the lowest bits of all come first, then the next ones."""
    shifts = np.arange(0, 8, width, dtype=np.uint8).reshape(1, 1, -1, 1)
    parts = raw.reshape(len(raw), -1, 1, chunk) >> shifts & (2**width - 1)
    return np.ascontiguousarray(parts).reshape(len(raw), -1)


def _parts(numbers: "NDArray[np.integer]", scales: Floats, least: Floats | float = 0.0) -> Floats:
    """(blocks, 256) whole numbers times the scale of their part, less where the part begins; both (blocks, parts)."""
    cut = numbers.reshape(*scales.shape, -1).astype(np.float32)
    shift = least[..., None] if isinstance(least, np.ndarray) else least
    found: Floats = (scales[..., None] * cut - shift).reshape(len(numbers), BLOCK)
    return found


def _six_bits(raw: Bytes) -> tuple[Floats, Floats]:
    """12 bytes as 8 scales and 8 beginnings of 6 bits: four of each whole, then four of each in two pieces."""
    scale, least, low = raw[:, 0:4], raw[:, 4:8], raw[:, 8:12]
    scales = np.concatenate((scale & 0x3F, (low & 0x0F) | (scale >> 2 & 0x30)), axis=1)
    beginnings = np.concatenate((least & 0x3F, (low >> 4) | (least >> 2 & 0x30)), axis=1)
    return scales.astype(np.float32), beginnings.astype(np.float32)


def _q2_k(raw: Bytes) -> Floats:
    scales, numbers, d, m = np.split(raw, (16, 80, 82), axis=1)
    return _parts(
        _bits(numbers, 2, 32),
        half(d) * (scales & 0x0F).astype(np.float32),
        half(m) * (scales >> 4).astype(np.float32),
    )


def _q3_k(raw: Bytes) -> Floats:
    high, numbers, scales, d = np.split(raw, (32, 96, 108), axis=1)
    low = _bits(scales[:, :8], 4, 8) | _bits(scales[:, 8:], 2, 4) << 4
    signed = _bits(numbers, 2, 32).astype(np.int8) - ((_bits(high, 1, 32) ^ 1) << 2).astype(np.int8)
    return _parts(signed, half(d) * (low.astype(np.float32) - 32))


def _q4_k(raw: Bytes) -> Floats:
    d, m, scales, numbers = np.split(raw, (2, 4, 16), axis=1)
    scale, least = _six_bits(scales)
    return _parts(_bits(numbers, 4, 32), half(d) * scale, half(m) * least)


def _q5_k(raw: Bytes) -> Floats:
    d, m, scales, high, numbers = np.split(raw, (2, 4, 16, 48), axis=1)
    scale, least = _six_bits(scales)
    return _parts(_bits(numbers, 4, 32) | _bits(high, 1, 32) << 4, half(d) * scale, half(m) * least)


def _q6_k(raw: Bytes) -> Floats:
    low, high, scales, d = np.split(raw, (128, 192, 208), axis=1)
    numbers = (_bits(low, 4, 64) | _bits(high, 2, 32) << 4).astype(np.int8) - np.int8(32)
    return _parts(numbers, half(d) * np.ascontiguousarray(scales).view(np.int8).astype(np.float32))


Q2_K = Format("Q2_K", BLOCK, 84, _q2_k)
Q3_K = Format("Q3_K", BLOCK, 110, _q3_k)
Q4_K = Format("Q4_K", BLOCK, 144, _q4_k)
Q5_K = Format("Q5_K", BLOCK, 176, _q5_k)
Q6_K = Format("Q6_K", BLOCK, 210, _q6_k)
