"""Whether an update looks like those before it.

Loss and gradient are held against their running mean and spread. An update that is not finite, or stands out far above,
is not made: the state stays what it was, bit by bit, and its batch is passed over. Three in a row say that the weights
themselves are damaged.
"""

import math
from dataclasses import dataclass

SEEN = 50  # updates before anything can stand out
WEIGHT = 0.02  # of the newest update in what is usual
SIGMAS = 6.0
FLOOR = 0.1  # the spread at least: what rises by less than four fifths stands out of nothing
LEAST = 1e-8  # what is smaller counts as this


@dataclass
class Usual:
    """What a positive number was over the last updates, the newest counting most.

    Mean and variance are those of its logarithm. The loss of a classifier that is right nearly always is a hundred
    times as large on a batch with one wrong label, and that is no damage; a language model's hardly ever doubles.
    """

    seen: int = 0
    log: float = 0.0
    variance: float = 0.0

    @property
    def mean(self) -> float:
        """The geometric mean."""
        return math.exp(self.log)

    def allows(self, value: float) -> bool:
        """Whether a value is a finite number that does not stand out far above the ones before."""
        spread = max(math.sqrt(self.variance), FLOOR)
        return math.isfinite(value) and (self.seen < SEEN or _log(value) <= self.log + SIGMAS * spread)

    def add(self, value: float) -> None:
        """Count one more value."""
        self.seen += 1
        weight = max(1 / self.seen, WEIGHT)
        change = _log(value) - self.log
        self.log += weight * change
        self.variance = (1 - weight) * (self.variance + weight * change**2)


def _log(value: float) -> float:
    return math.log(max(value, LEAST))
