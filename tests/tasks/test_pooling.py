"""Texts of any lengths as vectors: what is alike in length goes through the model together."""

from contextlib import nullcontext

import pytest
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from zhumo.tasks.pooling import TOGETHER, Pooling, pool, pool_all
from zhumo.train.recompute import recomputed
from zhumo.transformer import Config, Transformer, initialise, key_dropout

CONFIG = Config(vocabulary=50, width=16, depth=2, heads=2, length=300, dropout=0.3, causal=False, head="none")
Texts = tuple[Tensor, Tensor]


def _texts(*lengths: int, seed: int = 0) -> Texts:
    generator = torch.Generator().manual_seed(seed)
    rows = [torch.randint(1, 50, (length,), generator=generator) for length in lengths]
    segments = [torch.ones_like(row) for row in rows]
    return pad_sequence(rows, batch_first=True), pad_sequence(segments, batch_first=True)


QUESTIONS, ANSWERS, WRONG = _texts(3, 30, 7, 1), _texts(280, 20, 299, 4, seed=1), _texts(12, 0, 0, 290, seed=2)


@pytest.mark.parametrize("pooling", ["mean", "cls", "last"])
@pytest.mark.parametrize("training", [False, True])
def test_each_text_gets_the_vector_it_has_alone(
    pooling: Pooling, training: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = initialise(Transformer(CONFIG), 0).train(training)
    keys = torch.tensor([5, 2**40, 11, 7])
    key_dropout(model, keys)
    monkeypatch.setitem(TOGETHER, "cpu", 64)
    found = pool_all(model, [QUESTIONS, ANSWERS, WRONG], pooling)
    for (ids, segments), vectors in zip((QUESTIONS, ANSWERS, WRONG), found, strict=True):
        for row in range(4):
            length = int(segments[row].sum())
            key_dropout(model, keys[row : row + 1])
            if length:
                [alone] = pool(model, ids[row : row + 1, :length], segments[row : row + 1, :length], pooling)
                torch.testing.assert_close(vectors[row], alone, atol=1e-5, rtol=0)
            else:
                assert not vectors[row].any()


def test_the_keys_are_the_samples_again_behind_it() -> None:
    model = initialise(Transformer(CONFIG), 0).train()
    key_dropout(model, torch.arange(4))
    before = pool(model, *QUESTIONS, None)
    pool_all(model, [QUESTIONS, ANSWERS], None)
    assert torch.equal(pool(model, *QUESTIONS, None), before)


def test_little_is_padded_and_no_pass_is_large(monkeypatch: pytest.MonkeyPatch) -> None:
    model, sizes, looks = initialise(Transformer(CONFIG), 0).eval(), [], []
    hidden = Transformer.hidden
    model.stem.tokens.register_forward_hook(lambda _, ids, __: looks.append(ids))

    def watched(self: Transformer, ids: Tensor, **rest: object) -> Tensor:
        sizes.append(ids.shape[:2])
        return hidden(self, ids, **rest)  # type: ignore[arg-type]

    monkeypatch.setattr(Transformer, "hidden", watched)
    lengths = torch.randint(5, 299, (64,), generator=torch.Generator().manual_seed(0)).tolist()
    with torch.no_grad():
        pool_all(model, [_texts(*lengths), _texts(*[length // 5 + 1 for length in lengths])], None)
    real = sum(lengths) + sum(length // 5 + 1 for length in lengths)
    assert real <= sum(rows * time for rows, time in sizes) < 1.25 * real
    assert max(rows * time for rows, time in sizes) <= TOGETHER["cpu"]
    assert len(looks) == 1


def test_recomputed_blocks_are_dropped_out_as_before(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(TOGETHER, "cpu", 64)

    def computed(*, again: bool) -> list[Tensor]:
        model = initialise(Transformer(CONFIG), 0).train()
        key_dropout(model, torch.arange(4))
        with recomputed(model, nullcontext) if again else nullcontext():
            sum(vectors.square().sum() for vectors in pool_all(model, [QUESTIONS, ANSWERS], None)).backward()  # type: ignore[union-attr]
        return [p.grad for p in model.parameters() if p.grad is not None]

    plain, thrifty = computed(again=False), computed(again=True)
    assert plain and all(torch.equal(one, other) for one, other in zip(plain, thrifty, strict=True))
