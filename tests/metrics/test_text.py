"""chrF and ROUGE-L against the published tools' numbers, facts one by one, and reductions that mean what they say."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from zhumo.metrics.text import (
    chrf,
    chrf_counts,
    common_subsequence,
    distinct,
    fact_counts,
    facts,
    likelihood_measures,
    perplexity,
    ratio,
    relevance,
    rouge_l,
    text_measures,
    words,
)

PAIRS = [
    ("The cat sat on the mat", "A cat sat on a mat."),
    ("猫坐在垫子上。", "那只猫坐在垫子上。"),
    ("a", "quite different"),
]


def bytes_of(text: str) -> list[int]:
    return list(text.encode())


@pytest.mark.parametrize(
    ("pair", "score"), [(PAIRS[0], 51.535712288808355), (PAIRS[1], 71.56215465699471), (PAIRS[2], 0.0)], ids=str
)
def test_chrf_of_a_text_is_sacrebleus(pair: tuple[str, str], score: float) -> None:
    """The numbers are those of sacrebleu 2.6.0, `CHRF().sentence_score`."""
    assert chrf(chrf_counts(*pair)[None]) == pytest.approx(score, abs=1e-9)


def test_chrf_of_a_corpus_is_sacrebleus() -> None:
    """`CHRF().corpus_score` of sacrebleu 2.6.0; the third answer is too short for most orders."""
    assert chrf(np.array([chrf_counts(*pair) for pair in PAIRS])) == pytest.approx(38.41137224952285, abs=1e-9)


@given(st.text("ab 你好", max_size=12), st.text("ab 你好", max_size=12))
def test_chrf_bounds(answer: str, reference: str) -> None:
    score = chrf(chrf_counts(answer, reference)[None])
    assert 0 <= score <= 100 + 1e-9
    if answer.split() == reference.split() != []:
        assert score == pytest.approx(100)


def test_rouge_l_is_the_published_f1() -> None:
    """The number is that of rouge-score 0.1.2, `rougeL` without stemming."""
    assert rouge_l(*PAIRS[0]) == pytest.approx(0.6666666666666666)


def test_rouge_l_reads_chinese_by_characters() -> None:
    assert rouge_l("猫坐在垫子上。", "那只猫坐在垫子上。") == pytest.approx(2 * 6 / (6 + 8))
    assert rouge_l("", "x") == rouge_l("x", "") == 0


@given(st.lists(st.sampled_from("abc"), max_size=9), st.lists(st.sampled_from("abc"), max_size=9))
def test_common_subsequence_is_the_textbook_one(left: list[str], right: list[str]) -> None:
    table = [[0] * (len(right) + 1) for _ in range(len(left) + 1)]
    for i, a in enumerate(left):
        for j, b in enumerate(right):
            table[i + 1][j + 1] = table[i][j] + 1 if a == b else max(table[i][j + 1], table[i + 1][j])
    assert common_subsequence(left, right) == table[-1][-1]


def test_words_of_mixed_text() -> None:
    assert words("买了2件Blue dress，很好!") == ["买", "了", "2", "件", "blue", "dress", "很", "好"]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("It costs 1,200.50 in Berlin.", {"1200.5", "berlin"}),
        ("共１２件", {"12"}),
        ("Tim Cook bought it. He said: I paid 3 dollars", {"cook", "3"}),
        ("We sell the iPhone 15 and the X200", {"iphone", "15", "x200"}),
        ("订单ABC123用Visa支付，《红楼梦》一本", {"abc123", "visa", "红楼梦"}),
        ("on 2024-01-05 at 3:30", {"2024-01-05", "3:30"}),
        ("Nothing here. Just words", set()),
    ],
)
def test_facts(text: str, found: set[str]) -> None:
    assert set(facts(text)) == found


def test_a_fact_counts_as_often_as_it_stands() -> None:
    assert fact_counts("3 apples", "3 apples and 3 pears for 7 euro") == (1, 3)
    assert fact_counts("1200 of them", "1,200.0 of them") == (1, 1)


def test_facts_are_measured_only_where_there_are_any() -> None:
    named = {m.name: m for m in text_measures(["7 days", "no"], ["7 days", "no"], bytes_of)}
    assert named["facts"].value == 1 and len(named["facts"].values) == 1
    assert "facts" not in {m.name for m in text_measures(["no"], ["no"], bytes_of)}


@pytest.mark.parametrize("n", [1, 2])
def test_distinct_is_unique_over_all(n: int) -> None:
    texts = [["a", "b", "a"], ["b", "c"], [], ["a"]]
    grams = [tuple(text[i : i + n]) for text in texts for i in range(len(text) - n + 1)]
    assert ratio(distinct(texts, n)) == pytest.approx(len(set(grams)) / len(grams))


def test_nothing_written_is_not_varied() -> None:
    named = {m.name: m.value for m in text_measures(["", ""], ["a 1", "b"], bytes_of)}
    assert set(named.values()) == {0.0}


def test_relevance_sees_shared_subwords_and_weighs_rare_ones() -> None:
    same, apart = relevance([[1, 2, 3], [7]], [[1, 2, 3], [8]])
    assert same == pytest.approx(1) and apart == 0
    references = [[1, 5], [1, 6], [1, 7]]
    common, rare = relevance([[1, 9], [6, 9], []], references)[:2]
    assert rare > common > 0
    assert relevance([[]], [[1]])[0] == 0


def test_likelihood_measures_are_ratios_of_sums() -> None:
    measures = {m.name: m for m in likelihood_measures([(2.0, 4, 10), (6.0, 4, 2)])}
    assert measures["loss"].value == pytest.approx(1)
    assert measures["perplexity"].value == pytest.approx(math.e)
    assert measures["bits_per_byte"].value == pytest.approx(8 / math.log(2) / 12)
    assert not any(m.higher_is_better for m in measures.values())
    low, high = measures["perplexity"].interval()
    assert low <= math.e <= high


def test_a_hopeless_likelihood_stays_a_number() -> None:
    assert math.isfinite(perplexity(np.array([[1e9, 1]])))
