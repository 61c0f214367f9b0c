"""One large matrix by a few vectors, by the native core: in whole numbers, a fourth of the bytes that must be read."""

import numpy as np
import torch
from torch import Tensor

from zhumo.engine.crew import Crew
from zhumo.engine.laid_out import LaidOut
from zhumo.engine.library import Model, Step
from zhumo.engine.packed import filled, pack


class Product:
    """What a model without blocks says: its head. A vector's product is the same, bit for bit, in any company.

    matrix: (rows, columns), 32 numbers of a row to a scale of 8 bits.

    Raises:
        ValueError: there is no core, or a number that 16 bits cannot scale.
    """

    def __init__(self, matrix: Tensor) -> None:
        self._crew, self._laid_out = Crew(), LaidOut()
        self.rows, self.columns = matrix.shape
        self._model = Model(head=self._laid_out.matrix(pack(matrix)), width=self.columns)

    def __call__(self, vectors: Tensor) -> Tensor:
        """(vectors, columns) to (vectors, rows), float32."""
        count = len(vectors)
        found = torch.empty(count, filled(self.rows))
        if not count:
            return found[:, : self.rows]
        states = np.zeros((count, filled(self.columns)), dtype=np.float32)
        states[:, : self.columns] = vectors.numpy()
        places = np.arange(count, dtype=np.int32)
        place = places.ctypes.data
        with self._crew.lock:
            # Each vector is a text of one token, and nothing looks at another.
            step = Step(
                count, count, count, 0, place, place, place, place, states.ctypes.data, found.data_ptr(),
                self._crew.room(self._model, count),
            )  # fmt: skip
            self._crew.run(self._model, step)
        return found[:, : self.rows]
