"""Models for serving: weights in few bits, one native call or one captured graph a step, many texts at a time."""

from zhumo.engine.cuda_model import CudaModel, captures
from zhumo.engine.encoder import NativeEncoder
from zhumo.engine.library import library
from zhumo.engine.native import CacheBits, NativeModel, computes
from zhumo.engine.parts import Part, Reader
from zhumo.engine.product import Product
from zhumo.engine.scheduler import End, Scheduler
from zhumo.engine.torch_model import TorchModel
from zhumo.engine.turns import Turns

__all__ = [
    "CacheBits", "CudaModel", "End", "NativeEncoder", "NativeModel", "Part", "Product", "Reader", "Scheduler",
    "TorchModel", "Turns", "captures", "computes", "library",
]  # fmt: skip
