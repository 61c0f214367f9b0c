"""Sentences as vectors: python embed_speed.py ENGINE MODEL ONNX, then a task a line.

A task is {"texts": a JSON file, "out": a .npy file, "threads"}, its answer {"seconds"}: from texts to vectors of length
1, cut at 256 tokens, tokenising included. Engines: zhumo, sentence_transformers, onnxruntime (ONNX: the graph). Each
sorts by length; the libraries take `BATCH` texts at a time.
"""

import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

LENGTH, BATCH = 256, 32
Embed = Callable[[list[str]], np.ndarray]


def zhumo(model: Path, _: str, threads: int) -> Embed:
    import torch

    from zhumo.bundle import assemble
    from zhumo.engine import NativeEncoder
    from zhumo.tasks.embed import Embed as Task
    from zhumo.weights import read_weights

    torch.set_num_threads(threads)
    weights = read_weights(model)
    core, task = NativeEncoder(assemble(weights, None).eval()), Task(weights.tokenizer, LENGTH, {"pooling": "mean"})
    return lambda texts: np.array([row["embedding"] for row in task.answer(core, [{"text": text} for text in texts])])


def sentence_transformers(model: Path, _: str, threads: int) -> Embed:
    import torch
    from sentence_transformers import SentenceTransformer

    torch.set_num_threads(threads)
    core = SentenceTransformer(str(model), device="cpu")
    return lambda texts: np.asarray(core.encode(texts, batch_size=BATCH, normalize_embeddings=True))


def onnxruntime(model: Path, graph: str, threads: int) -> Embed:
    import onnxruntime as ort
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(model / "tokenizer.json"))
    tokenizer.enable_truncation(LENGTH)
    tokenizer.enable_padding()
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    session = ort.InferenceSession(graph, options, providers=["CPUExecutionProvider"])

    def embed(texts: list[str]) -> np.ndarray:
        order = sorted(range(len(texts)), key=lambda place: len(texts[place]))
        parts = []
        for start in range(0, len(texts), BATCH):
            found = tokenizer.encode_batch([texts[place] for place in order[start : start + BATCH]])
            ids, mask = (np.array([getattr(one, name) for one in found]) for name in ("ids", "attention_mask"))
            parts += session.run(["sentence_embedding"], {"input_ids": ids, "attention_mask": mask})
        vectors = np.empty((len(texts), parts[0].shape[1]), np.float32)
        vectors[order] = np.concatenate(parts)
        return vectors

    return embed


def main(engine: str, model: str, graph: str) -> None:
    embed = {"zhumo": zhumo, "sentence_transformers": sentence_transformers, "onnxruntime": onnxruntime}[engine](
        Path(model), graph, int(os.environ["OMP_NUM_THREADS"])
    )
    for line in sys.stdin:
        task = json.loads(line)
        texts = json.loads(Path(task["texts"]).read_text(encoding="utf-8"))
        began = time.perf_counter()
        vectors = embed(texts)
        seconds = time.perf_counter() - began
        np.save(task["out"], vectors)
        print(json.dumps({"seconds": seconds}), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
