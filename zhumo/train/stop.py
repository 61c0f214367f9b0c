"""Ctrl-C and SIGTERM: finish the step, save, leave."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from threading import current_thread, main_thread
from types import FrameType


class Stop:
    """Whether somebody asked."""

    asked = False


@contextmanager
def listening() -> Iterator[Stop]:
    """The first SIGINT or SIGTERM is only noted; the next does what it always does, at once."""
    stop = Stop()
    if current_thread() is not main_thread():  # Python lets only the main thread listen
        yield stop
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    def note(number: int, frame: FrameType | None) -> None:
        stop.asked = True
        restore()

    for number in before:
        signal.signal(number, note)
    try:
        yield stop
    finally:
        restore()
