"""Passages hold all of a document once, and end where people end; sentences are those a reader would count."""

import re
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zhumo.sources.documents import Document, Section
from zhumo.support.passages import Passage, cut, sentences

WORDS = st.sampled_from((
    "word", "Dr. Lee", "e.g. this", "3.5", "No. 7", "Ende.", "Really?", "“Yes.”", '"quoted."', "**bold.**",
    "\n", "\n\n",
    "退款", "七天内。", "“可以！”", "第二，", "；", "……", "| a | b |", "\n| 1 | 2 |\n", "\n- item", "\n1. first",
    "\n```\n",     "~~~", "code # x", "   ", "\t", "\u3000", "\U00020000", "😀", "\n---\n", "x" * 70, "长" * 50,
))  # fmt: skip
TEXTS = st.lists(WORDS, max_size=60).map(" ".join) | st.text(max_size=400)


def document(*texts: str) -> Document:
    return Document("a.md", "a", tuple(Section(("Head", str(number)), text) for number, text in enumerate(texts)))


def said(text: str) -> list[str]:
    return [text[start:end] for start, end in sentences(text)]


def solid(text: str) -> str:
    return "".join(text.split())


def wide(text: str) -> int:
    return len(text) + sum("\u2e80" <= letter <= "\ud7af" or letter >= "\U00020000" for letter in text)


@given(TEXTS)
def test_sentences_tile_the_text(text: str) -> None:
    spans = sentences(text)
    assert all(start < end and text[start:end] == text[start:end].strip() for start, end in spans)
    assert all(one[1] <= two[0] for one, two in pairwise(spans))
    assert "".join(solid(text[start:end]) for start, end in spans) == solid(text)


@given(st.lists(TEXTS, max_size=3), st.sampled_from((20, 60, 200, 600)))
def test_passages_hold_everything_once_and_none_is_long(texts: list[str], length: int) -> None:
    passages = cut(document(*texts), length)
    for number, text in enumerate(texts):
        mine = [passage.text for passage in passages if passage.headings == ("Head", str(number))]
        assert "".join(map(solid, mine)) == solid(text)
    assert all(passage.text == passage.text.strip() != "" for passage in passages)
    assert all(wide(solid(passage.text)) <= 1.5 * length for passage in passages)


@given(TEXTS)
def test_a_passage_ends_with_a_sentence(text: str) -> None:
    """None of these sentences is longer than a passage may be, so none is cut."""
    ends = {end for _, end in sentences(text)}
    at = 0
    for passage in cut(document(text), 2_000):
        at = text.index(passage.text, at) + len(passage.text)
        assert at in ends


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("七天内可以退货。运费由谁付？我们付！", ["七天内可以退货。", "运费由谁付？", "我们付！"]),
        ("他说：“可以退。”然后走了。", ["他说：“可以退。”", "然后走了。"]),
        ('他说"可以。"然后走了。"好。"', ['他说"可以。"', "然后走了。", '"好。"']),
        ("**注意。**都行。**重要**的是发票；快寄。", ["**注意。**", "都行。", "**重要**的是发票；", "快寄。"]),
        ("真的吗？！是的……好。", ["真的吗？！", "是的……好。"]),
        ("请用 v2.0.1 版本。1.打开设置 2.点击保存。", ["请用 v2.0.1 版本。", "1.打开设置 2.点击保存。"]),
        ("It costs 3.5 euros, e.g. in May. Then 4.", ["It costs 3.5 euros, e.g. in May.", "Then 4."]),
        ("Ask Dr. Lee or Mr. J. Smith. They know.", ["Ask Dr. Lee or Mr. J. Smith.", "They know."]),
        ("See No. 5 and fig. 2. The answer is no. Sorry!", ["See No. 5 and fig. 2.", "The answer is no.", "Sorry!"]),
        ("Made by Foo Inc. It ships at 5 p.m. on Friday.", ["Made by Foo Inc.", "It ships at 5 p.m. on Friday."]),
        ('"Really?" he said. "Yes." And left.', ['"Really?" he said.', '"Yes."', "And left."]),
        ("Open a.b.com/?q=1 now. Wait... then go.", ["Open a.b.com/?q=1 now.", "Wait... then go."]),
        ("1. Press the button. Wait.\n2. Let go", ["1. Press the button.", "Wait.", "2. Let go"]),
        ("- red\n- blue and\n  green\n\nEnd", ["- red", "- blue and\n  green", "End"]),
        ("Fee:\n| a | b |\n|---|---|\n| 1. B | 2 |\nEnd.", ["Fee:", "| a | b |", "|---|---|", "| 1. B | 2 |", "End."]),
        ("a | b\n--- | ---\n1. One | 2\n\nnot | this. One", ["a | b", "--- | ---", "1. One | 2", "not | this.", "One"]),
        ("Run:\n```\na. b. C\n\nd\n```\nDone.", ["Run:", "```\na. b. C\n\nd\n```", "Done."]),
        ("一行很长的\n换行。Wrapped\nline. Next", ["一行很长的\n换行。", "Wrapped\nline.", "Next"]),
    ],
)  # fmt: skip
def test_sentences_end_where_people_end(text: str, expected: list[str]) -> None:
    assert said(text) == expected


def test_english_is_cut_at_2500_letters_and_chinese_at_1250() -> None:
    english = "The parcel is sent back within two weeks by the customer. " * 240
    chinese = "客户可以在两周之内把包裹退回给我们。" * 240
    for text, low, high in ((english, 2_300, 2_500), (chinese, 1_150, 1_250)):
        lengths = [len(passage.text) for passage in cut(document(text))]
        assert len(lengths) > 3
        assert all(low <= length <= high for length in lengths[:-1])


def test_a_table_and_a_fence_stay_whole_where_they_can() -> None:
    table = "".join(f"| item {number} | {number} |\n" for number in range(20))
    code = "```\n" + "print(1). A\n" * 20 + "```"
    text = f"{'Words in a row. ' * 20}\n\n{table}\n{'More words here. ' * 20}\n\n{code}\n"
    passages = [passage.text for passage in cut(document(text), 600)]
    assert any(table.strip() in passage for passage in passages)
    assert any(code in passage for passage in passages)


def test_an_item_of_a_list_and_a_paragraph_stay_whole_where_they_can() -> None:
    for begin, blank in (("- ", "\n"), ("", "\n\n")):
        parts = [
            f"{begin}**Rule {number}.** {'It has some reasons. ' * (5 + number % 4)}".strip() for number in range(20)
        ]
        passages = [passage.text for passage in cut(document(blank.join(parts)), 400)]
        assert len(passages) > 8
        assert [part for passage in passages for part in passage.split(blank)] == parts


def test_a_long_table_is_cut_between_rows() -> None:
    rows = [f"| item {number}. Sold | costs {number} euros |" for number in range(100)]
    passages = cut(document("\n".join(rows)), 600)
    assert len(passages) > 3
    assert [row for passage in passages for row in passage.text.split("\n")] == rows


def test_a_short_end_joins_its_neighbour() -> None:
    text = "This sentence has exactly fifty letters, I think. " * 12
    [passage] = cut(document(f"{text}And so on."), 600)
    assert passage.text.endswith("And so on.")


def test_a_key_is_stable_and_tells_all_three_apart() -> None:
    passage = Passage("a.md", ("A", "B"), "text")
    assert passage.key == Passage("a.md", ("A", "B"), "text", also=(("b.md", ()),)).key == "" + passage.key
    assert re.fullmatch("[0-9a-f]{16}", passage.key)
    others = [Passage("b.md", ("A", "B"), "text"), Passage("a.md", ("A",), "B\ntext"), Passage("a.md", ("A", "B"), "t")]
    assert len({passage.key, *(other.key for other in others)}) == 4
    assert passage.full == "A > B\ntext"
    assert Passage("a.txt", (), "text").full == "text"
