"""An earlier bundle of the same task as a start: what it knew of each item or label goes to where that stands now."""

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from zhumo.build.head import put_head
from zhumo.errors import ModelError
from zhumo.tasks import Task
from zhumo.transformer import Transformer, initialise
from zhumo.transformer.families import tied_names
from zhumo.weights import Weights

TOKENS = "stem.tokens.weight"


def carried(weights: Weights, before: Task, task: Task, seed: int) -> Transformer:
    """The model of `weights` made for the names of `task`. A name that is known keeps what was learned of it; a new one
    begins as it would in a fresh model.

    before: the task the weights were trained for.

    Raises:
        ModelError: the bundle lacks something that the task has now.
    """
    legend, former = task.legend, before.legend
    vocabulary = task.vocabulary if TOKENS in legend else weights.config.vocabulary
    model = initialise(Transformer(replace(weights.config, vocabulary=vocabulary)), seed)
    task.begin(model)
    put_head(model, task, seed)
    with torch.no_grad():
        for name, tensor in model.state_dict().items():
            if name in tied_names(model.config):
                continue  # the embeddings once more
            known = weights.tensors.get(name)
            if known is None:
                raise ModelError("model.bad_tensors", missing=name, extra="-")
            tensor.copy_(_rows(tensor, known.float(), legend[name], former[name]) if name in legend else known)
    return model


def _rows(fresh: Tensor, learned: Tensor, names: Sequence[str | None], before: Sequence[str | None]) -> Tensor:
    """The rows of `learned`, by name, and those of `fresh` for new names."""
    index = {name: place for place, name in enumerate(before)}
    now = torch.tensor([place for place, name in enumerate(names) if name in index], dtype=torch.long)
    then = torch.tensor([index[name] for name in names if name in index], dtype=torch.long)
    rows = fresh @ _turn(fresh[now], learned[then]) if fresh.dim() == 2 else fresh.clone()
    rows[now] = learned[then]
    return rows


def _turn(fresh: Tensor, learned: Tensor) -> Tensor:
    """The rotation that brings rows as they begin nearest to the same rows as they were learned (orthogonal Procrustes,
    Schönemann 1966): where a new item begins is said in axes of its own day."""
    left, _, right = torch.linalg.svd(fresh.T @ learned)
    turn: Tensor = left @ right
    return turn
