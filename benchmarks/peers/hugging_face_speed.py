"""transformers, its tokens by `generate` with its default cache: see `lines.py`.

A task for a GPU says so: {"device": "cuda"}, and with {"compiled": true} it writes with its static cache, for which it
compiles itself.

One more kind: formats {"file": a GGUF file, "folder"} -> {dtype: path}, weights and tokenizer as folders of its own,
made once.
"""

import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lines import Ids, Task, Written, serve
from transformers import AutoModelForCausalLM, AutoTokenizer
from transformers.generation.streamers import BaseStreamer
from transformers.utils import logging

logging.set_verbosity_error()  # type: ignore[no-untyped-call]

FORMATS = {"float32": torch.float32, "bfloat16": torch.bfloat16}


class Clock(BaseStreamer):
    """When `generate` handed out the prompts and then each token."""

    def __init__(self) -> None:
        self.times: list[float] = []

    def put(self, value: torch.Tensor) -> None:
        self.times.append(time.perf_counter())

    def end(self) -> None:
        pass


class Model:
    def __init__(self, task: Task) -> None:
        torch.set_num_threads(task["threads"])
        self.device, self.cache = task.get("device", "cpu"), "static" if task.get("compiled") else None
        self.model: Any = AutoModelForCausalLM.from_pretrained(task["file"], dtype="auto").to(self.device)
        self.model.generation_config.eos_token_id = None  # every run writes all its tokens

    @torch.inference_mode()
    def write(self, prompts: list[Ids], new: int) -> Written:
        ids, clock = torch.tensor(prompts, device=self.device), Clock()
        out = self.model.generate(ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=1 + new,
                                  streamer=clock, cache_implementation=self.cache)  # fmt: skip
        began, read, *rest = clock.times
        return Written(out[:, ids.size(1) :].tolist(), read - began, (rest or [read])[-1] - read)

    @torch.inference_mode()
    def logits(self, ids: Ids) -> np.ndarray:
        found: np.ndarray = self.model(torch.tensor([ids], device=self.device)).logits[0].float().cpu().numpy()
        return found


def formats(task: Task) -> Task:
    source = Path(task["file"])
    name, made = source.stem.rpartition(".")[0], {}
    for kind, dtype in FORMATS.items():
        target = Path(task["folder"]) / f"{name}.{kind}"
        made[kind] = str(target)
        if not target.is_dir():
            model: Any = AutoModelForCausalLM.from_pretrained(source.parent, gguf_file=source.name, dtype=dtype)
            model.hf_quantizer = None  # the weights are unpacked already; it would refuse to write them
            del model.config.quantization_config
            model.save_pretrained(part := target.with_suffix(".part"))
            tokenizer: Any = AutoTokenizer.from_pretrained(source.parent, gguf_file=source.name)
            tokenizer.save_pretrained(part)
            part.rename(target)
    return made


if __name__ == "__main__":
    serve(Model, formats=formats)
