"""The desk's exam: sixty questions to our own manual, written before there was an index, and who is not answered."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from zhumo.baselines.retrieval import Bm25
from zhumo.errors import DataError
from zhumo.metrics.measure import Measure
from zhumo.support.desk import reply
from zhumo.support.knowledge import Encode
from zhumo.support.passages import Passage
from zhumo.support.search import Search, language_of, languages_of

AMONG = 5


@dataclass(frozen=True)
class Question:
    """A question and the quotes that answer it, each with the file it stands in."""

    text: str
    gold: tuple[tuple[str, str], ...]

    def answered_by(self, passage: Passage) -> bool:
        """Whether a passage holds one of the quotes."""
        return any(file.endswith(passage.file) and quote in passage.text for file, quote in self.gold)


SIXTY = Path(__file__).parent / "questions.jsonl"


def questions(path: Path = SIXTY) -> list[Question]:
    """Questions with their gold, one a line: {"question": ..., "gold": [{"file": ..., "quote": ...}]}. Default: the
    sixty, thirty in each language.

    Raises:
        DataError: there is no such file, or a line is none.
    """
    if not path.is_file():
        raise DataError("support.questions", file=path, line=0)
    found = []
    for number, line in enumerate(path.read_bytes().splitlines(), 1):
        try:
            row = json.loads(line)
            found.append(Question(row["question"], tuple((gold["file"], gold["quote"]) for gold in row["gold"])))
        except (ValueError, KeyError, TypeError) as error:
            raise DataError("support.questions", file=path, line=number) from error
    return found


def found(search: Search, encode: Encode, asked: Sequence[Question]) -> Measure:
    """recall@5 of the desk: whether one of its first five passages answers."""
    vectors = encode([question.text for question in asked])
    hits = [search.find(question.text, vector, AMONG) for question, vector in zip(asked, vectors, strict=True)]
    right = [any(question.answered_by(hit.passage) for hit in own) for question, own in zip(asked, hits, strict=True)]
    return Measure(f"recall@{AMONG}", np.array(right, dtype=float))


def found_by_words(passages: Sequence[Passage], asked: Sequence[Question]) -> Measure:
    """recall@5 of BM25 over the same passages of the question's language."""
    right = np.zeros(len(asked))
    spoken = languages_of(passages)
    for language in {language_of(question.text) for question in asked}:
        own = [passage for passage, languages in zip(passages, spoken, strict=True) if language in languages]
        index = Bm25([passage.full for passage in own])
        for place, question in enumerate(asked):
            if language_of(question.text) == language:
                best = np.argsort(-index.scores([question.text])[0], kind="stable")[:AMONG]
                right[place] = any(question.answered_by(own[one]) for one in best)
    return Measure(f"recall@{AMONG}", right)


def answered(search: Search, encode: Encode, texts: Sequence[str]) -> np.ndarray:
    """Which questions the desk answers rather than hand them over, (texts,) bool."""
    vectors = encode(texts)
    said = [reply(search, [text], vector[None]) for text, vector in zip(texts, vectors, strict=True)]
    return np.array([one.kind == "answer" for one in said])
