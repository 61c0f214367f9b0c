"""AdamW (Loshchilov and Hutter 2019), and Muon for the matrices of the blocks: what learns, and what of it decays."""

import torch
from torch import nn
from torch.optim import AdamW, Optimizer

from zhumo.recipe import Train
from zhumo.train.muon import Muon


def learning(model: nn.Module) -> dict[str, nn.Parameter]:
    """The parameters that learn, by name; tied ones once."""
    return {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}


def make_optimizers(model: nn.Module, train: Train, bf16: bool = True) -> list[Optimizer]:
    """The optimisers that share the parameters. Norms, biases and other vectors are not decayed.

    With Muon the matrices of the blocks are its own; embeddings and heads stay with AdamW. bf16: whether it multiplies
    in that.
    """
    parameters = learning(model)
    blocks = [
        parameter
        for name, parameter in parameters.items()
        if train.optimizer == "muon" and parameter.dim() == 2 and name.startswith(("blocks.", "encoder.blocks."))
    ]
    taken = {id(parameter) for parameter in blocks}
    rest = [parameter for parameter in parameters.values() if id(parameter) not in taken]
    groups = [
        {"params": [parameter for parameter in rest if parameter.dim() >= 2], "weight_decay": train.weight_decay},
        {"params": [parameter for parameter in rest if parameter.dim() < 2], "weight_decay": 0.0},
    ]
    found: list[Optimizer] = []
    if rest:
        found.append(AdamW([group for group in groups if group["params"]], fused=True))
    if blocks:
        found.append(Muon(blocks, weight_decay=train.weight_decay, dtype=torch.bfloat16 if bf16 else torch.float32))
    return found
