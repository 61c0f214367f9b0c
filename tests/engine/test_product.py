"""A large matrix by a few vectors, in whole numbers."""

from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from tests.engine.test_native import here
from zhumo.engine import Product, crew

pytestmark = here


def _even(count: int, width: int, seed: int) -> Tensor:
    return F.normalize(torch.randn(count, width, generator=torch.Generator().manual_seed(seed)), dim=1)


@pytest.mark.parametrize(("rows", "width"), [(1, 8), (31, 32), (1_000, 50), (4_097, 64), (300, 384)])
def test_it_is_nearly_the_product(rows: int, width: int) -> None:
    matrix, vectors = _even(rows, width, 0), _even(9, width, 1)
    found, kept = Product(matrix)(vectors), vectors.clone()
    assert found.shape == (9, rows)
    assert (found - vectors @ matrix.T).abs().max() < 0.01
    assert torch.equal(vectors, kept)


def test_a_vector_says_the_same_in_any_company_and_from_any_thread() -> None:
    times, vectors = Product(_even(2_000, 40, 0)), _even(20, 40, 1)
    together = times(vectors)
    assert times(vectors[:0]).shape == (0, 2_000)
    with ThreadPoolExecutor(4) as threads:
        for place, alone in enumerate(threads.map(times, vectors.split(1))):
            assert torch.equal(alone[0], together[place])


def test_where_nothing_was_compiled_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(crew, "library", lambda: None)
    with pytest.raises(ValueError, match="core"):
        Product(_even(3, 8, 0))
