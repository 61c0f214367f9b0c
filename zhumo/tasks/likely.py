"""A text token by token, with how likely the model found each: what OpenAI calls `logprobs`."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import torch

from zhumo.tokenizer import Tokenizer
from zhumo.transformer import Transformer
from zhumo.transformer.sample import Token

AT_ONCE = 2**25  # logits held at once: 128 MiB in float32


def read_tokens(model: Transformer, ids: Sequence[int], top: int) -> Iterator[Token]:
    """The tokens of a text after its first, each with its log probability after those before it and the `top` likeliest
    at its place."""
    place = torch.tensor([list(ids)], device=model.stem.tokens.weight.device)
    states = model.hidden(place)[0, :-1]
    assert model.head is not None
    part = max(1, AT_ONCE // model.config.vocabulary)
    for some, wanted in zip(torch.split(states, part), torch.split(place[0, 1:], part), strict=True):
        chances = model.head(some).float().log_softmax(-1)
        best = chances.topk(top, dim=-1)
        told = zip(wanted.tolist(), chances, best.indices.tolist(), best.values.tolist(), strict=True)
        for token, line, others, values in told:
            yield Token(token, float(line[token]), tuple(zip(others, values, strict=True)))


def logprobs(tokenizer: Tokenizer, first: int | None, tokens: Iterable[Token]) -> dict[str, Any]:
    """OpenAI's form of it. first: a token of which nothing can be said, for nothing stands before it."""
    lines = [] if first is None else [Token(first, float("nan"))]
    lines += tokens
    said = [tokenizer.decode([token.id]) for token in lines]
    return {
        "tokens": said,
        "token_logprobs": [None if token.logprob != token.logprob else token.logprob for token in lines],
        "top_logprobs": [
            # Two tokens may read the same; the likelier one is told.
            {tokenizer.decode([one]): value for one, value in reversed(token.alternatives)} or None
            for token in lines
        ],
        "text_offset": [sum(map(len, said[:place])) for place in range(len(said))],
    }  # fmt: skip
