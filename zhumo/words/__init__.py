"""The one word list: every sentence a person reads in a page, an error or a report, in English and Chinese.

A key is `area.name`; a sentence may hold `{facts}`. `tests/test_words.py` holds both lists to the same keys and facts.
"""

import json
import os
from functools import cache
from importlib.resources import files

LANGUAGES = ("en", "zh")


@cache
def words(language: str) -> dict[str, str]:
    """All sentences of one language."""
    text = files("zhumo.words").joinpath(f"{language}.json").read_text(encoding="utf-8")
    table: dict[str, str] = json.loads(text)
    return table


def language() -> str:
    """The user's language: `ZHUMO_LANG`, which `--lang` sets, then the locale; English where neither says."""
    for name in ("ZHUMO_LANG", "LC_ALL", "LC_MESSAGES", "LANG"):
        value = os.environ.get(name, "")
        if value:
            return "zh" if value.lower().startswith("zh") else "en"
    return "en"


def say(key: str, in_language: str | None = None, /, **facts: object) -> str:
    """The sentence `key` with its facts filled in.

    Raises:
        KeyError: no such sentence, or a fact it needs is missing.
    """
    return words(in_language or language())[key].format(**facts)
