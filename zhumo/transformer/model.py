"""A whole model: stem, blocks, last norm, head; and before a decoder with a source, its encoder."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from zhumo.transformer.block import Block, Source, norm_layer
from zhumo.transformer.cache import Cache, RowCache
from zhumo.transformer.config import Config
from zhumo.transformer.positions import near, places, rope, visible
from zhumo.transformer.relative import RelativeBias
from zhumo.transformer.stems import TokenStem


class Transformer(nn.Module):
    """The model `config` describes.

    `encoder` reads the source of an encoder-decoder; both have the same embeddings.
    `head` is the language-model head where the configuration has one, else None; a task may put its own there.
    """

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.stem = TokenStem(config)
        self.relative = RelativeBias(config) if config.positions == "relative" else None
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.depth))
        self.norm = norm_layer(config, config.width) if config.norm_first else nn.Identity()
        self.encoder = Transformer(config.encoder) if config.encoder_depth else None
        if self.encoder is not None:
            self.encoder.stem.tokens = self.stem.tokens
        self.head: nn.Module | None = None
        if config.head != "none":
            head = nn.Linear(config.width, config.vocabulary, bias=config.head_bias)
            if config.head == "tied":
                head.weight = self.stem.tokens.weight
            self.head = head

    def hidden(
        self,
        ids: Tensor,
        *,
        segments: Tensor | None = None,
        types: Tensor | None = None,
        cache: Cache | RowCache | None = None,
        source: Sequence[Source] | None = None,
    ) -> Tensor:
        """Last hidden states, (batch, time, width).

        ids: (batch, time); or their embeddings, (batch, time, width), where they were looked up before.
        segments: (batch, time); tokens of equal number see each other and positions start anew in each, which is how
            several short texts share one row; give padding a number of its own, such as 0. None: all see all.
        types: (batch, time), BERT's first and second text of a pair.
        cache: positions already computed; `ids` are then the next ones.
        source: what `read` returned, for a model with an encoder.

        Raises:
            ValueError: more positions than the model was made for, where they have an end (a packed row counts as one);
                a cache together with segments; or no source where there is an encoder.
        """
        if (source is None) != (self.encoder is None):
            raise ValueError("a model with an encoder needs a source, and no other takes one")
        if cache is not None and segments is not None:
            raise ValueError("a cache holds whole sequences; it cannot be used with segments")
        start = cache.used if isinstance(cache, Cache) else 0
        end = cache.reach if isinstance(cache, RowCache) else start + ids.size(1)
        if not self.config.endless and end > self.config.length:
            raise ValueError(f"{end} positions, but the model was made for {self.config.length}")
        mask = None
        if isinstance(cache, RowCache):
            positions, mask = cache.places, cache.mask(self.config.window, self.stem.tokens.weight.dtype)
        elif segments is not None:
            positions, mask = places(segments), visible(segments, self.config.causal, self.config.window)
        else:
            positions = torch.arange(start, end, device=ids.device)
            if 0 < self.config.window < end:
                mask = near(ids.size(1), end, self.config.window, ids.device)
        if self.relative is not None:
            mask = self.relative(start, end, mask)
        turn = None
        if self.config.positions == "rotary":
            turn = rope(positions, self.config)
        x: Tensor = self.stem(ids, positions, types)
        for index, block in enumerate(self.blocks):
            known = cache.layers[index] if cache is not None else None
            x = block(x, mask=mask, rope=turn, cache=known, source=source[index] if source is not None else None)
        y: Tensor = self.norm(x)
        return y / math.sqrt(self.config.width) if self.config.scaled_states else y

    def read(self, ids: Tensor, *, segments: Tensor | None = None) -> list[Source]:
        """A source text as each block sees it, for `hidden`: read once, looked at in every step.

        ids: (batch, time). segments: (batch, time), 0 on padding and 1 elsewhere: a row is one source.

        Raises:
            ValueError: there is no encoder, or the source is longer than it was made for.
        """
        if self.encoder is None:
            raise ValueError("only a model with an encoder reads a source")
        states = self.encoder.hidden(ids, segments=segments)
        mask = None if segments is None else (segments != 0)[:, None, None]
        looks = (block.cross for block in self.blocks if isinstance(block, Block))
        return [Source(*look.keys_and_values(states), mask) for look in looks if look is not None]

    def forward(
        self,
        ids: Tensor,
        *,
        segments: Tensor | None = None,
        types: Tensor | None = None,
        cache: Cache | None = None,
        source: Sequence[Source] | None = None,
    ) -> Tensor:
        """What the head says of each position, (batch, time, vocabulary); without a head, the last hidden states."""
        x = self.hidden(ids, segments=segments, types=types, cache=cache, source=source)
        return x if self.head is None else self.head(x)

    def parameter_count(self) -> int:
        """Numbers that can be learned, a tied head counted once."""
        return sum(p.numel() for p in self.parameters())


class Unset(TorchFunctionMode):
    """A context: modules made in it begin with whatever is in memory, since their weights are about to be read."""

    def __torch_function__(
        self, func: Callable[..., Any], types: object, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if getattr(func, "__module__", None) == nn.init.__name__:
            return (*args, *(kwargs or {}).values())[0]
        return func(*args, **(kwargs or {}))


def initialise(model: Transformer, seed: int) -> Transformer:
    """Fresh weights: normal(0, .02), the residual outputs scaled down by sqrt(2 blocks) as in GPT-2, an
    encoder's blocks among them; biases zero. Where
    embeddings or what a tied head sees are scaled, embeddings begin so that both come out with a variance of 1."""
    generator = torch.Generator().manual_seed(seed)
    blocks = [module for module in model.modules() if isinstance(module, Block)]
    looks = [look for block in blocks for look in (block.attention, block.cross) if look is not None]
    quiet = {id(layer) for layer in (*(look.out for look in looks), *(block.feed_forward.down for block in blocks))}
    for module in model.modules():
        if isinstance(module, nn.Linear | nn.Embedding):
            scale = 0.02 / math.sqrt(2 * len(blocks)) if id(module) in quiet else 0.02
            if module.weight is model.stem.tokens.weight:
                scale = _embedding_scale(model.config)
            nn.init.normal_(module.weight, std=scale, generator=generator)
        if isinstance(module, nn.Linear) and module.bias is not None:
            nn.init.zeros_(module.bias)
    return model


def _embedding_scale(config: Config) -> float:
    if config.scaled_states:
        return 1.0
    return 1 / math.sqrt(config.width) if config.scaled_embedding else 0.02
