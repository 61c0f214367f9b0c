"""A model folder on disk, Hugging Face shaped: write it, load it, ask it.

`build`, `train` and `deploy` each leave one. Beside the files every Hugging Face reader knows it holds `task.json` and,
where a task learned numbers in bulk, `task.safetensors`. JSON and safetensors only: nothing in a folder is ever run.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.numpy import load_file, save_file

from zhumo.engine import NativeEncoder, computes, library
from zhumo.errors import ModelError
from zhumo.run import read_json, write_json
from zhumo.tasks import TASKS, Answer, Row, Task, task_class
from zhumo.tokenizer import Tokenizer
from zhumo.transformer import Transformer, Unset
from zhumo.transformer.families import to_disk, write_config
from zhumo.weights import Weights, read_weights, write_tensors

TASK_FORMAT = 1
FULL = 32  # bits of weights that are as they were learned
HALF = 16  # of weights that a GPU writes with


@dataclass(frozen=True)
class Bundle:
    """A model with all it needs to answer. `task` is None for a bare Hugging Face folder."""

    model: Transformer
    family: str
    tokenizer: Tokenizer | None
    task: Task | None
    folder: Path

    @property
    def bits(self) -> int:
        """Of the weights that `answer` computes with."""
        return self.model.bits if isinstance(self.model, NativeEncoder) else FULL

    def answer(self, rows: Sequence[Row]) -> list[Answer]:
        """What the model says of each row.

        Raises:
            ModelError: a bare model folder, which knows no task.
        """
        if self.task is None:
            raise ModelError("model.no_task", folder=self.folder)
        if self.model.training:  # to go through all its parts takes longer than many an answer
            self.model.eval()
        with torch.inference_mode():
            return self.task.answer(self.model, rows)


def load(folder: str | Path, *, bits: int | None = None) -> Bundle:
    """Load a bundle, a step's model folder, a bare Hugging Face folder or a GGUF file.

    bits: None: those a bundle was made to be served in, where its task only reads and this machine can; 32: as learned.

    Raises:
        ModelError: something is missing, damaged or not supported, and which.
    """
    folder = Path(folder)
    task = load_task(folder) if (folder / "task.json").is_file() else None
    weights = read_weights(folder)
    model = assemble(weights, task).eval()
    bits = bits_of(folder) if bits is None else bits
    if bits < HALF and task is not None and task.reads and library() is not None and computes(model.config):
        model = NativeEncoder(model).eval()
    return Bundle(model, weights.family, task.tokenizer if task else weights.tokenizer, task, folder)


def bits_of(folder: Path) -> int:
    """Of the weights that a bundle was made to be served in."""
    facts = folder / "run.json"
    bits: int = read_json(facts).get("bits", FULL) if facts.is_file() else FULL
    return bits


def assemble(weights: Weights, task: Task | None) -> Transformer:
    """The model of read weights, with the task's own head where the weights bring one."""
    with Unset():
        model = Transformer(weights.config)
    tensors = dict(weights.tensors)
    own = task.head(weights.config.width) if task else None
    if own is not None:
        model.head = own
    heads = {name: tensors.pop(name) for name in list(tensors) if name.startswith("head.")}
    if own is not None:
        try:
            own.load_state_dict({name.removeprefix("head."): tensor for name, tensor in heads.items()})
        except RuntimeError as error:
            raise ModelError("model.bad_head", problem=str(error).splitlines()[-1].strip()) from error
    elif weights.config.head != "none":
        tensors |= heads
    missing, unexpected = model.load_state_dict(tensors, strict=False)
    ours = [name for name in missing if not name.startswith("head.")]
    if ours or unexpected:
        raise ModelError("model.bad_tensors", missing=", ".join(ours) or "-", extra=", ".join(unexpected) or "-")
    return model


def save(folder: Path, model: Transformer, family: str, tokenizer: Tokenizer | None, task: Task | None) -> None:
    """Write the model folder; what a Hugging Face reader needs goes under the names it knows."""
    folder.mkdir(parents=True, exist_ok=True)
    own_head = task is not None and task.head(model.config.width) is not None
    state = {name: tensor.detach().to("cpu", torch.float32) for name, tensor in model.state_dict().items()}
    heads = {name: state.pop(name) for name in list(state) if own_head and name.startswith("head.")}
    tensors = {name: tensor.contiguous() for name, tensor in {**to_disk(state, model.config, family), **heads}.items()}
    write_tensors(folder, tensors)
    config = write_config(model.config, family)
    if tokenizer is not None:
        tokenizer.save(folder)
        ids = {f"{role}_token_id": tokenizer.special(role) for role in ("bos", "eos", "pad")}
        config |= {name: token for name, token in ids.items() if token is not None}
    if model.encoder is not None and task is not None:
        config["decoder_start_token_id"] = task.state["start"]
    write_json(folder / "config.json", config)
    if task is not None:
        save_task(folder, task)


def save_task(folder: Path, task: Task) -> None:
    """Write what the task learned."""
    write_json(
        folder / "task.json", {"format": TASK_FORMAT, "task": task.name, "length": task.length, "state": task.state}
    )
    if task.arrays:
        save_file(
            {name: np.ascontiguousarray(array) for name, array in task.arrays.items()}, folder / "task.safetensors"
        )


def load_task(folder: Path) -> Task:
    """The task of a folder, with its tokenizer.

    Raises:
        ModelError: an unknown task, or a format newer than this program.
    """
    facts: dict[str, Any] = read_json(folder / "task.json")
    if facts.get("format") != TASK_FORMAT or facts.get("task") not in TASKS:
        raise ModelError("model.unknown_task", folder=folder, task=facts.get("task"), format=facts.get("format"))
    arrays = load_file(folder / "task.safetensors") if (folder / "task.safetensors").is_file() else {}
    return task_class(facts["task"])(Tokenizer.load(folder), facts["length"], facts["state"], arrays)
