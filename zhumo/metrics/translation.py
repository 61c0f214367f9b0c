"""BLEU (Papineni et al. 2002) as sacrebleu counts it: cased, one reference, words cut as by `13a` (Chinese by `zh`).

Each row keeps its counts, and the measure is one of their sums, as in `text.py`.
"""

import math
import re
import string
from collections import Counter
from collections.abc import Sequence

import numpy as np

from zhumo.metrics.text import CJK

ORDER = 4  # word n-grams up to this length
FREE = "',-."  # ASCII signs that may be part of a word

_SIGN = re.compile(f"([{re.escape(''.join(sorted(set(string.punctuation) - set(FREE))))}])")
_STOP = re.compile(r"([^0-9])([\.,])")  # a full stop or comma after anything but a digit
_STOP_BEFORE = re.compile(r"([\.,])([^0-9])")
_DASH = re.compile(r"([0-9])(-)")
_CHARACTER = re.compile(rf"([{CJK}\u3000-\u303f\uff00-\uffef])")
_ENTITIES = {"&quot;": '"', "&amp;": "&", "&lt;": "<", "&gt;": ">"}


def bleu_words(text: str) -> list[str]:
    """The words of a text by the rules of NIST's mteval-v13a; a Chinese, Japanese or Korean character is one."""
    line = text.replace("<skipped>", "").replace("-\n", "").replace("\n", " ")
    for entity, letter in _ENTITIES.items():
        line = line.replace(entity, letter)
    line = _CHARACTER.sub(r" \1 ", f" {line} ")
    line = _SIGN.sub(r" \1 ", line)
    line = _STOP_BEFORE.sub(r" \1 \2", _STOP.sub(r"\1 \2 ", line))
    return _DASH.sub(r"\1 \2 ", line).split()


def bleu_counts(answer: str, reference: str) -> np.ndarray:
    """n-grams of both and of the answer, for n = 1..4; then the words of each. (10,)"""
    ours, theirs = bleu_words(answer), bleu_words(reference)
    counts: list[int] = []
    for n in range(1, ORDER + 1):
        said = Counter(_grams(ours, n))
        counts += [(said & Counter(_grams(theirs, n))).total(), said.total()]
    return np.array([*counts, len(ours), len(theirs)], dtype=np.float64)


def _grams(words: Sequence[str], n: int) -> list[tuple[str, ...]]:
    return [tuple(words[i : i + n]) for i in range(len(words) - n + 1)]


def bleu(values: np.ndarray) -> float:
    """Corpus BLEU, 0 to 100; values: (rows, 10) of `bleu_counts`. An n-gram never right counts half of the least, and
    the next one half of that."""
    *grams, said, wanted = values.sum(0)
    if not grams[0] or not said:
        return 0.0
    logs, least = [], 1.0
    for right, total in zip(grams[::2], grams[1::2], strict=True):
        if not total:
            return 0.0
        least = least if right else least / 2
        logs.append(math.log((right or least) / total))
    brevity = min(0.0, 1 - wanted / said)
    return 100 * math.exp(brevity + sum(logs) / ORDER)
