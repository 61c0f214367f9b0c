"""Where a token stands, and who may look at whom."""

import math
from typing import Any

import pytest
import torch

from benchmarks.parity import jitter
from zhumo.transformer import Config, Transformer
from zhumo.transformer.positions import near, paces, places, rope, sinusoids, visible


@pytest.mark.parametrize("width", [8, 7])
def test_sinusoids_are_those_of_the_paper(width: int) -> None:
    table = sinusoids(5, width)
    for place in range(5):
        for column in range(width):
            sines = -(-width // 2)  # they stand first
            angle = place / 10_000 ** (2 * (column % sines) / width)
            wanted = math.sin(angle) if column < sines else math.cos(angle)
            assert table[place, column].item() == pytest.approx(wanted, abs=1e-6)


def plain(head_dim: int, theta: float, **more: Any) -> Config:
    sizes = {"vocabulary": 1, "width": head_dim, "depth": 1, "heads": 1, "positions": "rotary", "rope_theta": theta}
    return Config(**sizes, **more)


def test_a_rope_turns_each_pair_by_its_angle() -> None:
    x = torch.randn(1, 1, 4, 6, generator=torch.Generator().manual_seed(0))
    turned = rope(torch.arange(4), plain(6, 100.0))(x)
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
        one, other = (rope(torch.tensor([place]), plain(8, 10_000.0)) for place in (ask, answer))
        return (one(query) * other(key)).sum().item()

    assert score(9, 4) == pytest.approx(score(105, 100), abs=1e-4)
    assert score(9, 4) != pytest.approx(score(9, 5), abs=1e-2)


def test_a_dynamic_rope_is_plain_up_to_its_length_and_slower_beyond() -> None:
    usual, dynamic = plain(8, 1e4), plain(8, 1e4, rope="dynamic", rope_factor=2.0, length=10)
    assert torch.equal(paces(usual, torch.arange(10)), paces(dynamic, torch.arange(10)))
    longer, longest = (paces(dynamic, torch.arange(end)) for end in (11, 20))
    assert (longer[1:] < paces(usual, torch.arange(11))[1:]).all() and (longest[1:] < longer[1:]).all()


@pytest.mark.parametrize("kind", ["yarn", "llama3"])
def test_what_turns_often_stays_and_what_turns_seldom_slows_down(kind: Any) -> None:
    usual = paces(plain(64, 1e4), torch.arange(2))
    slowed = paces(plain(64, 1e4, rope=kind, rope_factor=8.0, rope_length=1_000), torch.arange(2)) / usual
    assert slowed[0].item() == 1 and slowed[-1].item() == pytest.approx(1 / 8)
    assert (slowed.diff() <= 0).all() and len(slowed.unique()) > 4


@pytest.mark.parametrize(("window", "asked", "known"), [(1, 3, 5), (3, 5, 5), (2, 1, 6), (9, 4, 4)])
def test_a_window_ends_with_the_token_itself(window: int, asked: int, known: int) -> None:
    seen = near(asked, known, window, torch.device("cpu"))
    for row in range(asked):
        for column in range(known):
            place = known - asked + row
            assert bool(seen[row, column]) == (place - window < column <= place)


def test_a_window_ends_at_its_segment() -> None:
    seen = visible(torch.tensor([[1, 1, 1, 2, 2]]), True, 2)[0, 0]
    assert seen.nonzero().tolist() == [[0, 0], [1, 0], [1, 1], [2, 1], [2, 2], [3, 3], [4, 3], [4, 4]]


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
