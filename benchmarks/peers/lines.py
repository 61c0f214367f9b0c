"""What every engine does alike that is asked to write: a line read is a task, a line printed its answer, both JSON.

A task names {"kind", "file": the model in a format of the engine, "threads"} and what its kind needs:

    write    {"prompts": lists of ids, a stream each and all of one length, "new": steps, "repeats"}
             -> {"read": tokens a second of the prompts, "written": of the steps after the first token, both of all
             streams together, a number a repeat; "ids": what each stream wrote, 1 + new of them}
    first    {"prompt"} -> {"seconds": from a file not loaded to the first token; what was imported is not counted}
    quality  {"sequences", "out": a .npy file to write} -> {"best": the likeliest next id at each place, "nll": of the
             id that comes, in nats}; the file gets all log-probabilities, float16, (places, ids)

The model of the last task stays loaded; it goes before another file, number of threads or device comes.
"""

import json
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

Task = dict[str, Any]
Ids = list[int]


@dataclass(frozen=True)
class Written:
    """Greedy ids, a list a stream; seconds for the prompts with the first token of each, and for all tokens after."""

    ids: list[Ids]
    read: float
    steps: float


class Engine(Protocol):
    """A loaded model."""

    def write(self, prompts: list[Ids], new: int) -> Written:
        """The first token after each prompt and `new` more, whatever they are."""

    def logits(self, ids: Ids) -> np.ndarray:
        """Of the token after each id, float32, (ids, vocabulary)."""


def write(engine: Engine, task: Task) -> Task:
    prompts, new = task["prompts"], task["new"]
    runs = [engine.write(prompts, new) for _ in range(task["repeats"])]
    read = [sum(map(len, prompts)) / run.read for run in runs]
    written = [len(prompts) * new / run.steps for run in runs] if new else []
    return {"read": read, "written": written, "ids": runs[-1].ids}


def quality(engine: Engine, task: Task) -> Task:
    every, best, nll = [], [], []
    for ids in task["sequences"]:
        logits = engine.logits(ids[:-1])
        logits = logits - logits.max(axis=1, keepdims=True)
        found = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
        every.append(found.astype(np.float16))
        best += found.argmax(axis=1).tolist()
        nll += (-found[np.arange(len(found)), ids[1:]]).tolist()
    np.save(task["out"], np.concatenate(every))
    return {"best": best, "nll": nll}


def serve(load: Callable[[Task], Engine], **further: Callable[[Task], Task]) -> None:
    """Answer until there is nothing more to read. further: kinds of task that need no loaded model."""
    engine: Engine | None = None
    held: list[Any] = []
    for line in sys.stdin:
        task = json.loads(line)
        wanted = [task.get(name) for name in ("file", "threads", "device", "compiled", "slots")]
        if task["kind"] in further or task["kind"] == "first" or wanted != held:
            engine, held = None, []  # before the next is loaded: never two in memory
        if task["kind"] in further:
            answer = further[task["kind"]](task)
        else:
            began = time.perf_counter()
            engine, held = engine or load(task), wanted
            if task["kind"] == "first":
                engine.write([task["prompt"]], 0)
                answer = {"seconds": time.perf_counter() - began}
            else:
                answer = {"write": write, "quality": quality}[task["kind"]](engine, task)
        print(json.dumps(answer), flush=True)
