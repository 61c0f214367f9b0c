"""How fast this machine learns: threads and steps, measured once on the real first batches, then kept for good.

Another number of threads sums in another order, and another number of steps is another schedule: so both are written
to the run before the first update, and a run that goes on keeps them.
"""

import os
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from zhumo.run import read_json, write_json
from zhumo.tasks import Row
from zhumo.tasks.examples import Examples
from zhumo.train.learner import Learner
from zhumo.train.order import WINDOW, Order, Samples
from zhumo.train.schedule import steps_asked

TRIAL = 1.0  # seconds a trial of one thread count should take at most
GAIN = 0.9  # more threads must take less than this share of the time; on a shared machine they can be far slower
ANSWERED = 64  # rows answered to see how long a look takes
RESERVE = 0.05  # share of a time budget kept for saving and calibrating


@dataclass(frozen=True)
class Pace:
    """What was settled before the first update. Seconds are None where nothing had to be measured."""

    threads: int
    steps: int
    step_seconds: float | None = None
    predicted_seconds: float | None = None


@dataclass(frozen=True)
class Looks:
    """What validations look at: examples for the loss, rows to be answered; and how many come beside the usual ones."""

    valid: Examples
    rows: Sequence[Row]
    extra: int = 1  # one falls at the start or at the end

    def seconds(self, learner: Learner, token_seconds: float) -> float:
        """How long one takes. token_seconds: of an update; a look is forward only, which is a third of its work."""
        answering = 0.0
        if self.rows:
            some = self.rows[:ANSWERED]
            learner.answer(some[:1])  # what is computed only once
            began = time.perf_counter()
            learner.answer(some)
            answering = (time.perf_counter() - began) * len(self.rows) / len(some)
        return float(self.valid.lengths().sum()) * token_seconds / 3 + answering


def settle(path: Path, learner: Learner, order: Order, looks: Looks, began: float) -> Pace:
    """The pace of a run: as it stands in `path`, or measured and written there. The learner is left as it was.

    began: when the step started, by `time.monotonic`; a time budget counts from there.
    """
    if path.is_file():
        pace = Pace(**read_json(path))
        torch.set_num_threads(pace.threads)
        return pace
    train = learner.train
    steps = steps_asked(train, order.epoch_steps)
    if train.threads is None and train.device == "cpu" and steps != 0:
        torch.set_num_threads(_choose_threads(learner, order.after(0)))
    elif train.threads is not None:
        torch.set_num_threads(train.threads)
    step_seconds = predicted = None
    if train.minutes is not None or (train.threads is None and steps != 0):
        step_seconds = _step_seconds(learner, order)
        look = looks.seconds(learner, step_seconds * order.epoch_steps / float(order.lengths.sum()))
        each = step_seconds + look / (train.validate_every or order.epoch_steps)
        if train.minutes is not None:
            left = 60 * train.minutes * (1 - RESERVE) - (time.monotonic() - began)
            steps = max(1, int((left - looks.extra * look) / each))
        predicted = (steps or 0) * each
    learner.renew()
    pace = Pace(torch.get_num_threads(), steps or 0, step_seconds, predicted)
    write_json(path, asdict(pace))
    return pace


def _rehearse(learner: Learner, samples: Samples) -> float:
    """Seconds of an update that learns nothing: at a learning rate of 0 every weight stays what it is, bit by bit."""
    began = time.perf_counter()
    learner.update(samples, 0.0)
    return time.perf_counter() - began


def _choose_threads(learner: Learner, samples: Samples) -> int:
    torch.set_num_threads(1)
    _rehearse(learner, _first(samples, 1))  # the very first update also loads code
    size = max(1, int(TRIAL / _rehearse(learner, _first(samples, 1))))
    samples = _first(samples, size)
    best, seconds = 1, _fastest(learner, samples)
    for threads in _candidates(len(os.sched_getaffinity(0))):
        torch.set_num_threads(threads)
        # On a busy machine waiting threads can make an update a hundred times slower: ask for an eighth of it first.
        if _rehearse(learner, _first(samples, len(samples.indices) // 8)) > seconds:
            break
        if (faster := _fastest(learner, samples)) < GAIN * seconds:
            best, seconds = threads, faster
    torch.set_num_threads(best)
    return best


def _first(samples: Samples, size: int) -> Samples:
    size = max(1, size)
    return Samples(samples.epoch, samples.indices[:size], samples.keys[:size])


def _fastest(learner: Learner, samples: Samples) -> float:
    times = [_rehearse(learner, samples)]
    while len(times) < 4 and sum(times) < 2 * TRIAL:
        times.append(_rehearse(learner, samples))
    return min(times)


def _candidates(cores: int) -> list[int]:
    """2, 4, 8 ... and the number of cores."""
    return sorted({2**power for power in range(1, cores.bit_length()) if 2**power <= cores} | {cores} - {1})


def _step_seconds(learner: Learner, order: Order) -> float:
    """Mean time of an update over the first real batches, which are of all lengths."""
    times: list[float] = []
    consumed = 0
    while len(times) < 3 or (len(times) < WINDOW and sum(times) < 3 * TRIAL):
        samples = order.after(consumed)
        times.append(_rehearse(learner, samples))
        consumed += len(samples.indices)
    return sum(times[1:]) / len(times[1:])
