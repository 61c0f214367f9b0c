"""How good a written text is: likelihood, overlap with a reference, facts, variety. Pure functions.

Each quantity is kept as counts, row by row, and a measure is a ratio of sums: so it means the same for one row, for all
rows and for a bootstrap sample of them.
"""

import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np

from zhumo.metrics.measure import Measure

CHRF_ORDER = 6  # character n-grams up to this length
CHRF_BETA = 2.0  # recall counts twice as much as precision

# A Chinese, Japanese or Korean character is a word of its own; elsewhere a word is a run of letters and digits.
CJK = "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\u3040-\u30ff\uac00-\ud7af\U00020000-\U0003ffff"
_WORD = re.compile(rf"[{CJK}]|[^\W{CJK}]+")
_NUMBER = re.compile(r"(?<![A-Za-z\d])\d+(?:[.,:/-]\d+)*")
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9]*(?:[-'.&][A-Za-z0-9]+)*")
_QUOTED = re.compile(r"《([^《》]{1,40})》")
_SENTENCE_END = re.compile(r"[.!?:;。！？：；\n\"“”‘’(（•-]\s*$")


def ratio(values: np.ndarray) -> float:
    """First column over second, both summed; values: (rows, 2). 0 where there is nothing to share."""
    top, bottom = values.sum(0)
    return float(top / bottom) if bottom else 0.0


def perplexity(values: np.ndarray) -> float:
    """exp of the nats of one token on average; values: (rows, 2) nats and tokens."""
    return math.exp(min(ratio(values), 700.0))  # beyond that, a float overflows


def likelihood_measures(counts: Sequence[tuple[float, int, int]]) -> list[Measure]:
    """How well the model foresaw the references: lower is better.

    counts: for each row the nats of its reference, its tokens, its UTF-8 bytes. `bits_per_byte` does not depend on the
    tokenizer and so compares across models; `perplexity` and `loss` (nats a token) do not.
    """
    table = np.array(counts, dtype=np.float64).reshape(-1, 3)
    bits = np.column_stack((table[:, 0] / math.log(2), table[:, 2]))
    return [
        Measure("bits_per_byte", bits, ratio, higher_is_better=False),
        Measure("perplexity", table[:, :2], perplexity, higher_is_better=False),
        Measure("loss", table[:, :2], ratio, higher_is_better=False),
    ]


def text_measures(
    answers: Sequence[str], references: Sequence[str], subwords: Callable[[str], Sequence[int]]
) -> list[Measure]:
    """How near written texts are to their references, how many of the facts they hold, how varied they are.

    subwords: a text as ids; of these is the bag whose cosine is `relevance_tfidf`.
    """
    pairs = list(zip(answers, references, strict=True))
    return [
        Measure("chrf", np.array([chrf_counts(*pair) for pair in pairs]), chrf),
        Measure("rouge_l", np.array([rouge_l(*pair) for pair in pairs])),
        *_facts_measure(pairs),
        Measure("relevance_tfidf", relevance([subwords(a) for a in answers], [subwords(r) for r in references])),
        *(Measure(f"distinct_{n}", distinct([words(answer) for answer in answers], n), ratio) for n in (1, 2)),
    ]


def preferred(answers: Sequence[Mapping[str, float]]) -> Measure:
    """How often the reply people liked better is the likelier one, token by token, so that length does not count."""
    return Measure("preferred", np.array(
        [answer["nll"] / answer["tokens"] < answer["rejected_nll"] / answer["rejected_tokens"] for answer in answers],
        dtype=np.float64))  # fmt: skip


def _facts_measure(pairs: Sequence[tuple[str, str]]) -> list[Measure]:
    counts = np.array([fact_counts(*pair) for pair in pairs], dtype=np.float64)
    counts = counts[counts[:, 1] > 0]
    return [Measure("facts", counts, ratio)] if len(counts) else []


def words(text: str) -> list[str]:
    """Lower-case words of a text; each CJK character is one."""
    return _WORD.findall(text.lower())


# -- overlap


def chrf_counts(answer: str, reference: str) -> np.ndarray:
    """Character n-grams of the answer, of the reference and of both, for n = 1..6; blanks do not count. (18,)"""
    hypothesis, wanted = "".join(answer.split()), "".join(reference.split())
    counts = []
    for n in range(1, CHRF_ORDER + 1):
        ours, theirs = Counter(_slices(hypothesis, n)), Counter(_slices(wanted, n))
        counts += [ours.total() if theirs else 0, theirs.total(), (ours & theirs).total()]
    return np.array(counts, dtype=np.float64)


def _slices(text: str, n: int) -> list[str]:
    return [text[i : i + n] for i in range(len(text) - n + 1)]


def chrf(values: np.ndarray) -> float:
    """chrF2 (Popović 2015), 0 to 100, as sacrebleu counts it; values: (rows, 18) of `chrf_counts`."""
    precision = recall = 0.0
    orders = 0
    for ours, theirs, both in values.reshape(-1, CHRF_ORDER, 3).sum(0):
        if ours and theirs:
            precision, recall, orders = precision + both / ours, recall + both / theirs, orders + 1
    if not orders or not precision + recall:
        return 0.0
    precision, recall, weight = precision / orders, recall / orders, CHRF_BETA**2
    return float(100 * (1 + weight) * precision * recall / (weight * precision + recall))


def rouge_l(answer: str, reference: str) -> float:
    """ROUGE-L (Lin 2004): F1 of the longest common subsequence of words, 0 to 1; by characters for Chinese."""
    ours, theirs = words(answer), words(reference)
    if not ours or not theirs:
        return 0.0
    return 2 * common_subsequence(ours, theirs) / (len(ours) + len(theirs))


def common_subsequence(left: Sequence[str], right: Sequence[str]) -> int:
    """Length of the longest common subsequence, by the bit-parallel method of Hyyrö (2004)."""
    places: dict[str, int] = {}
    for index, word in enumerate(left):
        places[word] = places.get(word, 0) | 1 << index
    everywhere = (1 << len(left)) - 1
    row = everywhere
    for word in right:
        matched = row & places.get(word, 0)
        row = (row + matched | row - matched) & everywhere
    return len(left) - row.bit_count()


def relevance(answers: Sequence[Sequence[int]], references: Sequence[Sequence[int]]) -> np.ndarray:
    """Cosine of the TF-IDF bags of subwords of each answer and its reference, 0 to 1, (rows,).

    It sees shared subwords, not shared meaning. IDF is that of the references.
    """
    found = Counter(token for reference in references for token in set(reference))
    rarity = {token: math.log((1 + len(references)) / (1 + count)) + 1 for token, count in found.items()}
    rarest = math.log(1 + len(references)) + 1

    def bag(ids: Iterable[int]) -> dict[int, float]:
        return {token: count * rarity.get(token, rarest) for token, count in Counter(ids).items()}

    return np.array([_cosine(bag(ours), bag(theirs)) for ours, theirs in zip(answers, references, strict=True)])


def _cosine(left: dict[int, float], right: dict[int, float]) -> float:
    product = sum(weight * right[token] for token, weight in left.items() if token in right)
    size = math.sqrt(sum(w * w for w in left.values()) * sum(w * w for w in right.values()))
    return product / size if size else 0.0


# -- facts


def facts(text: str) -> Counter[str]:
    """What can be checked to the letter: numbers, names in Latin letters, titles in 《》.

    A number is compared as a number: 1,200 and 1200.0 are one fact, as are full-width and half-width digits. A name is
    a Latin word with a capital that does not begin a sentence, or any such word among Chinese ones. Chinese names
    carry no mark and are not found.
    """
    found = Counter(_number(match[0]) for match in _NUMBER.finditer(text))
    found.update(match[0].lower() for match in _NAME.finditer(text) if _is_name(match, text))
    found.update(match[1].lower() for match in _QUOTED.finditer(text))
    return found


def _number(written: str) -> str:
    plain = "".join(str(int(c)) if c.isdigit() else c for c in written)
    if re.fullmatch(r"\d{1,3}(,\d{3})+(\.\d+)?", plain):
        plain = plain.replace(",", "")
    return f"{float(plain):.12g}" if re.fullmatch(r"\d+(\.\d+)?", plain) and len(plain) <= 12 else plain


def _is_name(match: re.Match[str], text: str) -> bool:
    word, before = match[0], text[: match.start()]
    if word == "I" or not any(c.isupper() for c in word):
        return False
    if any(c.isupper() for c in word[1:]) or any(c.isdigit() for c in word):
        return True  # iPhone, USA, X200: a name wherever it stands
    return bool(before.strip()) and not _SENTENCE_END.search(before)


def fact_counts(answer: str, reference: str) -> tuple[int, int]:
    """How many facts of the reference the answer holds too, and how many there are."""
    wanted = facts(reference)
    return (facts(answer) & wanted).total(), wanted.total()


# -- variety


def distinct(texts: Sequence[Sequence[str]], n: int) -> np.ndarray:
    """distinct-n (Li et al. 2016) of a set of texts, by row, (rows, 2): its `ratio` is unique n-grams over all.

    An n-gram that stands k times in the whole set gives 1/k to its row each time, so the rows' shares sum to the number
    of unique ones.
    """
    rows = [[tuple(text[i : i + n]) for i in range(len(text) - n + 1)] for text in texts]
    times = Counter(gram for row in rows for gram in row)
    return np.array([(sum(1 / times[gram] for gram in row), len(row)) for row in rows])
