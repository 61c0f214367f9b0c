"""Which examples make which batch: a pure function of (seed, samples consumed), so the whole state is one integer.

An epoch is a keyed permutation of all examples, computed place by place and never stored. Windows of it are sorted by
length, so that a batch holds examples of like length and little is padded, and the batches of a window are permuted
again. Nothing depends on the number of workers or on where a run was interrupted.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Hashes = NDArray[np.uint64]
Indices = NDArray[np.int64]

WINDOW = 32  # batches that are sorted by length together, where an epoch has enough of them
WINDOWS = 4  # in an epoch at least: in one sorted as a whole the same examples would always travel together
ROUNDS = 6


def mix(*parts: int | Indices | Hashes) -> Hashes:
    """One 64-bit hash of several non-negative numbers, arrays element by element (the finaliser of SplitMix64,
    Steele et al. 2014)."""
    value = np.zeros(1, np.uint64)
    for part in parts:
        value = value + np.asarray(part, np.uint64) + np.uint64(0x9E3779B97F4A7C15)
        value = (value ^ (value >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        value = (value ^ (value >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        value = value ^ (value >> np.uint64(31))
    return value


def permute(places: Indices, size: int, *key: int) -> Indices:
    """What stands at `places` of a keyed permutation of range(size): a Feistel network over the next power of four,
    walked on until it lands inside (cycle walking, Black and Rogaway 2002)."""
    half = max(1, ((size - 1).bit_length() + 1) // 2)
    rounds = [mix(*key, number) for number in range(ROUNDS)]
    values = _feistel(places.astype(np.uint64), half, rounds)
    while (outside := values >= size).any():
        values[outside] = _feistel(values[outside], half, rounds)
    return values.astype(np.int64)


def _feistel(values: Hashes, half: int, rounds: list[Hashes]) -> Hashes:
    bits, mask = np.uint64(half), np.uint64((1 << half) - 1)
    left, right = values >> bits, values & mask
    for key in rounds:
        left, right = right, left ^ (mix(right ^ key) & mask)
    return (left << bits) | right


def sample_keys(seed: int, epoch: int, indices: Indices) -> Indices:
    """One number per sample for randomness that must not depend on the batch it travels in (dropout)."""
    return mix(seed, epoch, indices).view(np.int64)


class Samples(NamedTuple):
    """One global batch: which examples, and the key of each."""

    epoch: int
    indices: Indices
    keys: Indices


class Order:
    """All batches of all epochs. The last batch of an epoch may be short; none straddles two epochs.

    lengths: tokens of each example.
    """

    def __init__(self, lengths: Indices, batch: int, seed: int) -> None:
        self.lengths, self.batch, self.seed = lengths, batch, seed
        self.window = max(1, min(WINDOW, self.epoch_steps // WINDOWS))
        self._window: tuple[tuple[int, int], list[Indices]] = ((-1, -1), [])  # only to spare work

    @property
    def epoch_steps(self) -> int:
        """Batches in an epoch."""
        return -(-len(self.lengths) // self.batch)

    def after(self, consumed: int) -> Samples:
        """The batch that comes once `consumed` samples have been used, counted over all epochs and workers."""
        epoch, place = divmod(consumed, len(self.lengths))
        window, number = divmod(place // self.batch, self.window)
        if self._window[0] != (epoch, window):
            self._window = (epoch, window), self._batches(epoch, window)
        indices = self._window[1][number]
        return Samples(epoch, indices, sample_keys(self.seed, epoch, indices))

    def _batches(self, epoch: int, window: int) -> list[Indices]:
        size, start = len(self.lengths), window * self.window * self.batch
        places = np.arange(start, min(size, start + self.window * self.batch))
        indices = permute(places, size, self.seed, epoch)
        whole = len(indices) // self.batch
        # What does not fill a batch is taken before the sort, or it would always be the longest examples.
        full, rest = np.split(indices, [whole * self.batch])
        full = full[np.argsort(self.lengths[full], kind="stable")]
        turn = permute(np.arange(whole), whole, self.seed, epoch, window)
        return [full.reshape(whole, self.batch)[number] for number in turn] + [rest] * bool(len(rest))
