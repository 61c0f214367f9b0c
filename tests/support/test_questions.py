"""The questions the support desk is measured by: answered by the manual, and not in its words.

They were written before there was an index to answer them. A quote that is gone from its page is found here by name:
choose the passage anew, never the question.
"""

import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

import zhumo
from zhumo.recipe import STEPS

FILE = Path(zhumo.__file__).parent / "support" / "questions.jsonl"
ROOT = Path(__file__).parent.parent.parent
ROWS: list[dict[str, Any]] = [json.loads(line) for line in FILE.read_text(encoding="utf-8").splitlines()]
TOPICS = (*STEPS, "recommend", "architecture", "decisions", "errors", "article")
MANUAL = {
    "en": ["README.md", *(f"docs/{topic}.md" for topic in TOPICS)],
    "zh": ["README.zh-CN.md", *(f"docs/{topic}.zh-CN.md" for topic in TOPICS)],
}
SHARED = {"en": 5, "zh": 8}  # so many words, or Chinese characters, in a row are a copy
QUOTED = {"en": 2, "zh": 3}  # a shorter heading ("Train", "推荐") is a word that anybody uses


def sections(page: str) -> list[tuple[str, str]]:
    """Headings of a page, each with the lines below it up to the next; a # inside a block of code is no heading."""
    parts: list[tuple[str, str]] = []
    code = False
    for line in (ROOT / page).read_text(encoding="utf-8").splitlines(keepends=True):
        code ^= line.startswith("```")
        if not code and (heading := re.fullmatch(r"#+ (.+)\n", line)):
            parts.append((heading[1], ""))
        elif parts:
            parts[-1] = (parts[-1][0], parts[-1][1] + line)
    return parts


SECTIONS = {page: sections(page) for pages in MANUAL.values() for page in pages}


def units(text: str, language: str) -> list[str]:
    """What a run is counted in: words, or Chinese characters whatever stands between them."""
    return re.findall(r"\w+" if language == "en" else r"[\u4e00-\u9fff]", text.casefold())


def runs(text: str, language: str, length: int) -> set[tuple[str, ...]]:
    found = units(text, language)
    return {tuple(found[at : at + length]) for at in range(len(found) - length + 1)}


def test_sixty_half_of_them_chinese_and_none_twice() -> None:
    assert Counter(row["language"] for row in ROWS) == {"en": 30, "zh": 30}
    assert len({" ".join(re.findall(r"\w+", row["question"].casefold())) for row in ROWS}) == 60


def test_every_page_is_asked_about_alike() -> None:
    for language, pages in MANUAL.items():
        asked = Counter(row["gold"][0]["file"] for row in ROWS if row["language"] == language)
        assert set(asked) == set(pages) and set(asked.values()) <= {2, 3}


@pytest.mark.parametrize("row", ROWS)
def test_the_manual_answers_under_the_heading_named(row: dict[str, Any]) -> None:
    assert set(row) == {"language", "question", "gold"} and row["gold"]
    for gold in row["gold"]:
        quote = gold["quote"]
        assert set(gold) == {"file", "heading", "quote"} and gold["file"] in MANUAL[row["language"]]
        assert "\n" not in quote, "a quote is of one line, so that it is found however lines are joined"
        places = [heading for heading, text in SECTIONS[gold["file"]] for _ in range(text.count(quote))]
        assert places == [gold["heading"]], f"{gold['file']} holds it {len(places)} times: {quote}"


@pytest.mark.parametrize("row", ROWS)
def test_a_question_copies_no_passage_and_quotes_no_heading(row: dict[str, Any]) -> None:
    question, language = row["question"], row["language"]
    length = SHARED[language]
    for page in {gold["file"] for gold in row["gold"]}:
        shared = runs(question, language, length) & runs((ROOT / page).read_text(encoding="utf-8"), language, length)
        assert not shared, page
    for page in MANUAL[language]:
        for heading, _ in SECTIONS[page]:
            size = len(units(heading, language))
            quoted = size >= QUOTED[language] and runs(heading, language, size) & runs(question, language, size)
            assert not quoted, f"{page}: {heading}"
