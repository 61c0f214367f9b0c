"""The gradient of a batch as one CUDA graph.

What a small model's update asks of a GPU takes the GPU less time than Python needs to ask. Batches that are whole (see
`tasks/examples.py`) ask the same each time, so it is captured when a size of batch comes again, and run with other
numbers from then on.
"""

from collections import Counter
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn

from zhumo.tasks import Loss
from zhumo.tasks.examples import Batch
from zhumo.transformer import key_dropout

AGAIN = 3  # batches of a size before it is captured: the first let torch make what it makes once
MOST = 4  # sizes that are captured; each keeps what it computes with


class _Graph(NamedTuple):
    graph: torch.cuda.CUDAGraph
    batch: Batch
    keys: Tensor
    loss: Loss


class Captured:
    """Gradients of one model's loss. True once there is a graph: gradients are then kept where they are, and zeroed."""

    def __init__(self, model: nn.Module, loss: Callable[[Batch], Loss]) -> None:
        self.model, self.loss = model, loss
        self.forget()

    def __bool__(self) -> bool:
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
        if size not in self._graphs and self._seen[size] > AGAIN and len(self._graphs) < MOST:
            self._graphs[size] = self._capture(batch, keys)
        if size not in self._graphs:
            key_dropout(self.model, keys)
            return self._backwards(batch)
        graph, given, sample, loss = self._graphs[size]
        for name, tensor in batch.items():
            given[name].copy_(tensor)
        sample.copy_(keys)
        graph.replay()
        return loss

    def _backwards(self, batch: Batch) -> Loss:
        loss = self.loss(batch)
        loss.total.backward()  # type: ignore[no-untyped-call]
        return Loss(loss.total.detach(), loss.count)

    def _capture(self, batch: Batch, keys: Tensor) -> _Graph:
        """The graph of a size; gradients are as they were."""
        kept = [(parameter, parameter.grad) for parameter in self.model.parameters() if parameter.requires_grad]
        for parameter, _ in kept:
            parameter.grad = torch.zeros_like(parameter)
        given, sample = {name: tensor.clone() for name, tensor in batch.items()}, keys.clone()
        key_dropout(self.model, sample)
        with torch.cuda.stream(torch.cuda.Stream()):  # type: ignore[no-untyped-call]
            self._backwards(given)
        torch.cuda.synchronize()
        graph, others = torch.cuda.CUDAGraph(), list(self._graphs.values())
        # One at a time is run, so all share what they compute in.
        with torch.cuda.graph(graph, pool=others[0].graph.pool() if others else None):
            loss = self._backwards(given)
        for parameter, gradient in kept:
            assert parameter.grad is not None
            parameter.grad.zero_()
            if gradient is not None:
                parameter.grad.add_(gradient)
        return _Graph(graph, given, sample, loss)
