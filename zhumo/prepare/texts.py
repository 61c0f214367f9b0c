"""What can be read off a text itself, plainly: its language, its length, how clean it is.

These are rules of thumb for choosing rows, no judgement of what a text says. `docs/prepare.md` tells how often they are
right.
"""

import re
import zlib
from collections.abc import Callable, Iterator, Mapping

from zhumo.tasks import Row

_SCRIPTS: Mapping[str, re.Pattern[str]] = {
    "ja": re.compile("[\u3041-\u30ff]"),
    "zh": re.compile("[\u3400-\u9fff]"),
    "ko": re.compile("[\uac00-\ud7af]"),
    "ru": re.compile("[\u0400-\u04ff]"),
    "ar": re.compile("[\u0600-\u06ff]"),
    "hi": re.compile("[\u0900-\u097f]"),
    "th": re.compile("[\u0e00-\u0e7f]"),
    "el": re.compile("[\u0370-\u03ff]"),
    "he": re.compile("[\u0590-\u05ff]"),
}
_SMALL: Mapping[str, str] = {
    "en": "the of and to in is that for it was on are as with his they at be this from have or by not but what were "
    "we you i my a an",
    "de": "der die das und ist nicht ein eine zu den mit auf für von dem sich des im auch es als wird bei ich sie wie "
    "einem einer in an am einen eines zwei vor aus über",
    "fr": "le la les des et est un une du dans que qui pour pas sur au avec ne se ce il elle je en plus par sont vous",
    "es": "el la los las de y que en un una es por con para no se del al lo como más su fue está muy yo pero",
    "it": "il lo la gli di che è un una per non con del della sono si da nel anche come più al dei",
    "pt": "o a os as de e que do da em um uma para com não por mais dos das no na é se foi ao",
}
_WORDS = {name: frozenset(small.split()) for name, small in _SMALL.items()}
SAMPLE = 1_000  # characters are plenty to tell a language by
_LETTERS = re.compile(r"[^\W\d_]+")
_VISIBLE = re.compile(r"\S")
# What is left where text went through the wrong encoding: UTF-8 read as Latin-1, GBK read as UTF-8 and back.
_BROKEN = re.compile("\ufffd|锟斤拷|Ã[\u0080-\u00bf]|â€|[\ue000-\uf8ff]")


def texts(row: Row) -> Iterator[str]:
    """What a person wrote in a row of a text task."""
    if "messages" in row:
        yield from (message["content"] for message in row["messages"])
    for name in ("text", "match", "source", "target"):
        if name in row:
            yield row[name]


def language(text: str) -> str:
    """A code of ISO 639-1, or `-` where it cannot be told: by its script, and where that is Latin by its small words.

    Chinese and Japanese share a script, so a tenth of kana among them makes it Japanese. Of languages that share a
    script which is not Latin only the one with most speakers online is named.
    """
    text = text[:SAMPLE]
    letters = sum(map(len, _LETTERS.findall(text)))
    found = {name: len(script.findall(text)) for name, script in _SCRIPTS.items()}
    if found["ja"] * 10 >= found["ja"] + found["zh"] > 0:
        found["ja"] += found["zh"]
    name = max(found, key=lambda one: found[one])
    if 2 * found[name] > letters or (name in ("zh", "ja", "ko") and 5 * found[name] > letters):  # a sign is a word
        return name
    words = re.findall(r"\w+", text.casefold())
    counts = {name: sum(word in small for word in words) for name, small in _WORDS.items()}
    name = max(counts, key=lambda one: counts[one])
    return name if 10 * counts[name] >= len(words) > 0 else "-"


def quality(text: str) -> float:
    """The share of five plain tests a text passes, as in the filters of Rae et al. 2021 (Gopher) and C4.

    It holds letters enough; no character broke on the way; it does not repeat itself; it is not shouted; its words are
    of a length people write.
    """
    visible, words = len(_VISIBLE.findall(text)), _LETTERS.findall(text)
    letters = sum(map(len, words))
    raw = text.encode("utf-8", "surrogatepass")
    spaced = [word for word in words if word.isascii()]
    passed = (
        letters >= 0.4 * visible > 0,
        not _BROKEN.search(text),
        len(raw) < 200 or len(zlib.compress(raw, 1)) >= 0.2 * len(raw),
        sum(map(str.isupper, text)) <= 0.5 * letters,
        not spaced or 2 <= sum(map(len, spaced)) / len(spaced) <= 12,
    )
    return sum(passed) / len(passed)


MEASURES: Mapping[str, Callable[[str], str | int | float]] = {
    "text.language": language,
    "text.characters": len,
    "text.quality": quality,
}
"""Columns computed from the texts of a row."""
