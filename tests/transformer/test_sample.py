"""Each option leaves the distribution that transformers' logits processor leaves; a cached text is a whole one."""

import contextlib
import math
from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM
from transformers.generation.logits_process import (
    LogitsProcessorList,
    MinPLogitsWarper,
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from zhumo.transformer import Config, Transformer, initialise
from zhumo.transformer.families import from_disk, read_config
from zhumo.transformer.sample import Read, Sampling, Token, choose, filtered, generate, write

THEIRS: dict[str, Callable[[float], object]] = {
    "repetition_penalty": lambda value: RepetitionPenaltyLogitsProcessor(value),
    "temperature": lambda value: TemperatureLogitsWarper(value),
    "top_k": lambda value: TopKLogitsWarper(int(value)),
    "top_p": lambda value: TopPLogitsWarper(value),
    "min_p": lambda value: MinPLogitsWarper(value),
}
CASES = [
    {"repetition_penalty": 1.3},
    {"repetition_penalty": 0.7},
    {"temperature": 0.3},
    {"temperature": 2.5},
    {"top_k": 1},
    {"top_k": 17},
    {"top_p": 0.001},
    {"top_p": 0.5},
    {"top_p": 0.95},
    {"min_p": 0.02},
    {"min_p": 1.0},
    {"repetition_penalty": 1.2, "temperature": 0.7, "top_k": 40, "top_p": 0.9, "min_p": 0.05},
    {"temperature": 1.7, "top_p": 0.8, "min_p": 0.1},
]


def reference(logits: Tensor, seen: Tensor, options: dict[str, float]) -> Tensor:
    chain = LogitsProcessorList([make(options[name]) for name, make in THEIRS.items() if name in options])
    result: Tensor = chain(seen.unsqueeze(0), logits.unsqueeze(0))[0]
    return result


@pytest.mark.parametrize("options", CASES, ids=str)
def test_the_distribution_is_the_reference_one(options: dict[str, float]) -> None:
    generator = torch.Generator().manual_seed(1)
    sampling = Sampling(**{"temperature": 1.0, **options})  # type: ignore[arg-type]
    for size in (40, 997):
        for scale in (0.5, 4.0):
            logits = torch.randn(size, generator=generator) * scale
            seen = torch.randint(size, (12,), generator=generator)
            ours, theirs = filtered(logits, seen.tolist(), sampling), reference(logits.clone(), seen, options)
            assert torch.equal(ours.isinf(), theirs.isinf())
            torch.testing.assert_close(ours.softmax(-1), theirs.softmax(-1), rtol=0, atol=1e-7)


def test_defaults_change_nothing() -> None:
    logits = torch.randn(50, generator=torch.Generator().manual_seed(2))
    assert filtered(logits, [3], Sampling()) is logits


def test_top_k_beyond_the_vocabulary_keeps_all() -> None:
    logits = torch.randn(50, generator=torch.Generator().manual_seed(2))
    assert not filtered(logits, [3], Sampling(temperature=1, top_k=51)).isinf().any()


@pytest.mark.parametrize(
    ("name", "value"),
    [("temperature", -0.1), ("temperature", float("nan")), ("temperature", 1e-40), ("top_k", -1), ("top_p", 0.0),
     ("top_p", 1.01), ("min_p", 1.5), ("repetition_penalty", 0.0), ("seed", -1), ("alternatives", -1)],
)  # fmt: skip
def test_options_out_of_bounds_are_refused(name: str, value: float) -> None:
    with pytest.raises(ValueError, match=name):
        Sampling(**{name: value})  # type: ignore[arg-type]


def test_draws_follow_the_distribution() -> None:
    logits = torch.log(torch.tensor([0.5, 0.3, 0.2]))
    generator = torch.Generator().manual_seed(0)
    draws = [choose(logits, [0], Sampling(temperature=1), generator).id for _ in range(4000)]
    shares = torch.bincount(torch.tensor(draws), minlength=3) / 4000
    torch.testing.assert_close(shares, torch.tensor([0.5, 0.3, 0.2]), rtol=0, atol=0.03)  # 4 standard errors


def test_log_probabilities_are_the_models_own() -> None:
    logits = torch.randn(20, generator=torch.Generator().manual_seed(3))
    sampling = Sampling(temperature=0.5, top_k=1, alternatives=3)
    token = choose(logits, [0], sampling, torch.Generator().manual_seed(0))
    own = logits.log_softmax(-1)
    assert token.logprob == pytest.approx(float(own[token.id]))
    assert token.alternatives[0] == (token.id, pytest.approx(token.logprob))
    assert [index for index, _ in token.alternatives] == own.topk(3).indices.tolist()


def tiny(**changes: object) -> Transformer:
    facts = {"vocabulary": 61, "width": 24, "depth": 2, "heads": 6, "kv_heads": 2, "length": 32, "positions": "rotary"}
    model = initialise(Transformer(Config(**{**facts, **changes})), 5)  # type: ignore[arg-type]
    return model.eval()


def written(
    model: Transformer, ids: list[int], *, stop: tuple[int, ...] = (), most: int = 8, **options: float
) -> list[Token]:
    sampling = Sampling(**options)  # type: ignore[arg-type]
    return list(generate(model, ids, sampling=sampling, max_tokens=most, stop_ids=stop))


def test_greedy_is_the_likeliest_token_of_the_whole_text() -> None:
    model, ids = tiny(), [1, 2, 3, 4, 5]
    for token in written(model, ids):
        with torch.no_grad():
            logprobs = model(torch.tensor([ids]))[0, -1].log_softmax(-1)
        assert token.id == int(logprobs.argmax())
        assert token.logprob == pytest.approx(float(logprobs[token.id]), abs=1e-5)
        ids = [*ids, token.id]


def test_greedy_is_what_transformers_writes() -> None:
    torch.manual_seed(7)
    settings = LlamaConfig(
        vocab_size=97, hidden_size=48, num_hidden_layers=2, num_attention_heads=6, num_key_value_heads=2,
        intermediate_size=64, max_position_embeddings=64, initializer_range=0.5, bos_token_id=None, eos_token_id=None,
    )  # fmt: skip
    theirs = LlamaForCausalLM(settings).eval()
    config = read_config(theirs.config.to_dict())
    ours = Transformer(config).eval()
    ours.load_state_dict(from_disk(theirs.state_dict(), config, "llama"))
    prompt = [5, 17, 3, 80]
    for penalty in (1.0, 1.4):
        expected = theirs.generate(
            torch.tensor([prompt]), do_sample=False, max_new_tokens=20, repetition_penalty=penalty, pad_token_id=0
        )[0, 4:]
        assert [t.id for t in written(ours, prompt, most=20, repetition_penalty=penalty)] == expected.tolist()


def test_a_seed_writes_the_same_and_another_differs() -> None:
    model = tiny()
    first = written(model, [1], most=20, temperature=1.0, seed=3)
    torch.rand(5)  # the global stream has no say
    assert written(model, [1], most=20, temperature=1.0, seed=3) == first
    assert written(model, [1], most=20, temperature=1.0, seed=4) != first


def test_ends_at_a_stop_id_and_says_it() -> None:
    model = tiny()
    free = [token.id for token in written(model, [1, 2], temperature=1.0, seed=1)]
    stopped = [token.id for token in written(model, [1, 2], temperature=1.0, seed=1, stop=(free[3],))]
    assert stopped == free[: free.index(free[3]) + 1]


@pytest.mark.parametrize("positions", ["rotary", "learned"])
def test_ends_where_the_model_does(positions: str) -> None:
    assert len(written(tiny(positions=positions), [1] * 30, most=100)) == 2


def test_what_cannot_be_continued_is_refused() -> None:
    for ids in ([], [1] * 32):
        with pytest.raises(ValueError, match="a prompt must have 1 to 31 tokens"):
            written(tiny(), ids)
    with pytest.raises(ValueError, match="only a causal model"):
        written(tiny(causal=False), [1])


def test_no_gradient_is_kept() -> None:
    model = tiny()
    tokens = written(model, [1, 2, 3])  # gradients are on here
    assert len(tokens) == 8
    model(torch.tensor([[1, 2]])).sum().backward()  # the weights still learn


class Line(Tensor):
    """Logits that nobody may look at number by number: a tensor of each takes longer than a small model's step."""

    def __iter__(self) -> Iterator[Tensor]:
        raise AssertionError("it was iterated over")


def test_a_token_costs_no_tensor_of_every_number() -> None:
    steps = write([1], [1], room=4, sampling=Sampling())
    said, reply = list[Token](), None
    with contextlib.suppress(StopIteration):
        while True:
            piece = steps.send(reply)
            reply = torch.arange(9.0).as_subclass(Line) if isinstance(piece, Read) else None
            said += [piece] if isinstance(piece, Token) else []
    assert [token.id for token in said] == [8, 8, 8]


class Two:
    """Only the second and third of four tokens may come; a model may have more ids than its tokenizer."""

    ended = False

    def __init__(self) -> None:
        self.looked = 0  # for all that may come

    def allowed(self) -> Tensor:
        self.looked += 1
        return torch.tensor([False, True, True, False])

    def permits(self, token: int) -> bool:
        return token in (1, 2)

    def add(self, token: int, room: int) -> list[int]:
        raise AssertionError


def test_what_a_constraint_does_not_allow_or_know_is_never_chosen() -> None:
    logits, draw = torch.tensor([5.0, 1.0, 2.0, 5.0, 9.0, 9.0]), torch.Generator().manual_seed(0)
    assert choose(logits, [0], Sampling(), draw, Two()).id == 2
    drawn = {choose(logits, [0], Sampling(temperature=1.0), draw, Two()).id for _ in range(60)}
    assert drawn == {1, 2}


@pytest.mark.parametrize("options", [{}, {"top_k": 3}, {"top_p": 0.9}, {"min_p": 0.1}])
def test_a_token_is_as_likely_as_if_only_what_may_come_were_there(options: dict[str, float]) -> None:
    """Left out of those that may come is what is unlikely among them, and not among all."""
    logits, draw, two = torch.tensor([2.0, 0.0, 1.0, 0.5, 1.5]), torch.Generator().manual_seed(0), Two()
    sampling = Sampling(temperature=1.0, **options)  # type: ignore[arg-type]
    drawn = [choose(logits, [0], sampling, draw, two).id for _ in range(4000)]
    assert abs(drawn.count(1) / 4000 - 1 / (1 + math.e)) < 0.025
    assert two.looked == 4000 if options else 0.75 < two.looked / 4000 < 0.82


def test_how_likely_a_token_is_is_told_where_it_is_asked_for() -> None:
    logits, draw = torch.tensor([1.0, 3.0, 2.0]), torch.Generator().manual_seed(0)
    told = choose(logits, [0], Sampling(alternatives=2), draw)
    silent = choose(logits, [0], Sampling(alternatives=None), draw)
    assert told.id == silent.id == 1 and told.logprob == pytest.approx(float(logits.log_softmax(-1)[1]))
    assert len(told.alternatives) == 2 and math.isnan(silent.logprob) and not silent.alternatives


def test_where_the_likeliest_may_come_nobody_looks_what_else_may() -> None:
    two = Two()
    logits = torch.tensor([1.0, 1.0, 9.0, 5.0])
    sampling = Sampling(top_k=1, repetition_penalty=1.5)
    assert choose(logits, [2], sampling, torch.Generator(), two).id == 2 and two.looked == 0
