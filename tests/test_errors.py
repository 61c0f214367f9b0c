"""The catalogue of errors: each says how it is mended, in both languages, and the page shows them as they are."""

import re
import runpy
from pathlib import Path

import pytest

from zhumo.errors import RecipeError
from zhumo.recipe import Recipe, parse_yaml
from zhumo.words import LANGUAGES, words

ROOT = Path(__file__).parent.parent
ERRORS = sorted(key for key in words("en") if key.startswith("error."))
# A remedy asks somebody to do something: it begins a sentence, or a part of one, with what is to be done.
DO = frozenset((
    "add", "address", "allow", "ask", "begin", "boost", "bring", "change", "check", "choose", "close", "copy",
    "correct", "create", "delete", "did", "do", "download", "export", "fetch", "give", "improve", "install", "keep",
    "leave", "look", "lower", "make", "map", "mend", "merge", "move", "name", "open", "put", "raise", "remove",
    "rename", "restore", "run", "save", "say", "see", "send", "set", "start", "take", "try", "update", "use", "wait",
    "write",
))  # fmt: skip
ASKS = ("请", "您是否", "可用 ", "运行 ", "再次运行")


@pytest.mark.parametrize("key", ERRORS)
def test_every_error_says_what_is_wrong_and_then_what_to_do(key: str) -> None:
    what, *after = re.split(r"[.:;,?(]\s+|\b(?:and|or|then)\s", words("en")[key], flags=re.IGNORECASE)
    doing = {part.split()[0].strip("'\"`").lower() for part in after if part.split()}
    assert what.strip() and doing & DO, words("en")[key]
    assert any(sign in words("zh")[key] for sign in ASKS), words("zh")[key]


def test_the_pages_are_those_of_the_word_lists() -> None:
    made = runpy.run_path(str(ROOT / "scripts" / "errors"))
    for language in LANGUAGES:
        text = made["PAGES"][language].read_text(encoding="utf-8")
        assert text == made["page"](language), "run scripts/errors"
        assert all(f"`{key.removeprefix('error.')}`" in text for key in ERRORS)


@pytest.mark.parametrize(
    ("text", "line", "column"),
    [("task: write\nprepare: {source: [a\n", 3, 1), ("task: write\ntask: embed\n", 2, 1),
     ("task: write\nprepare:\n  source: &a b\n", 3, 11)],
)  # fmt: skip
def test_a_recipe_that_is_no_yaml_says_file_line_and_column(text: str, line: int, column: int) -> None:
    with pytest.raises(RecipeError) as caught:
        parse_yaml(text, "shop.yaml")
    for language in LANGUAGES:
        assert f"shop.yaml:{line}:{column}" in caught.value.say(language)


def test_a_recipe_that_says_what_no_recipe_can_say_is_shown_where(tmp_path: Path) -> None:
    path = tmp_path / "shop.yaml"
    path.write_text(
        "task: recommend\nprepare:\n  source: a.csv\n  lenght: 20\ntrain:\n  epochs: many\n", encoding="utf-8"
    )
    with pytest.raises(RecipeError) as caught:
        Recipe.read(path)
    first, second = caught.value.say("zh").splitlines()
    assert f"{path}:4:3" in first and "length" in first and f"{path}:6:3" in second
