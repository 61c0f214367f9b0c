"""The native core: found, loaded, and spoken to with the structures of `native/core.h`."""

import ctypes
from ctypes import POINTER, Structure, c_double, c_float, c_int, c_int32, c_size_t, c_void_p
from functools import cache
from pathlib import Path

PATHS = ("plain", "avx2", "avx512", "amx")
ACTIVATIONS = ("gelu", "gelu_tanh", "relu", "silu")


class Matrix(Structure):
    _fields_ = [
        *((name, c_void_p) for name in ("quants", "scales", "minima", "bias")),
        *((name, c_int32) for name in ("tiles", "blocks", "bits", "unused")),
    ]


class Layer(Structure):
    _fields_ = [
        *(
            (f"{where}_{what}", c_void_p)
            for where in ("attention", "query", "key", "feed")
            for what in ("gain", "shift")
        ),
        *((name, Matrix) for name in ("query", "key", "value", "out", "gate", "up", "down")),
    ]


class Model(Structure):
    _fields_ = [
        ("layers", POINTER(Layer)),
        ("gain", c_void_p),
        ("shift", c_void_p),
        ("head", Matrix),
        ("cosine", c_void_p),
        ("sine", c_void_p),
        *((name, c_int32) for name in ("depth", "width", "heads", "kv_heads", "head_dim", "hidden", "length", "slots")),
        *((name, c_int32) for name in ("window", "norm_first", "centred", "activation", "passing")),
        ("epsilon", c_float),
        ("scale", c_float),
        *((name, c_void_p) for name in ("keys", "values", "key_scales", "value_scales")),
    ]


class Step(Structure):
    _fields_ = [
        *((name, c_int32) for name in ("count", "wanted", "written", "unused")),
        *((name, c_void_p) for name in ("slots", "positions", "untils", "rows", "states", "logits", "scratch")),
    ]


@cache
def library() -> ctypes.CDLL | None:
    """The native core; None where the package was installed without a compiler."""
    for path in sorted(Path(__file__).parent.glob("_core*.so")):
        try:
            found = _declared(ctypes.CDLL(str(path)))
        except (OSError, AttributeError):  # for another machine, or of another version
            continue
        if [found.zhumo_size(which) for which in range(4)] == [
            ctypes.sizeof(kind) for kind in (Matrix, Layer, Model, Step)
        ]:
            return found
    return None


def _declared(core: ctypes.CDLL) -> ctypes.CDLL:
    core.zhumo_path.restype = c_int
    core.zhumo_size.argtypes, core.zhumo_size.restype = [c_int], c_size_t
    core.zhumo_open.argtypes, core.zhumo_open.restype = [c_int], c_void_p
    core.zhumo_close.argtypes, core.zhumo_close.restype = [c_void_p], None
    core.zhumo_take.argtypes, core.zhumo_take.restype = [POINTER(Matrix), c_void_p, c_int, c_void_p], None
    core.zhumo_scratch.argtypes, core.zhumo_scratch.restype = [POINTER(Model), c_int, c_int, c_int], c_size_t
    core.zhumo_step.argtypes = [c_void_p, POINTER(Model), POINTER(Step), c_int, c_int, POINTER(c_double)]
    core.zhumo_step.restype = c_double
    return core


def path_of(core: ctypes.CDLL, name: str | None) -> int:
    """The number of a kind of processor code, by default of the best one.

    Raises:
        ValueError: there is none of that name, or this processor does not run it.
    """
    best: int = core.zhumo_path()
    found = PATHS.index(name) if name else best
    if found > best:
        raise ValueError(f"this processor has no {name}; it has {PATHS[best]}")
    return found
