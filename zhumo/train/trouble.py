"""What the machine refuses, said so that a person can act: a full, broken or read-only disk; too little memory."""

import errno
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from safetensors import SafetensorError

from zhumo.errors import RunError

DISK = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO)
MEMORY = ("can't allocate memory", "not enough memory", "std::bad_alloc")  # what torch says of it on a CPU


def disk_problem(error: Exception) -> str | None:
    """What is wrong with the disk, in the system's words; None: the error is about something else."""
    number = error.errno if isinstance(error, OSError) else None
    if isinstance(error, SafetensorError) and (found := re.search(r"os error (\d+)", str(error))):
        number = int(found[1])
    return os.strerror(number) if number in DISK else None


def out_of_memory(error: Exception) -> bool:
    """Whether there was too little memory."""
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or any(sign in str(error) for sign in MEMORY)


@contextmanager
def explained(folder: Path) -> Iterator[None]:
    """What goes wrong with the machine while something is made in `folder` becomes an error that says how to mend it.

    Raises:
        RunError: the disk or the memory is at its end.
    """
    try:
        yield
    except (OSError, SafetensorError, RuntimeError, MemoryError) as error:
        if (problem := disk_problem(error)) is not None:
            raise RunError("run.disk", folder=folder, problem=problem) from error
        if out_of_memory(error):
            raise RunError("run.memory", folder=folder) from error
        raise
