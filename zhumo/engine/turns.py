"""Whose turn it is among those who share a model: who has had least (Sheng et al. 2024, virtual token counter)."""

from collections.abc import Iterable


class Turns:
    """What each owner has had, in whatever is shared out. Who was away finds no credit for it."""

    def __init__(self) -> None:
        self._had: dict[str, float] = {}

    def join(self, owner: str, present: Iterable[str]) -> None:
        """An owner begins to wait beside those who are present."""
        least = min((self._had[other] for other in present), default=0.0)
        self._had[owner] = max(self._had.get(owner, 0.0), least)

    def charge(self, owner: str, amount: float) -> None:
        """An owner has had so much more."""
        self._had[owner] += amount

    def __getitem__(self, owner: str) -> float:
        return self._had[owner]
