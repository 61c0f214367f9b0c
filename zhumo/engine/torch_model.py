"""The same as the native core, by torch, in the weights' own numbers: for any causal model on any machine."""

from collections.abc import Sequence

import torch
from torch import Tensor

from zhumo.engine.parts import ROWS, Part, check
from zhumo.transformer import Cache, Transformer


class TorchModel:
    """A causal model with a language-model head and room for `slots` texts of `length` tokens.

    Raises:
        ValueError: a model that cannot write.
    """

    rows, steady, alike = ROWS, False, True

    def __init__(self, model: Transformer, *, slots: int, length: int) -> None:
        if not model.config.causal or model.head is None:
            raise ValueError("only a causal model with a language-model head can write")
        self.model, self.head, self.slots, self.length = model, model.head, slots, length
        self.bits = 8 * model.stem.tokens.weight.element_size()
        self.vocabulary = model.config.vocabulary
        self.device = model.stem.tokens.weight.device
        self._caches = self._empty()

    def _empty(self) -> list[Cache]:
        """The caches of all slots."""
        config, weight = self.model.config, self.model.stem.tokens.weight
        return [
            Cache.empty(config, length=self.length, dtype=weight.dtype, device=self.device) for _ in range(self.slots)
        ]

    @torch.inference_mode()
    def step(self, parts: Sequence[Part]) -> list[Tensor]:
        """Logits of each part, (tokens asked for, vocabulary): those after its last token, or after every one.

        Each text is read by itself, so that its answer does not depend on who else is there.

        Raises:
            ValueError: a token, a slot or a position that is not there, an empty part, a slot asked for twice.
        """
        check(self, parts)
        return [self._read(part) for part in parts]

    @torch.inference_mode()
    def copy(self, source: int, target: int, count: int) -> None:
        """The first `count` tokens of one slot's text are now those of another's too."""
        for mine, yours in zip(self._caches[target].layers, self._caches[source].layers, strict=True):
            mine.keys[:, :, :count] = yours.keys[:, :, :count]
            mine.values[:, :, :count] = yours.values[:, :, :count]

    def _read(self, part: Part) -> Tensor:
        cache = self._caches[part.slot]
        cache.keep(part.position)
        ids = torch.tensor([list(part.ids)], device=self.device)
        states = self.model.hidden(ids, cache=cache)[0]
        logits: Tensor = self.head(states if part.every else states[-1:])
        return logits.cpu()
