"""The same on a CUDA GPU: in bf16, each step one captured graph.

A GPU needs less time for a small model's token than Python for saying what is to be done. So that is said once: what a
step launches is captured as a CUDA graph, for some sizes of steps, and run again with other numbers. The next tokens of
all texts are one step; a prompt is a step of its own, filled up to one of a few sizes.
"""

import copy
import logging
import threading
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from zhumo.engine.parts import Part, check
from zhumo.engine.torch_model import TorchModel
from zhumo.transformer import Cache, Config, RowCache, Transformer
from zhumo.transformer.fast import hasten, slow_down
from zhumo.words import say

log = logging.getLogger(__name__)

SHORTEST = 128  # positions that a step looks at, at least
SIZES = (16, 64, 256, 1024, 4096)  # tokens of a prompt's step
WARMING = 2  # times a step is made before it is captured, in which torch makes what it makes once
_capturing = threading.Lock()  # torch captures one at a time in a process, and bundles have threads of their own


class _Step(NamedTuple):
    """A captured step of some rows of tokens. asked: (rows, 2 + 2 time), of each row its slot, which of its tokens is
    asked for, the tokens and their places; logits: (rows, vocabulary)."""

    graph: torch.cuda.CUDAGraph
    asked: Tensor
    logits: Tensor


def captures(config: Config) -> bool:
    """Whether a step of this model can be captured: where a text stands must be its own affair."""
    return config.positions in ("rotary", "learned") and config.rope != "dynamic" and not config.encoder_depth


class CudaModel(TorchModel):
    """A copy of a causal model in bf16 on the GPU, with room for `slots` texts of `length` tokens.

    Raises:
        ValueError: a model that cannot write, or whose steps cannot be captured.
    """

    rows = SIZES[-1]

    def __init__(self, model: Transformer, *, slots: int, length: int) -> None:
        if not captures(model.config):
            raise ValueError("a step of this model cannot be captured")
        super().__init__(copy.deepcopy(model).to("cuda", torch.bfloat16), slots=slots, length=length)
        self._steps: dict[tuple[int, int, int], _Step] = {}
        self._pool = torch.cuda.graph_pool_handle()

    def _empty(self) -> list[Cache]:
        """One block's keys and values of all texts lie together, so that a step can look at all of them. They begin at
        zero: what is masked is multiplied all the same, and must be a number of some sense."""
        config = self.model.config
        # One place more than is ever looked at: code compiled for a part of the room is not made anew for all of it.
        shape = (2, self.slots, config.kv_heads, self.length + 1, config.head_dim)
        self._rooms = [torch.zeros(shape, dtype=torch.bfloat16, device=self.device) for _ in range(config.depth)]
        return [Cache([room[:, slot : slot + 1] for room in self._rooms]) for slot in range(self.slots)]

    @torch.inference_mode()
    def step(self, parts: Sequence[Part]) -> list[Tensor]:
        """Logits of each part, (tokens asked for, vocabulary): those after its last token, or after every one.

        The next tokens of texts are always a step of all slots, so that a text does not depend on how many others are
        there.

        Raises:
            ValueError: a token, a slot or a position that is not there, an empty part, a slot asked for twice.
        """
        check(self, parts)
        single = [part for part in parts if len(part.ids) == 1]
        found = self._made(single, range(self.slots), 1) if single else {}
        for part in parts:
            if len(part.ids) == 1:
                continue
            if part.every or len(part.ids) > SIZES[-1]:
                found[part.slot] = self._read(part)
            else:
                found |= self._made([part], [part.slot], min(size for size in SIZES if size >= len(part.ids)))
        return [found[part.slot] for part in parts]

    def _made(self, parts: Sequence[Part], slots: Sequence[int], time: int) -> dict[int, Tensor]:
        """Make a step of `time` tokens of each of some slots; the logits after each part, by slot."""
        reach = max(part.position + len(part.ids) for part in parts)
        reach = min(self.length, max(SHORTEST, 1 << (reach - 1).bit_length()))  # the next power of two
        step = self._step(len(slots), time, reach)
        # Slots that are not asked write where nothing is lost: what stands in the last place of a text is only ever
        # looked at by the token that is put there. A prompt is filled up with its last token at its own place.
        asked = [[slot, 0, *[0] * time, *[self.length - 1] * time] for slot in slots]
        rows = [slots.index(part.slot) for part in parts]
        for row, part in zip(rows, parts, strict=True):
            more = time - len(part.ids)
            last = part.position + len(part.ids) - 1
            ids, places = [*part.ids, *[part.ids[-1]] * more], [*range(part.position, last), *[last] * (1 + more)]
            asked[row] = [part.slot, len(part.ids) - 1, *ids, *places]
        step.asked.copy_(torch.tensor(asked))
        step.graph.replay()
        logits = step.logits[min(rows) : max(rows) + 1].to("cpu", copy=True)
        return {part.slot: logits[row - min(rows)].unsqueeze(0) for part, row in zip(parts, rows, strict=True)}

    def _step(self, rows: int, time: int, reach: int) -> _Step:
        """A step of this size, captured when it is first wanted."""
        size = rows, time, reach
        if size not in self._steps:
            self._steps[size] = self._captured(*size)
        return self._steps[size]

    def _captured(self, rows: int, time: int, reach: int) -> _Step:
        asked = torch.zeros(rows, 2 + 2 * time, dtype=torch.int64, device=self.device)
        asked[:, 0], asked[:, 2 + time :] = torch.arange(rows), self.length - 1
        cache = RowCache(self._rooms, asked[:, 0], asked[:, 2 + time :], reach)

        def read() -> Tensor:
            states = self.model.hidden(asked[:, 2 : 2 + time], cache=cache)
            said: Tensor = self.head(states[torch.arange(rows, device=self.device), asked[:, 1]])
            return said

        with _capturing:
            try:
                return self._capture(asked, read, compiled=time == 1)
            finally:
                slow_down(self.model)

    def _capture(self, asked: Tensor, read: Callable[[], Tensor], compiled: bool) -> _Step:
        """compiled: whether the step is worth a compiler's time, as that is which is made again and again."""
        aside = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        aside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(aside):
            problem = hasten(self.model, read, learning=False) if compiled else None
            if problem is not None:
                log.warning(say("deploy.not_compiled", problem=problem))
            for _ in range(WARMING):
                read()
        torch.cuda.synchronize()
        graph = torch.cuda.CUDAGraph()
        # Another bundle's thread may use the GPU meanwhile.
        with torch.cuda.graph(graph, pool=self._pool, capture_error_mode="thread_local"):
            logits = read()
        return _Step(graph, asked, logits)
