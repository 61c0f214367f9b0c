"""A folder of documents becomes what a desk knows: read, cut, made into vectors, and held in memory."""

import hashlib
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Literal

import numpy as np

from zhumo.bundle import Bundle
from zhumo.errors import ModelError
from zhumo.support.access import Access
from zhumo.support.knowledge import Encode, Knowledge, Synced
from zhumo.support.library import Library
from zhumo.support.search import foreign
from zhumo.tasks.embed import Embed


def opened(
    bundle: Bundle, documents: Path, file: Path, *, access: Access | None = None,
    progress: Callable[[int, int], None] = lambda *_: None,
) -> tuple[Library, Synced]:  # fmt: skip
    """Bring the knowledge in `file` up to date with a folder, and open it.

    bundle: an embed bundle; one with other weights makes all vectors again. access: who may see what; None: of the
    documents what was said the last time, and nobody has labels. progress: files done, files.

    Raises:
        ModelError: the bundle makes no vectors.
        SourceError: the folder or the file cannot be had.
    """
    with closing(Knowledge(file)) as knowledge:
        found = knowledge.sync(documents, encoder_of(bundle, "match_prefix"), encoder=(encoder := _identity(bundle)),
                               access=access.documents if access else None, progress=progress)  # fmt: skip
    encode = encoder_of(bundle)
    outside = {language: encode(questions) for language, questions in foreign().items()}
    return Library(file, encoder, outside, found.problems, access.owners if access else None), found


def _identity(bundle: Bundle) -> str:
    """What tells encoders apart whose vectors must not be compared: weights, what is said before a text, bits."""
    digest = hashlib.sha256(str(bundle.bits).encode())
    for path in sorted([*bundle.folder.glob("model*.safetensors"), bundle.folder / "task.json"]):
        with path.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()


def encoder_of(bundle: Bundle, kind: Literal["prefix", "match_prefix"] = "prefix") -> Encode:
    """What makes vectors of questions with an embed bundle, or ("match_prefix") of what answers them.

    Raises:
        ModelError: the bundle makes no vectors.
    """
    task, model = bundle.task, bundle.model
    if not isinstance(task, Embed):
        raise ModelError("support.no_encoder", folder=bundle.folder)
    return lambda texts: np.array(task.vectors(model, [(text, kind) for text in texts]), dtype=np.float32)
