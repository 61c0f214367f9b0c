"""Random models and random steps through a core built with the address sanitiser; run by test_sanitised.py.

python fuzz.py FOLDER ROUNDS: FOLDER holds the core. Ends with status 0 when every kind of processor code said the same.
"""

import random
import sys
from pathlib import Path

import torch

from zhumo.engine import NativeModel, Part
from zhumo.engine.library import PATHS, library
from zhumo.engine.native import CacheBits
from zhumo.engine.packed import Bits
from zhumo.transformer import Config, Transformer, initialise


def config(draw: random.Random) -> Config:
    """Any model the core computes, with sizes that fill no block."""
    kv_heads = draw.randint(1, 3)
    gated = draw.random() < 0.5
    return Config(
        vocabulary=draw.randint(1, 90), width=draw.randint(1, 100), depth=draw.randint(1, 3), kv_heads=kv_heads,
        heads=kv_heads * draw.randint(1, 5), head_dim=draw.choice((32, 64, 96)), hidden=draw.randint(1, 150), length=64,
        positions=draw.choice(("learned", "rotary")), window=draw.choice((0, 0, 1, 7, 40)),
        norm=draw.choice(("layer", "rms")), activation=draw.choice(("gelu", "gelu_tanh", "relu", "silu")), gated=gated,
        bias=draw.choice(("all", "qkv", "none")), qk_norm=draw.random() < 0.3, head=draw.choice(("tied", "own")),
    )  # fmt: skip


def steps(draw: random.Random, slots: int, length: int, vocabulary: int) -> list[list[Part]]:
    """What is asked, each text going on where it stood or anew."""
    used = [0] * slots
    found = []
    for _ in range(draw.randint(1, 8)):
        parts = []
        for slot in draw.sample(range(slots), draw.randint(1, slots)):
            start = draw.choice((0, used[slot])) if used[slot] < length else 0
            ids = [draw.randrange(vocabulary) for _ in range(draw.randint(1, length - start))]
            parts.append(Part(slot, start, ids, draw.random() < 0.3, draw.random() < 0.5))
            used[slot] = start + len(ids)
        found.append(parts)
    return found


def main(folder: str, rounds: int) -> None:
    sys.modules[library.__module__].__file__ = str(Path(folder) / "library.py")
    core = library()
    assert core is not None
    for seed in range(rounds):
        draw = random.Random(seed)
        model = initialise(Transformer(config(draw)), seed).eval()
        slots, length = draw.randint(1, 5), draw.randint(1, 64)
        asked = steps(draw, slots, length, model.config.vocabulary)
        bits: Bits = draw.choice((4, 8))
        cache_bits: CacheBits = draw.choice((8, 16))
        said = []
        for path in PATHS[: core.zhumo_path() + 1]:
            threads = draw.randint(1, 3)
            native = NativeModel(
                model, slots=slots, length=length, bits=bits, cache_bits=cache_bits, threads=threads, path=path
            )
            found = list[torch.Tensor]()
            for parts in asked:
                native._crew.cores.count = draw.randint(1, threads)
                found += native.step(parts)
            said.append(torch.cat(found))
            if slots > 1:
                native.copy(0, 1, draw.randint(0, length))
        # A number that lies between two whole ones may go to either, and through tiles a prompt's are not made whole.
        assert all((one - said[0]).norm() <= 0.02 * said[0].norm() for one in said), seed
    print(core._name, rounds)


main(sys.argv[1], int(sys.argv[2]))
