"""Many texts at once say what each says alone, whatever comes and goes between them."""

from collections.abc import Generator, Sequence

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tests.engine.test_cuda_model import cuda_model
from tests.engine.test_native import model_of
from zhumo.engine.agreement import agree
from zhumo.engine.library import library
from zhumo.engine.lookup import Lookup
from zhumo.engine.native import NativeModel
from zhumo.engine.parts import ROWS, Part, Reader
from zhumo.engine.scheduler import End, Scheduler
from zhumo.engine.torch_model import TorchModel
from zhumo.transformer.sample import Read, Sampling, Token, write

LENGTH = 48
Said = dict[str, list[int]]
Writing = Generator[Read | Token, Tensor | None, str]


@pytest.fixture(scope="module", params=["native", "torch", "cuda"])
def model(request: pytest.FixtureRequest) -> Reader:
    if request.param == "torch":
        return TorchModel(model_of("llama"), slots=3, length=LENGTH)
    if request.param == "cuda":
        return cuda_model(model_of("llama"), slots=3, length=LENGTH)
    if library() is None:
        pytest.skip("no compiler")
    return NativeModel(model_of("llama"), slots=3, length=LENGTH)


def text(ids: list[int], room: int = LENGTH, seed: int = 0, temperature: float = 0.8) -> Writing:
    yield from write(ids, ids, room=room, sampling=Sampling(temperature=temperature, seed=seed))
    return "done"


def prompt(seed: int, count: int) -> list[int]:
    return torch.randint(0, 203, (count,), generator=torch.Generator().manual_seed(seed)).tolist()


def run(scheduler: Scheduler[str, Token, str], said: Said | None = None) -> Said:
    said = {} if said is None else said
    while len(scheduler):
        for key, piece in scheduler.step():
            if isinstance(piece, End):
                assert piece.error is None and piece.result == "done"
            else:
                said.setdefault(key, []).append(piece.id)
    return said


def alone(model: Reader, ids: list[int], **options: float) -> list[int]:
    scheduler: Scheduler[str, Token, str] = Scheduler(model)
    scheduler.add("one", text(ids, **options))  # type: ignore[arg-type]
    return run(scheduler)["one"]


def test_ten_texts_in_three_slots_say_what_each_says_alone(model: Reader) -> None:
    asked = {f"text {i}": (prompt(i, 1 + 4 * i % 30), {"seed": i, "room": 40 + i % 9}) for i in range(10)}
    scheduler: Scheduler[str, Token, str] = Scheduler(model)
    said: Said = {}
    for key, (ids, options) in asked.items():
        scheduler.add(key, text(ids, **options))
        for other, piece in scheduler.step():
            if not isinstance(piece, End):
                said.setdefault(other, []).append(piece.id)
    run(scheduler, said)
    assert said == {key: alone(model, ids, **options) for key, (ids, options) in asked.items()}


def test_a_text_goes_on_where_an_earlier_one_was_alike(model: Reader) -> None:
    ids = prompt(1, 40)
    wanted = alone(model, [*ids, 7])
    scheduler: Scheduler[str, Token, str] = Scheduler(model)
    scheduler.add("first", text([*ids, 3]))
    run(scheduler)
    read = scheduler.read
    scheduler.add("second", text([*ids, 7]))
    assert run(scheduler)["second"] == wanted
    assert scheduler.saved == 40 and scheduler.read - read == len(wanted)  # the new token and all but the last written


def test_what_another_is_still_writing_after_is_copied(model: Reader) -> None:
    ids = prompt(2, 40)
    scheduler: Scheduler[str, Token, str] = Scheduler(model)
    scheduler.add("first", text([*ids, 3]))
    said: Said = {}
    for _ in range(2):
        for key, piece in scheduler.step():
            if not isinstance(piece, End):
                said.setdefault(key, []).append(piece.id)
    scheduler.add("second", text([*ids, 7]))
    run(scheduler, said)
    assert scheduler.saved == 40
    assert said == {"first": alone(model, [*ids, 3]), "second": alone(model, [*ids, 7])}


class Noting(TorchModel):
    """A model that keeps what it is asked. Its prompts may be read otherwise than what is written."""

    steady = True  # so that guesses are read as well

    def __init__(self, alike: bool) -> None:
        super().__init__(model_of("llama"), slots=2, length=LENGTH)
        self.alike, self.asked = alike, list[Part]()

    def step(self, parts: Sequence[Part]) -> list[Tensor]:
        self.asked += parts
        return super().step(parts)


@pytest.mark.parametrize("alike", [True, False])
def test_what_was_written_stands_for_a_prompt_only_where_it_is_read_alike(alike: bool) -> None:
    model, ids = Noting(alike), prompt(3, 20)
    scheduler: Scheduler[str, Token, str] = Scheduler(model)
    scheduler.add("first", text(ids, room=30))
    written = run(scheduler)["first"]
    assert len(written) == 10
    scheduler.add("second", text([*ids, *written, 7]))
    run(scheduler)
    assert scheduler.saved == (29 if alike else 20)  # the last token written was never read
    scheduler.add("third", text([*ids, *written, 7, 8]))
    run(scheduler)
    assert scheduler.saved - (29 if alike else 20) == 31, "the second text's prompt was read as one"


def test_only_the_tokens_a_text_begins_with_are_its_prompt(monkeypatch: pytest.MonkeyPatch) -> None:
    model = Noting(alike=False)
    monkeypatch.setattr(model, "rows", 5)
    scheduler: Scheduler[str, Token, str] = Scheduler(model)
    scheduler.add("one", text([5, 6, 7] * 7, temperature=0.0))  # repeats itself, so that much is guessed
    run(scheduler)
    assert all(part.position + len(part.ids) <= 21 for part in model.asked if part.prompt)
    assert sum(len(part.ids) for part in model.asked if part.prompt) == 21
    assert all(part.position >= 21 for part in model.asked if not part.prompt)
    assert any(len(part.ids) > 1 for part in model.asked if not part.prompt)


def test_where_a_prompt_is_read_otherwise_agreement_is_measured_of_both() -> None:
    for alike in (True, False):
        reader, ids = Noting(alike), prompt(4, 41)
        found = agree(model_of("llama"), reader, [ids])
        assert found.tokens == 40 and found.top == 1 and abs(found.perplexity - 1) < 1e-4
        read = [(part.position, len(part.ids), part.every, part.prompt) for part in reader.asked]
        assert read == ([(0, 40, True, False)] if alike else [(0, 20, True, True), (20, 20, True, False)])


def test_a_text_that_fails_or_is_dropped_takes_nobody_with_it(model: Reader) -> None:
    def failing() -> Writing:
        yield Read([1, 2], 10)
        raise RuntimeError("of its own making")

    def greedy() -> Writing:
        yield Read([1], LENGTH + 1)
        return "never"

    ids = prompt(3, 9)
    scheduler: Scheduler[str, Token, str] = Scheduler(model)
    scheduler.add("good", text(ids))
    scheduler.add("bad", failing())
    scheduler.add("long", greedy())
    scheduler.add("gone", text(prompt(4, 5)))
    said: list[int] = []
    errors: dict[str, str] = {}
    while len(scheduler):
        for key, piece in scheduler.step():
            if isinstance(piece, End):
                errors |= {key: str(piece.error)} if piece.error else {}
            elif key == "good":
                said.append(piece.id)
            elif key == "gone":
                scheduler.drop("gone")
    assert said == alone(model, ids)
    assert errors.keys() == {"bad", "long"} and "own making" in errors["bad"] and "room for 48" in errors["long"]


def test_a_long_prompt_does_not_keep_a_text_under_way_waiting(model: Reader, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model, "rows", 8)
    scheduler: Scheduler[str, Token, str] = Scheduler(model)
    scheduler.add("short", text([5], room=30))
    list(scheduler.step())
    scheduler.add("long", text(prompt(5, 40)))
    steps = [[key for key, piece in scheduler.step() if not isinstance(piece, End)] for _ in range(5)]
    assert steps == [["short"]] * 5, "while the prompt is read, 7 tokens at a time"
    assert "long" in [key for _ in range(3) for key, _ in scheduler.step()]


def test_all_logits_are_to_be_had(model: Reader) -> None:
    ids = prompt(6, 20)

    def scoring() -> Writing:
        logits = yield Read(ids, 20, every=True)
        assert logits is not None and logits.shape == (20, 203)
        yield Token(int(logits[-1].argmax()), 0.0)
        return "done"

    scheduler: Scheduler[str, Token, str] = Scheduler(model)
    scheduler.add("score", scoring())
    assert run(scheduler)["score"] == alone(model, ids, temperature=0)[:1]


def echoing(ids: list[int], said: list[int]) -> Writing:
    """A text that will say `said` whatever the model thinks, and tells what the model thought."""
    logits = yield Read(ids, LENGTH)
    for token in said:
        assert logits is not None
        yield Token(int(logits.argmax()), float(logits.sum()))
        logits = yield Read([token], LENGTH)
    return "done"


def test_a_text_that_repeats_itself_takes_fewer_steps_and_reads_the_same(model: Reader) -> None:
    ids = prompt(7, 16)
    said = ids[3:] + prompt(8, 6)
    found = []
    for guesses in (0, 7):
        scheduler: Scheduler[str, Token, str] = Scheduler(model)
        scheduler.add("one", echoing(ids, said))
        if not guesses:
            scheduler._guessed = lambda text: []  # type: ignore[method-assign]
        steps, told = 0, []
        while len(scheduler):
            steps += 1
            told += [piece for _, piece in scheduler.step() if not isinstance(piece, End)]
        found.append((steps, told))
    (plain, wanted), (quick, got) = found
    assert got == wanted, "bit for bit"
    assert plain == 1 + len(said)
    assert quick <= plain - 6 if model.steady else quick == plain


def test_guesses_come_from_where_the_text_stood_last() -> None:
    lookup = Lookup()
    lookup.add([1, 2, 3, 4, 5, 1, 2, 3, 6, 7, 1, 2])
    assert lookup.guess(3) == []
    lookup.add([3])
    assert lookup.guess(3) == [6, 7, 1] and lookup.guess(1) == [6] and lookup.guess(0) == []
    lookup.add([9])
    assert lookup.guess(3) == []


class Counting:
    """A model that only counts what it reads."""

    bits, rows, steady, alike, slots, length, vocabulary = 32, ROWS, False, True, 3, 1_000, 2

    def step(self, parts: Sequence[Part]) -> list[Tensor]:
        return [torch.zeros(1, 2) for _ in parts]

    def copy(self, source: int, target: int, count: int) -> None:
        pass


def reading(prompt: int, new: int) -> Writing:
    yield Read([0] * prompt, 1_000)
    for _ in range(new):
        yield Read([0], 1_000)
    return "done"


@settings(max_examples=60)
@given(
    flood=st.lists(st.tuples(st.integers(1, 400), st.integers(1, 30)), min_size=4, max_size=40),
    late=st.integers(0, 20),
    prompt=st.integers(1, 60),
    new=st.integers(1, 20),
)
def test_a_short_text_of_one_key_waits_for_one_seat_and_not_for_anothers_flood(
    flood: list[tuple[int, int]], late: int, prompt: int, new: int
) -> None:
    scheduler: Scheduler[str, Token, str] = Scheduler(Counting())
    for number, (length, written) in enumerate(flood):
        scheduler.add(f"flood {number}", reading(length, written), "flooder")
    for _ in range(late):
        list(scheduler.step())
    scheduler.add("short", reading(prompt, new), "other")
    steps, ended = 0, False
    while not ended:
        ended = any(key == "short" and isinstance(piece, End) for key, piece in scheduler.step())
        steps += 1
    # One text of the flood ends, however slowly three are read at once; then every second token read is its own.
    longest = max(3 * -(-length // (ROWS - 3)) + written + 2 for length, written in flood)
    assert steps <= longest + 2 * (-(-prompt // (ROWS // 2)) + 1) + new + 2


def test_first_come_first_served_within_a_key() -> None:
    scheduler: Scheduler[str, Token, str] = Scheduler(Counting())
    for number in range(9):
        scheduler.add(str(number), reading(5, 5), "one")
    ended = [key for _ in range(60) for key, piece in scheduler.step() if isinstance(piece, End)]
    assert ended == [str(number) for number in range(9)]
