"""Writing with a causal model, one token at a time.

The order is the published one: repetition penalty, temperature, top-k, top-p, min-p. Every option left at its default
does nothing, and temperature 0 takes the likeliest token. Before all of them comes what a text must be (`Constraint`).
"""

import math
from collections.abc import Collection, Generator, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor

from zhumo.transformer.cache import Cache
from zhumo.transformer.model import Transformer

_BOUNDS: dict[str, tuple[float, float]] = {
    "temperature": (0, 100),
    "top_k": (0, 2**24),
    "top_p": (0, 1),
    "min_p": (0, 1),
    "repetition_penalty": (0.01, 100),
    "seed": (0, 2**63 - 1),
    "alternatives": (0, 1000),
}
"""The least and the greatest value of each option."""

COLDEST = 1e-4  # less is greedy in all but name, and logits divided by it may have no number


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """How the next token is chosen.

    temperature: divides the logits; 0 is greedy.
    top_k: only the k likeliest tokens; 0: all.
    top_p: only the likeliest tokens that together reach this probability (Holtzman et al. 2020); 1: all.
    min_p: only tokens at least this fraction as likely as the likeliest (Nguyen et al. 2024); 0: all.
    repetition_penalty: above 1, tokens already there become less likely (Keskar et al. 2019).
    seed: of the draw; the same seed draws the same text.
    alternatives: how many of the likeliest tokens to report beside the chosen one; None: nor how likely that is, which
        saves a look at all of them.
    """

    temperature: float = 0.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    seed: int = 0
    alternatives: int | None = 0

    def __post_init__(self) -> None:
        for name, (low, high) in _BOUNDS.items():
            value = getattr(self, name)
            if value is None and name == "alternatives":
                continue
            if not low <= value <= high:  # also false of a NaN
                raise ValueError(f"{name} must lie in [{low}, {high}], not {value}")
        if 0 < self.temperature < COLDEST:
            raise ValueError(f"temperature must be 0 or at least {COLDEST}")
        if self.top_p == 0:
            raise ValueError("top_p must be above 0: no token reaches nothing")

    @property
    def of_all(self) -> bool:
        """Whether a token is chosen from all there are: greedily, or with none left out."""
        return self.temperature == 0 or (self.top_k == 0 and self.top_p == 1 and self.min_p == 0)


class Constraint(Protocol):
    """What one text must be, told token by token."""

    def allowed(self) -> Tensor:
        """Which tokens may come next, (tokens,) bool, never none; of a model's ids beyond them none may."""

    def permits(self, token: int) -> bool:
        """Whether this token of the model's may come next, which is known at once."""

    def add(self, token: int, room: int) -> Sequence[int]:
        """Go on with a token; returns those that must follow whatever the model says, at most `room`, already gone on
        with."""

    @property
    def ended(self) -> bool:
        """Whether nothing may follow any more."""


class Token(NamedTuple):
    """A token as it was written.

    logprob: its log probability under the model itself, before any option of `Sampling`; NaN where it is not told.
    alternatives: the likeliest ids at this place with theirs, likeliest first.
    """

    id: int
    logprob: float
    alternatives: tuple[tuple[int, float], ...] = ()


def filtered(logits: Tensor, seen: Sequence[int], sampling: Sampling) -> Tensor:
    """The logits the next token is drawn from; what may not be drawn is -inf.

    logits: (vocabulary,) float32, which stay as they are; seen: ids so far, prompt included.
    """
    if sampling.repetition_penalty != 1:
        logits = _penalised(
            logits, torch.tensor(list(set(seen)), dtype=torch.long, device=logits.device), sampling.repetition_penalty
        )
    if sampling.temperature not in (0, 1):
        logits = logits / sampling.temperature
    if 0 < sampling.top_k < len(logits):
        logits = _without(logits, logits < logits.topk(sampling.top_k).values[-1])
    if sampling.top_p < 1:
        logits = _without(logits, _tail(logits, sampling.top_p))
    if sampling.min_p > 0:
        chances = logits.softmax(-1)
        logits = _without(logits, chances < sampling.min_p * chances.max())
    return logits


def _penalised(logits: Tensor, seen: Tensor, penalty: float) -> Tensor:
    there = logits[seen]
    return logits.index_put((seen,), torch.where(there < 0, there * penalty, there / penalty))


def _tail(logits: Tensor, top_p: float) -> Tensor:
    """Which tokens lie outside the smallest set of likeliest ones whose probability reaches `top_p`."""
    ascending, order = logits.sort()
    outside = ascending.softmax(-1).cumsum(-1) <= 1 - top_p
    outside[-1] = False  # rounding must not take the last one
    return torch.empty_like(outside).index_put((order,), outside)


def _without(logits: Tensor, which: Tensor) -> Tensor:
    return logits.masked_fill(which, -torch.inf)


def choose(
    logits: Tensor,
    seen: Sequence[int],
    sampling: Sampling,
    generator: torch.Generator,
    constraint: Constraint | None = None,
) -> Token:
    """One token from (vocabulary,) logits; `seen` as in `filtered`.

    What a constraint allows takes long to find. So one of all tokens is drawn first, and only where that may not come
    another of those that may: each of them is as likely as if it had been drawn from them at once.
    """
    logits = logits.float()
    if constraint is None or sampling.of_all:
        index = _drawn(filtered(logits, seen, sampling), sampling, generator)
        if constraint is None or constraint.permits(index):
            return _token(index, logits, sampling)
    index = _drawn(filtered(_only(logits, constraint.allowed()), seen, sampling), sampling, generator)
    return _token(index, logits, sampling)


def _drawn(logits: Tensor, sampling: Sampling, generator: torch.Generator) -> int:
    if sampling.temperature == 0:
        return int(logits.numpy(force=True).argmax())  # torch looks at one number at a time
    return int(torch.multinomial(logits.softmax(-1), 1, generator=generator))


def _only(logits: Tensor, allowed: Tensor) -> Tensor:
    known = F.pad(allowed.to(logits.device), (0, len(logits) - len(allowed)))
    return logits + (1 - known.to(logits.dtype).reciprocal())  # 0 or -inf; to choose number by number takes longer


def _token(index: int, logits: Tensor, sampling: Sampling) -> Token:
    """A token as it was written, with what the (vocabulary,) logits say of its place."""
    if sampling.alternatives is None:
        return Token(index, math.nan)
    logprobs = logits.float().log_softmax(-1)
    best = logprobs.topk(min(sampling.alternatives, len(logits)))
    alternatives = tuple(zip(best.indices.tolist(), best.values.tolist(), strict=True))
    return Token(index, float(logprobs[index]), alternatives)


class Read(NamedTuple):
    """What whoever writes a text wants a model to read next; the model's logits are the reply.

    ids: the next tokens of the text. room: how many tokens the whole text may come to.
    every: logits after each of `ids`, (ids, vocabulary); else after the last, (vocabulary,).
    prompt: the text begins with them; they were not written by the model.
    """

    ids: Sequence[int]
    room: int
    every: bool = False
    prompt: bool = False


def write(
    ids: Sequence[int],
    unread: Sequence[int],
    *,
    room: int,
    sampling: Sampling,
    stop_ids: Collection[int] = (),
    constraint: Constraint | None = None,
) -> Generator[Read | Token, Tensor | None, None]:
    """Continue `ids` token by token, up to `room` tokens in all, a token of `stop_ids`, which is yielded too, or where
    the constraint lets nothing follow.

    It yields the tokens, and between them what is to be read: whoever runs it may have one model read for many texts.
    Tokens that a constraint leaves no choice about are read together with the one before them.
    unread: those at the end of `ids` that the model has not read yet.
    """
    logits = yield Read(unread, room, prompt=True)
    assert logits is not None
    generator = torch.Generator(logits.device).manual_seed(sampling.seed)
    seen = list(ids)
    while True:
        token = choose(logits, seen, sampling, generator, constraint)
        yield token
        if token.id in stop_ids or len(seen) + 1 >= room:
            return
        forced = [] if constraint is None else constraint.add(token.id, room - len(seen) - 1)
        ended = constraint is not None and constraint.ended
        if not forced and ended:
            return
        logits = yield Read([token.id, *forced], room, every=bool(forced))
        assert logits is not None
        seen += [token.id, *forced]
        if forced:  # else there is one line, and to iterate over it makes a tensor of every number
            for index, line in zip(forced, logits, strict=False):
                yield _token(index, line, sampling)
            logits = logits[-1]
        if ended or len(seen) >= room:
            return


Piece = TypeVar("Piece")
Result = TypeVar("Result")


def read_by(
    model: Transformer, writing: Generator[Read | Piece, Tensor | None, Result]
) -> Generator[Piece, None, Result]:
    """Run one text's `writing` with a model that reads for it alone; what is no `Read` is passed on.

    model: causal, with a language-model head, in eval mode.

    Raises:
        ValueError: a model that cannot write.
    """
    if not model.config.causal or model.head is None:
        raise ValueError("only a causal model with a language-model head can write")
    weight = model.stem.tokens.weight
    cache: Cache | None = None
    reply: Tensor | None = None
    while True:
        try:
            piece = writing.send(reply)
        except StopIteration as end:
            result: Result = end.value
            return result
        reply = None
        if isinstance(piece, Read):
            cache = cache or Cache.empty(model.config, length=piece.room, dtype=weight.dtype, device=weight.device)
            reply = _read(model, piece, cache)
        else:
            yield piece


def generate(
    model: Transformer, ids: Sequence[int], *, sampling: Sampling, max_tokens: int, stop_ids: Collection[int] = ()
) -> Iterator[Token]:
    """Continue `ids` with one model: the prompt is read once, then each token costs one step over the cache.

    Ends after a token of `stop_ids`, which is yielded too, after `max_tokens`, or where the model's positions end.

    Raises:
        ValueError: an empty prompt, one that fills the model, or a model that cannot write.
    """
    length = model.config.length
    if not 1 <= len(ids) < length:
        raise ValueError(f"a prompt must have 1 to {length - 1} tokens, not {len(ids)}")
    room = min(length, len(ids) + max_tokens)
    return read_by(model, write(ids, ids, room=room, sampling=sampling, stop_ids=stop_ids))


@torch.inference_mode()
def _read(model: Transformer, read: Read, cache: Cache) -> Tensor:
    """Only positions that are asked for meet the head, a small model's dearest layer."""
    assert model.head is not None
    ids = torch.tensor([list(read.ids)], device=model.stem.tokens.weight.device)
    states = model.hidden(ids, cache=cache)[0]
    logits: Tensor = model.head(states if read.every else states[-1])
    return logits
