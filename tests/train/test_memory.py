"""Gradient checkpointing: the same gradients bit by bit from a fraction of what is kept."""

from contextlib import nullcontext

import pytest
import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks

from zhumo.train.attention import QuickAttention
from zhumo.train.recompute import recomputed
from zhumo.transformer import Config, Transformer, initialise, key_dropout

CONFIG = Config(vocabulary=50, width=32, depth=4, heads=4, length=32, dropout=0.2, head="none")


@pytest.mark.parametrize("bf16", [False, True])
def test_the_gradients_are_the_same_and_little_is_kept(bf16: bool) -> None:
    ids = torch.randint(0, 50, (8, 24), generator=torch.Generator().manual_seed(1))
    segments = (torch.arange(24) < torch.arange(17, 25)[:, None]).long()

    def computed(*, again: bool) -> tuple[list[Tensor], int]:
        model = initialise(Transformer(CONFIG), 0).train()
        key_dropout(model, torch.arange(8))
        kept: dict[int, int] = {}

        def keep(tensor: Tensor) -> Tensor:
            kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
            return tensor

        around = QuickAttention if bf16 else nullcontext
        with recomputed(model, around) if again else nullcontext(), saved_tensors_hooks(keep, lambda tensor: tensor):
            with around(), torch.autocast("cpu", torch.bfloat16, enabled=bf16):
                loss = model.hidden(ids, segments=segments).square().sum()
            while_forward = sum(kept.values())
            loss.backward()
        assert not any("forward" in block.__dict__ for block in model.blocks)
        return [p.grad for p in model.parameters() if p.grad is not None], while_forward

    plain, much = computed(again=False)
    thrifty, little = computed(again=True)
    assert len(plain) == len(thrifty) and all(
        torch.equal(one, other) for one, other in zip(plain, thrifty, strict=True)
    )
    assert little < much / 4
