"""Guesses at what a text says next, out of the text itself: prompt lookup (Saxena 2023).

An answer that quotes what it was asked, or repeats itself, goes on after three tokens as it did after the same three
before.
"""

from collections.abc import Iterable

GRAM = 3  # tokens that must be the same


class Lookup:
    """Where each run of `GRAM` tokens of a growing text stood last."""

    def __init__(self) -> None:
        self._ids: list[int] = []
        self._after: dict[tuple[int, ...], int] = {}  # the place after a run, without the run at the very end

    def add(self, ids: Iterable[int]) -> None:
        """The text goes on with `ids`."""
        for token in ids:
            if len(self._ids) >= GRAM:
                self._after[tuple(self._ids[-GRAM:])] = len(self._ids)
            self._ids.append(token)

    def guess(self, most: int) -> list[int]:
        """Up to `most` tokens that followed when the text last ended like this."""
        place = self._after.get(tuple(self._ids[-GRAM:]))
        return [] if place is None else self._ids[place : place + most]
