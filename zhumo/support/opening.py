"""A folder of documents becomes what a desk knows: read, cut, made into vectors, and held in memory."""

import asyncio
import hashlib
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Literal

import numpy as np

from zhumo.bundle import Bundle, bits_of, load
from zhumo.deploy.served import Begin, Follow
from zhumo.engine import library as native
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
    encode, encode_passages = encoder_of(bundle), encoder_of(bundle, "match_prefix")
    encoder = identity(bundle.folder)
    with closing(Knowledge(file)) as knowledge:
        found = knowledge.sync(
            documents, encode_passages, encoder=encoder, access=access.documents if access else None, progress=progress
        )
    outside = {language: encode(questions) for language, questions in foreign().items()}
    return Library(file, encoder, outside, found.problems, access.owners if access else None), found


def follower(library: Library, folder: Path, documents: Path, access: Access | None = None) -> Follow:
    """Makes all of a library's vectors anew before a bundle of other weights serves. folder: where that lies then."""

    def fresh() -> Library | None:
        if identity(folder) == library.encoder:
            return None
        return opened(load(folder), documents, library.file, access=access)[0]

    async def follow() -> Begin:
        found, loop = await asyncio.to_thread(fresh), asyncio.get_running_loop()

        def begin() -> None:
            if found is not None:
                library.become(found)
                loop.run_in_executor(None, library.refresh)  # what changed between then and now

        return begin

    return follow


def identity(folder: Path) -> str:
    """What tells encoders apart whose vectors must not be compared: weights, what is said before a text, bits, and
    whether this machine computes in those."""
    digest = hashlib.sha256(f"{bits_of(folder)} {native() is not None}".encode())
    for path in sorted([*folder.glob("model*.safetensors"), folder / "task.json"]):
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
