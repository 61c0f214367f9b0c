"""What is known of a person beside what they took, as words that a Transformer reads before the history."""

import math
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

LEAST = 5  # people who share a trait before it is one
_NUMBER = re.compile(r"-?(0|[1-9]\d*)(\.\d+)?")


def words(traits: Mapping[str, Any]) -> Iterator[str]:
    """Each value as a word of its column; a number also as its place on a scale of halvings, so that 47 and 48 meet."""
    for name, value in traits.items():
        for one in value if isinstance(value, list) else [value]:
            if one in (None, ""):
                continue
            if isinstance(one, bool) or not _NUMBER.fullmatch(str(one)):
                yield f"{name}={one}"
                continue
            number = float(one)
            yield f"{name}={number:g}"
            if number > 0:
                yield f"{name}~{math.floor(4 * math.log2(number))}"


def common(people: Iterable[Mapping[str, Any]]) -> list[str]:
    """The words that say something of at least LEAST people, in their own order."""
    counts = Counter(word for traits in people for word in set(words(traits)))
    return sorted(word for word, count in counts.items() if count >= LEAST)
