"""One update: the gradient of a global batch, the guard, the optimiser; and the loss on examples not learned from."""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils import get_total_norm

from zhumo.metrics.measure import Measure
from zhumo.recipe import Precision, Train
from zhumo.tasks import Answer, Loss, Row, Task
from zhumo.tasks.examples import Batch, Examples, batches, collate, whole
from zhumo.train.attention import QuickAttention
from zhumo.train.captured import Captured
from zhumo.train.optimizer import learning, make_optimizers
from zhumo.train.order import Indices, Samples
from zhumo.train.recompute import recomputed
from zhumo.transformer import Transformer, key_dropout
from zhumo.transformer.lora import halve_frozen


class Outcome(NamedTuple):
    """What an update saw. loss: mean over the positions that count; norm: of the gradient, before clipping."""

    loss: float
    norm: float

    @property
    def finite(self) -> bool:
        """Whether both are numbers."""
        return math.isfinite(self.loss) and math.isfinite(self.norm)


class Learner:
    """A model that learns a task from examples.

    elder: a model beside it that does not learn, which the task's loss listens to: a teacher, or where it started from.
    """

    def __init__(
        self, model: Transformer, task: Task, examples: Examples, train: Train, elder: Transformer | None = None
    ) -> None:
        self.model, self.task, self.examples, self.train, self.elder = model, task, examples, train, elder
        self.device = torch.device(train.device)
        self.model.to(self.device).train()
        if elder is not None:
            elder.to(self.device).eval()
        # torch's own stream; seeding it here is far cheaper than torch.manual_seed, which looks at every device
        self.generator = torch.cuda.default_generators[0] if train.device == "cuda" else torch.default_generator
        self.parameters = learning(model)
        self.bf16_pays = True
        self.captured = Captured(self.model, self._loss)
        self.renew()

    def renew(self, bf16_pays: bool | None = None) -> None:
        """Fresh optimisers. bf16_pays: whether this machine multiplies faster in it, once that is known; from then on
        what is frozen is held in it too."""
        if bf16_pays is not None:
            self.bf16_pays = bf16_pays
            if self.precision == "bf16":
                halve_frozen(self.model)
        self.captured.forget()
        self.optimizers = make_optimizers(self.model, self.train, self.bf16_pays)

    def weights(self) -> dict[str, Tensor]:
        """What training changes, by name, not copied."""
        return {name: parameter.detach() for name, parameter in self.parameters.items()}

    def put(self, weights: dict[str, Tensor]) -> None:
        """Take over weights of those names."""
        with torch.no_grad():
            for name, parameter in self.parameters.items():
                parameter.copy_(weights[name])

    @contextmanager
    def standing_in(self, weights: dict[str, Tensor]) -> Iterator[None]:
        """Inside it, the model has these weights instead of its own."""
        self._exchange(weights)
        try:
            yield
        finally:
            self._exchange(weights)

    def _exchange(self, weights: dict[str, Tensor]) -> None:
        for name, tensor in weights.items():
            parameter = self.parameters[name]
            parameter.data, weights[name] = tensor, parameter.data

    def whole(self) -> bool:
        """Whether weights and what the optimisers remember are numbers."""
        return all(
            bool(tensor.isfinite().all()) for part in (self.weights(), self.memory()) for tensor in part.values()
        )

    def memory(self) -> dict[str, Tensor]:
        """What the optimisers remember of each parameter, as `parameter/quantity`."""
        names = {id(parameter): name for name, parameter in self.parameters.items()}
        return {
            f"{names[id(parameter)]}/{quantity}": tensor
            for optimizer in self.optimizers
            for parameter, state in optimizer.state.items()
            for quantity, tensor in state.items()
        }

    def take_up(self, weights: dict[str, Tensor], memory: dict[str, Tensor]) -> None:
        """Go on from what `weights` and `memory` returned."""
        self.put(weights)
        self.renew()
        owner = {
            id(parameter): optimizer
            for optimizer in self.optimizers
            for group in optimizer.param_groups
            for parameter in group["params"]
        }
        for key, tensor in memory.items():
            name, _, quantity = key.rpartition("/")
            parameter = self.parameters[name]
            owner[id(parameter)].state[parameter][quantity] = tensor.to(self.device)

    def gradient(self, indices: Indices, keys: Indices, parts: int) -> tuple[float, int]:
        """Add the gradient of the summed loss of some examples to `.grad`; returns that sum and its count.

        Sums, not means: so parts, and workers, add up to exactly the gradient of the global batch.
        """
        total, count = 0.0, 0
        thrifty = recomputed(self.model, self._attention) if self.train.recompute else nullcontext()
        with thrifty:
            for part in np.array_split(np.arange(len(indices)), min(parts, len(indices))):
                examples = [self.examples[index] for index in indices[part]]
                batch = whole(examples, self.device) if self.task.whole and self.elder is None else None
                sample = torch.from_numpy(keys[part]).to(self.device)
                if batch is not None and self.device.type == "cuda" and not self.train.recompute:
                    loss = self.captured.gradient(batch, sample)
                else:
                    key_dropout(self.model, sample)
                    loss = self._loss(batch or collate(examples, self.device))
                    loss.total.backward()  # type: ignore[no-untyped-call]
                total, count = total + loss.total.item(), count + loss.count
        return total, count

    def _loss(self, batch: Batch) -> Loss:
        with self._attention(), torch.autocast(self.device.type, torch.bfloat16, enabled=self.precision == "bf16"):
            if self.elder is None:
                return self.task.loss(self.model, batch)
            return self.task.loss_beside(self.model, self.elder, batch)

    @property
    def precision(self) -> Precision:
        """The one asked for, but not bf16 where that would only cost."""
        return self.train.precision if self.bf16_pays else "fp32"

    def _attention(self) -> AbstractContextManager[object]:
        return QuickAttention() if self.precision == "bf16" and self.device.type == "cpu" else nullcontext()

    def update(
        self, samples: Samples, learning_rate: float, fine: Callable[[Outcome], bool] = lambda outcome: outcome.finite
    ) -> Outcome:
        """Learn from one global batch, unless loss and gradient are not `fine`: then all stays as it was."""
        total, count = self.gradient(samples.indices, samples.keys, self.train.accumulate)
        gradients = [p.grad for p in self.parameters.values() if p.grad is not None]
        count = max(count, 1)
        outcome = Outcome(total / count, get_total_norm(gradients).item() / count)
        if fine(outcome):
            scale = min(1.0, self.train.clip / (outcome.norm + 1e-6)) / count
            torch._foreach_mul_(gradients, scale)
            for optimizer in self.optimizers:
                for group in optimizer.param_groups:
                    group["lr"] = learning_rate
                optimizer.step()
        for optimizer in self.optimizers:
            optimizer.zero_grad(set_to_none=not self.captured.holds_gradients)
        return outcome

    def answer(self, rows: Sequence[Row]) -> list[Answer]:
        """What the task says of some rows by now."""
        self.model.eval()
        with torch.no_grad():
            answers = self.task.answer(self.model, rows)
        self.model.train()
        return answers

    def measure(self, rows: Sequence[Row]) -> Measure:
        """The measure that decides for this task, of its answers to some rows."""
        measures = self.task.score(self.answer(rows), rows)
        return next(measure for measure in measures if measure.name == self.task.metric)

    def validate(self, examples: Examples) -> float:
        """Mean loss over all examples, without dropout."""
        total, count = 0.0, 0
        size = max(1, self.train.batch // self.train.accumulate)
        self.model.eval()
        with torch.no_grad():
            for _, some in batches(examples, size):
                loss = self._loss(collate(some, self.device))
                total, count = total + loss.total.item(), count + loss.count
        self.model.train()
        return total / max(count, 1)
