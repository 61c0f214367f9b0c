"""A model that only reads, by the native core: texts of any lengths side by side, none padded, in whole numbers."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zhumo.engine.crew import ALIGNED, Crew, one_thread
from zhumo.engine.laid_out import LaidOut
from zhumo.engine.library import Model, Step, library
from zhumo.engine.native import computes
from zhumo.engine.packed import Bits, filled
from zhumo.transformer import Cache, RowCache, Source, Transformer
from zhumo.transformer.positions import turns

AT_ONCE = 128  # tokens of one call, unless a text is longer: what is computed of them stays in a core's own cache


class Text(NamedTuple):
    """Where a text lies among the tokens of a batch."""

    start: int
    size: int


class NativeEncoder(Transformer):
    """Stands in for a `Transformer` wherever its last hidden states are asked for; its blocks have so many bits.

    What is looked up or asked once a text, embeddings and head, stays as it was. A text's states are the same, bit for
    bit, whatever else is in the batch. path: the kind of processor code, by default the best one.

    Raises:
        ValueError: a model the core does not compute, or no core.
    """

    def __init__(
        self, model: Transformer, *, bits: Bits = 8, threads: int | None = None, path: str | None = None
    ) -> None:
        nn.Module.__init__(self)
        if library() is None or not computes(model.config):
            raise ValueError("there is no native core here, or it does not compute this model")
        self.config, self.stem, self.head, self.encoder = model.config, model.stem, model.head, None
        self.bits: int = bits
        self._parameters_of_all = model.parameter_count()
        self._laid_out = LaidOut()
        self._model = self._laid_out.model(model, bits)
        self._model.passing = 1
        if model.config.positions == "rotary":
            turned = turns(torch.arange(model.config.length), model.config)
            self._model.cosine, self._model.sine = map(self._laid_out.pointer, turned)
        self._crew = Crew(threads, path)

    def parameter_count(self) -> int:
        """Of the model it stands for."""
        return self._parameters_of_all

    @torch.inference_mode()
    def hidden(
        self,
        ids: Tensor,
        *,
        segments: Tensor | None = None,
        types: Tensor | None = None,
        cache: Cache | RowCache | None = None,
        source: Sequence[Source] | None = None,
    ) -> Tensor:
        """Last hidden states, (batch, time, width), as a `Transformer`'s; where segments are 0 there are zeros.

        Raises:
            ValueError: a token that is not there, a text longer than the model was made for, or types, a cache or a
                source, none of which it knows.
        """
        if types is not None or cache is not None or source is not None:
            raise ValueError("it reads whole texts of one kind")
        # So few tokens are counted by numpy: of a short text, calls of torch would be most of the time.
        flat, width = ids.flatten().numpy(), self.config.width
        texts = _whole(*ids.shape) if segments is None else _texts(segments.numpy())
        longest = max((text.size for text in texts), default=0)
        if longest > self.config.length:
            raise ValueError(f"{longest} positions, but the model was made for {self.config.length}")
        if len(flat) and not 0 <= flat.min() <= flat.max() < self.config.vocabulary:
            raise ValueError(f"a token is none of the {self.config.vocabulary}")
        found = np.zeros((len(flat), width), dtype=np.float32)
        with self._crew.lock, one_thread():
            for some in _calls(texts):
                sizes = np.array([text.size for text in some])
                positions = np.arange(sizes.sum()) - np.repeat(sizes.cumsum() - sizes, sizes)
                places = positions + np.repeat([text.start for text in some], sizes)
                found[places] = self._read(flat[places], positions, sizes).numpy()[:, :width]
        return torch.from_numpy(found).view(*ids.shape, width)

    def _read(self, ids: np.ndarray, positions: np.ndarray, sizes: np.ndarray) -> Tensor:
        """States of the tokens of texts of so many tokens each, (tokens, width filled up)."""
        config, count = self.config, len(ids)
        slots = np.repeat(np.arange(len(sizes), dtype=np.int32), sizes)
        untils = (positions + 1 if config.causal else np.repeat(sizes, sizes)).astype(np.int32)
        states = self.stem.placed(self.stem.tokens(torch.from_numpy(ids)), torch.from_numpy(positions)).float()
        states = F.pad(states, (0, filled(config.width) - config.width)).contiguous()
        rows, positions = np.arange(count, dtype=np.int32), positions.astype(np.int32)
        model = Model.from_buffer_copy(self._model)
        model.length, model.slots = -(-int(sizes.max()) // 16) * 16, len(sizes)
        known = 2 * model.slots * model.length * config.kv_heads * config.head_dim  # bytes of keys, and of values
        known = -(-known // ALIGNED) * ALIGNED
        place = self._crew.room(model, count, beside=2 * known)
        model.keys, model.values = place, place + known
        step = Step(
            count, count, 0, 0, slots.ctypes.data, positions.ctypes.data, untils.ctypes.data, rows.ctypes.data,
            states.data_ptr(), None, place + 2 * known,
        )  # fmt: skip
        self._crew.run(model, step)
        return states


def _whole(batch: int, time: int) -> list[Text]:
    """Each row one text."""
    return [Text(row * time, time) for row in range(batch)] if time else []


def _texts(segments: np.ndarray) -> list[Text]:
    """The runs of one number, those of 0 left out, in each row of (batch, time)."""
    begins = np.ones(segments.shape, dtype=bool)
    begins[:, 1:] = segments[:, 1:] != segments[:, :-1]
    starts = np.flatnonzero(begins)
    sizes = np.diff(starts, append=segments.size)
    kept = segments.ravel()[starts] != 0
    return [Text(*pair) for pair in zip(starts[kept].tolist(), sizes[kept].tolist(), strict=True)]


def _calls(texts: Sequence[Text]) -> list[list[Text]]:
    """Texts that are read together, in order, about as many tokens a call as stay in a core's own cache."""
    calls: list[list[Text]] = []
    left = 0
    for text in texts:
        if not calls or text.size > left:
            calls.append([])
            left = AT_ONCE
        calls[-1].append(text)
        left -= text.size
    return calls
