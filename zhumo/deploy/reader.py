"""Who reads for the texts of a bundle: torch in the weights as they were learned, or in fewer bits the native core or
a GPU."""

from collections.abc import Iterable
from itertools import islice

import torch

from zhumo.bundle import FULL, HALF
from zhumo.deploy.places import SLOTS
from zhumo.deploy.writer import Writing
from zhumo.engine import CacheBits, CudaModel, NativeModel, Reader, Scheduler, TorchModel, captures, computes, library
from zhumo.engine.scheduler import End
from zhumo.tasks import Answer
from zhumo.transformer import Transformer

LONGEST = 2**15  # the most tokens of one text


def reader_of(model: Transformer, bits: int, cache_bits: CacheBits, slots: int = SLOTS) -> Reader:
    """With weights, keys and values in so many bits where this machine can; else as they were learned. slots: texts
    written at once."""
    length = min(model.config.length, LONGEST)
    if bits == FULL or not narrows(model, bits):
        return TorchModel(model, slots=slots, length=length)
    if bits == HALF:
        return CudaModel(model, slots=slots, length=length)
    return NativeModel(model, slots=slots, length=length, cache_bits=cache_bits)


def narrows(model: Transformer, bits: int) -> bool:
    """Whether this machine computes the model in so many bits: 16 on a GPU, fewer by the native core."""
    if bits == HALF:
        return torch.cuda.is_available() and captures(model.config)
    return library() is not None and computes(model.config)


def written(reader: Reader, writings: Iterable[Writing]) -> list[Answer]:
    """The whole answers of texts, as for a client that waits for each; many at once where that makes no difference.

    Raises:
        Exception: what the first text that fails raised.
    """
    scheduler: Scheduler[int, str, Answer] = Scheduler(reader)
    answers: dict[int, Answer] = {}
    coming, most = enumerate(writings), reader.slots if reader.steady else 1
    while True:
        for place, writing in islice(coming, most - len(scheduler)):
            scheduler.add(place, writing)
        if not len(scheduler):
            return [answers[place] for place in range(len(answers))]
        for place, piece in scheduler.step():
            if isinstance(piece, End):
                if piece.error is not None:
                    raise piece.error
                assert piece.result is not None
                answers[place] = piece.result
