"""One large matrix by a few vectors, by the native core: in whole numbers, a fourth of the bytes that must be read."""

import threading
import weakref
from ctypes import byref

import torch
import torch.nn.functional as F
from torch import Tensor

from zhumo.engine.laid_out import LaidOut
from zhumo.engine.library import Model, Step, library
from zhumo.engine.native import ALIGNED
from zhumo.engine.packed import filled, pack


class Product:
    """What a model without blocks says: its head. A vector's product is the same, bit for bit, in any company.

    matrix: (rows, columns), 32 numbers of a row to a scale of 8 bits.

    Raises:
        ValueError: there is no core, or a number that 16 bits cannot scale.
    """

    def __init__(self, matrix: Tensor) -> None:
        core = library()
        if core is None:
            raise ValueError("there is no native core here")
        self.rows, self.columns = matrix.shape
        self._core, self._path, self._threads = core, core.zhumo_path(), torch.get_num_threads()
        self._laid_out = LaidOut()
        self._model = Model(head=self._laid_out.matrix(pack(matrix)), width=self.columns)
        self._team = core.zhumo_open(self._threads)
        if not self._team:
            raise MemoryError(f"no {self._threads} threads to be had")
        weakref.finalize(self, core.zhumo_close, self._team)
        self._room = torch.empty(0, dtype=torch.uint8)
        self._lock = threading.Lock()  # the threads and the room are for one call at a time

    def __call__(self, vectors: Tensor) -> Tensor:
        """(vectors, columns) to (vectors, rows), float32."""
        count = len(vectors)
        found = torch.empty(count, filled(self.rows))
        if not count:
            return found[:, : self.rows]
        states = F.pad(vectors.float(), (0, filled(self.columns) - self.columns)).contiguous().clone()
        places = torch.arange(count, dtype=torch.int32)
        with self._lock:
            needed = self._core.zhumo_scratch(byref(self._model), count, self._threads) + ALIGNED
            if len(self._room) < needed:
                self._room = torch.empty(needed, dtype=torch.uint8)
            # Each vector is a text of one token, and nothing looks at another.
            step = Step(
                count, count, places.data_ptr(), places.data_ptr(), places.data_ptr(), places.data_ptr(),
                states.data_ptr(), found.data_ptr(), -(-self._room.data_ptr() // ALIGNED) * ALIGNED,
            )  # fmt: skip
            self._core.zhumo_step(self._team, byref(self._model), byref(step), self._path)
        return found[:, : self.rows]
