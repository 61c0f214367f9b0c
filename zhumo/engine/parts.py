"""What a scheduler asks of a model, whichever computes it."""

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from torch import Tensor

ROWS = 128  # the most tokens that a processor reads at once: their activations stay in a core's own cache


class Part(NamedTuple):
    """Tokens that go on with the text in a slot.

    position: of the first; those before it are already there. every: logits after each, not only after the last.
    prompt: they are what a text begins with, rather than what is written after it.
    """

    slot: int
    position: int
    ids: Sequence[int]
    every: bool = False
    prompt: bool = False


class Reader(Protocol):
    """A model with room for `slots` texts of `length` tokens, and the bits of its weights.

    rows: the most tokens it should be asked to read in one step.
    steady: whether logits are the same, bit for bit, however many tokens one call reads.
    alike: whether tokens of a prompt are read as those that are written, so that either may stand for the other.
    """

    bits: int
    rows: int
    steady: bool
    alike: bool
    slots: int
    length: int
    vocabulary: int

    def step(self, parts: Sequence[Part]) -> list[Tensor]:
        """Logits of each part, (tokens asked for, vocabulary): those after its last token, or after every one."""

    def copy(self, source: int, target: int, count: int) -> None:
        """The first `count` tokens of one slot's text are now those of another's too."""


def check(reader: Reader, parts: Sequence[Part]) -> None:
    """See that a reader has what is asked of it.

    Raises:
        ValueError: a token, a slot or a position that is not there, an empty part, a slot asked for twice.
    """
    if len({part.slot for part in parts}) != len(parts):
        raise ValueError("a slot stands in two parts")
    for slot, position, ids, *_ in parts:
        if not 0 <= slot < reader.slots or not ids or position < 0 or position + len(ids) > reader.length:
            raise ValueError(f"{len(ids)} tokens from {position} on in slot {slot}: there is no such room")
        if min(ids) < 0 or max(ids) >= reader.vocabulary:
            raise ValueError(f"a token is none of the {reader.vocabulary}")
