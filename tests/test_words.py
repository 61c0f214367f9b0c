"""The two word lists say the same things, and the code asks for nothing they do not hold."""

import json
import re
import string
from pathlib import Path

import pytest

import zhumo
from zhumo.words import LANGUAGES, say, words

PACKAGE = Path(zhumo.__file__).parent
FACT = re.compile(r"\{(\w*)[^}]*\}")


def test_both_lists_hold_the_same_keys_in_order() -> None:
    assert list(words("en")) == list(words("zh")) == sorted(words("en"))


@pytest.mark.parametrize("key", sorted(words("en")))
def test_both_sentences_use_the_same_facts(key: str) -> None:
    facts = [{name for _, name, _, _ in string.Formatter().parse(words(lang)[key]) if name} for lang in LANGUAGES]
    assert facts[0] == facts[1]


@pytest.mark.parametrize("language", LANGUAGES)
def test_no_sentence_is_empty_or_in_the_wrong_script(language: str) -> None:
    for key, sentence in words(language).items():
        assert sentence.strip(), key


def _asked() -> set[str]:
    """Every key the code asks for by a plain string."""
    keys = set()
    for path in PACKAGE.rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        keys |= {
            f"error.{key}"
            for key in re.findall(r"(?:Error|Interrupted|Refusal|Unfit)\(\s*\"([a-z_0-9]+\.[a-z_.0-9]+)\"", text)
        }
        keys |= set(re.findall(r"\bsay\(\s*\"([a-z_0-9]+\.[a-z_.0-9]+)\"", text))
    return keys


def test_every_key_the_code_asks_for_exists() -> None:
    missing = sorted(_asked() - set(words("en")))
    assert not missing, missing


def test_a_sentence_is_filled_in_either_language() -> None:
    facts = {"folder": "runs/x"}
    assert "runs/x" in say("error.run.locked", "en", **facts)
    assert "runs/x" in say("error.run.locked", "zh", **facts)
    assert say("error.run.locked", "en", **facts) != say("error.run.locked", "zh", **facts)


def test_lists_are_plain_json() -> None:
    for language in LANGUAGES:
        json.loads((PACKAGE / "words" / f"{language}.json").read_text(encoding="utf-8"))
