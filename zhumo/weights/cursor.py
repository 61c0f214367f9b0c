"""Reading a foreign binary file: every number that says where or how much is checked against the size of the file."""

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from zhumo.errors import ModelError
from zhumo.weights.blocks import Bytes, Format, dequantise


class Cursor:
    """A place in a file that moves on as it is read; a read past the end is a `ModelError`, never a wrong answer."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self.bytes: Bytes = np.asarray(np.memmap(path, dtype=np.uint8, mode="r"))
        except (OSError, ValueError) as error:  # numpy says ValueError of an empty file
            raise ModelError("weights.damaged", path=path, problem=error) from error
        self._raw = self.bytes.data  # of few bytes much faster than numpy
        self.place = 0

    @property
    def size(self) -> int:
        """Bytes in the file."""
        return len(self.bytes)

    def fail(self, problem: object) -> ModelError:
        """The error for a file that is not what it should be, with the place."""
        return ModelError("weights.damaged", path=self.path, problem=f"{problem} (byte {self.place})")

    def take(self, count: int) -> Bytes:
        """The next `count` bytes."""
        start = self._pass(count)
        return self.bytes[start : self.place]

    def at(self, start: int, count: int) -> Bytes:
        """`count` bytes from `start` of the file on."""
        if not 0 <= start <= self.size or not 0 <= count <= self.size - start:
            raise self.fail(f"{count} bytes from {start} on, beyond the end")
        return self.bytes[start : start + count]

    def weights(self, start: int, count: int, form: Format) -> Tensor:
        """The `count` bytes from `start` on, as float32 numbers that are all finite."""
        values = dequantise(self.at(start, count), form)
        if not np.isfinite(values).all():
            raise self.fail(f"numbers from {start} on are not finite")
        return torch.from_numpy(values)

    def numbers(self, kind: str, count: int) -> "NDArray[np.generic]":
        """The next `count` numbers of a numpy kind such as `<u4`."""
        form = np.dtype(kind)
        if not 0 <= count <= self.size:
            raise self.fail(f"{count} numbers")
        return self.take(count * form.itemsize).copy().view(form)

    def whole(self, kind: str) -> int:
        """The next whole number of a numpy kind such as `<u4`."""
        start = self._pass(int(kind[2]))
        return int.from_bytes(self._raw[start : self.place], "little", signed=kind[1] == "i")

    def decimal(self) -> float:
        """The next float32, as the shortest decimal that means it: 1e-05, not 9.999999747378752e-06."""
        return float(str(self.numbers("<f4", 1)[0]))

    def text(self, count: int, most: int) -> str:
        """The next `count` bytes as UTF-8, at most `most`."""
        if count > most:
            raise self.fail(f"a text of {count} bytes, more than {most}")
        start = self._pass(count)
        try:
            return str(self._raw[start : self.place], "utf-8")
        except UnicodeDecodeError as error:
            raise self.fail(error) from error

    def _pass(self, count: int) -> int:
        """Move on by so many bytes; where they begin."""
        start = self.place
        if not 0 <= count <= len(self._raw) - start:
            raise self.fail(f"{count} bytes where {len(self._raw) - start} are left")
        self.place += count
        return start
