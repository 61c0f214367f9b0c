"""What a generator might say of real paragraphs: supported by them, or not. Is it told apart?"""

import random
import re
from collections.abc import Callable, Mapping, Sequence

from zhumo.support.passages import Passage, sentences
from zhumo.support.wording import chosen

CONDITION = re.compile(r"^(?:if|unless|except|without|until|but|although)\b|^(?:如果|除|但|虽|只要)", re.IGNORECASE)
NEGATION = re.compile(r"\b(?:not|never|no)\b ?|[不没未无](?!过)")
Say = Callable[[random.Random, str, str], str | None]


def right(texts: Sequence[str], kinds: Mapping[str, Say], count: int, *, passes: bool) -> dict[str, float]:
    """Of each kind of saying the share that passes, or that is caught; `all` counts each saying once."""
    dice = random.Random(2026)
    found: dict[str, list[bool]] = {"all": []}
    for kind, say in kinds.items():
        own = found.setdefault(kind, [])
        for _ in range(50 * count):
            text, other = dice.sample(texts, 2)
            said = say(dice, text, other)
            if said is not None and (passes or said not in text):
                own.append((chosen(said, [Passage("a.txt", (), text)]) is not None) is passes)
            if len(own) == count:
                break
        found["all"] += own
    return {kind: sum(own) / len(own) for kind, own in found.items()}


def _parts(text: str) -> list[str]:
    return [text[start:end] for start, end in sentences(text)]


def _clauses(sentence: str) -> list[str]:
    return re.split(r"(?<=[,，]) ?(?![0-9])", sentence)


def _two(dice: random.Random, text: str, _: str) -> str | None:
    parts = _parts(text)
    return " ".join(dice.sample(parts, 2)) if len(parts) > 1 else None


def _without_aside(dice: random.Random, text: str, _: str) -> str | None:
    own = [part for part in _parts(text) if re.search(r"[(（][^()（）]+[)）]", part)]
    return re.sub(r" ?[(（][^()（）]+[)）]", "", dice.choice(own)) if own else None


def _without(place: int) -> Say:
    def say(dice: random.Random, text: str, _: str) -> str | None:
        clauses = _clauses(dice.choice(_parts(text)))
        kept = clauses[1:] if place == 0 else clauses[:-1]
        return " ".join(kept).rstrip(",， ") if kept else None

    return say


def _number(dice: random.Random, text: str, _: str) -> str | None:
    own = [part for part in _parts(text) if re.search("[0-9]", part)]
    if not own:
        return None
    said = dice.choice(own)
    match = dice.choice(list(re.finditer("[0-9]+", said)))
    return f"{said[: match.start()]}{int(match[0]) + dice.randint(1, 9)}{said[match.end() :]}"


def _name(dice: random.Random, text: str, other: str) -> str | None:
    """A name, in Chinese two letters, of another paragraph instead of one."""
    names = r"(?<=[a-z,] )[A-Z][a-z]+" if text.isascii() or re.search("[a-z]{4}", text) else "[\u4e00-\u9fff]{2}"
    said = dice.choice(_parts(text))
    mine, theirs = list(re.finditer(names, said)), re.findall(names, other)
    if not mine or not theirs:
        return None
    match = dice.choice(mine)
    return said[: match.start()] + dice.choice(theirs) + said[match.end() :]


def _negation(dice: random.Random, text: str, _: str) -> str | None:
    """Taken out, or put in where there is none."""
    said = dice.choice(_parts(text))
    if match := NEGATION.search(said):
        return said[: match.start()] + said[match.end() :]
    if match := re.search(r"\b(?:is|was|are|were|can|may|will)\b|[是可能会有]", said):
        return said[: match.end()] + (" not" if match[0].isascii() else "不") + said[match.end() :]
    return None


def _swapped(dice: random.Random, text: str, _: str) -> str | None:
    """Two names of a sentence in each other's place."""
    said = dice.choice(_parts(text))
    names = list(dict.fromkeys(re.findall(r"(?<=[a-z,] )[A-Z][a-z]+|《[^《》]+》|[0-9]+", said)))
    if len(names) < 2:
        return None
    one, two = dice.sample(names, 2)
    return said.replace(one, "\x00").replace(two, one).replace("\x00", two)


def _condition(dice: random.Random, text: str, _: str) -> str | None:
    """A clause that begins with a condition left out."""
    for part in dice.sample(parts := _parts(text), len(parts)):
        clauses = _clauses(part)
        kept = [clause for clause in clauses if not CONDITION.match(clause)]
        if 0 < len(kept) < len(clauses):
            return " ".join(kept)
    return None


def _mixed(dice: random.Random, text: str, _: str) -> str | None:
    """A clause of one sentence before one of another."""
    parts = [clauses for part in _parts(text) if len(clauses := _clauses(part)) > 1]
    if len(parts) < 2:
        return None
    one, two = dice.sample(parts, 2)
    return f"{one[0]} {two[-1]}"


TRUE: dict[str, Say] = {
    "word for word": lambda dice, text, _: dice.choice(_parts(text)), "two in any order": _two,
    "brackets left out": _without_aside, "first clause left out": _without(0), "last clause left out": _without(-1),
}  # fmt: skip
FALSE: dict[str, Say] = {
    "elsewhere": lambda dice, _, other: dice.choice(_parts(other)), "number": _number, "name": _name,
    "negation": _negation, "swapped": _swapped, "condition": _condition, "mixed": _mixed,
}  # fmt: skip
