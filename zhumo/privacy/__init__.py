"""Personal data that has a form of its own, covered so that it can be uncovered again.

A placeholder stands in white square brackets, ⟦phone1⟧. No keyboard types them, no code page from before Unicode has
them (GBK, Big5, Latin-1), no Unicode normalisation touches them: a document does not contain one by accident. One that
a text holds already stays as it is and its number is left out, so a text may be masked twice.
"""

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from zhumo.privacy.finding import KINDS, Found, Kind, find

__all__ = ["KINDS", "NEVER_SHOWN", "Found", "Kind", "Masked", "find", "mask", "mask_all", "unmask"]

# What belongs to one person wherever it stands. A company's own documents are asked for its telephone, its address, its
# account and its number in the register: those it shows.
NEVER_SHOWN: frozenset[Kind] = frozenset(("card", "passport", "plate", "resident", "ssn"))
_PLACEHOLDER = re.compile("⟦[a-z]+[0-9]+⟧")


@dataclass(frozen=True)
class Masked:
    """A text without its personal data. found: each placeholder, and the letters it stands for."""

    text: str
    found: Mapping[str, str]


def mask(text: str, kinds: Collection[Kind] = KINDS) -> Masked:
    """Cover personal data. What is written alike has the same placeholder."""
    [masked], found = mask_all([text], kinds)
    return Masked(masked, found)


def mask_all(texts: Sequence[str], kinds: Collection[Kind] = KINDS) -> tuple[list[str], Mapping[str, str]]:
    """Cover personal data in texts that belong together: what is written alike has the same placeholder in all."""
    taken = {placeholder for text in texts for placeholder in _PLACEHOLDER.findall(text)}
    names: dict[tuple[Kind, str], str] = {}
    counts: dict[Kind, int] = {}

    def name_of(one: Found, letters: str) -> str:
        while (one.kind, letters) not in names:
            counts[one.kind] = counts.get(one.kind, 0) + 1
            if (name := f"⟦{one.kind}{counts[one.kind]}⟧") not in taken:
                names[one.kind, letters] = name
        return names[one.kind, letters]

    covered = []
    for text in texts:
        parts, end = [], 0
        for one in find(text, kinds):
            parts += [text[end : one.start], name_of(one, text[one.start : one.end])]
            end = one.end
        covered.append("".join([*parts, text[end:]]))
    return covered, {name: letters for (_, letters), name in names.items()}


def unmask(text: str, found: Mapping[str, str]) -> str:
    """Uncover what `mask` covered; a placeholder that is not in `found` stays."""
    return _PLACEHOLDER.sub(lambda match: found.get(match[0], match[0]), text)
