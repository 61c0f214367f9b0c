"""How fast this machine learns: threads, precision, steps, compiled code or not, and the learning rate where it is
looked for; all measured once on the real first batches, then kept for good.

Another number of threads sums in another order, and another number of steps is another schedule: so all of it is
written to the run before the first update, and a run that goes on keeps it.
"""

import logging
import os
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median

import torch

from zhumo.run import read_json, write_json
from zhumo.tasks import Row
from zhumo.tasks.examples import Examples
from zhumo.train.captured import AGAIN
from zhumo.train.learner import Learner
from zhumo.train.order import WINDOW, Order, Samples
from zhumo.train.plot import plot_rates
from zhumo.train.rate import LEAST, MOST, SHARE, look_for_rate
from zhumo.train.schedule import steps_asked
from zhumo.transformer.fast import compiler, hasten, slow_down
from zhumo.words import say

log = logging.getLogger(__name__)
TRIAL = 1.0  # seconds a trial of one thread count should take at most
GAIN = 0.9  # more threads must take less than this share of the time; on a shared machine they can be far slower
PRODUCT = 256  # rows and columns of the matrices that are multiplied to compare two precisions
PAIRS = 15  # of such products
ANSWERED = 64  # rows answered to see how long a look takes
COMPILED_FROM = 900.0  # seconds of training; compiling takes a good part of a minute or more
RESERVE = 0.05  # share of a time budget kept for saving and calibrating


@dataclass(frozen=True)
class Pace:
    """What was settled before the first update. Seconds are None where nothing had to be measured."""

    threads: int
    steps: int
    bf16_pays: bool = True  # whether this processor multiplies faster in it
    rate: float = 0.0
    compiled: bool = False
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
    train = learner.train
    rate = train.lr if isinstance(train.lr, float) else 0.0
    if path.is_file():
        pace = Pace(**{"rate": rate, **read_json(path)})
        torch.set_num_threads(pace.threads)
        learner.renew(pace.bf16_pays)
        if pace.compiled:
            _compiles(learner, order)
        return pace
    steps = steps_asked(train, order.epoch_steps)
    learner.renew(train.device != "cpu" or bf16_pays())
    if learner.precision != train.precision:
        log.warning(say("cli.train.no_bf16"))
    if train.threads is None and train.device == "cpu" and steps != 0:
        torch.set_num_threads(_choose_threads(learner, order.after(0)))
    elif train.threads is not None:
        torch.set_num_threads(train.threads)
    step_seconds = predicted = None
    if train.lr == "find" and steps != 0:
        rate = _found(path.with_name("rates.svg"), learner, order)
    compiled = train.compile is True and steps != 0 and _compiles(learner, order)
    if train.minutes is not None or (train.threads is None and steps != 0):
        step_seconds = _step_seconds(learner, order)
        asked = 60 * train.minutes if train.minutes is not None else (steps or 0) * step_seconds
        if train.compile is None and asked >= COMPILED_FROM and not train.recompute and compiler():
            compiled, step_seconds = _faster(learner, order, step_seconds)
        look = looks.seconds(learner, step_seconds * order.epoch_steps / float(order.lengths.sum()))
        each = step_seconds + look / (train.validate_every or order.epoch_steps)
        if train.minutes is not None:
            left = 60 * train.minutes * (1 - RESERVE) - (time.monotonic() - began)
            steps = max(1, int((left - looks.extra * look) / each))
        predicted = (steps or 0) * each
    learner.renew()
    pace = Pace(torch.get_num_threads(), steps or 0, learner.bf16_pays, rate, compiled, step_seconds, predicted)
    write_json(path, asdict(pace))
    return pace


def bf16_pays() -> bool:
    """Whether this processor multiplies in bf16 faster than in fp32: one without instructions for it does so a hundred
    times slower. By one thread, as two on a busy machine may wait for each other longer than they multiply; in turn,
    after a first product of each, which loads code."""

    def seconds(matrix: torch.Tensor) -> float:
        began = time.perf_counter()
        matrix @ matrix
        return time.perf_counter() - began

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        half, full = (torch.ones(PRODUCT, PRODUCT, dtype=dtype) for dtype in (torch.bfloat16, torch.float32))
        pairs = [(seconds(half), seconds(full)) for _ in range(PAIRS + 1)][1:]
    finally:
        torch.set_num_threads(threads)
    return median(pair[0] for pair in pairs) < median(pair[1] for pair in pairs)


def _found(picture: Path, learner: Learner, order: Order) -> float:
    """The learning rate, looked for within a share of the time there is."""
    updates = MOST
    if learner.train.minutes is not None:
        updates = int(SHARE * 60 * learner.train.minutes / _step_seconds(learner, order))
    learner.renew()
    rate, tried = look_for_rate(learner, order, min(MOST, max(LEAST, updates)))
    learner.renew()
    plot_rates(tried, rate, picture)
    return rate


def _compiles(learner: Learner, order: Order) -> bool:
    """Learn with compiled code from here on, if this machine can make it."""
    learner.captured.forget()
    problem = hasten(learner.model, lambda: _rehearse(learner, order.after(0)))
    if problem is not None:
        learner.captured.forget()
        log.warning(say("cli.train.not_compiled", problem=problem))
    return problem is None


def _faster(learner: Learner, order: Order, plain: float) -> tuple[bool, float]:
    """Whether compiled code is used from here on, and the seconds of an update then. plain: without it."""
    if _compiles(learner, order):
        if (compiled := _step_seconds(learner, order)) < GAIN * plain:
            return True, compiled
        slow_down(learner.model)
        learner.captured.forget()
    return False, plain


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
    for _ in range(AGAIN + 1 if learner.device.type == "cuda" else 0):  # until what is captured is captured
        _rehearse(learner, order.after(0))
    while len(times) < 3 or (len(times) < WINDOW and sum(times) < 3 * TRIAL):
        samples = order.after(consumed)
        times.append(_rehearse(learner, samples))
        consumed += len(samples.indices)
    return sum(times[1:]) / len(times[1:])
