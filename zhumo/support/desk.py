"""The desk: a question, and what was asked before it, becomes words of the company's own with their place, or goes to
a person.

It finds and quotes and never makes a sentence up: what it says stands in a passage, letter by letter.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from zhumo.support.passages import Passage
from zhumo.support.search import Hit, Language, Search, language_of

SURE = 2.6  # standard deviations by which an answered question comes nearer than foreign ones
QUOTED = 300  # letters of an answer; a sentence is never cut, and a Chinese letter counts as two
WHOLE = 600  # letters up to which the answer to a question of an FAQ is given whole
SHOWN = 3  # citations
STRANGE = 0.05  # how familiar a question must be to a classifier; five in a hundred of its own are less so
LIKELY = 0.5  # an intent that is told is more likely than this
SHORT: Mapping[Language, int] = {"en": 4, "zh": 8}  # words, or letters, up to which a question may lean on another
# How a question begins, or ends, that leans on the one before.
LEANS = re.compile(
    r"^(?:(?:and|or|but|also|then|what about|how about|what if|it|that|this|they)\b"
    r"|那|那么|还有|另外|如果|它|这个|那个|换成)|呢[？?]?$",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Citation:
    """Where an answer stands. start, end: its highlighted part in the passage's text."""

    passage: Passage
    start: int
    end: int


@dataclass(frozen=True)
class Intent:
    """What somebody wants. score: how likely it is that, a calibrated probability."""

    label: str
    score: float


@dataclass(frozen=True)
class Reply:
    """What the desk says. kind: `handover` goes to a person, and its citations are then what they may look at.

    text: the quoted words, "" for a hand-over; sureness: standard deviations by which the question comes nearer than
    foreign ones; asked: the question that was looked for, which for one that leans on the one before holds both;
    worded: the quoted words were chosen by a generator (`zhumo.support.wording`); intent: what `asked` is about, None
    where no classifier was served, it had no time, or it knows nothing of the kind.
    """

    kind: Literal["answer", "handover"]
    text: str
    citations: tuple[Citation, ...]
    sureness: float
    asked: str
    language: Language
    worded: bool = False
    intent: Intent | None = None


@dataclass(frozen=True)
class Found:
    """What comes near to a question: the reading of it that comes nearest, in the language of its last words, how sure
    that is, and passages, the nearest first."""

    asked: str
    language: Language
    sureness: float
    hits: tuple[Hit, ...]


def readings(questions: Sequence[str]) -> list[str]:
    """What the last of a visitor's questions may mean: itself, and where it leans on the one before, both."""
    last = questions[-1].strip()
    size = len(last) if language_of(last) == "zh" else len(last.split())
    leans = LEANS.search(last) is not None or size <= SHORT[language_of(last)]
    return [last, f"{questions[-2].strip()} {last}"] if len(questions) > 1 and leans else [last]


def found(search: Search, asked: Sequence[str], vectors: np.ndarray, count: int = SHOWN) -> Found:
    """The passages nearest to a question.

    asked: its `readings`, the one that comes nearest counts; vectors: theirs, (readings, width).
    """
    sureness = [search.sureness(text, vector) for text, vector in zip(asked, vectors, strict=True)]
    best = int(np.argmax(sureness))
    hits = tuple(search.find(asked[best], vectors[best], count))
    return Found(asked[best], language_of(asked[0]), sureness[best], hits)


def replied(near: Found, sure: float = SURE) -> Reply:
    """Answer with the first of what was found, or hand over where the desk is less than `sure` of the question."""
    citations = tuple(map(cited, near.hits[:SHOWN]))
    answered = bool(citations) and near.sureness >= sure
    text = citations[0].passage.text[citations[0].start : citations[0].end] if answered else ""
    kind: Literal["answer", "handover"] = "answer" if answered else "handover"
    return Reply(kind, text, citations, near.sureness, near.asked, near.language)


def reply(search: Search, asked: Sequence[str], vectors: np.ndarray, sure: float = SURE) -> Reply:
    """Answer a question, or hand it over; see `found` and `replied`."""
    return replied(found(search, asked, vectors), sure)


def intent_of(answer: Mapping[str, Any]) -> Intent | None:
    """What a question is about, by the answer of a `classify` bundle to it; of several labels the likeliest. None where
    none is likelier than not, or the question is hardly like any the classifier has seen."""
    labels = answer["labels"] if "labels" in answer else [answer["label"]]
    if not labels or answer.get("familiar", 1.0) < STRANGE:
        return None
    score, label = max((answer["scores"][label], label) for label in labels)
    return Intent(label, score) if score > LIKELY else None


def cited(hit: Hit) -> Citation:
    """The sentences of a passage that answer: its nearest one and those after it, as many as are soon read."""
    passage, spans = hit.passage, hit.passage.spans
    whole = Citation(passage, 0, len(passage.text))
    if hit.sentence is None or (_asks(passage) and _wide(passage.text) <= WHOLE):
        return whole
    start, end = spans[hit.sentence]
    for after in spans[hit.sentence + 1 :]:
        if _wide(passage.text[start : after[1]]) > QUOTED or "\n\n" in passage.text[end : after[0]]:
            break
        end = after[1]
    return Citation(passage, start, end)


def _asks(passage: Passage) -> bool:
    """Whether it is the answer to a question of an FAQ."""
    return bool(passage.headings) and passage.headings[-1].rstrip().endswith(("?", "？"))


def _wide(text: str) -> int:
    return len(text) + sum("\u3400" <= letter <= "\u9fff" for letter in text)
