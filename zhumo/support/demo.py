"""What the demo's desk is made of, our own manual, and its exam."""

from pathlib import Path

import zhumo
from zhumo.bundle import Bundle
from zhumo.engine import library
from zhumo.recipe import Recipe
from zhumo.support.exam import answered, found, found_by_words, questions
from zhumo.support.manual import manual
from zhumo.support.opening import encoder_of
from zhumo.support.search import Search
from zhumo.words import say

RECIPE = Path(zhumo.__file__).parent / "recipes" / "support.yaml"


def recipe() -> Recipe:
    """What makes the encoder, measured on the manual; in 8 bits where this machine computes in them."""
    bits = [] if library() is None else ["deploy.bits=8"]
    return Recipe.read(RECIPE, [f"prepare.source=documents:{manual()}", *bits])


def sit(bundle: Bundle, search: Search) -> str:
    """Sit the exam of sixty questions, and say how it went."""
    encode, asked = encoder_of(bundle), questions()
    ours, words = found(search, encode, asked), found_by_words(search.passages, asked)
    said = answered(search, encode, [question.text for question in asked])
    return say("cli.demo.exam", questions=len(asked), ours=f"{ours.value:.3f}", words=f"{words.value:.3f}",
               answered=int(said.sum()))  # fmt: skip
