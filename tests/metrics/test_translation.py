"""BLEU: the numbers of sacrebleu 2.5 for the same texts, kept here so that it need not be installed."""

import numpy as np
import pytest

from zhumo.metrics.translation import bleu, bleu_counts, bleu_words

ANSWER = 'He said: "3,5 km - 1990-95" &amp; <b>it\'s</b> 4.50$/m; (a_b) [x] a.b, c 5-6.'
REFERENCE = 'He said: "3,5 km -- 1990-95" & <b>it\'s</b> 4.50$/m²; (a_b) [x] a.b,c 5-6.'


def score(*pairs: tuple[str, str]) -> float:
    return bleu(np.array([bleu_counts(*pair) for pair in pairs]))


def test_the_numbers_are_those_of_sacrebleu() -> None:
    assert score((ANSWER, REFERENCE), ("", "ok"), ("y z", "x")) == pytest.approx(85.76674739218387)
    assert score(("a b c d", "a c e f g")) == pytest.approx(14.794015674776452)  # two n-grams never right
    assert score(("Ein Hund.", "Ein Hund.")) == 0  # no run of four words to be right
    assert score(("Ein Hund läuft.", "Ein Hund läuft.")) == pytest.approx(100)
    assert score(("", "ok")) == score(("nothing", "alike here at all")) == 0


def test_words_are_cut_at_signs_and_characters() -> None:
    assert bleu_words("It's 3,5 km, 1990-95!") == ["It's", "3,5", "km", ",", "1990", "-", "95", "!"]
    assert bleu_words("我有2件T恤。") == ["我", "有", "2", "件", "T", "恤", "。"]
    assert bleu_words(" ") == []


def test_capitals_count() -> None:
    assert score(("ein hund läuft schnell", "Ein Hund läuft schnell")) < 50
