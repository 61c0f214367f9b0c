"""Cross-entropy some rows at a time: the loss and the gradients of the plain form, in a fraction of its memory."""

import subprocess
import sys

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from zhumo.transformer import linear_cross_entropy, loss


def given(rows: int, classes: int, width: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(rows)
    hidden, weight = torch.randn(rows, width, generator=generator), torch.randn(classes, width, generator=generator)
    targets = torch.randint(0, classes, (rows,), generator=generator)
    return hidden, 0.2 * weight, targets, torch.randn(classes, generator=generator)


@pytest.mark.parametrize("with_bias", [False, True])
@pytest.mark.parametrize("rows", [1, 7, 64, 65])
def test_loss_and_gradients_are_those_of_the_plain_form(
    rows: int, with_bias: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(loss.AT_ONCE, "cpu", 16 * 211)  # 16 rows at a time
    hidden, weight, targets, bias = given(rows, 211, 24)
    inputs = [hidden, weight, bias] if with_bias else [hidden, weight]
    plain, ours = ([value.clone().requires_grad_() for value in inputs] for _ in range(2))
    wanted = F.cross_entropy(F.linear(*plain), targets, reduction="sum")
    found = linear_cross_entropy(ours[0], ours[1], targets, *ours[2:])
    (wanted / rows).backward()
    (found / rows).backward()
    torch.testing.assert_close(found, wanted, rtol=1e-6, atol=0)
    for one, other in zip(ours, plain, strict=True):
        assert one.grad is not None
        torch.testing.assert_close(one.grad, other.grad, rtol=0, atol=1e-6)


def test_a_smoothed_target_is_that_of_the_plain_form() -> None:
    hidden, weight, targets, bias = given(9, 31, 8)
    plain, ours = ([value.clone().requires_grad_() for value in (hidden, weight, bias)] for _ in range(2))
    wanted = F.cross_entropy(F.linear(*plain), targets, reduction="sum", label_smoothing=0.2)
    found = linear_cross_entropy(ours[0], ours[1], targets, ours[2], smoothing=0.2)
    wanted.backward()
    found.backward()
    torch.testing.assert_close(found, wanted, rtol=1e-6, atol=0)
    for one, other in zip(ours, plain, strict=True):
        torch.testing.assert_close(one.grad, other.grad, rtol=0, atol=1e-6)


def test_the_gradient_is_the_slope_of_the_loss() -> None:
    hidden, weight, targets, bias = (value.double() if value.is_floating_point() else value for value in given(3, 5, 4))
    step = 1e-3
    hidden.requires_grad_()
    linear_cross_entropy(hidden, weight, targets, bias).backward()
    assert hidden.grad is not None
    moved = hidden.detach().clone()
    moved[1, 2] += step
    rise = linear_cross_entropy(moved, weight, targets, bias) - linear_cross_entropy(hidden, weight, targets, bias)
    assert rise.item() / step == pytest.approx(hidden.grad[1, 2].item(), abs=1e-3)


def test_what_is_frozen_gets_no_gradient() -> None:
    hidden, weight, targets, bias = given(9, 31, 8)
    hidden.requires_grad_()
    linear_cross_entropy(hidden, weight, targets, bias).backward()
    assert hidden.grad is not None and weight.grad is None and bias.grad is None
    with torch.no_grad():
        alone = linear_cross_entropy(hidden, weight, targets, bias)
    torch.testing.assert_close(alone, F.cross_entropy(F.linear(hidden, weight, bias), targets, reduction="sum"))


def test_without_gradients_none_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    given_grads = []
    part = loss._part
    monkeypatch.setattr(loss, "_part", lambda *args: given_grads.append(args[-1]) or part(*args))
    hidden, weight, targets, bias = given(9, 31, 8)
    weight.requires_grad_()
    with torch.no_grad():
        linear_cross_entropy(hidden, weight, targets, bias)
    linear_cross_entropy(hidden, weight, targets, bias)
    assert given_grads[0] == [None, None, None] and given_grads[-1][1] is not None


def test_the_gradient_is_given_once() -> None:
    hidden, weight, targets, _ = given(9, 31, 8)
    total = 2 * linear_cross_entropy(hidden, weight.requires_grad_(), targets)
    total.backward(retain_graph=True)
    with pytest.raises(TypeError):
        total.backward()


def test_bf16_comes_no_further_from_the_truth_than_the_plain_form() -> None:
    hidden, weight, targets, _ = given(64, 500, 32)

    def gradient(form: str, *, bf16: bool) -> Tensor:
        leaf = weight.clone().requires_grad_()
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            if form == "plain":
                total = F.cross_entropy(F.linear(hidden, leaf).float(), targets, reduction="sum")
            else:
                total = linear_cross_entropy(hidden, leaf, targets)
        total.backward()
        assert leaf.grad is not None and leaf.grad.dtype == torch.float32
        return leaf.grad

    truth = gradient("plain", bf16=False)
    plain, ours = ((gradient(form, bf16=True) - truth).norm() for form in ("plain", "ours"))
    assert 0 < ours <= 1.1 * plain


def test_the_table_of_logits_is_never_there() -> None:
    """At 2,048 positions and 49,152 tokens the plain form holds 403 MB of logits, and as much again going back."""
    code = (
        "import resource, torch\n"
        "from zhumo.transformer import linear_cross_entropy\n"
        "torch.set_num_threads(1)\n"
        "hidden, weight = torch.randn(2048, 8).requires_grad_(), torch.randn(49152, 8).requires_grad_()\n"
        "targets = torch.arange(2048)\n"
        "linear_cross_entropy(hidden[:9], weight, targets[:9]).backward()\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "linear_cross_entropy(hidden, weight, targets).backward()\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert int(done.stdout) * 1024 < 2048 * 49152 * 4 / 4
