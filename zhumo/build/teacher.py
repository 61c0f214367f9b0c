"""A large model that a small one learns from: read, held against the task, and left beside the first weights."""

from pathlib import Path

from zhumo.bundle import FULL, assemble, load, save
from zhumo.errors import ModelError
from zhumo.sources import fetch
from zhumo.tasks import Task
from zhumo.tokenizer import Tokenizer
from zhumo.weights import read_weights

TEACHER = "teacher"


def put_teacher(source: str, task: Task, folder: Path) -> None:
    """Write the teacher's model folder. A teacher is a bundle of the same task; where the task has no head of its own,
    any weights that read the same tokens.

    Raises:
        ModelError: it says other labels or reads other tokens, or shorter texts.
    """
    path = fetch(source)
    if (path / "task.json").is_file():
        taught = load(path, bits=FULL)
        model, family, tokenizer, before = taught.model, taught.family, taught.tokenizer, taught.task
        if before is None or before.name != task.name or before.legend != task.legend:
            raise ModelError("model.other_teacher", task=task.name, teacher=source)
    else:
        weights = read_weights(path)
        if task.head(weights.config.width) is not None:
            raise ModelError("model.other_teacher", task=task.name, teacher=source)
        model, family, tokenizer = assemble(weights, None), weights.family, weights.tokenizer
    if _tokens(tokenizer) != _tokens(task.tokenizer):
        raise ModelError("model.teacher_tokens", teacher=source)
    if not model.config.endless and task.length > model.config.length:
        raise ModelError("model.too_short", length=task.length, limit=model.config.length)
    save(folder, model, family, tokenizer, task)


def _tokens(tokenizer: Tokenizer | None) -> dict[str, int] | None:
    return None if tokenizer is None else tokenizer.backend.get_vocab()
