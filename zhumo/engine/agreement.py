"""How far a model in fewer bits is from the one it was made of."""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

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
        for start, ours in _said(reader, ids[:-1]):
            end = start + len(ours)
            states = model.hidden(torch.tensor([ids[:end]]))[0, start:]
            assert model.head is not None
            ours, theirs = (logits.float().log_softmax(-1) for logits in (ours, model.head(states)))
            wanted = torch.tensor(ids[start + 1 : end + 1]).unsqueeze(-1)
            tokens += len(ours)
            same += int((ours.argmax(-1) == theirs.argmax(-1)).sum())
            divergence += float(F.kl_div(ours, theirs, reduction="sum", log_target=True))
            worse += float((theirs.gather(-1, wanted) - ours.gather(-1, wanted)).sum())
    if not tokens:
        raise ValueError("nothing to compare: no text of at least two tokens")
    return Agreement(tokens, same / tokens, divergence / tokens, math.exp(worse / tokens))


def _said(reader: Reader, ids: Sequence[int]) -> Iterator[tuple[int, Tensor]]:
    """Logits after the tokens of a text, some at a time, with the place of the first.

    A reader to which it makes no difference reads all as if it were written. Any other reads the first half as a prompt
    and the rest as it is written: one that is not steady token by token, and then of the prompt only its end is told.
    """
    begun = 0 if reader.steady and reader.alike else len(ids) // 2
    if begun:
        start = 0 if reader.steady else begun - 1
        yield start, reader.step([Part(0, 0, ids[:begun], every=reader.steady, prompt=True)])[0]
    for start in range(begun, len(ids), ROWS):
        part = ids[start : start + ROWS]
        if reader.steady:
            yield start, reader.step([Part(0, start, part, every=True)])[0]
        else:
            yield start, torch.cat([reader.step([Part(0, start + i, [token])])[0] for i, token in enumerate(part)])
