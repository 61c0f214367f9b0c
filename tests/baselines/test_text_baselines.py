"""The n-gram model is a probability, is Kneser-Ney to the letter, and reads real text; the nearest prompt is found."""

import gzip
import math
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from zhumo.baselines.text import NGram, Pair, _discounts, nearest
from zhumo.tokenizer import learn_characters


def pairs(texts: list[list[int]]) -> list[Pair]:
    return [(ids[:-1], ids[1:]) for ids in texts]


def some_texts(vocabulary: int, number: int, seed: int) -> list[list[int]]:
    """Texts in which an id mostly follows the one before it."""
    generator = np.random.default_rng(seed)
    texts = []
    for _ in range(number):
        ids = [0]
        for _ in range(int(generator.integers(2, 15))):
            ids.append(int((ids[-1] + generator.choice([1, 1, 1, 2, 5])) % vocabulary))
        texts.append(ids)
    return texts


@pytest.mark.parametrize("order", [2, 3, 5])
def test_chances_of_all_ids_sum_to_one(order: int) -> None:
    model = NGram(pairs(some_texts(9, 30, 0)), vocabulary=11, order=order)
    for context in ([0], [0, 1, 2, 3, 4], [10, 10, 10], [3, 10, 4], [0, 1, 10]):
        asked = [-1] * (len(context) - 1)
        nats = model.nll([(context, [*asked, target]) for target in range(11)])
        assert np.exp(-nats[:, 0]).sum() == pytest.approx(1)
        assert (nats[:, 1] == 1).all()


def textbook(texts: list[list[int]], order: int, vocabulary: int, context: tuple[int, ...], target: int) -> float:
    """Interpolated modified Kneser-Ney as Chen and Goodman write it, with dictionaries."""
    grams: dict[int, Counter[tuple[int, ...]]] = {n: Counter() for n in range(1, order + 1)}
    padded = [[vocabulary] * (order - 1) + ids for ids in texts]
    for ids in padded:
        for place in range(order, len(ids)):
            grams[order][tuple(ids[place - order + 1 : place + 1])] += 1
    for n in range(order - 1, 0, -1):  # how many different ids stand before it
        grams[n] = Counter(gram[1:] for gram in grams[n + 1])

    def chance(n: int, before: tuple[int, ...]) -> float:
        if n == 0:
            return 1 / vocabulary
        lower = chance(n - 1, before[1:])
        following = {gram: count for gram, count in grams[n].items() if gram[:-1] == before}
        if not following:
            return lower
        discount = _discounts(np.array(list(grams[n].values())))
        total = sum(following.values())
        own = following.get((*before, target), 0)
        left = sum(discount[min(count, 3)] for count in following.values()) / total
        return float((own - discount[min(own, 3)]) / total + left * lower)

    return chance(order, context)


def test_it_is_kneser_ney_to_the_letter() -> None:
    texts = some_texts(7, 25, 1)
    model = NGram(pairs(texts), vocabulary=8, order=3)
    for ids in [*some_texts(7, 6, 2), [7, 7, 3], [0, 7]]:
        padded = [8, 8, *ids]
        for place in range(1, len(ids)):
            context = tuple(padded[place : place + 2])
            asked = [-1] * (place - 1) + [ids[place]]
            [[nats, _]] = model.nll([(ids[:place], asked)])
            assert math.exp(-nats) == pytest.approx(textbook(texts, 3, 8, context, ids[place]))


def test_discounts_are_those_of_the_paper() -> None:
    counts = np.array([1] * 60 + [2] * 20 + [3] * 10 + [4] * 6 + [9] * 3)
    share = 60 / (60 + 2 * 20)
    assert _discounts(counts) == pytest.approx(
        [0, 1 - 2 * share * 20 / 60, 2 - 3 * share * 10 / 20, 3 - 4 * share * 6 / 10]
    )


def test_positions_without_a_target_are_read_and_not_counted() -> None:
    texts = some_texts(9, 30, 3)
    model = NGram(pairs(texts), vocabulary=9)
    ids = texts[0]
    whole = model.nll([(ids[:-1], ids[1:])])[0]
    half = len(ids) // 2
    first = model.nll([(ids[:-1], [*ids[1 : half + 1], *[-100] * (len(ids) - 1 - half)])])[0]
    second = model.nll([(ids[:-1], [*[-100] * half, *ids[half + 1 :]])])[0]
    assert first + second == pytest.approx(whole)


def test_rows_are_counted_apart() -> None:
    texts = some_texts(9, 30, 4)
    model = NGram(pairs(texts), vocabulary=9)
    together = model.nll(pairs(texts[:5]))
    for row, text in zip(together, texts, strict=False):
        assert model.nll(pairs([text]))[0] == pytest.approx(row)
    assert model.nll([]).shape == (0, 2)


def test_real_text_is_foreseen_better_with_more_context(shared: Path) -> None:
    with gzip.open(shared / "tiny-shakespeare" / "input.txt.gz", "rt", encoding="utf-8") as file:
        text = file.read(300_000)
    tokenizer = learn_characters([text])
    ids = tokenizer.encode(text)
    train, test = ids[:270_000], ids[270_000:]
    loss = {}
    for order in (1, 2, 3, 5):
        [[nats, tokens]] = NGram(pairs([train]), tokenizer.size, order).nll(pairs([test]))
        assert tokens == len(test) - 1
        loss[order] = nats / tokens
    assert loss[1] > loss[2] > loss[3] > loss[5]
    assert loss[5] < 1.9  # a good 5-gram of characters


def test_nearest_is_the_most_similar_and_the_first_of_equals() -> None:
    known = ["How do I return it?", "When do you open?", "how do i return it", "怎么退货？", "几点开门？", "?!"]
    asked = ["I want to return it", "open when", "我要退货", "几点开", "?!", ""]
    assert nearest(known, asked)[:5] == [0, 1, 3, 4, 5]


def test_nearest_in_chunks_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    known = [f"item {n} costs {n * 7}" for n in range(40)]
    whole = nearest(known, known)
    assert whole == list(range(40))
    monkeypatch.setattr("zhumo.baselines.text.NEAREST_CHUNK", 7)
    assert nearest(known, known) == whole
