"""How far a model in whole numbers is from the one it was made of."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F

from zhumo.engine.parts import ROWS, Part, Reader
from zhumo.transformer import Transformer

Ids = Sequence[int] | np.ndarray


@dataclass(frozen=True)
class Agreement:
    """Two models' next tokens over the same texts.

    tokens: how many were compared. top: share of them where the likeliest next token is the same.
    divergence: how far the second's chances are from the first's, Kullback-Leibler, nats a token.
    perplexity: the second's over the first's.
    """

    tokens: int
    top: float
    divergence: float
    perplexity: float


@torch.inference_mode()
def agree(model: Transformer, reader: Reader, texts: Iterable[Ids]) -> Agreement:
    """Compare what `reader` says with what `model` says after every token of `texts` but the last of each.

    Raises:
        ValueError: no text of at least two tokens.
    """
    tokens, same = 0, 0
    divergence = worse = 0.0
    for text in texts:
        ids = [int(token) for token in text[: reader.length]]
        for start in range(0, len(ids) - 1, ROWS):
            part = ids[start : min(start + ROWS, len(ids) - 1)]
            ours = reader.step([Part(0, start, part, every=True)])[0].float().log_softmax(-1)
            states = model.hidden(torch.tensor([ids[: start + len(part)]]))[0, start:]
            assert model.head is not None
            theirs = model.head(states).float().log_softmax(-1)
            wanted = torch.tensor(ids[start + 1 : start + len(part) + 1]).unsqueeze(-1)
            tokens += len(part)
            same += int((ours.argmax(-1) == theirs.argmax(-1)).sum())
            divergence += float(F.kl_div(ours, theirs, reduction="sum", log_target=True))
            worse += float((theirs.gather(-1, wanted) - ours.gather(-1, wanted)).sum())
    if not tokens:
        raise ValueError("nothing to compare: no text of at least two tokens")
    return Agreement(tokens, same / tokens, divergence / tokens, math.exp(worse / tokens))
