"""Beam search: the likeliest target text of a source, several beginnings followed side by side."""

from collections.abc import Sequence
from typing import NamedTuple

import torch

from zhumo.transformer.block import Source
from zhumo.transformer.cache import Cache
from zhumo.transformer.model import Transformer


class Hypothesis(NamedTuple):
    """A text that was found. score: its log probability over its length to the power of the penalty."""

    ids: list[int]
    score: float


@torch.inference_mode()
def beam_search(
    model: Transformer,
    source: Sequence[int],
    *,
    start: int,
    stop: int,
    never: Sequence[int],
    beams: int,
    penalty: float,
    max_tokens: int,
) -> Hypothesis:
    """The best text for `source`, of at most `max_tokens` tokens, `stop` among them and not returned.

    A text that ends among the `beams` likeliest at its length is put aside; it is over once as many are aside and the
    best that goes on is, at its length, no better than any of them.
    never: ids that no text holds; Marian's padding has a logit of 0, which would often be the highest.
    penalty: 0 compares plain log probabilities, which prefers short texts; 1 those of a token on average.
    model: with an encoder and a language-model head, in eval mode.

    Raises:
        ValueError: an empty source, a text of no tokens, or a model that cannot write one text for another; or more
            tokens than its positions reach.
    """
    if model.encoder is None or model.head is None or not source:
        raise ValueError("only a model with an encoder and a language-model head can search, and it needs a source")
    if max_tokens < 1:
        raise ValueError(f"a text has at least one token, not {max_tokens}")
    weight = model.stem.tokens.weight
    read = model.read(torch.tensor([list(source)], device=weight.device))
    sources = [
        Source(keys.expand(beams, -1, -1, -1), values.expand(beams, -1, -1, -1), None) for keys, values, _ in read
    ]
    cache = Cache.empty(model.config, batch=beams, length=max_tokens, dtype=weight.dtype, device=weight.device)
    totals = torch.full((beams,), -torch.inf, device=weight.device)
    totals[0] = 0  # all begin alike, so one is enough
    texts = torch.full((beams, 1), start, device=weight.device)
    aside: list[Hypothesis] = []
    for length in range(1, max_tokens + 1):
        logits = model.head(model.hidden(texts[:, -1:], cache=cache, source=sources)[:, -1]).float()
        logits[:, never] = -torch.inf
        chances = logits.log_softmax(-1) + totals[:, None]
        best = chances.flatten().topk(2 * beams)  # at most half of them end
        rows, tokens = best.indices // chances.size(1), best.indices % chances.size(1)
        ends = tokens == stop
        for place in ends[:beams].nonzero().flatten().tolist():
            aside.append(Hypothesis(texts[rows[place], 1:].tolist(), float(best.values[place]) / length**penalty))
        aside = sorted(aside, key=lambda text: -text.score)[:beams]
        on = (~ends).nonzero().flatten()[:beams]
        rows, totals = rows[on], best.values[on]
        texts = torch.cat((texts[rows], tokens[on, None]), dim=1)
        cache.take(rows)
        if len(aside) == beams and float(totals[0]) / length**penalty <= aside[-1].score:
            return aside[0]
    unended = Hypothesis(texts[0, 1:].tolist(), float(totals[0]) / max_tokens**penalty)
    return max(*aside, unended, key=lambda text: text.score) if aside else unended
