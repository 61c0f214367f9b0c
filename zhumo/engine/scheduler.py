"""Many texts written at once by one model: continuous batching (Yu et al. 2022, Orca).

A text is a generator that yields what it has to say and, between, a `Read` of what the model is to read next. Every
step the model reads for all texts that wait; one that ends leaves its place to the next at once. A new text begins
where one that was read before it was alike: what they share is not read again. Where few are under way, the model also
reads what a text will probably say next, and a right guess saves a step (speculation, Leviathan et al. 2023): logits
are those of the model either way.
"""

from collections import Counter, deque
from collections.abc import Generator, Hashable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

import torch
from torch import Tensor

from zhumo.engine.lookup import Lookup
from zhumo.engine.parts import Part, Reader
from zhumo.engine.turns import Turns
from zhumo.transformer.sample import Read

Piece = TypeVar("Piece")
Result = TypeVar("Result")
Key = TypeVar("Key", bound=Hashable)

GUESSES, MOST_GUESSES = 3, 7  # tokens guessed at first, and after a guess that was right to its end
AT_ONCE = 8  # tokens of a step that guesses may fill: a few rows cost little more than one
SHARED = 32  # tokens two texts must share before it pays to copy them from one that is still being written


@dataclass(frozen=True)
class End(Generic[Result]):
    """How a text ended: what it returned, or what it raised."""

    result: Result | None = None
    error: Exception | None = None


@dataclass(eq=False)
class _Slot:
    index: int
    held: list[int] = field(default_factory=list)  # the tokens whose keys and values it holds
    read: int = 0  # how many of them, the first ones, were read as a prompt
    taken: int = 0  # when it was last taken, in texts begun


@dataclass(eq=False)
class _Text(Generic[Piece, Result]):
    writing: Generator[Read | Piece, Tensor | None, Result]
    owner: str
    slot: _Slot | None = None
    unread: deque[int] = field(default_factory=deque)
    every: bool = False
    prompt: bool = False  # what is unread is the text's beginning
    logits: list[Tensor] = field(default_factory=list)
    lookup: Lookup = field(default_factory=Lookup)
    ahead: deque[tuple[int, Tensor]] = field(
        default_factory=deque
    )  # tokens guessed and read, and what comes after each
    guesses: int = GUESSES  # tokens to guess next time


class Scheduler(Generic[Key, Piece, Result]):
    """Texts under way, by key, and those that wait for a slot. Not for several threads."""

    def __init__(self, model: Reader) -> None:
        self.model = model
        self.read = self.saved = self.guessed = 0  # tokens read, known from an earlier text, and guessed right
        self._slots = [_Slot(index) for index in range(model.slots)]
        self._texts: dict[Key, _Text[Piece, Result]] = {}
        self._turns = Turns()
        self._begun = 0

    def __len__(self) -> int:
        """Texts under way and waiting."""
        return len(self._texts)

    @property
    def fill(self) -> float:
        """The part of the room for keys and values that texts under way take."""
        held = sum(len(text.slot.held) for text in tuple(self._texts.values()) if text.slot)
        return held / (self.model.slots * self.model.length)

    def begun(self, key: Key) -> bool:
        """Whether a text has left the queue: it has its place, or has ended."""
        return key not in self._texts or self._texts[key].slot is not None

    def add(self, key: Key, writing: Generator[Read | Piece, Tensor | None, Result], owner: str = "") -> None:
        """A text to be written; `step` tells of it under `key`. owner: whose turn it takes."""
        self._turns.join(owner, {text.owner for text in self._texts.values()})
        self._texts[key] = _Text(writing, owner)

    def drop(self, key: Key) -> None:
        """Nobody waits for this text any more."""
        if text := self._texts.pop(key, None):
            text.writing.close()

    def step(self) -> Iterator[tuple[Key, Piece | End[Result]]]:
        """Let the model read once for all texts that may; yields what each then says, and last how it ended."""
        for key in self._next(self._free()):
            yield from self._go_on(key, None)
        chosen = self._chosen()
        if not chosen:
            return
        found = self.model.step([part for _, part in chosen])
        for (key, part), logits in zip(chosen, found, strict=True):
            text = self._texts[key]
            assert text.slot is not None
            text.slot.held[part.position :] = part.ids
            if text.prompt:
                text.slot.read = len(text.slot.held)
            self.read += len(part.ids)
            self._turns.charge(text.owner, len(part.ids))
            asked = min(len(part.ids), len(text.unread))
            for _ in range(asked):
                text.unread.popleft()
            text.ahead.extend(zip(part.ids[asked:], logits[1:], strict=False))
            if text.every:
                text.logits.append(logits)
            if not text.unread:
                yield from self._go_on(key, torch.cat(text.logits) if text.every else logits[0])

    def _free(self) -> int:
        return len(self._slots) - sum(text.slot is not None for text in self._texts.values())

    def _next(self, count: int) -> list[Key]:
        """Whose turn it is to take a slot: of the owner who has the fewest, and of those who has had the least."""
        held = Counter(text.owner for text in self._texts.values() if text.slot is not None)
        waiting = []
        for key, text in self._texts.items():
            if text.slot is None:
                waiting.append((held[text.owner], self._turns[text.owner], key))
                held[text.owner] += 1
        return [key for _, _, key in sorted(waiting, key=lambda one: one[:2])[:count]]

    def _chosen(self) -> list[tuple[Key, Part]]:
        """Whose tokens are read in this step: those that are written before those that are only read, and of these no
        more than a step holds, so that a long prompt does not keep everybody waiting. Of prompts, those of owners who
        have had the least come first."""
        left, chosen = self.model.rows, []
        by_turns = sorted(self._texts.items(), key=lambda item: (len(item[1].unread) > 1, self._turns[item[1].owner]))
        for key, text in by_turns:
            if text.slot is None or not left:
                continue
            ids = [text.unread[i] for i in range(min(left, len(text.unread)))]
            guessed = self._guessed(text)
            left -= len(ids) + len(guessed)
            every = text.every or bool(guessed)
            part = Part(text.slot.index, len(text.slot.held), [*ids, *guessed], every, text.prompt)
            chosen.append((key, part))
        return chosen

    def _guessed(self, text: _Text[Piece, Result]) -> list[int]:
        """What a text will probably want read after the one token it waits for."""
        if not self.model.steady or text.prompt or text.every or len(text.unread) != 1 or text.slot is None:
            return []
        room = self.model.length - len(text.slot.held) - 1
        return text.lookup.guess(min(text.guesses, AT_ONCE // len(self._texts) - 1, room))

    def _go_on(self, key: Key, reply: Tensor | None) -> Iterator[tuple[Key, Piece | End[Result]]]:
        """Whatever a text says until it wants something read, or ends."""
        text = self._texts[key]
        while True:
            try:
                piece = text.writing.send(reply)
                if isinstance(piece, Read) and piece.room > self.model.length:
                    raise ValueError(f"a text of {piece.room} tokens; there is room for {self.model.length}")
            except StopIteration as end:
                del self._texts[key]
                yield key, End(result=end.value)
                return
            except Exception as error:  # of this text alone; the others go on
                del self._texts[key]
                yield key, End(error=error)
                return
            if not isinstance(piece, Read):
                reply = None
                yield key, piece
                if key not in self._texts:  # dropped by whoever was told
                    return
                continue
            text.lookup.add(piece.ids)
            if not self._guessed_right(text, piece):
                break
            reply = text.ahead.popleft()[1]
        text.unread, text.logits = deque(piece.ids), []
        text.every, text.prompt = piece.every, piece.prompt
        if text.slot is None:
            self._seat(text, piece)

    def _guessed_right(self, text: _Text[Piece, Result], wanted: Read) -> bool:
        """Whether what a text wants read was guessed and read already; if not, what else was guessed is forgotten."""
        right = bool(text.ahead) and not wanted.every and list(wanted.ids) == [text.ahead[0][0]]
        if text.slot is not None and text.ahead:
            text.guesses = MOST_GUESSES if right and len(text.ahead) == 1 else text.guesses if right else GUESSES
        if not right and text.slot is not None:
            del text.slot.held[len(text.slot.held) - len(text.ahead) :]
            text.ahead.clear()
        self.guessed += right
        return right

    def _seat(self, text: _Text[Piece, Result], first: Read) -> None:
        """Give a text the free slot whose last text began like it, or a copy of what another text shares with it."""
        taken = {other.slot for other in self._texts.values()}
        free = [slot for slot in self._slots if slot not in taken]
        most = 0 if first.every else len(first.ids) - 1  # the last token is read in any case, for what comes after it
        shared = {slot: min(most, _alike(self._known(slot), first.ids)) for slot in self._slots}
        slot = max(free, key=lambda slot: (shared[slot], -slot.taken))
        other = max(self._slots, key=lambda slot: shared[slot])
        known = shared[slot]
        if shared[other] >= known + SHARED:
            slot, known = min(free, key=lambda slot: slot.taken), shared[other]
            self.model.copy(other.index, slot.index, known)
        for _ in range(known):
            text.unread.popleft()
        self.saved += known
        self._begun += 1
        slot.held, slot.taken, text.slot = list(first.ids[:known]), self._begun, slot
        slot.read = known

    def _known(self, slot: _Slot) -> list[int]:
        """The tokens of a slot that may stand for those of a prompt."""
        return slot.held if self.model.alike else slot.held[: slot.read]


def _alike(one: Sequence[int], other: Sequence[int]) -> int:
    """How many tokens at the beginning are the same."""
    for place, (mine, yours) in enumerate(zip(one, other, strict=False)):
        if mine != yours:
            return place
    return min(len(one), len(other))
