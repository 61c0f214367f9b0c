"""Attention of a bf16 training on a CPU: computed in fp32, everything else as before."""

import torch
import torch.nn.functional as F

from zhumo.train.attention import Float32Attention
from zhumo.transformer import Config, Transformer, initialise


def _heads() -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(2, 3, 5, 8, generator=generator, requires_grad=True) for _ in range(3)]


def test_attention_is_that_of_fp32_and_the_rest_stays_bf16() -> None:
    query, key, value = _heads()
    mask = torch.ones(5, 5, dtype=torch.bool).tril()
    expected = F.scaled_dot_product_attention(query, key, value, mask)
    with Float32Attention(), torch.autocast("cpu", torch.bfloat16):
        found = F.scaled_dot_product_attention(query, key, value, mask, enable_gqa=False)
        product = query @ key.transpose(-1, -2)
    assert torch.equal(found, expected)
    assert product.dtype == torch.bfloat16
    with torch.autocast("cpu", torch.bfloat16):
        assert F.scaled_dot_product_attention(query, key, value, mask).dtype == torch.bfloat16  # gone outside


def test_gradients_of_a_model_come_no_further_from_those_of_fp32() -> None:
    config = Config(vocabulary=50, width=32, depth=2, heads=4, length=16, causal=False, head="none")
    ids = torch.randint(0, 50, (4, 12), generator=torch.Generator().manual_seed(1))
    segments = (torch.arange(12) < torch.tensor([[12], [9], [5], [1]])).long()

    def gradient(*, bf16: bool, widened: bool) -> torch.Tensor:
        model = initialise(Transformer(config), 0)
        mode = Float32Attention() if widened else torch.autocast("cpu", enabled=False)
        with mode, torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            model.hidden(ids, segments=segments).square()[..., :7].sum().backward()
        return torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])

    truth = gradient(bf16=False, widened=False)
    plain, widened = ((gradient(bf16=True, widened=w) - truth).norm() / truth.norm() for w in (False, True))
    assert widened <= plain * 1.2
    assert widened < 0.03
