"""Our native core, in the numbers of the GGUF file where that loses nothing, else in 8 bits: see `lines.py`."""

import time
from pathlib import Path

import numpy as np
from lines import Ids, Task, Written, serve

from zhumo.bundle import assemble
from zhumo.engine import NativeModel, Part
from zhumo.weights import read_weights

STREAMS, LENGTH = 32, 1024


class Model:
    def __init__(self, task: Task) -> None:
        model = assemble(read_weights(Path(task["file"])), None).eval()
        self.core = NativeModel(model, slots=STREAMS, length=LENGTH, threads=task["threads"])

    def write(self, prompts: list[Ids], new: int) -> Written:
        began = time.perf_counter()
        ids = [self._likeliest([Part(stream, 0, prompt) for stream, prompt in enumerate(prompts)])]
        read = time.perf_counter()
        for place in range(len(prompts[0]), len(prompts[0]) + new):
            ids.append(self._likeliest([Part(stream, place, [token]) for stream, token in enumerate(ids[-1])]))
        ended = time.perf_counter()
        return Written([list(stream) for stream in zip(*ids, strict=True)], read - began, ended - read)

    def logits(self, ids: Ids) -> np.ndarray:
        found: np.ndarray = self.core.step([Part(0, 0, ids, every=True)])[0].numpy()
        return found

    def _likeliest(self, parts: list[Part]) -> Ids:
        return [int(logits[0].numpy().argmax()) for logits in self.core.step(parts)]


if __name__ == "__main__":
    serve(Model)
