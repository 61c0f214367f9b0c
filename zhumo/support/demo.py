"""What the demo's desk is made of, pairs of our own manual, a heading and what stands under it; and its exam."""

import json
from pathlib import Path

from zhumo.bundle import Bundle
from zhumo.engine import library
from zhumo.recipe import Recipe
from zhumo.support.documents import Document, read_documents
from zhumo.support.exam import answered, found, found_by_words, questions
from zhumo.support.manual import manual
from zhumo.support.opening import encoder_of
from zhumo.support.passages import cut
from zhumo.support.search import Search
from zhumo.words import say

RECIPE = Path(__file__).parent / "demo.yaml"


def recipe(folder: Path) -> Recipe:
    """What makes the encoder, in 8 bits where this machine computes in them; its pairs are written into a folder."""
    pairs = folder / "support.jsonl"
    _write_pairs(pairs)
    return Recipe.read(RECIPE, [f"prepare.source={pairs}", *([] if library() is None else ["deploy.bits=8"])])


def _write_pairs(path: Path) -> None:
    """A file for `prepare`: the headings of each passage of the manual, and its text."""
    read = (one for one in read_documents(manual()) if isinstance(one, Document))
    passages = [passage for document in read for passage in cut(document) if passage.headings]
    lines = [json.dumps({"text": " > ".join(one.headings), "match": one.text}, ensure_ascii=False) for one in passages]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def sit(bundle: Bundle, search: Search) -> str:
    """Sit the exam of sixty questions, and say how it went."""
    encode, asked = encoder_of(bundle), questions()
    ours, words = found(search, encode, asked), found_by_words(search.passages, asked)
    said = answered(search, encode, [question.text for question in asked])
    return say("cli.demo.exam", questions=len(asked), ours=f"{ours.value:.3f}", words=f"{words.value:.3f}",
               answered=int(said.sum()))  # fmt: skip
