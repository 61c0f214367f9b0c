"""A large matrix by a few vectors, in whole numbers."""

from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from tests.engine.test_native import here
from tests.engine.test_packed import stored
from zhumo.engine import Product, crew
from zhumo.weights.blocks import Q4_0, Q4_1, Q8_0, Format

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


@pytest.mark.parametrize("form", [Q8_0, Q4_1, Q4_0], ids=["Q8_0", "Q4_1", "Q4_0"])
def test_a_vector_says_the_same_with_however_many(form: Format) -> None:
    times, vectors = Product(stored(form, 300, 64)), _even(26, 64, 1)
    wanted = torch.cat([times(vector) for vector in vectors.split(1)])
    assert (wanted - vectors @ stored(form, 300, 64).T).abs().max() < 0.01
    for count in range(2, 27):  # through one, four, eight and sixteen at a time
        assert torch.equal(times(vectors[:count]), wanted[:count]), count


def test_where_nothing_was_compiled_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(crew, "library", lambda: None)
    with pytest.raises(ValueError, match="core"):
        Product(_even(3, 8, 0))
