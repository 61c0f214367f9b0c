"""One block, every model: who sees whom, packing, compilation."""

import pytest
import torch
from torch import Tensor

from benchmarks.parity import CASES, ENCODERS, Case, beside, jitter, our_config
from zhumo.transformer import Block, Cache, Config, Transformer, initialise, key_dropout
from zhumo.transformer.block import Attention

CAUSAL = [case for case in CASES if case.family not in ENCODERS]


def name(case: Case) -> str:
    return f"{case.family}, {case.name}"


def model_of(case: Case) -> Transformer:
    model = jitter(Transformer(our_config(case)))
    assert isinstance(model, Transformer)
    return model


@pytest.fixture(autouse=True)
def fresh_compiler() -> None:
    torch.compiler.reset()


def random_ids(model: Transformer, *shape: int) -> Tensor:
    return torch.randint(0, model.config.vocabulary, shape, generator=torch.Generator().manual_seed(5))


@pytest.mark.parametrize("case", CASES, ids=name)
@torch.no_grad()
def test_two_texts_in_one_row_answer_as_each_alone(case: Case) -> None:
    model = model_of(case)
    first, second = random_ids(model, 1, 5), random_ids(model, 1, 4)
    padding = torch.zeros(1, 3, dtype=torch.long)
    row = torch.cat((first, second, padding), dim=1)
    segments = torch.tensor([[1] * 5 + [2] * 4 + [0] * 3])
    given = beside(model)
    packed = model(row, segments=segments, **given)
    torch.testing.assert_close(packed[:, :5], model(first, **given), atol=1e-5, rtol=0)
    torch.testing.assert_close(packed[:, 5:9], model(second, **given), atol=1e-5, rtol=0)


@pytest.mark.parametrize("case", CAUSAL, ids=name)
@pytest.mark.parametrize("packed", [False, True])
@torch.no_grad()
def test_no_causal_model_sees_the_future(case: Case, packed: bool) -> None:
    """The trap: a mask replaces `is_causal`, so with segments it must forbid the future itself."""
    model = model_of(case)
    ids = random_ids(model, 1, 8)
    changed = ids.clone()
    changed[0, 6] = (changed[0, 6] + 1) % model.config.vocabulary
    segments = torch.ones(1, 8, dtype=torch.long) if packed else None
    given = beside(model)
    before, after = model(ids, segments=segments, **given), model(changed, segments=segments, **given)
    assert torch.equal(before[:, :6], after[:, :6])
    assert not torch.allclose(before[:, 6:], after[:, 6:])


@torch.no_grad()
def test_attention_takes_the_mask_for_the_whole_truth() -> None:
    """What the docstring warns of: with a mask that allows everything, a causal attention does look ahead."""
    config = Config(vocabulary=7, width=8, depth=1, heads=2)
    attention = jitter(Attention(config))
    x = torch.randn(1, 5, 8, generator=torch.Generator().manual_seed(0))
    everything = torch.ones(1, 1, 5, 5, dtype=torch.bool)
    assert not torch.allclose(attention(x), attention(x, mask=everything))
    torch.testing.assert_close(attention(x), attention(x, mask=everything.tril()))


@torch.no_grad()
def test_an_encoder_sees_both_ways() -> None:
    model = model_of(CASES[0])
    ids = random_ids(model, 1, 6)
    changed = ids.clone()
    changed[0, 5] = (changed[0, 5] + 1) % model.config.vocabulary
    assert not torch.allclose(model(ids)[:, 0], model(changed)[:, 0])


@pytest.mark.parametrize("case", {case.family: case for case in CASES}.values(), ids=name)
@pytest.mark.parametrize("packed", [False, True])
@torch.no_grad()
def test_a_model_compiles_as_one_graph(case: Case, packed: bool) -> None:
    model = model_of(case)
    ids = random_ids(model, 2, 7)
    segments = torch.tensor([[1] * 7, [1] * 4 + [2] * 3]) if packed else None
    compiled = torch.compile(model, fullgraph=True, backend="eager")
    given = {"segments": segments, **beside(model, batch=2)}
    torch.testing.assert_close(compiled(ids, **given), model(ids, **given), atol=1e-6, rtol=0)


@torch.no_grad()
def test_one_compiled_model_takes_every_length_and_a_cache() -> None:
    model = model_of(CAUSAL[0])
    compiled = torch.compile(model, fullgraph=True, backend="eager", dynamic=True)
    for time in (3, 5, 8):
        ids = random_ids(model, 2, time)
        torch.testing.assert_close(compiled(ids), model(ids), atol=1e-6, rtol=0)
    cache = Cache.empty(model.config, batch=2, length=model.config.length)
    parts = [compiled(ids[:, :5], cache=cache), compiled(ids[:, 5:], cache=cache)]
    torch.testing.assert_close(torch.cat(parts, dim=1), model(ids), atol=1e-5, rtol=0)


def test_a_model_with_keyed_dropout_compiles_as_one_graph() -> None:
    config = Config(vocabulary=11, width=8, depth=2, heads=2, dropout=0.5)
    model = Transformer(config).train()
    key_dropout(model, torch.tensor([3, 4]))
    ids = random_ids(model, 2, 5)
    compiled = torch.compile(model, fullgraph=True, backend="eager")
    torch.testing.assert_close(compiled(ids), model(ids))


@pytest.mark.parametrize("case", CASES, ids=name)
def test_every_weight_has_a_gradient(case: Case) -> None:
    model = model_of(case)
    types = {"types": torch.tensor([[0, 1, 0, 0]]) % model.config.types} if model.config.types else {}
    out = model(random_ids(model, 1, 4), **types, **beside(model))
    (out * torch.arange(out.numel()).view_as(out)).sum().backward()
    # A key bias moves all scores of a query alike, which the softmax forgets.
    without = [n for n, p in model.named_parameters() if (p.grad is None or not p.grad.any()) and "key.bias" not in n]
    assert without == []


@torch.no_grad()
def test_a_decoder_looks_at_its_source_and_not_at_padding() -> None:
    model = model_of(next(case for case in CASES if case.family == "marian"))
    ids, source = random_ids(model, 1, 3), random_ids(model, 1, 6)
    alone = model(ids, source=model.read(source))
    padded = torch.cat((source, random_ids(model, 1, 4)), dim=1)
    segments = torch.tensor([[1] * 6 + [0] * 4])
    torch.testing.assert_close(model(ids, source=model.read(padded, segments=segments)), alone, atol=1e-5, rtol=0)
    assert not torch.allclose(model(ids, source=model.read(padded)), alone, atol=1e-3)


def test_a_source_is_needed_where_there_is_an_encoder_and_nowhere_else() -> None:
    decoder, two = (model_of(next(case for case in CASES if case.family == family)) for family in ("gpt2", "t5"))
    ids = torch.tensor([[1, 2]])
    with pytest.raises(ValueError, match="needs a source"):
        two(ids)
    with pytest.raises(ValueError, match="no other takes one"):
        decoder(ids, source=two.read(ids))
    with pytest.raises(ValueError, match="with an encoder"):
        decoder.read(ids)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"encoder_depth": 1, "causal": False}, "a decoder with an encoder"),
        ({"encoder_depth": 1, "window": 4}, "a decoder with an encoder"),
        ({"positions": "relative", "buckets": 2}, "2 buckets"),
        ({"positions": "relative", "reach": 16}, "up to 16"),
        ({"positions": "rotary", "rope": "linear", "rope_factor": 0.5}, "a rope reaches"),
        ({"positions": "rotary", "rope": "yarn", "rope_factor": 2.0}, "a rope reaches"),
        ({"heads": 3, "kv_heads": 2}, "multiple of kv_heads"),
        ({"positions": "rotary", "head_dim": 5}, "even head_dim"),
        ({"dropout": 1.0}, "dropout"),
        ({"depth": 0}, "depth"),
        ({"width": 2, "heads": 4}, "head_dim"),
    ],
)
def test_an_impossible_configuration_is_refused(change: dict[str, object], said: str) -> None:
    sizes: dict[str, object] = {"vocabulary": 10, "width": 8, "depth": 1, "heads": 2}
    with pytest.raises(ValueError, match=said):
        Config(**(sizes | change))  # type: ignore[arg-type]


def test_too_many_positions_are_refused_where_positions_are_learned() -> None:
    model = Transformer(Config(vocabulary=10, width=8, depth=1, heads=2, length=4))
    with pytest.raises(ValueError, match="5 positions"):
        model(torch.zeros(1, 5, dtype=torch.long))


def test_the_same_seed_makes_the_same_weights() -> None:
    config = Config(vocabulary=10, width=8, depth=2, heads=2)
    first, second = (initialise(Transformer(config), seed=3).state_dict() for _ in range(2))
    assert all(torch.equal(first[name], second[name]) for name in first)
    other = initialise(Transformer(config), seed=4).state_dict()
    assert not torch.equal(first["stem.tokens.weight"], other["stem.tokens.weight"])


def test_residual_outputs_start_smaller_the_deeper_the_model() -> None:
    model = initialise(Transformer(Config(vocabulary=10, width=64, depth=8, heads=2)), seed=0)
    block = model.blocks[0]
    assert isinstance(block, Block)
    assert block.attention.query.weight.std().item() == pytest.approx(0.02, rel=0.1)
    assert block.attention.out.weight.std().item() == pytest.approx(0.005, rel=0.1)


def test_the_article_model_has_its_numbers() -> None:
    """The article's own model: vocabulary 10000, width 128, 8 heads, 6 layers."""
    model = Transformer(Config(vocabulary=10_000, width=128, heads=8, depth=6, length=512, head="none"))
    block = 4 * (128 * 128 + 128) + (128 * 512 + 512) + (512 * 128 + 128) + 2 * 2 * 128
    assert model.parameter_count() == 10_000 * 128 + 512 * 128 + 6 * block + 2 * 128


def test_what_several_products_read_is_made_smaller_once() -> None:
    model = initialise(Transformer(Config(vocabulary=9, width=8, depth=1, heads=2, length=8, gated=True)), 0)
    read: dict[str, Tensor] = {}
    for name, layer in model.blocks[0].named_modules():
        layer.register_forward_pre_hook(lambda _, given, name=name: read.update({name: given[0]}))
    with torch.autocast("cpu", torch.bfloat16):
        model(torch.tensor([[1, 2, 3]]))
    assert read["attention.query"].dtype == read["feed_forward.up"].dtype == torch.bfloat16
    assert read["attention.query"] is read["attention.key"] is read["attention.value"]
    assert read["feed_forward.up"] is read["feed_forward.gate"]
