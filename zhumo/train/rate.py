"""A learning rate looked for: it rises from update to update until the loss no longer falls (Smith 2017).

What is taken is the rate at which the loss fell steepest: the largest that still helped most. Afterwards every weight
is what it was.
"""

import math
from typing import NamedTuple

import numpy as np

from zhumo.train.learner import Learner
from zhumo.train.order import Order

LOW, HIGH = 1e-6, 1.0
MOST, LEAST = 100, 30  # updates
SHARE = 0.1  # of a time budget
AROUND = 0.06  # share of the updates on either side that a slope is taken over
LOST = 1.5  # times the lowest loss, and there is nothing more to find


class Tried(NamedTuple):
    """A rate and the loss the update with it began at."""

    rate: float
    loss: float


def look_for_rate(learner: Learner, order: Order, updates: int) -> tuple[float, list[Tried]]:
    """The learning rate to train with, and what was tried, of up to `updates` updates. The weights end as they began;
    the optimisers must be renewed."""
    before = {name: tensor.clone() for name, tensor in learner.weights().items()}
    around = max(1, round(AROUND * updates))
    tried: list[Tried] = []
    consumed, lost = 0, 0
    for rate in np.geomspace(LOW, HIGH, updates).tolist():
        samples = order.after(consumed)
        consumed += len(samples.indices)
        loss = learner.update(samples, rate).loss
        lost = lost + 1 if tried and not loss < LOST * min(one.loss for one in tried) else 0
        if not math.isfinite(loss) or lost > around:
            break
        tried.append(Tried(rate, loss))
    learner.put(before)
    return _steepest(tried, around) if len(tried) > 1 else LOW, tried


def _steepest(tried: list[Tried], around: int) -> float:
    """The rate around which the loss falls most over the logarithm of the rate, no further than where it is lowest."""
    logs, losses = np.log([one.rate for one in tried]), np.array([one.loss for one in tried])
    slopes = []
    for place in range(int(losses.argmin()) + 1):
        near = slice(max(0, place - around), place + around + 1)
        slopes.append(float(np.polyfit(logs[near], losses[near], 1)[0]))
    return tried[int(np.argmin(slopes))].rate
