"""Stems: what turns business data into (batch, time, width)."""

import math

from torch import Tensor, nn

from zhumo.transformer.block import norm_layer
from zhumo.transformer.config import Config
from zhumo.transformer.dropout import Dropout
from zhumo.transformer.positions import sinusoids


class TokenStem(nn.Module):
    """Ids of tokens, or of items of a catalogue, to embeddings, with the positions that are added."""

    table: Tensor | None

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.tokens = nn.Embedding(config.vocabulary, config.width)
        self.types = nn.Embedding(config.types, config.width) if config.types else None
        self.positions = nn.Embedding(config.length, config.width) if config.positions == "learned" else None
        table = sinusoids(config.length, config.width) if config.positions == "sinusoidal" else None
        self.register_buffer("table", table, persistent=False)
        self.norm = norm_layer(config, config.width) if config.stem_norm and not config.norm_first else nn.Identity()
        self.scale = math.sqrt(config.width) if config.scaled_embedding else 1.0
        self.dropout = Dropout(config.dropout)

    def forward(self, ids: Tensor, positions: Tensor, types: Tensor | None = None) -> Tensor:
        """ids: (batch, time), or their embeddings, (batch, time, width), where they were looked up before; positions:
        (time,) or (batch, time); types: (batch, time), all zero when absent."""
        return self.placed(ids if ids.is_floating_point() else self.tokens(ids), positions, types)

    def placed(self, x: Tensor, positions: Tensor, types: Tensor | None = None) -> Tensor:
        """Embeddings (batch, time, width), or (time, width), with what is added to them; the rest as in `forward`."""
        if self.scale != 1:
            x = x * self.scale
        if self.positions is not None:
            x = x + self.positions(positions)
        elif self.table is not None:
            x = x + self.table[positions]
        if self.types is not None:
            x = x + (self.types.weight[0] if types is None else self.types(types))
        y: Tensor = self.dropout(self.norm(x))
        return y
