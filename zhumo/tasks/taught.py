"""What a small model takes from a large one: not only which answer is right, but how the teacher weighs all of them
(Hinton, Vinyals and Dean 2015)."""

import torch.nn.functional as F
from torch import Tensor

SHARE = 0.5  # of the loss that listens to the teacher
TEMPERATURE = 2.0  # both are softened by it, so that small chances are heard too


def taught(right: Tensor, logits: Tensor, wanted: Tensor) -> Tensor:
    """The loss against the right answers mixed with the divergence from a teacher, each a sum over rows.

    right: the loss against the right answers; logits, wanted: the student's and the teacher's, (rows, classes).
    """
    ours, theirs = F.log_softmax(logits / TEMPERATURE, 1), F.log_softmax(wanted / TEMPERATURE, 1)
    apart = F.kl_div(ours, theirs, log_target=True, reduction="sum") * TEMPERATURE**2
    return (1 - SHARE) * right + SHARE * apart


def taught_each(right: Tensor, logits: Tensor, wanted: Tensor) -> Tensor:
    """The same where each class is a question of its own; the divergence is a mean over classes."""
    chances = (wanted / TEMPERATURE).sigmoid()
    apart = F.binary_cross_entropy_with_logits(logits / TEMPERATURE, chances, reduction="none").mean(1).sum()
    return (1 - SHARE) * right + SHARE * TEMPERATURE**2 * apart
