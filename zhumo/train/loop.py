"""The way through the data: step after step, with validations and checkpoints.

- All that is random is a function of (seed, step, sample); all that is measured is settled before the first update.
  So a run that is killed and started again ends, on the same machine, with the same bits.
- A checkpoint holds the weights, the best weights so far, the optimiser's memory and a `State`.
- Where there are validation rows, the weights that do best on them are kept, with or without `patience`: those rows
  were set apart to choose with, and the last weights are never better for having come last. Published weights are
  looked at before the first update too, so that a training that only makes them worse leaves them as they were.
"""

import math
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from zhumo.bundle import Bundle
from zhumo.errors import DataError, Interrupted, ModelError, ZhumoError
from zhumo.recipe import Recipe
from zhumo.tasks import Row
from zhumo.tasks.examples import Examples
from zhumo.train import checkpoint
from zhumo.train.learner import Learner
from zhumo.train.order import Order, mix
from zhumo.train.pace import Looks, Pace, settle
from zhumo.train.schedule import learning_rate
from zhumo.train.stop import Stop
from zhumo.train.watch import Watch

SKIPS = 3  # updates in a row that are not finite, and no more
MEASURED_ON = 1_000  # validation rows answered in one look, where the task's own measure is asked for
SAVING = 0.05  # share of the time that may go into checkpoints; large ones come less often than `save_every`


class TrainError(ZhumoError):
    """Learning cannot go on."""


@dataclass
class State:
    """Where a training stands: all of it that is not tensors."""

    step: int = 0
    samples: int = 0  # consumed; the whole state of the data order
    tokens: int = 0
    seconds: float = 0.0
    skipped: int = 0  # updates that were not finite
    skipped_in_a_row: int = 0
    best: float | None = None  # what the weights are chosen by, the lower the better
    best_loss: float | None = None
    best_step: int = 0
    stale: int = 0  # validations since the best one
    metrics: int = 0  # bytes of metrics.jsonl


class Training:
    """A learner on its way through the data."""

    def __init__(
        self, recipe: Recipe, bundle: Bundle, examples: Examples, valid: Examples, rows: list[Row], folder: Path
    ) -> None:
        if bundle.task is None:
            raise ModelError("model.no_task", folder=bundle.folder)
        self.seed, self.train, self.folder, self.bundle, self.rows = recipe.seed, recipe.train, folder, bundle, rows
        self.valid, self.checkpoints = valid, folder / "checkpoints"
        self.asked = rows[:: 1 + len(rows) // MEASURED_ON] if recipe.train.metric == "task" else []
        self.published = recipe.build.start is not None
        self.order = Order(examples.lengths(), recipe.train.batch, recipe.seed)
        self.learner = Learner(bundle.model, bundle.task, examples, recipe.train)
        self.state, self.best = State(), dict[str, torch.Tensor]()
        self.saved_step, self.save_due = 0, 0.0
        self.pace, self.until = Pace(threads=torch.get_num_threads(), steps=0), 0

    @property
    def done(self) -> bool:
        """Whether all steps asked for are made, or patience is at its end."""
        tired = self.train.patience is not None and self.state.stale >= self.train.patience
        return tired or self.state.step >= self.until

    def begin(self, began: float, looks: int = 1) -> None:
        """Settle the pace and take up the newest checkpoint. looks: validations beside the usual ones."""
        if len(self.order.lengths):
            seen = Looks(self.valid, self.asked, looks)
            self.pace = settle(self.folder / "plan.json", self.learner, self.order, seen, began)
        elif self.train.epochs != 0 and self.train.steps != 0:
            raise DataError("train.no_examples", folder=self.folder)
        checkpoint.sweep(self.checkpoints, keep=checkpoint.KEEP)
        found = checkpoint.newest(self.checkpoints)
        if found is not None:
            tensors, state = checkpoint.read(found)
            self.state, self.best = State(**state), tensors.get("best", {})
            self.learner.take_up(tensors["model"], tensors["optimizer"])
            self.saved_step = self.state.step

    def learn(self, stop: Stop, progress: bool, share: float = 1.0) -> None:
        """Make all steps that are left, or only as many as bring it to a `share` of all, looking at the end of them."""
        state = self.state
        self.until = math.ceil(share * self.pace.steps)
        self.save_due = time.monotonic() + self.train.save_every
        with Watch(self.folder, self.until, state.step, state.metrics, progress) as watch:
            if self.published and state.step == 0 and len(self.valid) and not self.done:
                self._validate(watch)
            while not self.done:
                began = time.monotonic()
                self._step(watch)
                if self._validation_due():
                    self._validate(watch)
                state.seconds += time.monotonic() - began
                # The first step is saved, so that a process that is killed again and again still gets on.
                if state.step == 1 or stop.asked or time.monotonic() > self.save_due:
                    self._save(watch)
                if stop.asked and not self.done:
                    raise Interrupted("train.interrupted", step=state.step, steps=self.pace.steps, folder=self.folder)
            self._save(watch)

    def _step(self, watch: Watch) -> None:
        state = self.state
        samples = self.order.after(state.samples)
        rate = learning_rate(self.train, self.train.lr or 0.0, state.step, self.pace.steps)
        # A task may draw at random; what it draws is a function of the step, so there is no state of it to save.
        self.learner.generator.manual_seed(int(mix(self.seed, state.samples)[0]))
        outcome = self.learner.update(samples, rate)
        tokens = int(self.order.lengths[samples.indices].sum())
        state.step += 1
        state.samples += len(samples.indices)
        state.tokens += tokens
        watch.step(state.step, outcome, rate, tokens, state.seconds)
        state.skipped += not outcome.finite
        state.skipped_in_a_row = 0 if outcome.finite else state.skipped_in_a_row + 1
        if state.skipped_in_a_row == SKIPS:
            raise TrainError("train.not_finite", step=state.step, times=SKIPS, rate=f"{rate:.2g}")

    def _validation_due(self) -> bool:
        every = self.train.validate_every or self.order.epoch_steps
        return len(self.valid) > 0 and (self.state.step % every == 0 or self.state.step == self.until)

    def _validate(self, watch: Watch) -> None:
        state = self.state
        loss = judged = self.learner.validate(self.valid)
        if self.asked:
            measure = self.learner.measure(self.asked)
            judged = -measure.value if measure.higher_is_better else measure.value
            watch.measured(state.step, measure)
        watch.validated(state.step, loss)
        state.stale += 1
        if judged < (math.inf if state.best is None else state.best):
            state.best, state.best_loss, state.best_step, state.stale = judged, loss, state.step, 0
            self.best = {name: tensor.to("cpu", copy=True) for name, tensor in self.learner.weights().items()}

    def _save(self, watch: Watch) -> None:
        if self.state.step > self.saved_step:
            began = time.monotonic()
            self.state.metrics = watch.mark()
            tensors = {"model": self.learner.weights(), "optimizer": self.learner.memory()}
            tensors |= {"best": self.best} if self.best else {}
            checkpoint.save(self.checkpoints, self.state.step, tensors, asdict(self.state))
            now = time.monotonic()
            self.saved_step, self.save_due = self.state.step, now + max(self.train.save_every, (now - began) / SAVING)

    def facts(self) -> dict[str, Any]:
        """What a person may want to know of it."""
        state = self.state
        return {
            "steps": state.step,
            "epochs": state.samples / max(1, len(self.order.lengths)),
            "seconds": state.seconds,
            "predicted_seconds": self.pace.predicted_seconds,
            "threads": self.pace.threads,
            "tokens_per_second": state.tokens / state.seconds if state.seconds else None,
            "best": abs(state.best) if state.best is not None and self.asked else None,
            "best_loss": state.best_loss,
            "best_step": state.best_step,
            "skipped": state.skipped,
        }
