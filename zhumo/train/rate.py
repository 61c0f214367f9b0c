"""A learning rate looked for: it rises from update to update until the loss no longer falls (Smith 2017).

What is taken is a tenth of the rate at which the smoothed loss was lowest: there the loss still fell, and there is room
to the rate at which it no longer did. Afterwards every weight is what it was.
"""

import math
from typing import NamedTuple

import numpy as np

from zhumo.train.learner import Learner
from zhumo.train.order import Order

LOW, HIGH = 1e-6, 1.0
MOST, LEAST = 100, 20  # updates
SHARE = 0.1  # of a time budget
SMOOTH = 0.9
LOST = 1.5  # times the lowest loss, and there is nothing more to find


class Tried(NamedTuple):
    """A rate and the smoothed loss the update with it began at."""

    rate: float
    loss: float


def look_for_rate(learner: Learner, order: Order, updates: int) -> tuple[float, list[Tried]]:
    """The learning rate to train with, and what was tried, of up to `updates` updates. The weights end as they began;
    the optimisers must be renewed."""
    before = {name: tensor.clone() for name, tensor in learner.weights().items()}
    tried: list[Tried] = []
    consumed, running, weight = 0, 0.0, 0.0
    for rate in np.geomspace(LOW, HIGH, updates).tolist():
        samples = order.after(consumed)
        consumed += len(samples.indices)
        loss = learner.update(samples, rate).loss
        running, weight = SMOOTH * running + (1 - SMOOTH) * loss, SMOOTH * weight + 1 - SMOOTH
        if not math.isfinite(loss) or (tried and running / weight > LOST * min(one.loss for one in tried)):
            break
        tried.append(Tried(rate, running / weight))
    learner.put(before)
    return min(tried, key=lambda one: one.loss).rate / 10 if tried else LOW, tried
