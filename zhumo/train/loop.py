"""The way through the data: step after step, with validations and checkpoints.

- All that is random is a function of (seed, step, sample); all that is measured is settled before the first update.
  So a run that is killed and started again ends, on the same machine, with the same bits.
- A checkpoint holds the weights, the best weights so far, the optimiser's memory and a `State`.
- An update that is not finite or stands out is not made (`guard.py`); three in a row, or damaged weights, and the
  training goes back to the last checkpoint and passes over the batches since then. Which one that is depends on when
  they were written, and so on the clock: the only thing here that does.
- Where there are validation rows, the weights that do best on them are kept, with or without `patience`: those rows
  were set apart to choose with, and the last weights are never better for having come last. Published weights are
  looked at before the first update too, so that a training that only makes them worse leaves them as they were.
"""

import logging
import math
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Self

import torch
from safetensors import SafetensorError

from zhumo.bundle import Bundle
from zhumo.errors import DataError, Interrupted, ModelError, ZhumoError
from zhumo.recipe import Recipe
from zhumo.tasks import Row
from zhumo.tasks.examples import Examples
from zhumo.train import checkpoint
from zhumo.train.guard import Usual
from zhumo.train.learner import Learner, Outcome
from zhumo.train.order import Order, Samples, mix
from zhumo.train.pace import Looks, Pace, settle
from zhumo.train.schedule import learning_rate
from zhumo.train.stop import Stop
from zhumo.train.trouble import disk_problem
from zhumo.train.watch import Watch
from zhumo.transformer import Transformer
from zhumo.words import say

log = logging.getLogger(__name__)
SKIPS = 3  # updates in a row that are not made, and the weights are taken to be damaged
BACK = 3  # times a training goes back, and no more
MEASURED_ON = 1_000  # validation rows answered in one look, where the task's own measure is asked for
SHOWN = 8  # examples named in an error
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
    skipped: int = 0  # updates that were not made
    skipped_in_a_row: int = 0
    returns: int = 0  # times it went back
    returned_to: int | None = None  # the step of the checkpoint it went back to, until an update is made again
    loss: Usual = field(default_factory=Usual)
    norm: Usual = field(default_factory=Usual)
    best: float | None = None  # what the weights are chosen by, the lower the better
    best_loss: float | None = None
    best_step: int = 0
    stale: int = 0  # validations since the best one
    metrics: int = 0  # bytes of metrics.jsonl

    @classmethod
    def read(cls, saved: dict[str, Any]) -> Self:
        """The state a checkpoint holds; an older one knows nothing of what is usual."""
        return cls(**saved | {name: Usual(**saved.get(name, {})) for name in ("loss", "norm")})

    def fine(self, outcome: Outcome) -> bool:
        """Whether an update looks like those before it, so that it may be made."""
        return self.loss.allows(outcome.loss) and self.norm.allows(outcome.norm)

    def made(self, outcome: Outcome) -> None:
        """Count an update."""
        self.loss.add(outcome.loss)
        self.norm.add(outcome.norm)
        self.skipped_in_a_row, self.returned_to = 0, None


class Training:
    """A learner on its way through the data."""

    def __init__(
        self,
        recipe: Recipe,
        bundle: Bundle,
        examples: Examples,
        valid: Examples,
        rows: list[Row],
        folder: Path,
        elder: Transformer | None = None,
    ) -> None:
        if bundle.task is None:
            raise ModelError("model.no_task", folder=bundle.folder)
        self.seed, self.train, self.folder, self.bundle, self.rows = recipe.seed, recipe.train, folder, bundle, rows
        self.valid, self.checkpoints = valid, folder / "checkpoints"
        self.asked = rows[:: 1 + len(rows) // MEASURED_ON] if recipe.train.metric == "task" else []
        self.published = recipe.build.start is not None
        self.order = Order(examples.lengths(), recipe.train.batch, recipe.seed)
        self.learner = Learner(bundle.model, bundle.task, examples, recipe.train, elder)
        self.state, self.best = State(), dict[str, torch.Tensor]()
        self.average = dict[str, torch.Tensor]()  # of the weights over the updates, where the recipe asks for it
        if recipe.train.ema is not None:
            self.average = {name: tensor.clone() for name, tensor in self.learner.weights().items()}
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
            self.state, self.best = State.read(state), tensors.get("best", {})
            self._take_up(tensors)
            self.saved_step = self.state.step

    def _take_up(self, tensors: checkpoint.Tensors) -> None:
        self.learner.take_up(dict(tensors["model"]), dict(tensors["optimizer"]))
        for name, tensor in tensors.get("average", {}).items():
            self.average[name].copy_(tensor)

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
                if stop.asked:
                    self._save(watch)
                elif state.step == 1 or time.monotonic() > self.save_due:
                    self._try_to_save(watch)
                if stop.asked and not self.done:
                    raise Interrupted("train.interrupted", step=state.step, steps=self.pace.steps, folder=self.folder)
            self._save(watch)

    def _step(self, watch: Watch) -> None:
        state = self.state
        samples = self.order.after(state.samples)
        rate = learning_rate(self.train, self.pace.rate, state.step, self.pace.steps)
        # A task may draw at random; what it draws is a function of the step, so there is no state of it to save.
        self.learner.generator.manual_seed(int(mix(self.seed, state.samples)[0]))
        outcome = self.learner.update(samples, rate, state.fine)
        tokens = int(self.order.lengths[samples.indices].sum())
        state.step += 1
        state.samples += len(samples.indices)
        state.tokens += tokens
        watch.step(state.step, outcome, rate, tokens, state.seconds)
        if state.fine(outcome):
            state.made(outcome)
            self._follow()
        else:
            self._skip(outcome, samples, rate)

    def _follow(self) -> None:
        """Let the average follow the weights: fast at first, or it would remember where they began."""
        if self.train.ema is not None:
            share = 1 - min(self.train.ema, (1 + self.state.loss.seen) / (10 + self.state.loss.seen))
            for name, tensor in self.learner.weights().items():
                self.average[name].lerp_(tensor, share)

    def _skip(self, outcome: Outcome, samples: Samples, rate: float) -> None:
        """Pass over a batch whose update was not made; go back where the weights are to blame."""
        state = self.state
        facts = {"loss": outcome.loss, "norm": outcome.norm, "usual": state.loss.mean, "usual_norm": state.norm.mean}
        log.warning(
            say("cli.train.skipped", step=state.step, **{name: f"{value:.3g}" for name, value in facts.items()})
        )
        state.skipped += 1
        state.skipped_in_a_row += 1
        if state.skipped_in_a_row % SKIPS and self.learner.whole():
            return
        before = math.inf if state.returned_to is None else state.returned_to
        found = checkpoint.newest(self.checkpoints, before) if state.returns < BACK else None
        if found is None:
            examples = ", ".join(map(str, samples.indices[:SHOWN]))
            raise TrainError(
                "train.unstable", step=state.step, times=state.returns, rate=f"{rate:.2g}", examples=examples
            )
        state.returns, state.returned_to = state.returns + 1, checkpoint.step_of(found)
        self._take_up(checkpoint.read(found)[0])
        log.warning(say("cli.train.back", step=state.step, to=state.returned_to))

    def _validation_due(self) -> bool:
        every = self.train.validate_every or self.order.epoch_steps
        return len(self.valid) > 0 and (self.state.step % every == 0 or self.state.step == self.until)

    def _validate(self, watch: Watch) -> None:
        state = self.state
        with self.learner.standing_in(self.average):
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

    def _try_to_save(self, watch: Watch) -> None:
        """Save, unless the disk does not let it; then later."""
        try:
            self._save(watch)
        except (OSError, SafetensorError) as error:
            problem = disk_problem(error)
            if problem is None:
                raise
            log.warning(say("cli.train.not_saved", step=self.state.step, problem=problem))
            self.save_due = time.monotonic() + self.train.save_every

    def _save(self, watch: Watch) -> None:
        """Save what is new; not, before the end, suspect weights, which would take the place of good ones."""
        if self.state.step > self.saved_step and (self.done or not self.state.skipped_in_a_row):
            began = time.monotonic()
            self.state.metrics = watch.mark()
            tensors = {"model": self.learner.weights(), "optimizer": self.learner.memory()}
            tensors |= {name: kept for name, kept in (("best", self.best), ("average", self.average)) if kept}
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
            "precision": self.learner.precision,
            "tokens_per_second": state.tokens / state.seconds if state.seconds else None,
            "best": abs(state.best) if state.best is not None and self.asked else None,
            "best_loss": state.best_loss,
            "best_step": state.best_step,
            "skipped": state.skipped,
            "returns": state.returns,
        }
