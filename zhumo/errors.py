"""What can go wrong, said in the user's language: what, where, and how to mend it."""

import difflib
from collections.abc import Iterable

from zhumo.words import say


class ZhumoError(Exception):
    """An error a user can act on. `key` names its sentence in the word list, `facts` fill it in."""

    def __init__(self, key: str, /, **facts: object) -> None:
        super().__init__(key, facts)
        self.key = f"error.{key}"
        self.facts = facts

    def __str__(self) -> str:
        return self.say()

    def say(self, language: str | None = None) -> str:
        """The sentence in one language; None: the user's."""
        return say(self.key, language, **self.facts)


class RecipeError(ZhumoError):
    """The recipe cannot be understood."""


class SourceError(ZhumoError):
    """A file, package or database cannot be had or is not what it should be."""


class DataError(ZhumoError):
    """Rows cannot be used."""


class ModelError(ZhumoError):
    """A model folder cannot be read, or does not fit."""


class RunError(ZhumoError):
    """A run folder cannot be used."""


class GateError(ZhumoError):
    """A result is not good enough to go on."""


class Interrupted(ZhumoError):
    """Somebody asked the program to stop; all is saved and can go on."""


def nearest(name: str, known: Iterable[str]) -> str:
    """The known name most like `name`, or an empty string."""
    found = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    return found[0] if found else ""
