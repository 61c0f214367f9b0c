"""translate: one text for another, by an encoder-decoder: a sentence in German for one in English, or any such pair."""

from collections.abc import Iterable, Mapping, Sequence
from typing import ClassVar

import numpy as np
from torch import nn

from zhumo.baselines.text import nearest
from zhumo.errors import ModelError
from zhumo.metrics.measure import Measure
from zhumo.metrics.text import chrf, chrf_counts
from zhumo.metrics.translation import bleu, bleu_counts
from zhumo.tasks import Answer, Baseline, Field, Loss, Row, Task
from zhumo.tasks.examples import IGNORE, Batch, Example
from zhumo.tokenizer import Tokenizer
from zhumo.transformer import Transformer, linear_cross_entropy
from zhumo.transformer.beam import beam_search

BEAMS = 5
PENALTY = 1.0  # the score of a text is that of its tokens on average
SMOOTHING = 0.1  # as in Vaswani et al. 2017
ROOM = 3, 10  # a translation is at most three times as long as its source, and ten tokens


def memory(_task: Task, train: Sequence[Row], test: Sequence[Row]) -> list[Answer]:
    """A translation memory: the translation of the most similar training source."""
    found = nearest([row["source"] for row in train], [row["source"] for row in test])
    return [{"text": train[place]["target"]} for place in found]


class Translate(Task):
    """Rows {"source", "target"}; asked with a source alone.

    state: `start`, the token a target begins with; from the start weights, `prefix`, what they want before a source.
    """

    name: ClassVar[str] = "translate"
    fields: ClassVar[Mapping[str, Field]] = {
        "source": Field(str, guess=("source", "src", "input", "en", "english", "原文", "源文", "英文")),
        "target": Field(str, guess=("target", "tgt", "translation", "output", "zh", "de", "译文", "目标", "中文")),
    }
    metric: ClassVar[str] = "bleu"
    protocol: ClassVar[str] = "report.protocol.translate"
    baselines: ClassVar[Mapping[str, Baseline]] = {"memory": memory}

    def learn(self, rows: Iterable[Row]) -> None:
        """Which token begins a target text: what published weights say, else the padding, as in T5 and Marian."""
        self.state.setdefault("start", self._special("pad"))

    def encode(self, row: Row) -> list[Example]:
        """Both texts, the target once as what is read and once, one ahead, as what is said. A pair of which one is
        longer than `length` is not learned: half of it would teach to leave things out."""
        source, target = self._source(row["source"]), self._text(row["target"])
        if max(len(source), len(target)) > self.length:
            return []
        shifted = [self.state["start"], *target[:-1]]
        return [{"ids": shifted, "targets": target, "source": source, "source_segments": [1] * len(source)}]

    @property
    def vocabulary(self) -> int:
        """Ids of the tokenizer, which is one for both languages."""
        return self._tokenizer.size

    def head(self, width: int) -> nn.Module | None:
        """None: the model's own language-model head."""
        return None

    def loss(self, model: Transformer, batch: Batch) -> Loss:
        """Cross-entropy of the target, smoothed while it is learned."""
        read = model.read(batch["source"], segments=batch["source_segments"])
        # Padding stands on the right, where a decoder does not look.
        states, wanted = model.hidden(batch["ids"], source=read), batch["targets"] != IGNORE
        targets = batch["targets"][wanted]
        assert isinstance(model.head, nn.Linear)
        smoothing = SMOOTHING if model.training else 0.0
        loss = linear_cross_entropy(states[wanted], model.head.weight, targets, model.head.bias, smoothing)
        return Loss(loss, len(targets))

    def answer(self, model: Transformer, rows: Sequence[Row]) -> list[Answer]:
        """{"text", "score"}: the best translation found and its log probability a token. Of a source longer than
        `length` only the beginning is read; `dropped` says how many of its tokens were not."""
        return [self._translate(model, row["source"]) for row in rows]

    def score(self, answers: Sequence[Answer], rows: Sequence[Row]) -> list[Measure]:
        """BLEU and chrF against the one reference, as sacrebleu counts both."""
        pairs = [(answer["text"], row["target"]) for answer, row in zip(answers, rows, strict=True)]
        return [
            Measure("bleu", np.array([bleu_counts(*pair) for pair in pairs]), bleu),
            Measure("chrf", np.array([chrf_counts(*pair) for pair in pairs]), chrf),
        ]

    def _translate(self, model: Transformer, text: str) -> Answer:
        source = self._source(text)
        dropped = max(0, len(source) - self.length)
        source = [*source[: self.length - 1], source[-1]] if dropped else source
        room = min(ROOM[0] * len(source) + ROOM[1], self.length)
        found = beam_search(
            model, source, start=self.state["start"], stop=self._special("eos"), never=[self._special("pad")],
            beams=BEAMS, penalty=PENALTY, max_tokens=room,
        )  # fmt: skip
        answer: Answer = {"text": self._tokenizer.decode(found.ids).strip(), "score": found.score}
        return answer | ({"dropped": dropped} if dropped else {})

    @property
    def _tokenizer(self) -> Tokenizer:
        if self.tokenizer is None:
            raise ModelError("model.no_tokenizer", task=self.name)
        return self.tokenizer

    def _special(self, role: str) -> int:
        token = self._tokenizer.special(role)
        if token is None:
            raise ModelError("model.no_special", role=role)
        return token

    def _source(self, text: str) -> list[int]:
        """The ids an encoder reads; a tokenizer with a frame of its own has already put the end there."""
        ids, end = self._tokenizer.encode(self.state.get("prefix", "") + text), self._special("eos")
        return ids if ids[-1:] == [end] else [*ids, end]

    def _text(self, text: str) -> list[int]:
        return [*self._tokenizer.encode(text, special=False), self._special("eos")]
