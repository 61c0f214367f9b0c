"""Dropout keyed by the sample: the same wherever the sample travels, and random in every other respect."""

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from zhumo.transformer import Config, Dropout, Transformer, key_dropout

RATE = 0.3
CONFIG = Config(vocabulary=11, width=16, depth=2, heads=2, dropout=0.4)


def keep(keys: list[int], time: int, width: int, place: int = 0, rate: float = RATE) -> Tensor:
    """Which elements a layer keeps, (batch, time, width) of True and False."""
    layers = nn.ModuleList(Dropout(rate) for _ in range(place + 1)).train()
    key_dropout(layers, torch.tensor(keys))
    kept: Tensor = layers[place](torch.ones(len(keys), time, width)) != 0
    return kept


def near(share: float, wanted: float, count: int) -> bool:
    """Whether a share of `count` independent coins lies within five standard errors of what it should be."""
    return abs(share - wanted) < 5 * math.sqrt(wanted * (1 - wanted) / count)


def agreement(a: Tensor, b: Tensor) -> bool:
    """Whether two masks agree as often as two independent ones do."""
    return near((a == b).float().mean().item(), RATE**2 + (1 - RATE) ** 2, a.numel())


def test_a_sample_is_dropped_the_same_way_in_any_batch() -> None:
    ids = torch.tensor([[1, 2, 3, 4], [5, 6, 7, 8], [9, 10, 1, 2]])
    keys = torch.tensor([12345, 2**61, 7])
    model = Transformer(CONFIG).train()
    key_dropout(model, keys)
    whole = model.hidden(ids)
    for order in ([2, 0], [1], [1, 2, 0]):
        key_dropout(model, keys[order])
        torch.testing.assert_close(model.hidden(ids[order]), whole[order], atol=1e-6, rtol=0)


def test_a_longer_row_keeps_the_mask_of_the_shorter() -> None:
    assert torch.equal(keep([5], 40, 16)[:, :10], keep([5], 10, 16))


@pytest.mark.parametrize("rate", [0.05, 0.1, 0.5, 0.9])
def test_the_rate_is_the_one_asked_for(rate: float) -> None:
    kept = keep([1, 2, 3, 4], 100, 257, rate=rate)
    assert near(kept.float().mean().item(), 1 - rate, kept.numel())


def test_what_is_kept_is_scaled_up() -> None:
    layer = Dropout(RATE).train()
    key_dropout(layer, torch.tensor([1]))
    x = torch.full((1, 50, 50), 2.0)
    assert layer(x).unique().tolist() == pytest.approx([0, 2 / (1 - RATE)])


def test_neighbouring_samples_places_positions_and_columns_are_independent() -> None:
    base = keep([1000], 200, 256)
    assert agreement(base, keep([1000], 200, 256, place=1))
    for distance in (1, 2**30, 2**31, 2**61):  # all bits of a key count
        assert agreement(base, keep([1000 + distance], 200, 256))
    for shift in (1, 2, 3, 64):
        assert agreement(base[:, shift:], base[:, :-shift])
        assert agreement(base[..., shift:], base[..., :-shift])


def test_no_column_row_or_sample_is_favoured() -> None:
    kept = keep(list(range(64)), 64, 64).float()
    count = 64 * 64
    for axes in ((0, 1), (0, 2), (1, 2)):
        shares = kept.mean(dim=axes)
        spread = shares.std().item() / math.sqrt(RATE * (1 - RATE) / count)
        assert 0.7 < spread < 1.3  # the spread of independent coins, no more and no less


def test_all_layers_of_a_model_have_their_own_masks() -> None:
    model = Transformer(CONFIG)
    key_dropout(model, torch.tensor([1]))
    layers = [layer for layer in model.modules() if isinstance(layer, Dropout)]
    assert len(layers) == len({int(layer.seeds) for layer in layers if layer.seeds is not None}) == 1 + 2 * CONFIG.depth


def test_what_drops_nothing_needs_no_seeds() -> None:
    model = Transformer(replace(CONFIG, dropout=0.0))
    key_dropout(model, torch.tensor([1]))
    assert all(layer.seeds is None for layer in model.modules() if isinstance(layer, Dropout))


def test_without_keys_it_is_an_ordinary_random_stream() -> None:
    layer = Dropout(RATE).train()
    x = torch.ones(4, 50, 50)
    torch.manual_seed(0)
    first, second = layer(x), layer(x)
    torch.manual_seed(0)
    assert torch.equal(layer(x), first)
    assert not torch.equal(first, second)
    assert near((first != 0).float().mean().item(), 1 - RATE, first.numel())


def test_keys_are_taken_back() -> None:
    model = Transformer(CONFIG)
    key_dropout(model, torch.tensor([1]))
    key_dropout(model, None)
    assert all(layer.seeds is None for layer in model.modules() if isinstance(layer, Dropout))


def test_nothing_is_dropped_in_use() -> None:
    layer = Dropout(RATE).eval()
    key_dropout(layer, torch.tensor([1]))
    x = torch.randn(1, 5, 5)
    assert torch.equal(layer(x), x)
