"""What any published model comes down to once it is read."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from torch import Tensor

from zhumo.tokenizer import Tokenizer
from zhumo.transformer import Config

Pooling = Literal["mean", "cls", "last"]


@dataclass(frozen=True)
class Weights:
    """A published model in our terms, from whatever file it came.

    read_tensors, read_tokenizer: what takes time, done when `tensors` or `tokenizer` is first asked for; both raise a
        `ModelError` where the file is damaged.
    pooling, normalise: how the model makes one vector of a text, where it says so.
    prefixes: what the model wants to read before a question and before a passage.
    start: the token with which a decoder begins a target text.
    licence: what the file says of it.
    """

    config: Config
    family: str
    read_tensors: Callable[[], dict[str, Tensor]]
    read_tokenizer: Callable[[], Tokenizer | None]
    pooling: Pooling | None = None
    prefixes: tuple[str, str] | None = None
    normalise: bool = False
    start: int | None = None
    licence: str | None = None

    @cached_property
    def tensors(self) -> dict[str, Tensor]:
        """By our names, as `Transformer(config).load_state_dict` takes them, in the number format of the file."""
        return self.read_tensors()

    @cached_property
    def tokenizer(self) -> Tokenizer | None:
        """The model's own tokenizer, where it brings one."""
        return self.read_tokenizer()
