"""What a recommender would have earned, from the log of another one: exposures, what they earned, their propensities.

A log is only evidence where its policy left something to chance, and only for what it could have shown: where the new
policy shows what the old one never did, no weight mends it. `effective` says how much of the log is left.
"""

import numpy as np

from zhumo.metrics.measure import Measure


def ips(rewards: np.ndarray, logged: np.ndarray, wanted: np.ndarray) -> Measure:
    """The mean reward under another policy: inverse propensity scoring (Horvitz & Thompson 1952). Unbiased, and wide.

    rewards: what each exposure earned, (exposures,). logged, wanted: how likely the policy of the log, and the one in
    question, shows what was shown there, (exposures,); logged is above 0, since it was shown.
    """
    return Measure("ips", rewards * _weights(logged, wanted))


def snips(rewards: np.ndarray, logged: np.ndarray, wanted: np.ndarray) -> Measure:
    """The same, by the sum of the weights (self-normalised; Swaminathan & Joachims 2015): a little bias against much
    less variance, and never outside of what was earned."""
    weights = _weights(logged, wanted)
    return Measure("snips", np.stack([rewards * weights, weights], axis=1), _ratio)


def effective(logged: np.ndarray, wanted: np.ndarray) -> float:
    """To how many exposures of its own the log amounts for the other policy (Kish 1965); few: trust no estimate."""
    weights = _weights(logged, wanted)
    return float(weights.sum() ** 2 / max(float((weights**2).sum()), np.finfo(float).tiny))


def _ratio(values: np.ndarray) -> float:
    earned, weight = values.sum(axis=0)
    return float(earned / weight) if weight else 0.0


def _weights(logged: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    if not (logged > 0).all():
        raise ValueError("what was shown cannot have had the propensity 0")
    weights: np.ndarray = wanted / logged
    return weights
