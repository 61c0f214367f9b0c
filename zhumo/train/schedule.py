"""The learning rate and the number of steps: pure functions, so that nothing of them needs to be saved."""

import math
from collections.abc import Callable

from zhumo.recipe import Train

SHAPES: dict[str, Callable[[float], float]] = {
    "cosine": lambda done: (1 + math.cos(math.pi * done)) / 2,
    "linear": lambda done: 1 - done,
    "constant": lambda done: 1.0,
}


def learning_rate(train: Train, peak: float, step: int, steps: int) -> float:
    """The learning rate of update `step`, counted from 0 of `steps`: up in a line, then down to almost nothing."""
    rise = round(train.warmup * steps)
    if step < rise:
        return peak * (step + 1) / rise
    return peak * SHAPES[train.schedule]((step - rise) / (steps - rise))


def steps_asked(train: Train, epoch_steps: int) -> int | None:
    """How many updates the recipe asks for; None where it gives minutes."""
    if train.steps is not None:
        return train.steps
    return None if train.epochs is None else math.ceil(train.epochs * epoch_steps)
