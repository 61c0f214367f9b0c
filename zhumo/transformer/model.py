"""A whole model: stem, blocks, last norm, head."""

import math

import torch
from torch import Tensor, nn

from zhumo.transformer.block import Block, Config, norm_layer
from zhumo.transformer.cache import Cache
from zhumo.transformer.positions import near, places, rope, visible
from zhumo.transformer.stems import TokenStem


class Transformer(nn.Module):
    """The model `config` describes.

    `head` is the language-model head where the configuration has one, else None; a task may put its own there.
    """

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.stem = TokenStem(config)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.depth))
        self.norm = norm_layer(config, config.width) if config.norm_first else nn.Identity()
        self.head: nn.Module | None = None
        if config.head != "none":
            head = nn.Linear(config.width, config.vocabulary, bias=False)
            if config.head == "tied":
                head.weight = self.stem.tokens.weight
            self.head = head

    def hidden(
        self,
        ids: Tensor,
        *,
        segments: Tensor | None = None,
        types: Tensor | None = None,
        cache: Cache | None = None,
    ) -> Tensor:
        """Last hidden states, (batch, time, width).

        ids: (batch, time).
        segments: (batch, time); tokens of equal number see each other and positions start anew in each, which is how
            several short texts share one row; give padding a number of its own, such as 0. None: all see all.
        types: (batch, time), BERT's first and second text of a pair.
        cache: positions already computed; `ids` are then the next ones.

        Raises:
            ValueError: more positions than the model was made for, or a cache together with segments.
        """
        if cache is not None and segments is not None:
            raise ValueError("a cache holds whole sequences; it cannot be used with segments")
        start = cache.used if cache is not None else 0
        end = start + ids.size(1)
        if self.config.positions != "rotary" and end > self.config.length:
            raise ValueError(f"{end} positions, but the model was made for {self.config.length}")
        positions = torch.arange(start, end, device=ids.device) if segments is None else places(segments)
        mask = None
        if segments is not None:
            mask = visible(segments, self.config.causal, self.config.window)
        elif 0 < self.config.window < end:
            mask = near(ids.size(1), end, self.config.window, ids.device)
        turn = None
        if self.config.positions == "rotary":
            turn = rope(positions, self.config)
        x: Tensor = self.stem(ids, positions, types)
        for index, block in enumerate(self.blocks):
            x = block(x, mask=mask, rope=turn, cache=cache.layers[index] if cache is not None else None)
        y: Tensor = self.norm(x)
        return y

    def forward(
        self,
        ids: Tensor,
        *,
        segments: Tensor | None = None,
        types: Tensor | None = None,
        cache: Cache | None = None,
    ) -> Tensor:
        """What the head says of each position, (batch, time, vocabulary); without a head, the last hidden states."""
        x = self.hidden(ids, segments=segments, types=types, cache=cache)
        return x if self.head is None else self.head(x)

    def parameter_count(self) -> int:
        """Numbers that can be learned, a tied head counted once."""
        return sum(p.numel() for p in self.parameters())


def initialise(model: Transformer, seed: int) -> Transformer:
    """Fresh weights: normal(0, .02), the residual outputs scaled down by sqrt(2 depth) as in GPT-2; biases zero."""
    generator = torch.Generator().manual_seed(seed)
    blocks = [module for module in model.modules() if isinstance(module, Block)]
    quiet = {id(layer) for block in blocks for layer in (block.attention.out, block.feed_forward.down)}
    for module in model.modules():
        if isinstance(module, nn.Linear | nn.Embedding):
            scale = 0.02 / math.sqrt(2 * len(blocks)) if id(module) in quiet else 0.02
            nn.init.normal_(module.weight, std=scale, generator=generator)
        if isinstance(module, nn.Linear) and module.bias is not None:
            nn.init.zeros_(module.bias)
    return model
