"""Which passages answer a question, and how much nearer they come than to a question from somewhere else.

A passage is found by its meaning, that of its best sentence, and by its words. How near is near depends on the encoder,
on the knowledge and on the language; so a question is held against `foreign.jsonl`, questions that have nothing to do
with what is searched, and its sureness is counted in their standard deviations (a cohort, as in speaker verification:
Auckenthaler, Carey and Lloyd-Thomas 2000).
"""

import hashlib
import json
import math
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from importlib.resources import files
from typing import Literal

import numpy as np

from zhumo.baselines.retrieval import Bm25, terms
from zhumo.support.knowledge import Known
from zhumo.support.passages import Passage
from zhumo.support.twins import twins_of

Language = Literal["zh", "en"]
CHINESE = 0.1  # share of a text's letters from which it is a Chinese one
WORDS = 1.0  # standard deviations of the cosines that the best match of words is worth
TWIN = 0.25  # what a passage's twin in another language counts for, beside the passage
LEAST = 1e-9
LOOKED_AT = 3  # sentences among which the words of a question are looked for
MOST = 3.0  # deviations that one kind of nearness may count for: two shared words alone are no answer
STRANGE = 2  # words that nobody knows, which a question is taken to have beside its own


@dataclass(frozen=True)
class Hit:
    """A passage that was found. sentence: the place of its nearest sentence in `passage.spans`, none in a heap of
    signs; score: higher is nearer, comparable within one question."""

    passage: Passage
    sentence: int | None
    score: float


def fused(cosines: np.ndarray, words: np.ndarray) -> np.ndarray:
    """How near passages come by meaning and by words together, both (..., passages).

    How far cosines lie apart is the encoder's own, and learning changes it eightfold; so the words are counted in their
    standard deviations.
    """
    apart = np.maximum(cosines.std(axis=-1, keepdims=True), LEAST)
    best = np.maximum(words.max(axis=-1, keepdims=True), LEAST)
    joined: np.ndarray = cosines + WORDS * apart * words / best
    return joined


def language_of(text: str) -> Language:
    """Chinese or English, by its letters."""
    return _spoken(_letters(text))


def languages_of(passages: Iterable[Passage]) -> list[frozenset[Language]]:
    """Of each passage its own language and its document's, which differ where a section of a Chinese page is full of
    code: who asks in either may find it."""
    letters = [(passage.file, _letters(passage.full)) for passage in passages]
    whole: Counter[str] = Counter()
    chinese: Counter[str] = Counter()
    for file, (own, among) in letters:
        chinese[file] += own
        whole[file] += among
    return [frozenset((_spoken(own), _spoken((chinese[file], whole[file])))) for file, own in letters]


def _letters(text: str) -> tuple[int, int]:
    """How many Chinese letters a text has, and how many in all."""
    letters = [letter for letter in text if letter.isalpha()]
    return sum("\u3400" <= letter <= "\u9fff" for letter in letters), len(letters)


def _spoken(letters: tuple[int, int]) -> Language:
    chinese, among = letters
    return "zh" if chinese > CHINESE * among else "en"


@cache
def foreign() -> Mapping[Language, tuple[str, ...]]:
    """Questions that no company's knowledge answers, by language."""
    lines = files("zhumo.support").joinpath("foreign.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [json.loads(line) for line in lines]
    return {name: tuple(row["question"] for row in rows if row["language"] == name) for name in ("zh", "en")}


class Search:
    """What one asker may see, in memory. Passages of the asker's language are searched (`languages_of`), and all where
    it has none; where a page stands in two languages, what the other says is looked at too (`twins_of`).

    outside: the vectors of `foreign()`, by language. passages, size, files: what there
    is, how many, and of which documents.
    """

    def __init__(self, known: Known, outside: Mapping[Language, np.ndarray]) -> None:
        self._known, self._outside = known, outside
        self.passages, self.size = tuple(known.passages), len(known.passages)
        self.files = sorted({passage.file for passage in known.passages})
        spoken = languages_of(known.passages)
        twins = twins_of(known.passages, known.vectors, spoken)
        self._shelves: dict[Language, _Shelf] = {}
        for name, vectors in outside.items():
            own = np.flatnonzero([name in languages for languages in spoken])
            chosen = own if len(own) else np.arange(len(known.passages))
            if len(chosen):
                self._shelves[name] = _Shelf(known, chosen, twins[chosen], foreign()[name], vectors)

    @cached_property
    def by_key(self) -> Mapping[str, Passage]:
        """Each passage by its key."""
        return {passage.key: passage for passage in self.passages}

    @cached_property
    def digest(self) -> str:
        """Sixteen hexadecimal digits that are the same as long as all passages are."""
        return hashlib.sha256("".join(self.by_key).encode()).hexdigest()[:16]

    def only(self, keys: Collection[str]) -> "Search":
        """A search of those passages alone whose keys these are."""
        kept = np.array([passage.key in keys for passage in self.passages], dtype=bool)
        said, places = kept[self._known.owners], np.cumsum(kept) - 1
        passages = [passage for passage, stays in zip(self.passages, kept, strict=True) if stays]
        vectors, sentences = self._known.vectors[kept], self._known.sentences[said]
        return Search(Known(passages, vectors, sentences, places[self._known.owners[said]]), self._outside)

    def find(self, question: str, vector: np.ndarray, count: int = 5) -> list[Hit]:
        """The passages nearest to a question, the nearest first. vector: its own, (width,)."""
        shelf = self._shelves.get(language_of(question))
        return shelf.find(question, vector, count) if shelf else []

    def sureness(self, question: str, vector: np.ndarray) -> float:
        """How much nearer a question comes to these passages than foreign ones, in standard deviations of those; minus
        infinity where there are no passages."""
        shelf = self._shelves.get(language_of(question))
        return shelf.sureness(question, vector) if shelf else -math.inf


class _Vectors:
    """Of some passages those of each as a whole, and those of their sentences."""

    def __init__(self, known: Known, chosen: np.ndarray) -> None:
        self.wholes = known.vectors[chosen]
        place = np.full(len(known.passages), -1)
        place[chosen] = np.arange(len(chosen))
        mine = np.flatnonzero(place[known.owners] >= 0)
        self.sentences = known.sentences[mine]
        # Of each passage's sentences: where they begin, and so where those of the one before end.
        self.begins = np.searchsorted(place[known.owners[mine]], np.arange(len(chosen) + 1))

    def cosines(self, vector: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Of each passage as a whole; of each sentence; and of each passage's best, that of the whole where it has
        none."""
        whole, sentences = self.wholes @ vector, self.sentences @ vector
        best, some = whole.copy(), np.flatnonzero(np.diff(self.begins))
        if len(some):
            best[some] = np.maximum.reduceat(sentences, self.begins[some])
        return whole, sentences, best


class _Shelf:
    """Passages of one language. twins: the place of each one's twin among all that is known, -1 for none. foreign,
    outside: questions from elsewhere in it, and their vectors."""

    def __init__(
        self, known: Known, chosen: np.ndarray, twins: np.ndarray, foreign: Sequence[str], outside: np.ndarray
    ) -> None:
        self.passages = [known.passages[place] for place in chosen]
        self.vectors = _Vectors(known, chosen)
        self.paired = np.flatnonzero(twins >= 0)
        others, self.twins = np.unique(twins[self.paired], return_inverse=True)
        self.others = _Vectors(known, others)
        said = [sentence for passage in self.passages for sentence in passage.said]
        self.words = Bm25([passage.full for passage in self.passages])
        self.said = [frozenset(terms(sentence)) for sentence in said]
        strange = np.array([self._near(text, vector) for text, vector in zip(foreign, outside, strict=True)])
        self.mean, self.deviation = strange.mean(axis=0), np.maximum(strange.std(axis=0), LEAST)
        self.spread = max(float(self._joined(strange).std()), LEAST)

    def find(self, question: str, vector: np.ndarray, count: int) -> list[Hit]:
        words = self.words.scores([question])[0]
        _, sentences, nearest = self.vectors.cosines(vector)
        scores = fused(self._in_both(nearest, vector) if len(self.paired) else nearest, words)
        best = np.argsort(-scores, kind="stable")[:count]
        return [Hit(self.passages[place], self._sentence(place, sentences), float(scores[place])) for place in best]

    def sureness(self, question: str, vector: np.ndarray) -> float:
        return float(self._joined(self._near(question, vector)) / self.spread)

    def _in_both(self, nearest: np.ndarray, vector: np.ndarray) -> np.ndarray:
        """How near each passage is, and its twin with it; one without a twin stands as if it were as near again."""
        other = self.others.cosines(vector)[2][self.twins]
        own = nearest[self.paired]
        # Across languages all is farther off; so both are counted from their means.
        joined = nearest.copy()
        joined[self.paired] += TWIN / (1 + TWIN) * ((other - other.mean()) - (own - own.mean()))
        return joined

    def _near(self, question: str, vector: np.ndarray) -> np.ndarray:
        """The nearest passage; the nearest sentence; and of the question's words, each by how telling it is, the share
        that one of the nearest sentences holds, and the share that is known at all. Of two unknown words more
        than it has: what says little ("two hours") shares little, be it all of it."""
        whole, sentences, best = self.vectors.cosines(vector)
        asked = frozenset(terms(question))
        weight = {term: self.words.weight(term) for term in asked}
        nearest = np.argsort(-sentences)[:LOOKED_AT]
        held = max((sum(weight[term] for term in asked & self.said[place]) for place in nearest), default=0.0)
        known = sum(weight[term] for term in asked if term in self.words.vectorizer.vocabulary_)
        asked_in_all = sum(weight.values()) + STRANGE * self.words.unknown
        return np.array([whole.max(), best.max(), held / asked_in_all, known / asked_in_all])

    def _joined(self, near: np.ndarray) -> np.ndarray:
        """How near in all: each kind in standard deviations of foreign questions, up to a bound, added up;
        (..., kinds) to (...)."""
        joined: np.ndarray = np.minimum((near - self.mean) / self.deviation, MOST).sum(axis=-1)
        return joined

    def _sentence(self, place: int, sentences: np.ndarray) -> int | None:
        own = sentences[self.vectors.begins[place] : self.vectors.begins[place + 1]]
        return int(np.argmax(own)) if len(own) else None
