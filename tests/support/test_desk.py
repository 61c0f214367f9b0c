"""The desk quotes what answers, in the asker's language, and hands over what it does not know."""

import zlib
from collections.abc import Sequence

import numpy as np
import pytest

from zhumo.baselines.retrieval import terms
from zhumo.support.desk import cited, readings, reply
from zhumo.support.knowledge import Known
from zhumo.support.passages import Passage
from zhumo.support.search import Search, foreign, fused, language_of

WIDTH = 512
PASSAGES = [
    Passage("returns.md", ("Returns",), "Shoes may be sent back within thirty days. The money is back in five."),
    Passage("returns.md", ("Returns", "What does it cost?"), "Sending back is free. Keep the label."),
    Passage("opening.md", ("Opening",), "The shop opens at nine. On Sundays it stays closed."),
    Passage("退货.md", ("退货",), "鞋子可以在三十天内退回。退款五天内到账。"),
    Passage("营业.md", ("营业时间",), "商店九点开门。星期天休息。"),
]


def encode(texts: Sequence[str]) -> np.ndarray:
    """Bags of words, each word at a place of its own."""
    vectors = np.zeros((len(texts), WIDTH), dtype=np.float32)
    for row, text in zip(vectors, texts, strict=True):
        for term in terms(text):
            row[zlib.crc32(term.encode()) % WIDTH] += 1
    vectors /= np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-9)
    return vectors


def search(passages: Sequence[Passage] = PASSAGES) -> Search:
    owners = [place for place, passage in enumerate(passages) for _ in passage.said]
    known = Known(
        list(passages), encode([one.full for one in passages]), encode([said for one in passages for said in one.said]),
        np.array(owners, dtype=np.int64),
    )  # fmt: skip
    return Search(known, {language: encode(questions) for language, questions in foreign().items()})


def ask(*questions: str, passages: Sequence[Passage] = PASSAGES, sure: float = 3.0) -> object:
    asked = readings(questions)
    return reply(search(passages), asked, encode(asked), sure)


@pytest.mark.parametrize(("question", "text", "file"), [
    ("how many days until shoes may be sent back?", "Shoes may be sent back within thirty days.", "returns.md"),
    ("is the shop closed on sundays", "On Sundays it stays closed.", "opening.md"),
    ("鞋子多少天内可以退回", "鞋子可以在三十天内退回。", "退货.md"),
])  # fmt: skip
def test_it_quotes_what_answers(question: str, text: str, file: str) -> None:
    said = ask(question)
    assert said.kind == "answer" and said.text.startswith(text) and said.citations[0].passage.file == file
    for one in said.citations:
        assert language_of(one.passage.full) == said.language == language_of(question)
    first = said.citations[0]
    assert first.passage.text[first.start : first.end] == said.text


def test_a_section_of_a_chinese_page_that_is_full_of_code_is_found_by_who_asks_in_chinese() -> None:
    text = "`POST /v1/returns/{order}/labels?format=pdf&carrier=express` prints a label; 打印标签。"
    code = Passage("退货.md", ("退货", "API"), text)
    assert language_of(code.full) == "en"
    for question in ("怎么打印标签", "which carrier prints a label"):
        assert ask(question, passages=[*PASSAGES, code], sure=-100).citations[0].passage == code


@pytest.mark.parametrize("narrow", [0.12, 1.0, 3.0])
def test_words_are_worth_the_same_however_far_an_encoder_lays_things_apart(narrow: float) -> None:
    rng = np.random.default_rng(0)
    cosines, words = rng.normal(0.8, 0.16, (4, 50)), rng.exponential(size=(4, 50)) * (rng.random((4, 50)) < 0.2)
    order = np.argsort(-fused(cosines, words), axis=-1)
    assert (np.argsort(-fused(0.8 + narrow * (cosines - 0.8), words), axis=-1) == order).all()
    assert (np.argsort(-cosines, axis=-1)[:, :5] != order[:, :5]).any(axis=1).all()
    for asked in range(4):
        assert (np.argsort(-fused(cosines[asked], words[asked])) == order[asked]).all()
    assert (fused(cosines, 0 * words) == cosines).all() and fused(cosines[:, :1], words[:, :1]).shape == (4, 1)


@pytest.mark.parametrize("question", ["who won the world cup in 1998?", "今晚的电影几点开始", "asdf", "？"])
def test_it_hands_over_what_it_does_not_know(question: str) -> None:
    said = ask(question)
    assert said.kind == "handover" and said.text == "" and said.sureness < 3


def test_how_sure_it_must_be_is_for_the_asker_to_say() -> None:
    assert ask("who won the world cup in 1998?", sure=-100).kind == "answer"
    assert ask("is the shop closed on sundays", sure=100).kind == "handover"


def test_a_question_may_lean_on_the_one_before() -> None:
    assert readings(["is the shop closed on sundays", "and on mondays?"])[1].startswith("is the shop closed")
    assert readings(["商店几点开门", "那星期天呢？"]) == ["那星期天呢？", "商店几点开门 那星期天呢？"]
    assert readings(["a", "how many days until shoes may be sent back?"]) == [
        "how many days until shoes may be sent back?"
    ]
    assert readings(["and on mondays?"]) == ["and on mondays?"]
    assert ask("when are shoes sent back, within how many days?", "and the money?").text.count("money")


def test_the_answer_to_a_question_of_an_faq_is_given_whole() -> None:
    said = ask("what does sending back cost")
    assert said.text == "Sending back is free. Keep the label."


def test_an_faq_is_whole_even_where_its_end_is_nearest() -> None:
    said = ask("what does it cost, and must the label be kept?", sure=-100)
    assert said.citations[0].passage.headings[-1] == "What does it cost?" and said.citations[0].start == 0


def test_the_reading_that_comes_nearer_is_looked_for() -> None:
    said = ask("how many days until shoes may be sent back?", "and the money?")
    assert said.asked == "how many days until shoes may be sent back? and the money?"


def by_hand(whole: list[list[float]], sentences: list[list[float]]) -> Search:
    """Two passages of one sentence each, with these vectors; foreign questions lie in all directions."""
    passages = [Passage("a.md", (), "Alpha is the beta of a."), Passage("b.md", (), "How can you delta the epsilon?")]
    known = Known(passages, np.array(whole), np.array(sentences), np.arange(2))
    outside = np.random.default_rng(0).normal(size=(100, 2))
    outside /= np.linalg.norm(outside, axis=1, keepdims=True)
    return Search(known, {"zh": outside, "en": outside})


def test_of_equally_near_passages_the_words_decide() -> None:
    near = by_hand([[1, 0], [1, 0]], [[1, 0], [1, 0]])
    for text, file in (("alpha?", "a.md"), ("epsilon?", "b.md")):
        assert near.find(text, np.array([1.0, 0.0]))[0].passage.file == file


def test_a_passage_is_found_by_its_best_sentence() -> None:
    near = by_hand([[0, 1], [0.8, 0.6]], [[1, 0], [0, 1]])
    assert near.find("?", np.array([1.0, 0.0]))[0].passage.file == "a.md"


def test_words_that_are_known_make_it_surer() -> None:
    near, vector = by_hand([[1, 0], [0, 1]], [[1, 0], [0, 1]]), np.array([1.0, 0.0])
    unknown = "eta theta iota kappa lambda mu nu xi omicron rho sigma tau upsilon phi chi psi omega"
    sureness = [near.sureness(f"{known} {unknown}", vector) for known in ("alpha beta", "alpha", "")]
    assert sureness == sorted(sureness, reverse=True) and len(set(sureness)) == 3


def test_two_shared_words_alone_are_no_answer() -> None:
    near = by_hand([[1, 0], [0, 1]], [[1, 0], [0, 1]])
    far, close = (near.sureness("alpha beta", np.array(vector)) for vector in ([-0.7, -0.7], [1.0, 0.0]))
    assert far < 1 < 3 < close


def test_a_language_without_passages_is_answered_from_the_other() -> None:
    said = ask("鞋子多少天内可以退回", passages=PASSAGES[:3], sure=-100)
    assert said.kind == "answer" and said.language == "zh"


def test_nothing_known_is_a_hand_over() -> None:
    said = ask("anything?", passages=[])
    assert said.kind == "handover" and said.citations == () and said.sureness == -np.inf


def test_a_heap_of_signs_can_be_cited() -> None:
    heap = [Passage("x.md", (), "— — —"), *PASSAGES]
    found = search(heap).find("— —", encode(["— —"])[0], 10)
    assert {hit.passage.file for hit in found} >= {"x.md"} and all(cited(hit).end for hit in found)
