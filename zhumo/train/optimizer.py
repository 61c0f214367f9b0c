"""AdamW (Loshchilov and Hutter 2019): what learns, and what of it decays."""

from torch import nn
from torch.optim import AdamW

BETAS = (0.9, 0.99)  # 0.99: short trainings are the rule here, and 0.999 remembers longer than many of them last


def learning(model: nn.Module) -> dict[str, nn.Parameter]:
    """The parameters that learn, by name; tied ones once."""
    return {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}


def make_optimizer(model: nn.Module, weight_decay: float) -> AdamW:
    """AdamW over what learns. Norms, biases and other vectors are not decayed."""
    parameters = learning(model).values()
    matrices = [parameter for parameter in parameters if parameter.dim() >= 2]
    vectors = [parameter for parameter in parameters if parameter.dim() < 2]
    groups = [{"params": matrices, "weight_decay": weight_decay}, {"params": vectors, "weight_decay": 0.0}]
    return AdamW([group for group in groups if group["params"]], betas=BETAS, fused=True)

