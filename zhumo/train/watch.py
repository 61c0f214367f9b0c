"""What can be seen of a training: a line of metrics.jsonl a step, progress on stderr, TensorBoard where it is there.

A full disk must not end a training that could go on: lines wait until there is room, and TensorBoard is given up.
"""

import os
import sys
import time
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from types import TracebackType
from typing import Self

import orjson
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

from zhumo.metrics.measure import Measure
from zhumo.train.learner import Outcome
from zhumo.words import say

try:
    from torch.utils.tensorboard import SummaryWriter
except ImportError:  # the extra `track` is not installed
    TENSORBOARD = False
else:
    TENSORBOARD = True

TICK = 1.0  # seconds between two looks on a terminal, and between two points in TensorBoard
LINE = 10.0  # seconds between two lines elsewhere


class Watch:
    """Records a training of `steps` steps that goes on after step `start`.

    metrics: bytes of metrics.jsonl that belong to the steps done; what a killed process wrote beyond is cut off.
    """

    def __init__(self, folder: Path, steps: int, start: int, metrics: int, show: bool) -> None:
        self.steps, self.start, self.show = steps, start, show
        self.file = (folder / "metrics.jsonl").open("ab", buffering=0)
        self.file.truncate(min(metrics, self.file.tell()))
        self.waiting = bytearray()  # lines that are not in the file yet
        self.board = SummaryWriter(str(folder / "tensorboard"), purge_step=start + 1) if TENSORBOARD else None
        console = Console(stderr=True)
        self.live = console.is_terminal and show
        self.bar = Progress(
            BarColumn(16), TextColumn("{task.description}"), console=console, auto_refresh=False, disable=not self.live
        )
        self.row = self.bar.add_task("", total=steps, completed=start)
        self.valid: float | None = None
        self.began = self.ticked = self.said = time.monotonic()
        self.tokens, self.losses = 0, [0.0, 0.0]

    def __enter__(self) -> Self:
        self.bar.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.bar.stop()
        with suppress(OSError):  # what matters of it is on the disk since `mark`
            self._put_down()
            self.file.close()
        if self.board is not None:
            with suppress(OSError):
                self.board.close()

    def step(self, step: int, outcome: Outcome, rate: float, tokens: int, seconds: float) -> None:
        """One update was made, or skipped. rate: the learning rate; seconds: of training before it."""
        now = time.monotonic()
        self._write({"step": step, **outcome._asdict(), "rate": rate, "tokens": tokens, "seconds": seconds})
        self.tokens += tokens
        self.losses = [self.losses[0] + outcome.loss, self.losses[1] + 1]
        if now - self.ticked > TICK or step == self.steps:
            self._tick(step, now, rate)

    def validated(self, step: int, loss: float) -> None:
        """A validation was made."""
        self.valid = loss
        self._write({"step": step, "valid_loss": loss})
        self._point("valid_loss", loss, step)

    def measured(self, step: int, measure: Measure) -> None:
        """Validation rows were answered and measured."""
        self._write({"step": step, measure.name: measure.value})
        self._point(measure.name, measure.value, step)

    def mark(self) -> int:
        """Put what was recorded on the disk; returns its size in bytes.

        Raises:
            OSError: the disk is full or broken; what is not on it yet is kept for the next time.
        """
        self._put_down()
        os.fsync(self.file.fileno())
        return self.file.tell()

    def _put_down(self) -> None:
        while self.waiting:
            del self.waiting[: self.file.write(self.waiting)]

    def _write(self, line: dict[str, float]) -> None:
        self.waiting += orjson.dumps(line) + b"\n"

    def _point(self, name: str, value: float, step: int) -> None:
        if self.board is not None:
            try:
                self.board.add_scalar(name, value, step)
            except OSError:
                self.board = None

    def _tick(self, step: int, now: float, rate: float) -> None:
        loss, speed = self.losses[0] / self.losses[1], self.tokens / max(now - self.ticked, 1e-9)
        with suppress(OSError):
            self._put_down()
        for name, value in (("loss", loss), ("rate", rate), ("tokens_per_second", speed)):
            self._point(name, value, step)
        left = (now - self.began) / (step - self.start) * (self.steps - step)
        text = say(
            "cli.train.progress",
            step=step,
            steps=self.steps,
            loss=f"{loss:.3f}",
            valid="-" if self.valid is None else f"{self.valid:.3f}",
            speed=f"{speed:,.0f}",
            left=timedelta(seconds=round(left)),
        )
        self.bar.update(self.row, completed=step, description=text, refresh=True)
        if self.show and not self.live and (now - self.said > LINE or step == self.steps):
            print(text, file=sys.stderr, flush=True)
            self.said = now
        self.ticked, self.tokens, self.losses = now, 0, [0.0, 0.0]
