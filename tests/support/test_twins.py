"""Pages that stand in two languages: which passages say the same, and what that does to what is found."""

import numpy as np
import pytest

from zhumo.support import twins
from zhumo.support.knowledge import Known
from zhumo.support.passages import Passage
from zhumo.support.search import Search, languages_of
from zhumo.support.twins import page_of, twins_of


@pytest.mark.parametrize(("one", "other"), [
    ("guide.md", "guide.zh-CN.md"), ("docs/guide.en.md", "docs/guide.zh.md"), ("en/a/guide.md", "zh_CN/a/guide.md"),
    ("guide_en.docx", "guide_zh.docx"), ("手册.pdf", "手册-英文.pdf"), ("FAQ (English).txt", "FAQ (中文).txt"),
    ("docs/guide.md", "docs/zh-CN/guide.md"), ("EN/x.md", "x.CN.md"), ("Menu English.txt", "Menu.txt"),
])  # fmt: skip
def test_one_page_in_two_languages(one: str, other: str) -> None:
    assert page_of(one) == page_of(other)


@pytest.mark.parametrize("name", ["open.md", "benefits.md", "zhumo.md", "a/cnn.md", "docs/engine.md"])
def test_letters_within_a_word_are_no_language(name: str) -> None:
    assert page_of(name) == name


def _passages() -> list[Passage]:
    return [
        Passage("shop.md", (), "Shoes may be sent back within thirty days."),
        Passage("shop.md", (), "The shop opens at nine."),
        Passage("shop.zh.md", (), "鞋子可以在三十天以内寄回来。"),
        Passage("shop.zh.md", (), "商店每天早上九点钟开门营业。"),
        Passage("jobs.md", (), "We look for people."),
        Passage("jobs.en.md", (), "We are looking for people."),
        Passage("only.zh.md", (), "这一页只有用中文写的说明。"),
    ]


def _along(*angles: float) -> np.ndarray:
    """Vectors of length 1 at these angles, in degrees."""
    turned = np.radians(angles)
    return np.stack([np.cos(turned), np.sin(turned)], axis=1)


def _search(passages: list[Passage], *angles: float) -> Search:
    vectors = _along(*angles)
    return Search(Known(passages, vectors, vectors, np.arange(len(passages))), {
        "zh": _along(*np.linspace(0, 360, 100)), "en": _along(*np.linspace(0, 360, 100))})  # fmt: skip


def test_the_nearest_passage_of_the_page_in_another_language_is_the_twin() -> None:
    passages = _passages()
    found = twins_of(passages, _along(0, 90, 80, 10, 0, 0, 45), languages_of(passages))
    assert found.tolist() == [3, 2, 1, 0, -1, -1, -1]


def test_tables_too_long_to_compare_have_no_twins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(twins, "PAIRS", 3)
    passages = _passages()
    assert (twins_of(passages, _along(0, 90, 80, 10, 0, 0, 45), languages_of(passages)) == -1).all()


def _order(search: Search, question: str) -> list[str]:
    return [hit.passage.text for hit in search.find(question, _along(0)[0], 10)]


def test_of_passages_as_near_the_one_whose_twin_is_nearer_comes_first() -> None:
    passages = _passages()
    # Chinese ones lie as near as each other; of their twins one lies nearer.
    first, second = passages[2].text, passages[3].text
    assert _order(_search(passages, 25, -60, 40, -40, 100, 100, 90), "怎么样")[:2] == [first, second]
    assert _order(_search(passages, 60, -25, 40, -40, 100, 100, 90), "怎么样")[:2] == [second, first]


def test_a_passage_counts_more_than_its_twin() -> None:
    passages = _passages()
    found = _search(passages, 45, -15, 20, -40, 100, 100, 90)
    assert _order(found, "怎么样")[0] == passages[2].text


def test_a_passage_without_a_twin_stands_as_near_as_before() -> None:
    passages = _passages()
    found = _search(passages, 20, 60, 40, -40, 100, 100, 10)
    assert _order(found, "怎么样")[0] == passages[6].text
    scores = {hit.passage.text: hit.score for hit in found.find("怎么样", _along(0)[0], 10)}
    assert scores[passages[6].text] == pytest.approx(np.cos(np.radians(10)))


def test_what_an_asker_may_not_see_changes_nothing_for_him() -> None:
    passages, angles = _passages(), (20, 60, 40, -40, 100, 100, 90)
    chinese = [place for place, passage in enumerate(passages) if passage.file.endswith(".zh.md")]
    seen = _search(passages, *angles).only({passages[place].key for place in chinese})
    alone = _search([passages[place] for place in chinese], *(angles[place] for place in chinese))
    vector = _along(30)[0]
    assert [hit.score for hit in seen.find("怎么样", vector, 10)] == [
        hit.score for hit in alone.find("怎么样", vector, 10)
    ]


def test_twins_say_nothing_of_how_sure_the_desk_is() -> None:
    passages, vector = _passages(), _along(30)[0]
    chinese = {one.key for one in passages if one.file.endswith(".zh.md")}
    found = _search(passages, 20, 60, 40, -40, 100, 100, 90)
    assert found.sureness("怎么寄回来", vector) == found.only(chinese).sureness("怎么寄回来", vector)
