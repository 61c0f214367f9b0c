"""Who reads for the texts of a bundle: torch in the weights as they were learned, or the native core in fewer bits."""

from collections.abc import Sequence

from zhumo.bundle import FULL
from zhumo.deploy.places import SLOTS
from zhumo.deploy.writer import Writing
from zhumo.engine import CacheBits, NativeModel, Reader, Scheduler, TorchModel, computes, library
from zhumo.engine.scheduler import End
from zhumo.tasks import Answer
from zhumo.transformer import Transformer

LONGEST = 2**15  # the most tokens of one text


def reader_of(model: Transformer, bits: int, cache_bits: CacheBits, slots: int = SLOTS) -> Reader:
    """With weights, keys and values in so many bits where this machine can; else as they were learned. slots: texts
    written at once."""
    length = min(model.config.length, LONGEST)
    if bits == FULL or not narrows(model):
        return TorchModel(model, slots=slots, length=length)
    return NativeModel(model, slots=slots, length=length, cache_bits=cache_bits)


def narrows(model: Transformer) -> bool:
    """Whether this machine can compute the model in whole numbers."""
    return library() is not None and computes(model.config)


def written(reader: Reader, writings: Sequence[Writing]) -> list[Answer]:
    """The whole answers of texts, written to their ends.

    Raises:
        Exception: what the first text that fails raised.
    """
    scheduler: Scheduler[int, str, Answer] = Scheduler(reader)
    answers: dict[int, Answer] = {}
    for place, writing in enumerate(writings):
        scheduler.add(place, writing)
    while len(scheduler):
        for place, piece in scheduler.step():
            if isinstance(piece, End):
                if piece.error is not None:
                    raise piece.error
                assert piece.result is not None
                answers[place] = piece.result
    return [answers[place] for place in range(len(writings))]
