"""The Transformer core: torch alone, and nothing else of Zhumo.

- One `Block` by configuration; a published architecture is a `Config`, never a subclass.
- A stem turns ids into (batch, time, width), blocks run through, a head comes out.
- A position is an added embedding or a rope; a mask says who may look at whom.
- Adapters are put on a finished model from outside.
"""

from zhumo.transformer.block import Block, Source
from zhumo.transformer.cache import Cache, RowCache
from zhumo.transformer.config import Config
from zhumo.transformer.dropout import Dropout, dropout_of, key_dropout, same_dropout
from zhumo.transformer.loss import linear_cross_entropy
from zhumo.transformer.model import Transformer, Unset, initialise

__all__ = [
    "Block",
    "Cache",
    "Config",
    "Dropout",
    "RowCache",
    "Source",
    "Transformer",
    "Unset",
    "dropout_of",
    "initialise",
    "key_dropout",
    "linear_cross_entropy",
    "same_dropout",
]
