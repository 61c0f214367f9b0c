"""Muon as it was published, in the numbers a processor is good at."""

import pytest
import torch
from torch import nn

from zhumo.train import muon
from zhumo.train.muon import Muon, orthogonal


def learned(optimizer: torch.optim.Optimizer, matrix: nn.Parameter) -> torch.Tensor:
    """The matrix after a few updates that pull it towards another."""
    generator = torch.Generator().manual_seed(1)
    wanted = torch.randn(matrix.shape, generator=generator)
    for _ in range(5):
        optimizer.param_groups[0]["lr"] = 0.01
        matrix.grad = matrix.detach() - wanted
        optimizer.step()
    return matrix.detach()


@pytest.mark.parametrize("shape", [(24, 40), (40, 24)])
def test_it_is_torchs_own_where_both_multiply_in_bf16(shape: tuple[int, int]) -> None:
    ours, theirs = (nn.Parameter(torch.ones(shape).triu()) for _ in range(2))
    mine = learned(Muon([ours], weight_decay=0.1, dtype=torch.bfloat16), ours)
    peer = torch.optim.Muon([theirs], weight_decay=0.1, adjust_lr_fn="match_rms_adamw")
    assert torch.equal(mine, learned(peer, theirs))
    again = nn.Parameter(torch.ones(shape).triu())
    exact = learned(Muon([again], weight_decay=0.1, dtype=torch.float32), again)
    assert not torch.equal(exact, mine)
    torch.testing.assert_close(exact, mine, atol=0.02, rtol=0)


@pytest.mark.parametrize("shape", [(16, 16), (30, 50), (50, 30)])
def test_singular_values_come_near_one_and_directions_stay(shape: tuple[int, int]) -> None:
    matrices = torch.randn(3, *shape, generator=torch.Generator().manual_seed(2))
    matrices[1] *= 1_000
    found = orthogonal(matrices, torch.float32)
    assert found.dtype == matrices.dtype and found.shape == matrices.shape
    for matrix, made in zip(matrices, found, strict=True):
        left, values, right = torch.linalg.svd(matrix, full_matrices=False)
        turned = left.T @ made @ right.T
        kept = values / values.norm() > 0.05  # what is nearly nothing stays small
        assert (turned.diagonal()[kept] > 0.5).all() and (turned.diagonal() < 1.5).all()
        assert (turned - turned.diagonal().diag()).abs().max() < 1e-4


@pytest.mark.parametrize("at_once", [1, muon.AT_ONCE])
def test_each_matrix_learns_as_it_would_alone(at_once: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(muon, "AT_ONCE", at_once)
    generator = torch.Generator().manual_seed(3)
    first = [torch.randn(shape, generator=generator) for shape in ((6, 9), (9, 6), (6, 9), (6, 9), (4, 4))]
    together = [nn.Parameter(matrix.clone()) for matrix in first]
    idle = nn.Parameter(torch.ones(6, 9))
    optimizer = Muon([together[0], idle, *together[1:]], weight_decay=0.1, dtype=torch.float32)
    for matrix in together:
        matrix.grad = matrix.detach().sin()
    optimizer.param_groups[0]["lr"] = 0.01
    optimizer.step()
    for matrix, before in zip(together, first, strict=True):
        alone = nn.Parameter(before.clone())
        alone.grad = before.sin()
        single = Muon([alone], weight_decay=0.1, dtype=torch.float32)
        single.param_groups[0]["lr"] = 0.01
        single.step()
        assert not torch.equal(matrix, before)
        torch.testing.assert_close(matrix, alone, atol=1e-6, rtol=0)
    assert torch.equal(idle, torch.ones(6, 9))
