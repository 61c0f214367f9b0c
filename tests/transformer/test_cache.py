"""A cache changes how often things are computed, never what comes out."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from benchmarks.parity import CASES, ENCODERS, Case, beside, jitter, load_ours, our_config, their_folder
from zhumo.transformer import Cache, Config, Transformer

TIME = 7  # beyond the shortest window and the shortest length of a rope


def chunkings(total: int) -> Iterator[tuple[int, ...]]:
    """Every way to write `total` as a sum in order."""
    if total == 0:
        yield ()
    for first in range(1, total + 1):
        yield from ((first, *rest) for rest in chunkings(total - first))


@pytest.mark.parametrize("case", [c for c in CASES if c.family not in ENCODERS], ids=lambda c: f"{c.family}, {c.name}")
@torch.no_grad()
def test_cached_is_whole_for_every_chunking(case: Case) -> None:
    config = our_config(case)
    if config.rope == "dynamic":  # turns all tokens anew with each that comes beyond its length
        config = replace(config, length=TIME)
    model = jitter(Transformer(config))
    ids = torch.randint(0, config.vocabulary, (2, TIME), generator=torch.Generator().manual_seed(1))
    given = beside(model, batch=2)
    whole = model(ids, **given)
    ways = list(chunkings(TIME))
    assert len(ways) == 2 ** (TIME - 1)
    for way in ways:
        cache = Cache.empty(config, batch=2, length=TIME)
        parts = torch.cat([model(chunk, cache=cache, **given) for chunk in ids.split(way, dim=1)], dim=1)  # type: ignore[no-untyped-call]
        torch.testing.assert_close(parts, whole, atol=1e-5, rtol=0, msg=lambda text, way=way: f"{way}: {text}")
        assert cache.used == TIME


@torch.no_grad()
def test_a_dynamic_rope_is_cached_as_transformers_caches_it(tmp_path: Path) -> None:
    case = next(case for case in CASES if "dynamic" in case.name)
    theirs, ours = their_folder(case, tmp_path), load_ours(tmp_path)
    ids = torch.randint(2, ours.config.vocabulary, (2, 12), generator=torch.Generator().manual_seed(1))
    cache, past = Cache.empty(ours.config, batch=2, length=12), None
    for part in ids.split([4, 1, 1, 1, 2, 3], dim=1):  # type: ignore[no-untyped-call]
        wanted = theirs(part, past_key_values=past, use_cache=True)
        past = wanted.past_key_values
        torch.testing.assert_close(ours(part, cache=cache), wanted.logits, atol=1e-5, rtol=0)


def _small() -> tuple[Transformer, torch.Tensor]:
    model = jitter(Transformer(Config(vocabulary=11, width=8, depth=2, heads=2, length=8)))
    assert isinstance(model, Transformer)
    return model, torch.tensor([[1, 2, 3, 4, 5, 6]])


@torch.no_grad()
def test_a_full_cache_is_refused() -> None:
    model, ids = _small()
    cache = Cache.empty(model.config, length=4)
    with pytest.raises(ValueError, match="room for 4 positions, asked for 6"):
        model(ids, cache=cache)


@torch.no_grad()
def test_positions_count_on_in_a_cache() -> None:
    model, ids = _small()
    cache = Cache.empty(model.config, length=20)
    model(ids, cache=cache)
    with pytest.raises(ValueError, match="12 positions, but the model was made for 8"):
        model(ids, cache=cache)


@torch.no_grad()
def test_a_cache_and_segments_are_refused_together() -> None:
    model, ids = _small()
    with pytest.raises(ValueError, match="segments"):
        model(ids, cache=Cache.empty(model.config, length=model.config.length), segments=torch.ones_like(ids))
