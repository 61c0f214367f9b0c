"""Where a token stands, and who may look at whom."""

import math

import pytest
import torch

from benchmarks.parity import jitter
from zhumo.transformer import Config, Transformer
from zhumo.transformer.positions import places, rope, sinusoids, visible


@pytest.mark.parametrize("width", [8, 7])
def test_sinusoids_are_those_of_the_paper(width: int) -> None:
    table = sinusoids(5, width)
    for place in range(5):
        for column in range(width):
            angle = place / 10_000 ** (2 * (column // 2) / width)
            wanted = math.cos(angle) if column % 2 else math.sin(angle)
            assert table[place, column].item() == pytest.approx(wanted, abs=1e-6)


def test_a_rope_turns_each_pair_by_its_angle() -> None:
    x = torch.randn(1, 1, 4, 6, generator=torch.Generator().manual_seed(0))
    turned = rope(torch.arange(4), 6, 100.0)(x)
    for place in range(4):
        for pair in range(3):
            angle = place * 100.0 ** (-2 * pair / 6)
            a, b = x[0, 0, place, pair].item(), x[0, 0, place, pair + 3].item()
            got = turned[0, 0, place, pair].item(), turned[0, 0, place, pair + 3].item()
            wanted = a * math.cos(angle) - b * math.sin(angle), b * math.cos(angle) + a * math.sin(angle)
            assert got == pytest.approx(wanted, abs=1e-5)


def test_a_rope_knows_only_distances() -> None:
    generator = torch.Generator().manual_seed(0)
    query, key = torch.randn(2, 1, 1, 1, 8, generator=generator)

    def score(ask: int, answer: int) -> float:
        one, other = (rope(torch.tensor([place]), 8, 10_000.0) for place in (ask, answer))
        return (one(query) * other(key)).sum().item()

    assert score(9, 4) == pytest.approx(score(105, 100), abs=1e-4)
    assert score(9, 4) != pytest.approx(score(9, 5), abs=1e-2)


def test_places_start_anew_in_each_segment() -> None:
    segments = torch.tensor([[1, 1, 1, 2, 2, 0, 0, 0], [4, 3, 3, 3, 3, 3, 4, 4]])
    assert places(segments).tolist() == [[0, 1, 2, 0, 1, 0, 1, 2], [0, 0, 1, 2, 3, 4, 0, 1]]


@pytest.mark.parametrize("causal", [False, True])
def test_only_ones_own_segment_is_visible_and_not_the_future(causal: bool) -> None:
    segments = torch.tensor([[1, 1, 2, 2, 0]])
    seen = visible(segments, causal)[0, 0]
    for asks in range(5):
        for known in range(5):
            same = segments[0, asks] == segments[0, known]
            assert bool(seen[asks, known]) == bool(same and (known <= asks or not causal))


@torch.no_grad()
def test_order_matters_with_positions_and_not_without() -> None:
    ids, mixed = torch.tensor([[1, 2, 3]]), torch.tensor([[2, 1, 3]])
    for positions in ("learned", "sinusoidal", "rotary", "none"):
        model = jitter(Transformer(Config(vocabulary=5, width=8, depth=2, heads=2, positions=positions, causal=False)))
        same = torch.allclose(model(ids)[:, 2], model(mixed)[:, 2], atol=1e-5)
        assert same == (positions == "none")
