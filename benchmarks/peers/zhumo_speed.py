"""Our native core, in the numbers of the GGUF file where that loses nothing, else in 8 bits, or on a GPU in bf16: see
`lines.py`. A task for a GPU says so: {"device": "cuda"}.

One more kind: ahead {"file", "threads", "prompts", "passages": what each is asked about, "new", "stop": ids that end a
text, "most", "repeats"} -> {"with", "without": tokens a second after the first of each text, a number a repeat; "same":
whether all texts are; "guessed": share of the tokens that were read ahead; "texts", "asked": how many, and of how
many}: the first texts that stand in their passages, one by one, with prompt lookup and without, by turns.
"""

import math
import time
from collections.abc import Generator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lines import Ids, Task, Written, serve

from zhumo.bundle import assemble
from zhumo.engine import CudaModel, End, NativeModel, Part, Reader, Scheduler
from zhumo.support.passages import Passage
from zhumo.support.wording import chosen
from zhumo.transformer.sample import Read, Sampling, Token
from zhumo.transformer.sample import write as written
from zhumo.weights import read_weights

STREAMS, LENGTH = 32, 1024


class Model:
    def __init__(self, task: Task) -> None:
        torch.set_num_threads(task["threads"])
        weights = read_weights(Path(task["file"]))
        assert weights.tokenizer is not None
        self.tokenizer, model = weights.tokenizer, assemble(weights, None).eval()
        self.core: Reader
        if task.get("device") == "cuda":
            self.core = CudaModel(model, slots=task["slots"], length=LENGTH)
            return
        self.core = NativeModel(model, slots=STREAMS, length=LENGTH, threads=task["threads"])
        torch.set_num_threads(1)  # its own threads would spin on the cores that ours need

    def write(self, prompts: list[Ids], new: int) -> Written:
        began = time.perf_counter()
        ids = [self._likeliest([Part(stream, 0, prompt, prompt=True) for stream, prompt in enumerate(prompts)])]
        read = time.perf_counter()
        for place in range(len(prompts[0]), len(prompts[0]) + new):
            ids.append(self._likeliest([Part(stream, place, [token]) for stream, token in enumerate(ids[-1])]))
        ended = time.perf_counter()
        return Written([list(stream) for stream in zip(*ids, strict=True)], read - began, ended - read)

    def logits(self, ids: Ids) -> np.ndarray:
        if self.core.steady:  # half as a prompt, half as it is written
            half = len(ids) // 2
            parts = (Part(0, 0, ids[:half], every=True, prompt=True), Part(0, half, ids[half:], every=True))
            return np.concatenate([self.core.step([part])[0].numpy() for part in parts])
        # As it writes: what reads a whole text there is other code.
        return np.concatenate([self.core.step([Part(0, i, [id_])])[0].float().numpy() for i, id_ in enumerate(ids)])

    def _likeliest(self, parts: list[Part]) -> Ids:
        return [int(logits[0].float().numpy().argmax()) for logits in self.core.step(parts)]


def ahead(task: Task) -> Task:
    model = Model(task)
    grounded, asked = quoting(model, task)
    rates: dict[bool, list[float]] = {True: [], False: []}
    texts: dict[bool, list[Ids]] = {}
    guessed = 0
    for _ in range(task["repeats"]):
        for steady in rates:
            model.core.steady = steady  # a model that is not is never read ahead for
            scheduler: Scheduler[int, Token, Ids] = Scheduler(model.core)
            texts[steady], seconds = [], 0.0
            for prompt in grounded:
                text, took = alone(scheduler, writing(prompt, task["new"], task["stop"]), len(prompt))
                texts[steady].append(text)
                seconds += took
            rates[steady].append(sum(map(len, texts[steady])) / seconds)
            guessed = scheduler.guessed or guessed
    total = sum(map(len, texts[True]))
    return {"with": rates[True], "without": rates[False], "same": texts[True] == texts[False],
            "guessed": guessed / total, "texts": len(grounded), "asked": asked}  # fmt: skip


def quoting(model: "Model", task: Task) -> tuple[list[Ids], int]:
    """The first prompts whose answers the desk would show, since they stand in the passage; and how many were asked."""
    found, asked = list[Ids](), 0
    for prompt, passage in zip(task["prompts"], task["passages"], strict=True):
        text, _ = alone(Scheduler(model.core), writing(prompt, task["new"], task["stop"]), len(prompt))
        asked += 1
        if chosen(model.tokenizer.decode(text), [Passage("", (), passage)]) is not None:
            found.append(prompt)
        if len(found) == task["most"]:
            break
    return found, asked


def writing(prompt: Ids, new: int, stop: Ids) -> Generator[Read | Token, Any, Ids]:
    """A text's greedy ids."""
    found, reply = list[int](), None
    steps = written(prompt, prompt, room=len(prompt) + new, sampling=Sampling(), stop_ids=stop)
    while True:
        try:
            said = steps.send(reply)
        except StopIteration:
            return found
        reply = None
        if isinstance(said, Token):
            found.append(said.id)
        else:
            reply = yield said


def alone(
    scheduler: Scheduler[int, Token, Ids], text: Generator[Read | Token, Any, Ids], size: int
) -> tuple[Ids, float]:
    """A text, and the seconds it took once its prompt of `size` tokens was read."""
    known = scheduler.read + scheduler.saved + size
    scheduler.add(0, text)
    began = math.nan
    while True:
        for _, said in scheduler.step():
            if isinstance(said, End):
                assert said.result is not None, said.error
                return said.result, time.perf_counter() - began
        if math.isnan(began) and scheduler.read + scheduler.saved >= known:
            began = time.perf_counter()


if __name__ == "__main__":
    serve(Model, ahead=ahead)
