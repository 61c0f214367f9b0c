"""The data order: a bijection at every size, every sample once an epoch, one integer of state, little padding."""

import numpy as np
import pytest

from zhumo.train.order import WINDOW, Order, mix, permute, sample_keys


@pytest.mark.parametrize("size", [1, 2, 3, 5, 16, 17, 63, 64, 65, 1000, 4097])
@pytest.mark.parametrize("epoch", [0, 1, 7])
def test_permutation_is_a_bijection(size: int, epoch: int) -> None:
    image = permute(np.arange(size), size, 3, epoch)
    assert sorted(image) == list(range(size))


def test_permutation_needs_only_the_places_asked_for() -> None:
    size = 10**12
    places = np.array([0, 1, 999_999_999_999])
    image = permute(places, size, 3)
    assert len(set(image)) == 3 and image.min() >= 0 and image.max() < size
    assert permute(places[1:2], size, 3) == image[1]


def test_permutations_look_random() -> None:
    size, epochs = 1000, 400
    images = np.stack([permute(np.arange(size), size, 0, epoch) for epoch in range(epochs)])
    # The mean image of a place over epochs is 499.5 with a standard error of 288.7 / 20.
    assert np.abs(images.mean(axis=0) - 499.5).max() < 5 * 288.7 / np.sqrt(epochs)
    neighbours = np.corrcoef(images[:, :-1].ravel(), images[:, 1:].ravel())[0, 1]
    assert abs(neighbours) < 0.01


@pytest.mark.parametrize("size", [1, 7, 8, 9, 255, 256, 257, 1000])
@pytest.mark.parametrize("batch", [1, 4, 8])
def test_every_sample_occurs_once_an_epoch(size: int, batch: int) -> None:
    order = Order(np.random.default_rng(size).integers(1, 50, size), batch, seed=1)
    consumed, steps = 0, 0
    for epoch in range(3):
        seen: list[int] = []
        while consumed < (epoch + 1) * size:
            samples = order.after(consumed)
            assert samples.epoch == epoch and 0 < len(samples.indices) <= batch
            seen += samples.indices.tolist()
            consumed, steps = consumed + len(samples.indices), steps + 1
        assert sorted(seen) == list(range(size))
    assert steps == 3 * order.epoch_steps


def test_the_order_has_no_memory() -> None:
    lengths = np.random.default_rng(0).integers(1, 90, 1001)
    through, consumed = Order(lengths, 8, 5), 0
    for _ in range(300):
        expected = through.after(consumed)
        found = Order(lengths, 8, 5).after(consumed)
        assert np.array_equal(expected.indices, found.indices) and np.array_equal(expected.keys, found.keys)
        consumed += len(expected.indices)


def test_batches_hold_examples_of_like_length() -> None:
    lengths = np.random.default_rng(0).integers(1, 100, 8 * WINDOW * 10)
    order = Order(lengths, 8, 0)
    batches = [lengths[order.after(consumed).indices] for consumed in range(0, len(lengths), 8)]
    padded = sum(batch.max() * len(batch) for batch in batches) / lengths.sum()
    assert padded < 1.05
    # ... and short and long batches come in no order.
    assert abs(np.corrcoef(np.arange(len(batches)), [batch.mean() for batch in batches])[0, 1]) < 0.2


def test_companions_change_from_epoch_to_epoch() -> None:
    lengths = np.random.default_rng(0).integers(1, 100, 640)
    order = Order(lengths, 32, 0)  # 20 batches an epoch, fewer than a whole window
    batches = [set(order.after(consumed).indices.tolist()) for consumed in range(0, 1280, 32)]
    first, second = batches[:20], batches[20:]
    shared = np.mean([max(len(batch & other) for other in second) for batch in first])
    assert shared < 16  # of 32


def test_epochs_and_seeds_differ() -> None:
    lengths = np.ones(64, np.int64)
    first, later = (Order(lengths, 64, 0).after(consumed).indices for consumed in (0, 64))
    assert not np.array_equal(first, later) and not np.array_equal(first, Order(lengths, 64, 1).after(0).indices)


def test_sample_keys_belong_to_sample_epoch_and_seed() -> None:
    keys = [sample_keys(seed, epoch, np.arange(100)) for seed in range(3) for epoch in range(3)]
    assert len(np.unique(np.concatenate(keys) & 0x7FFFFFFF)) == 900  # dropout looks at these bits
    assert sample_keys(1, 2, np.array([5]))[0] == keys[5][5]
    assert mix(1, 2) != mix(2, 1)
