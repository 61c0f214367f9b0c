"""Attention of a bf16 training on a CPU: as torch's forward, near fp32's backward."""

from contextlib import nullcontext
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from zhumo.train import attention
from zhumo.train.attention import QuickAttention
from zhumo.transformer import Config, Transformer, initialise

BATCH, HEADS, TIME, KNOWN = 5, 4, 24, 31
GENERATOR = torch.Generator().manual_seed(7)
LENGTHS = torch.tensor([31, 20, 9, 30, 1])
PADDED = (torch.arange(KNOWN) < LENGTHS[:, None])[:, None, None]  # (batch, 1, 1, known)
CASES: dict[str, dict[str, Any]] = {
    "all": {},
    "causal": {"is_causal": True},
    "padded": {"attn_mask": PADDED},
    "sees nothing": {"attn_mask": (torch.arange(TIME) % 3 > 0)[:, None] & PADDED},
    "sees nothing, added": {
        "attn_mask": torch.zeros(BATCH, 1, TIME, KNOWN).index_fill_(2, torch.tensor([4]), -torch.inf)
    },
    "added": {"attn_mask": torch.randn(1, HEADS, TIME, KNOWN, generator=GENERATOR)},
    "two axes": {"attn_mask": torch.ones(TIME, KNOWN, dtype=torch.bool).tril(KNOWN - TIME)},
    "shared keys": {"attn_mask": PADDED.expand(-1, -1, TIME, -1), "enable_gqa": True, "scale": 0.3},
}


def heads(shared: bool = False, known: int = KNOWN) -> list[Tensor]:
    """Query, key and value, of numbers that bf16 holds."""
    generator = torch.Generator().manual_seed(0)
    shapes = ((HEADS, TIME), *[(HEADS // 2 if shared else HEADS, known)] * 2)
    return [torch.randn(BATCH, *shape, 16, generator=generator).bfloat16().float().requires_grad_() for shape in shapes]


def looked(inputs: list[Tensor], options: dict[str, Any], quick: bool) -> tuple[Tensor, tuple[Tensor, ...]]:
    """What attention says, and the slope of its inputs."""
    with QuickAttention() if quick else nullcontext(), torch.autocast("cpu", torch.bfloat16, enabled=quick):
        query, key, value = inputs
        found = F.scaled_dot_product_attention(query, key, value, **options)
    weights = torch.randn(found.shape, generator=torch.Generator().manual_seed(1))
    return found.detach(), torch.autograd.grad((found.float() * weights).sum(), inputs)


def far(found: Tensor, true: Tensor) -> float:
    return float((found.float() - true).norm() / true.norm())


@pytest.mark.parametrize("at_once", [1, attention.AT_ONCE])
@pytest.mark.parametrize("case", CASES)
def test_it_is_attention_and_its_slopes(case: str, at_once: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attention, "AT_ONCE", at_once)
    inputs = heads("enable_gqa" in CASES[case], TIME if "is_causal" in CASES[case] else KNOWN)
    (true, slopes), (found, quick) = (looked(inputs, CASES[case], quick) for quick in (False, True))
    assert found.dtype == torch.bfloat16 and found.shape == true.shape
    assert far(found, true) < 0.01
    assert [slope.shape for slope in quick] == [slope.shape for slope in slopes]
    assert all(far(one, other) < 0.015 for one, other in zip(quick, slopes, strict=True))


def test_what_learns_in_a_mask_and_what_is_long_is_computed_in_fp32(monkeypatch: pytest.MonkeyPatch) -> None:
    places = torch.randn(1, HEADS, TIME, KNOWN, generator=torch.Generator().manual_seed(2), requires_grad=True)
    inputs = heads()
    for options, longest in (({"attn_mask": places}, KNOWN), ({}, KNOWN - 1)):
        monkeypatch.setattr(attention, "LONGEST", longest)
        (true, slopes), (found, quick) = (looked(inputs, options, quick) for quick in (False, True))
        assert torch.equal(found, true) and all(map(torch.equal, quick, slopes))


def test_the_rest_is_left_alone() -> None:
    query, key, value = heads()
    with QuickAttention(), torch.autocast("cpu", torch.bfloat16):
        assert (query @ key.transpose(-1, -2)).dtype == torch.bfloat16
        assert torch.equal(F.silu(value), F.silu(value.detach()))
    assert F.scaled_dot_product_attention(query, key, value).dtype == torch.float32


def test_gradients_of_a_model_come_no_further_from_those_of_fp32() -> None:
    config = Config(vocabulary=50, width=32, depth=2, heads=4, length=16, causal=False, head="none")
    ids = torch.randint(0, 50, (4, 12), generator=torch.Generator().manual_seed(1))
    segments = (torch.arange(12) < torch.tensor([[12], [9], [5], [1]])).long()

    def gradient(*, bf16: bool, quick: bool) -> Tensor:
        model = initialise(Transformer(config), 0)
        mode = QuickAttention() if quick else torch.autocast("cpu", enabled=False)
        with mode, torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            model.hidden(ids, segments=segments).square()[..., :7].sum().backward()
        return torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])

    truth = gradient(bf16=False, quick=False)
    plain, quick = ((gradient(bf16=True, quick=q) - truth).norm() / truth.norm() for q in (False, True))
    assert quick <= plain * 1.2
    assert quick < 0.03
