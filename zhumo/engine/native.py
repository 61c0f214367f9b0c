"""A model's forward pass by the native core: packed once, then one call for any rows of any texts."""

import itertools
import os
from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zhumo.engine.crew import Crew, one_thread
from zhumo.engine.laid_out import LaidOut, taken
from zhumo.engine.library import Model, Step, library
from zhumo.engine.packed import BLOCK, Bits, Packed, filled, pack
from zhumo.engine.parts import ROWS, Part, check
from zhumo.transformer import Config, Transformer
from zhumo.transformer.positions import turns

CacheBits = Literal[8, 16]

TILED = 256  # tokens that are read at once through tiles, for which weights are unpacked once


def computes(config: Config) -> bool:
    """Whether the native core knows this model's maths."""
    return (
        config.positions in ("rotary", "learned")
        and config.rope != "dynamic"
        and config.head_dim % BLOCK == 0
        and not config.encoder_depth
        and config.scaled_scores
        and not config.scaled_states
    )


class NativeModel:
    """A model in whole numbers with room for `slots` texts of `length` tokens.

    bits: of the weights, 4 only where asked for or where they lose nothing. cache_bits: of the keys and values of texts
        under way, 16 or 8. threads: that work on one call at most; None: one for each core. path: the kind of
        processor code, by default the best one; with tiles (amx) a prompt's activations are bfloat16, which is several
        times as fast, and what is written has whole numbers.

    Raises:
        ValueError: sizes below 1, a model the core does not compute, or no core.
    """

    steady = True

    def __init__(
        self,
        model: Transformer,
        *,
        slots: int,
        length: int,
        bits: Bits = 8,
        cache_bits: CacheBits = 16,
        threads: int | None = None,
        path: str | None = None,
    ) -> None:
        config = model.config
        if library() is None or not computes(config):
            raise ValueError("there is no native core here, or it does not compute this model")
        if min(slots, length, 1 if threads is None else threads) < 1 or (not config.endless and length > config.length):
            raise ValueError(f"{slots} slots of {length} tokens and {threads} threads: not for this model")
        self.config, self.vocabulary = config, config.vocabulary
        self.bits: int = bits
        self.slots, self.length = slots, length
        self._crew = Crew(threads or len(os.sched_getaffinity(0)), path)
        self.alike = self.path != "amx"
        self.rows = ROWS if self.alike else TILED
        self._laid_out = LaidOut()
        tokens = pack(model.stem.tokens.weight, bits=bits)
        self.head = self._head(model, tokens, bits)
        self._tokens = self._laid_out.matrix(tokens)
        self._stem = model.stem
        room = -(-length // 16) * 16
        shape = (config.depth, slots, config.kv_heads)
        kind = torch.float16 if cache_bits == 16 else torch.int8
        # Keys lie 16 tokens side by side, so that one instruction compares a number of a query with 16 of them.
        self.keys = torch.empty(*shape, room // 16, config.head_dim, 16, dtype=kind)
        self.values = torch.empty(*shape, room, config.head_dim, dtype=kind)
        # One of every key and of every value, where they are whole numbers.
        self.scales = None if cache_bits == 16 else torch.empty(2, *shape, room)
        self._model = self._described(model, room, bits)

    @property
    def path(self) -> str:
        """Which kind of processor code runs."""
        return self._crew.path

    @torch.inference_mode()
    def step(self, parts: Sequence[Part]) -> list[Tensor]:
        """Logits of each part, (tokens asked for, vocabulary): those after its last token, or after every one. A slot
        stands in one part at most.

        Raises:
            ValueError: a token, a slot or a position that is not there, an empty part, a slot asked for twice.
        """
        check(self, parts)
        order = sorted(range(len(parts)), key=lambda place: parts[place].prompt)  # the core reads prompts last
        ordered = [parts[place] for place in order]
        rows = [(part.slot, part.position + i, token) for part in ordered for i, token in enumerate(part.ids)]
        asked = [part.every or i == len(part.ids) - 1 for part in ordered for i in range(len(part.ids))]
        written = sum(len(part.ids) for part in ordered if not part.prompt)
        logits = torch.empty(sum(asked), filled(self.config.vocabulary))
        told = 0
        with self._crew.lock, one_thread():
            for start in range(0, len(rows), self.rows):
                some = rows[start : start + self.rows]
                wanted = list(itertools.compress(range(len(some)), asked[start:]))
                own = min(max(written - start, 0), len(some))
                self._call(some, own, wanted, logits[told : told + len(wanted)])
                told += len(wanted)
        found = torch.split(logits[:, : self.config.vocabulary], [len(one.ids) if one.every else 1 for one in ordered])
        return [one for _, one in sorted(zip(order, found, strict=True), key=lambda pair: pair[0])]

    def copy(self, source: int, target: int, count: int) -> None:
        """The first `count` tokens of one slot's text are now those of another's too."""
        blocks = -(-count // 16)
        self.keys[:, target, :, :blocks] = self.keys[:, source, :, :blocks]
        self.values[:, target, :, :count] = self.values[:, source, :, :count]
        if self.scales is not None:
            self.scales[:, :, target, :, :count] = self.scales[:, :, source, :, :count]

    def _call(self, rows: list[tuple[int, int, int]], written: int, wanted: list[int], logits: Tensor) -> None:
        """One call of the core; the logits of the rows wanted, in their order, go into `logits`. written: how many of
        the rows, the first ones, are of no prompt."""
        slots, positions, tokens = (torch.tensor(column, dtype=torch.int32) for column in zip(*rows, strict=True))
        untils, asked = positions + 1, torch.tensor(wanted, dtype=torch.int32)
        states = self._embedded(tokens, positions)
        step = Step(
            len(rows), len(wanted), written, 0, slots.data_ptr(), positions.data_ptr(), untils.data_ptr(),
            asked.data_ptr(), states.data_ptr(), logits.data_ptr(), self._crew.room(self._model, len(rows)),
        )  # fmt: skip
        self._crew.run(self._model, step)

    def _embedded(self, tokens: Tensor, positions: Tensor) -> Tensor:
        known = taken(self._tokens, tokens)
        x = self._stem.placed(known[:, : self.config.width], positions)
        return F.pad(x, (0, known.size(1) - self.config.width)).contiguous()

    def _head(self, model: Transformer, tokens: Packed, bits: Bits) -> Packed:
        head = model.head
        if not isinstance(head, nn.Linear):
            raise ValueError("a model without a language-model head does not write")
        if head.weight is model.stem.tokens.weight and head.bias is None:
            return tokens
        return pack(head.weight, head.bias, bits)

    def _described(self, model: Transformer, room: int, bits: Bits) -> Model:
        described = self._laid_out.model(model, bits)
        described.head = self._laid_out.matrix(self.head)
        described.length, described.slots = room, self.slots
        described.keys, described.values = self.keys.data_ptr(), self.values.data_ptr()
        if self.scales is not None:
            described.key_scales, described.value_scales = (part.data_ptr() for part in self.scales)
        if self.config.positions == "rotary":
            turned = turns(torch.arange(self.length), self.config)
            described.cosine, described.sine = map(self._laid_out.pointer, turned)
        return described
