"""AdamW (Loshchilov and Hutter 2019), and Muon for the matrices of the blocks: what learns, and what of it decays."""

from torch import nn
from torch.optim import AdamW, Muon, Optimizer

from zhumo.recipe import Train


def learning(model: nn.Module) -> dict[str, nn.Parameter]:
    """The parameters that learn, by name; tied ones once."""
    return {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}


def make_optimizers(model: nn.Module, train: Train) -> list[Optimizer]:
    """The optimisers that share the parameters. Norms, biases and other vectors are not decayed.

    With Muon (Jordan et al. 2024) the matrices of the blocks take steps of the size AdamW's would have (Liu et al.
    2025), so one learning rate serves both; embeddings and heads stay with AdamW.
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
        found.append(Muon(blocks, weight_decay=train.weight_decay, adjust_lr_fn="match_rms_adamw"))
    return found
