"""The task's own head on top of a model."""

import torch
from torch import nn

from zhumo.tasks import Task
from zhumo.transformer import Transformer


def put_head(model: Transformer, task: Task, seed: int) -> None:
    """Give the model the task's own head, freshly drawn, where the task has one."""
    head = task.head(model.config.width)
    if head is None:
        return
    generator = torch.Generator().manual_seed(seed + 1)
    for module in head.modules():
        if isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, std=0.02, generator=generator)
            nn.init.zeros_(module.bias)
    model.head = head
