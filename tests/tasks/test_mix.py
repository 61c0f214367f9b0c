"""The mix is the best one, and of those that are as good the most even, with the lowest power of the trend."""

from collections.abc import Callable, Sequence

import numpy as np

from zhumo.tasks.mix import Gains, Mix, best_mix

ROWS = 400


def gaining(of: Callable[[Mix], float], spread: float) -> Gains:
    """What a mix gains on average, of rows that differ by `spread` from mix to mix."""
    chance = np.random.default_rng(0)

    def gains(tried: Sequence[Mix]) -> np.ndarray:
        return np.stack([of(mix) + spread * chance.standard_normal(ROWS) for mix in tried])

    return gains


def test_what_is_clearly_best_is_chosen() -> None:
    found = best_mix(gaining(lambda mix: -abs(mix.weight - 0.85) - abs(mix.trend - 1.5) - abs(mix.again - 0.7), 1e-4),
                     [0.2, 0.5, 0.7, 0.9])  # fmt: skip
    assert found == Mix(0.85, 1.5, 0.7)


def test_of_equals_the_most_even_weight_and_the_lowest_power_are_chosen() -> None:
    assert best_mix(gaining(lambda mix: 0.1 if mix.weight >= 0.3 else 0.0, 0.0), [0.0])[:2] == (0.5, 0.0)
    assert best_mix(gaining(lambda mix: 1.0 if mix.weight >= 0.8 else 0.0, 0.0), [0.0]).weight == 0.8


def test_what_is_better_by_chance_alone_is_not_chosen() -> None:
    """A trend that gains a thousandth where rows differ by a whole one is no trend."""
    assert best_mix(gaining(lambda mix: 0.001 * mix.trend, 1.0), [0.0]).trend == 0.0


def test_a_single_rate_is_not_tried_against_itself() -> None:
    tried = list[Mix]()

    def gains(mixes: Sequence[Mix]) -> np.ndarray:
        tried.extend(mixes)
        return np.zeros((len(mixes), 3))

    assert best_mix(gains, [0.3]) == Mix(0.5, 0.0, 0.3)
    assert len(tried) == 21 + 8
