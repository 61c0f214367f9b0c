"""An answer in fewer words, chosen by a generator and never written by it.

A generator is given the question and the cited passages. What it says is not shown: each of its sentences is looked for
in the passages, as a sentence or as a run of its clauses, and what is shown is that place, letter by letter. One
sentence that stands nowhere, and the answer stays the quoted one. A clause is left out only where nothing hangs on it:
no number, no negation, no condition, no limit, nobody who says so. So whatever the generator is told by a document, or
makes up, it can do nothing but choose among the company's own words.
"""

import asyncio
import logging
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from zhumo.support.desk import Citation, Reply
from zhumo.support.passages import Passage, sentences

log = logging.getLogger("zhumo.serve")

MOST = 2_000  # letters of a generator's text; one that is longer is not looked at
CHOSEN = 6  # sentences of an answer
LEAST = 3  # words, or Chinese letters, of a run of clauses that is no whole sentence

_CHINESE = "\u3400-\u9fff"
_LATIN = rf"[^\W_{_CHINESE}]++"
# A word, a number or an address, with the signs inside; of Chinese each letter.
_TOKEN = re.compile(rf"[{_CHINESE}]|{_LATIN}(?:(?:[^\s\w，。；：！？、（）“”()\"<>]+|_+){_LATIN})*+[%％]?")
_CLAUSE = re.compile(r"[,，;；:：、()（）\[\]【】—–…]")
_OPENS, _CLOSES = re.compile(r"[(（]"), re.compile(r"[)）]")
_FREE = frozenset(("and", "also", "也", "并", "且"))
_HANGS = re.compile(
    r"[0-9二两三四五六七八九十百千万亿零〇]|一[年月日天周次]"  # numbers
    r"|\b(?:not?|never|none|nothing|neither|nor|without|cannot|unlike|instead|rather)\b|n['’]t\b|[不没无未否勿禁莫]|非(?!洲)"
    r"|\b(?:if|unless|except|until|provided|when|whenever|where|while|whether|once|since|before|after|during)\b|如果|若|假如"
    r"|否则|除|只要|^当|之前|之后|以前|以后|期间"
    r"|\b(?:but|however|although|though)\b|但|却|虽|尽管"
    r"|\b(?:only|least|most|less|more|than|under|over|about|almost|nearly|some|few|many|every|each)\b|approximate"
    r"|[只仅每]|至少|最多|超过|大约|大概|几乎|必须"
    r"|\b(?:may|might|could|would|should|must)\b|\b(?:sa(?:id|ys?)|claim|believe|accord|alleged|reported|supposed)"
    r"|\b(?:perhaps|probabl|possibl)|可能|也许|或许|^据|声称|宣称|表示|认为|传闻",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Chosen:
    """A place in a passage that a generator's sentence says word for word. whole: it is all of a sentence."""

    passage: Passage
    start: int
    end: int
    whole: bool

    @property
    def text(self) -> str:
        """What is shown: the passage's own letters, begun and ended as a sentence is."""
        text = self.passage.text[self.start : self.end]
        if self.whole:
            return text
        return text[0].upper() + text[1:] + ("。" if re.search(f"[{_CHINESE}]", text) else ".")


class Writer(Protocol):
    """A generator. It is not trusted."""

    async def write(self, question: str, passages: Sequence[str]) -> str:
        """What it says to a question, given passages.

        Raises:
            WritingError: it says nothing that could be looked at, or not in time.
        """


class WritingError(Exception):
    """A generator failed."""


async def worded(said: Reply, writer: Writer) -> Reply:
    """An answer with the words that a generator chose, and their places cited first; or the answer as it was."""
    passages = [citation.passage for citation in said.citations]
    try:
        text = await writer.write(said.asked, [passage.text for passage in passages])
    except WritingError as error:
        log.warning("the wording failed: %s", error)
        return said
    places = await asyncio.to_thread(chosen, text, passages)
    if places is None:
        return said
    used = list(dict.fromkeys(place.passage for place in places))
    spans = {passage: [place for place in places if place.passage == passage] for passage in used}
    cited = [
        Citation(passage, min(one.start for one in own), max(one.end for one in own)) for passage, own in spans.items()
    ]
    rest = [citation for citation in said.citations if citation.passage not in spans]
    return replace(said, text=joined(places), citations=(*cited, *rest), worded=True)


def chosen(text: str, passages: Sequence[Passage]) -> list[Chosen] | None:
    """Where what a generator says stands in the passages; None where any of it stands nowhere, or it says nothing."""
    if len(text) > MOST:
        return None
    evidence = [_Sentence(passage, start, end) for passage in passages for start, end in sentences(passage.text)]
    found: list[Chosen] = []
    for start, end in sentences(text):
        said = text[start:end]
        if not any(letter.isalnum() for letter in said):
            return None
        place = next((place for one in evidence if (place := one.place(said)) is not None), None)
        if place is None:
            return None
        if place not in found:
            found.append(place)
        if len(found) > CHOSEN:
            return None
    return found or None


def joined(places: Sequence[Chosen]) -> str:
    """The text of an answer."""
    texts = [place.text for place in places]
    return "".join(
        text if not before or before[-1] in "。！？；" else f" {text}"
        for before, text in zip(["", *texts], texts, strict=False)
    )


@dataclass(frozen=True)
class _Piece:
    """A clause. aside: it stands in brackets; hangs: something of the sentence hangs on it; leans: it begins so that it
    hangs on another."""

    words: tuple[str, ...]
    start: int
    end: int
    aside: bool
    hangs: bool
    leans: bool


class _Sentence:
    """A sentence of a passage, in clauses."""

    def __init__(self, passage: Passage, start: int, end: int) -> None:
        self.passage, self.start, self.end = passage, start, end
        self.asks = _asks(passage.text[start:end])
        self.pieces = list(_pieces(passage.text, start, end))

    def place(self, said: str) -> Chosen | None:
        """Where a generator's sentence stands in it: as a run of clauses, those in brackets left out or not."""
        words = _words(said)
        if not words or _asks(said) != self.asks:
            return None
        for first in range(len(self.pieces)):
            last = self._run(words, first)
            if last is not None:
                return self._chosen(words, first, last)
        return None

    def _run(self, words: tuple[str, ...], first: int) -> int | None:
        """The last clause of a run from `first` on that says these words and nothing else; where one in brackets may be
        left out, what comes first fits."""
        waiting, seen = [(first, 0)], set[tuple[int, int]]()
        while waiting:
            place, at = step = waiting.pop()
            if place == len(self.pieces) or step in seen:
                continue
            seen.add(step)
            piece = self.pieces[place]
            if piece.aside and place > first and not piece.hangs:
                waiting.append((place + 1, at))
            if words[at : at + len(piece.words)] == piece.words:
                if at + len(piece.words) == len(words):
                    return place
                waiting.append((place + 1, at + len(piece.words)))
        return None

    def _chosen(self, words: tuple[str, ...], first: int, last: int) -> Chosen | None:
        left = [*self.pieces[:first], *self.pieces[last + 1 :]]
        if not left:
            return Chosen(self.passage, self.start, self.end, True)
        leans = first > 0 and self.pieces[first].leans
        if leans or any(piece.hangs for piece in left) or len(words) < LEAST:
            return None
        return Chosen(self.passage, self.pieces[first].start, self.pieces[last].end, False)


def _pieces(text: str, start: int, end: int) -> Iterator[_Piece]:
    tokens = list(_TOKEN.finditer(text, start, end))
    depth, begin = 0, 0
    for place, token in enumerate(tokens):
        gap = text[tokens[place - 1].end() if place else start : token.start()]
        if place and _CLAUSE.search(gap):
            yield _piece(text, tokens[begin:place], depth > 0)
            begin = place
        depth = max(0, depth + len(_OPENS.findall(gap)) - len(_CLOSES.findall(gap)))
    if tokens:
        yield _piece(text, tokens[begin:], depth > 0)


def _piece(text: str, tokens: Sequence[re.Match[str]], aside: bool) -> _Piece:
    start, end = tokens[0].start(), tokens[-1].end()
    clause = text[start:end]
    hangs, leans = _HANGS.search(clause) is not None, _HANGS.match(clause) is not None
    return _Piece(_words(clause), start, end, aside, hangs, leans)


def _words(text: str) -> tuple[str, ...]:
    words = (token[0].casefold() for token in _TOKEN.finditer(text))
    return tuple(word for word in words if word not in _FREE)


def _asks(text: str) -> bool:
    return text.rstrip("\"'”’」』）) ").endswith(("?", "？"))
