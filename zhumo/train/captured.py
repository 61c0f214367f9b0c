"""The gradient of a batch as one CUDA graph.

What a small model's update asks of a GPU takes the GPU less time than Python needs to ask. Batches that are whole (see
`tasks/examples.py`) ask the same each time, so it is captured when a size of batch comes again, and run with other
numbers from then on.
"""

import logging
from collections import Counter
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn

from zhumo.tasks import Loss
from zhumo.tasks.examples import Batch
from zhumo.transformer import key_dropout
from zhumo.words import say

log = logging.getLogger(__name__)
AGAIN = 3  # batches of a size before it is captured: the first let torch make what it makes once
MOST = 4  # sizes that are captured


class _Graph(NamedTuple):
    graph: torch.cuda.CUDAGraph
    batch: Batch
    keys: Tensor
    loss: Loss


class Captured:
    """Gradients of one model's loss."""

    def __init__(self, model: nn.Module, loss: Callable[[Batch], Loss]) -> None:
        self.model, self.loss, self._most = model, loss, MOST
        self.forget()

    @property
    def holds_gradients(self) -> bool:
        """Whether there is a graph: it adds to gradients where they lie, so they are zeroed and never let go."""
        return bool(self._graphs)

    def forget(self) -> None:
        """Begin anew: the model is computed otherwise from here on, or its weights are elsewhere."""
        self._graphs: dict[torch.Size, _Graph] = {}
        self._seen = Counter[torch.Size]()
        for parameter in self.model.parameters():
            parameter.grad = None

    def gradient(self, batch: Batch, keys: Tensor) -> Loss:
        """Add the gradient of a batch's loss to `.grad`. keys: (batch,), of its samples, for dropout."""
        size = batch["ids"].shape
        self._seen[size] += 1
        if size not in self._graphs and self._seen[size] > AGAIN and len(self._graphs) < self._most:
            self._try(batch, keys)
        if size not in self._graphs:
            return self._backwards(batch, keys)
        graph, given, sample, loss = self._graphs[size]
        for name, tensor in batch.items():
            given[name].copy_(tensor)
        sample.copy_(keys)
        graph.replay()
        return loss

    def _try(self, batch: Batch, keys: Tensor) -> None:
        """Capture a size, unless memory is short or the model does what cannot be captured; then none from here on."""
        problem = ""
        try:
            self._graphs[batch["ids"].shape] = self._capture(batch, keys)
        except RuntimeError as error:
            self._most, problem = 0, str(_first(error)).strip().partition("\n")[0]
        if not self._most:
            torch.cuda.empty_cache()  # now that the error holds none of it any more
            log.warning(say("cli.train.not_captured", problem=problem))

    def _backwards(self, batch: Batch, keys: Tensor) -> Loss:
        key_dropout(self.model, keys)
        loss = self.loss(batch)
        loss.total.backward()  # type: ignore[no-untyped-call]
        return Loss(loss.total.detach(), loss.count)

    def _capture(self, batch: Batch, keys: Tensor) -> _Graph:
        """The graph of a size; gradients are as they were."""
        learned = [parameter for parameter in self.model.parameters() if parameter.requires_grad]
        kept = [None if parameter.grad is None else parameter.grad.clone() for parameter in learned]
        for parameter in learned:
            if parameter.grad is None:  # else a graph of another size adds to it
                parameter.grad = torch.zeros_like(parameter)
        given, sample = {name: tensor.clone() for name, tensor in batch.items()}, keys.clone()
        try:
            # What was computed in so far is let go: this stream, and then the graph, have a room of their own.
            torch.cuda.empty_cache()
            aside = torch.cuda.Stream()  # type: ignore[no-untyped-call]
            aside.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(aside):
                self._backwards(given, sample)
            torch.cuda.synchronize()
            torch.cuda.empty_cache()
            graph, others = torch.cuda.CUDAGraph(), list(self._graphs.values())
            # One at a time is run, so all share what they compute in. Around it the stream of before, since torch does
            # not go back to it from a capture that is refused.
            pool = others[0].graph.pool() if others else None
            with torch.cuda.stream(torch.cuda.current_stream()), torch.cuda.graph(graph, pool=pool):
                loss = self._backwards(given, sample)
        finally:
            torch.cuda.synchronize()  # what was begun on a stream that failed may still add to them
            for parameter, gradient in zip(learned, kept, strict=True):
                assert parameter.grad is not None
                parameter.grad.zero_() if gradient is None else parameter.grad.copy_(gradient)
        return _Graph(graph, given, sample, loss)


def _first(error: BaseException) -> BaseException:
    """What went wrong before all that went wrong for it."""
    while error.__context__ is not None:
        error = error.__context__
    return error
