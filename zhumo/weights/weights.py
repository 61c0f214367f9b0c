"""What any published model comes down to once it is read."""

from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from zhumo.tokenizer import Tokenizer
from zhumo.transformer import Config

Pooling = Literal["mean", "cls", "last"]


@dataclass(frozen=True)
class Weights:
    """A published model in our terms, from whatever file it came.

    tensors: by our names, as `Transformer(config).load_state_dict` takes them, in the number format of the file.
    pooling, normalise: how the model makes one vector of a text, where it says so.
    prefixes: what the model wants to read before a question and before a passage.
    licence: what the file says of it.
    """

    config: Config
    family: str
    tensors: dict[str, Tensor]
    tokenizer: Tokenizer | None = None
    pooling: Pooling | None = None
    prefixes: tuple[str, str] | None = None
    normalise: bool = False
    licence: str | None = None
