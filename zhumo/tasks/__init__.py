"""Tasks: what is learned. One file, one small class, its methods in the order of the five steps.

Nothing here is inherited but the contract; what tasks share are functions. `TASKS` is the whole registry.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any, ClassVar, NamedTuple

import numpy as np
from torch import Tensor, nn

from zhumo.errors import ModelError
from zhumo.metrics.measure import Measure
from zhumo.tasks.examples import Batch, Example
from zhumo.tokenizer import Tokenizer
from zhumo.transformer import Transformer

Row = dict[str, Any]
"""One record of business data under the task's own field names."""

Answer = dict[str, Any]
"""What the model says of one row: JSON, and exactly what the server returns for it."""

TASKS: Mapping[str, str] = {
    "recommend": "zhumo.tasks.recommend:Recommend",
    "classify": "zhumo.tasks.classify:Classify",
    "tag": "zhumo.tasks.tag:Tag",
    "write": "zhumo.tasks.write:Write",
    "embed": "zhumo.tasks.embed:Embed",
    "rerank": "zhumo.tasks.rerank:Rerank",
    "translate": "zhumo.tasks.translate:Translate",
}


class Loss(NamedTuple):
    """A sum over the positions that count, and their number, so that parts of a batch add up exactly."""

    total: Tensor
    count: int  # type: ignore[assignment]  # a tuple's own `count` is of no use here


@dataclass(frozen=True)
class Field:
    """One thing a row holds. kind: what `prepare` checks it for and turns it into."""

    kind: type[str] | type[float] | type[list]  # type: ignore[type-arg]
    needed: bool = True
    guess: tuple[str, ...] = ()  # column names, in English and Chinese, that usually mean this field
    texts: bool = False  # a list that holds nothing but texts

    def likeness(self, heading: str) -> float:
        """A heading that is one of the field's words, the first ones most; else one that ends with it, or holds it."""
        folded = heading.strip().casefold()
        if folded in self.guess:
            return 40 - 2 * self.guess.index(folded)
        words = [word for word in self.guess if len(word) > 1]
        return 15 if folded.endswith(tuple(words)) else 10 if any(word in folded for word in words) else 0


Baseline = Callable[["Task", Sequence[Row], Sequence[Row]], list[Answer]]
"""An honest cheap rival: (task, train rows, test rows) -> answers of the same form as the task's own."""


class Task(ABC):
    """What is learned, and everything about it that is not weights.

    state: what `learn` and `calibrate` found out, JSON-able; arrays: what of it is numbers in bulk. Together with the
    tokenizer and `length` they make the task again from a bundle: `Task(tokenizer, length, state, arrays)`.
    """

    name: ClassVar[str]
    fields: ClassVar[Mapping[str, Field]]
    metric: ClassVar[str]  # the measure that decides
    protocol: ClassVar[str]  # the sentence of the word list that says how it is measured
    protocols: ClassVar[Mapping[str, Row]] = {}  # ways to be asked: what each adds to a row; one of them leads
    dials: ClassVar[Mapping[str, Sequence[Row]]] = {}  # by option: what is added to a row, from its usual value upwards
    baselines: ClassVar[Mapping[str, Baseline]] = {}
    histories: ClassVar[bool] = False  # a row is all one user took, gathered from single interactions
    reads: ClassVar[bool] = False  # its answers come from last hidden states, whoever computes them
    wrong: ClassVar[int] = 0  # answers that look right and are not, which prepare gives a row that names none
    packed: ClassVar[bool] = False  # short examples share a row of `length`
    whole: ClassVar[bool] = False  # its loss takes batches that `whole` made, and is then the same to compute each time

    def __init__(
        self,
        tokenizer: Tokenizer | None,
        length: int,
        state: dict[str, Any] | None = None,
        arrays: Mapping[str, np.ndarray] | None = None,
    ) -> None:
        self.tokenizer = tokenizer
        self.length = length
        self.state: dict[str, Any] = dict(state or {})
        self.arrays: dict[str, np.ndarray] = dict(arrays or {})

    @abstractmethod
    def learn(self, rows: Iterable[Row]) -> None:
        """prepare: take from the training rows what is not weights (labels, items), into `state` and `arrays`."""

    @abstractmethod
    def encode(self, row: Row) -> list[Example]:
        """prepare: one row as examples, no text in them longer than `length`; none where there is nothing to learn."""

    @property
    @abstractmethod
    def vocabulary(self) -> int:
        """build: number of ids a fresh model needs."""

    @property
    def legend(self) -> Mapping[str, Sequence[str | None]]:
        """build: tensors whose rows stand for something of the task's own (items, labels), and what each stands for. A
        model that starts from an earlier bundle of the task keeps by these names what it learned of them."""
        return {}

    @abstractmethod
    def head(self, width: int) -> nn.Module | None:
        """build: the module on top of the Transformer; None: its own language-model head, or nothing."""

    def begin(self, model: Transformer) -> None:  # noqa: B027, most tasks know nothing then
        """build: put what the task already knows into fresh weights."""

    @abstractmethod
    def loss(self, model: Transformer, batch: Batch) -> Loss:
        """train: what is minimised. Calls the model itself."""

    @property
    def keeps_start(self) -> bool:
        """train: whether the loss is measured against the weights that training starts from."""
        return False

    def loss_beside(self, model: Transformer, elder: Transformer, batch: Batch) -> Loss:
        """train: what is minimised beside a model that does not learn: the teacher of a smaller one, or what `model`
        was before training.

        Raises:
            ModelError: the task learns from no other model.
        """
        raise ModelError("model.no_teacher", task=self.name)

    def calibrate(self, model: Transformer, rows: Sequence[Row]) -> None:  # noqa: B027, many tasks have nothing to settle
        """train, last act: settle on validation rows what answers need beyond weights (temperature, blend)."""

    def refresh(self, train: Iterable[Row], valid: Sequence[Row]) -> None:  # noqa: B027, most tasks count nothing
        """train, after all is settled: count once more, now with the validation rows, which are the past by then."""

    def variants(self, model: Transformer, rows: Sequence[Row]) -> dict[str, list[Answer]]:
        """evaluate: answers of the parts an answer is blended from, by name; empty where there is but one part."""
        return {}

    @abstractmethod
    def answer(self, model: Transformer, rows: Sequence[Row]) -> list[Answer]:
        """evaluate and deploy: the one inference path. `model` is in eval mode; gradients are off."""

    @abstractmethod
    def score(self, answers: Sequence[Answer], rows: Sequence[Row]) -> list[Measure]:
        """evaluate: business measures of the answers, each kept row by row so that intervals can be drawn."""


def task_class(name: str) -> type[Task]:
    """The class of a task by its name in a recipe."""
    module, _, attribute = TASKS[name].partition(":")
    found: type[Task] = getattr(import_module(module), attribute)
    return found
