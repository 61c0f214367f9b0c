"""Off-policy estimates against a truth that is known: real users, real tastes, a log drawn from a policy we know."""

import gzip
from collections import Counter
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

from zhumo.metrics.offpolicy import effective, ips, snips

SHELF = 30  # items to be shown, the most taken
LOG = 2_000  # exposures


class World(NamedTuple):
    """rewards: how likely a user clicks an item; old, new: how likely each policy shows it; all (users, items)."""

    rewards: np.ndarray
    old: np.ndarray
    new: np.ndarray

    @property
    def truth(self) -> float:
        return float((self.rewards * self.new).sum(axis=1).mean())

    def log(self, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """What the old policy showed and earned: rewards, and both policies' propensities."""
        generator = np.random.default_rng(seed)
        users = generator.integers(0, len(self.old), LOG)
        ends = self.old.cumsum(axis=1)[users]
        items = (ends < generator.random((LOG, 1))).sum(axis=1).clip(max=SHELF - 1)
        clicked = generator.random(LOG) < self.rewards[users, items]
        return clicked.astype(float), self.old[users, items], self.new[users, items]


@pytest.fixture(scope="module")
def world(shared: Path) -> World:
    """Who took something likes it; the old policy shows bestsellers, the new one mostly what a user likes."""
    with gzip.open(shared / "amazon-beauty" / "sequences.txt.gz", "rt") as file:
        histories = [set(line.split()[1:]) for line in file]
    bestsellers = [item for item, _ in Counter(item for items in histories for item in items).most_common(SHELF)]
    took = np.array([[item in items for item in bestsellers] for items in histories], dtype=float)
    took = took[took.sum(axis=1) >= 2]
    popular = np.tile(took.mean(axis=0) / took.mean(axis=0).sum(), (len(took), 1))
    old = 0.8 * popular + 0.2 / SHELF
    new = 0.5 * took / took.sum(axis=1, keepdims=True) + 0.5 * old
    return World(0.05 + 0.6 * took, old, new)


def test_both_estimates_find_the_truth_that_the_log_hides(world: World) -> None:
    found: dict[str, list[float]] = {"ips": [], "snips": []}
    inside = Counter[str]()
    for seed in range(12):
        rewards, logged, wanted = world.log(seed)
        assert rewards.mean() < 0.5 * world.truth  # the log's own mean says nothing about the new policy
        for measure in (ips(rewards, logged, wanted), snips(rewards, logged, wanted)):
            low, high = measure.interval()
            inside[measure.name] += low <= world.truth <= high
            found[measure.name].append(measure.value)
    for name in found:
        assert inside[name] >= 10  # of 12 intervals of 95%
        assert np.mean(found[name]) == pytest.approx(world.truth, rel=0.05)
    assert np.std(found["snips"]) < np.std(found["ips"])


def test_the_policy_of_the_log_is_worth_what_it_earned(world: World) -> None:
    rewards, logged, _ = world.log(0)
    assert ips(rewards, logged, logged).value == snips(rewards, logged, logged).value == rewards.mean()
    assert effective(logged, logged) == pytest.approx(LOG)


def test_by_hand() -> None:
    rewards, logged, wanted = np.array([1.0, 0, 1]), np.array([0.5, 0.25, 0.25]), np.array([0.25, 0.5, 0])
    assert ips(rewards, logged, wanted).value == pytest.approx(0.5 / 3)
    assert snips(rewards, logged, wanted).value == pytest.approx(0.5 / 2.5)
    assert effective(logged, wanted) == pytest.approx(2.5**2 / 4.25)


def test_a_policy_the_log_never_saw_has_no_evidence() -> None:
    nothing = np.zeros(3)
    assert snips(np.ones(3), np.full(3, 0.5), nothing).value == 0.0 == effective(np.full(3, 0.5), nothing)
    with pytest.raises(ValueError, match="propensity 0"):
        ips(np.ones(1), np.zeros(1), np.ones(1))
