"""A text token by token, with how likely the model found each: what OpenAI calls `logprobs`."""

from collections.abc import Generator, Iterable, Sequence
from typing import Any

from torch import Tensor

from zhumo.tokenizer import Tokenizer
from zhumo.transformer.sample import Read, Token

AT_ONCE = 512  # tokens whose logits are held at once: 100 MB for a vocabulary of 50,000


def read_tokens(ids: Sequence[int], top: int, room: int) -> Generator[Read, Tensor | None, list[Token]]:
    """The tokens of a text after its first, each with its log probability after those before it and the `top` likeliest
    at its place. Read are all but the last."""
    found: list[Token] = []
    for start in range(0, len(ids) - 1, AT_ONCE):
        end = min(start + AT_ONCE, len(ids) - 1)
        logits = yield Read(ids[start:end], room, every=True, prompt=True)
        assert logits is not None
        chances = logits.float().log_softmax(-1)
        best = chances.topk(top, dim=-1)
        wanted = ids[start + 1 : end + 1]
        told = zip(wanted, chances, best.indices.tolist(), best.values.tolist(), strict=True)
        found += [
            Token(token, float(line[token]), tuple(zip(others, values, strict=True)))
            for token, line, others, values in told
        ]
    return found


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
