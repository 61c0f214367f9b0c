"""llama.cpp by its own C interface, in an environment of its own, as it is built for this processor: see `lines.py`.

One more kind: formats {"file", "folder"} -> {format: path}, the file itself and what llama.cpp's own quantiser makes of
it, made once. A context is llama.cpp's default: a cache a stream, in float16, and 512 tokens a pass.
"""

import ctypes
import logging
import time
from contextlib import closing
from pathlib import Path

import llama_cpp as llama  # type: ignore[import-not-found]
import numpy as np
from lines import Ids, Task, Written, serve

FORMATS = {"Q4_0": llama.LLAMA_FTYPE_MOSTLY_Q4_0, "Q8_0": llama.LLAMA_FTYPE_MOSTLY_Q8_0,
           "BF16": llama.LLAMA_FTYPE_MOSTLY_BF16}  # fmt: skip

logging.getLogger("llama-cpp-python").setLevel(logging.ERROR)


class Context:
    """Where streams are read and written: one token's ids, places and streams in, logits out."""

    def __init__(self, model: ctypes.c_void_p, streams: int, length: int, threads: int) -> None:
        """length: the most tokens a stream."""
        settings = llama.llama_context_default_params()
        settings.n_ctx = settings.n_batch = streams * length
        settings.n_seq_max = streams
        settings.n_threads = settings.n_threads_batch = threads
        self.pointer = llama.llama_init_from_model(model, settings)
        self.batch = llama.llama_batch_init(settings.n_batch, 0, 1)
        self.vocabulary = llama.llama_vocab_n_tokens(llama.llama_model_get_vocab(model))

    def read(self, rows: list[tuple[int, int, int, bool]]) -> np.ndarray:
        """rows: (id, place, stream, whether its logits are wanted). The wanted logits, valid until the next call."""
        batch = self.batch
        batch.n_tokens = len(rows)
        for at, (token, place, stream, wanted) in enumerate(rows):
            batch.token[at], batch.pos[at], batch.logits[at] = token, place, wanted
            batch.n_seq_id[at], batch.seq_id[at][0] = 1, stream
        if failed := llama.llama_decode(self.pointer, batch):
            raise RuntimeError(f"llama_decode: {failed}")
        shape = (sum(row[3] for row in rows), self.vocabulary)
        return np.ctypeslib.as_array(llama.llama_get_logits(self.pointer), shape=shape)

    def close(self) -> None:
        llama.llama_batch_free(self.batch)
        llama.llama_free(self.pointer)


class Model:
    """A GGUF file; its weights repacked for this processor where llama.cpp does so by itself."""

    def __init__(self, file: str, threads: int) -> None:
        self.pointer = llama.llama_model_load_from_file(file.encode(), llama.llama_model_default_params())
        self.threads = threads

    def __del__(self) -> None:
        llama.llama_model_free(self.pointer)

    def context(self, streams: int, length: int) -> closing[Context]:
        return closing(Context(self.pointer, streams, length, self.threads))

    def write(self, prompts: list[Ids], new: int) -> Written:
        """All prompts are one batch, and so are the next tokens of all streams."""
        size = len(prompts[0])
        rows = [(token, place, stream, place == size - 1)
                for stream, prompt in enumerate(prompts) for place, token in enumerate(prompt)]  # fmt: skip
        with self.context(len(prompts), size + new) as context:
            began = time.perf_counter()
            ids = [context.read(rows).argmax(axis=1).tolist()]
            read = time.perf_counter()
            for place in range(size, size + new):
                rows = [(token, place, stream, True) for stream, token in enumerate(ids[-1])]
                ids.append(context.read(rows).argmax(axis=1).tolist())
            ended = time.perf_counter()
        return Written([list(stream) for stream in zip(*ids, strict=True)], read - began, ended - read)

    def logits(self, ids: Ids) -> np.ndarray:
        with self.context(1, len(ids)) as context:
            return context.read([(token, place, 0, True) for place, token in enumerate(ids)]).copy()


def formats(task: Task) -> Task:
    """In 4 and 8 bits the embedding, which is also the head, stays in 8 as it is in the wheel."""
    source = Path(task["file"])
    name, _, own = source.stem.rpartition(".")
    made = {own: str(source)}
    for kind, number in FORMATS.items():
        target = Path(task["folder"]) / f"{name}.{kind}.gguf"
        made[kind] = str(target)
        if target.is_file():
            continue
        settings = llama.llama_model_quantize_default_params()
        settings.ftype, settings.allow_requantize = number, True
        if kind != "BF16":
            settings.token_embedding_type = settings.output_tensor_type = llama.GGML_TYPE_Q8_0
        part = target.with_suffix(".part")
        if failed := llama.llama_model_quantize(str(source).encode(), str(part).encode(), ctypes.byref(settings)):
            raise RuntimeError(f"llama_model_quantize: {failed}")
        part.rename(target)
    return made


if __name__ == "__main__":
    llama.llama_backend_init()
    serve(lambda task: Model(task["file"], task["threads"]), formats=formats)
