"""The shops of the benchmarks: real files as interactions, and a generator that repeats itself."""

from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from benchmarks import shops


def test_amazon_is_what_its_source_says(shared: Path, tmp_path: Path) -> None:
    shops.beauty(tmp_path)
    found = list(shops.lines(tmp_path / shops.INTERACTIONS))
    assert len({row["user"] for row in found}) == 22_363
    assert len({row["item"] for row in found}) == 12_101
    assert len(found) == 198_502
    assert [row["item"] for row in found if row["user"] == "2"] == ["6", "7", "8", "9", "10", "4", "11"]
    assert len((tmp_path / shops.ITEMS).read_text(encoding="utf-8").splitlines()) == 12_101


def test_held_out_items_are_a_fifth() -> None:
    share = sum(shops.held_out(str(item)) for item in range(10_000)) / 10_000
    assert share == pytest.approx(0.2, abs=0.01)


def test_synthetic_repeats_itself_in_whatever_parts(tmp_path: Path) -> None:
    shops.synthetic(tmp_path / "a.parquet", 40_000, 20_000, at_once=20_000)
    shops.synthetic(tmp_path / "b.parquet", 40_000, 20_000, at_once=20_000)
    table = pq.read_table(tmp_path / "a.parquet")
    assert table.equals(pq.read_table(tmp_path / "b.parquet"))
    assert table.num_rows == 40_000
    assert len(table["user"].unique()) == 2_000


def test_synthetic_has_bestsellers_and_habits(tmp_path: Path) -> None:
    shops.synthetic(tmp_path / "a.parquet", 100_000, 5_000)
    table = pq.read_table(tmp_path / "a.parquet")
    item = table["item"].to_numpy()
    assert item.max() < 5_000
    counts = np.sort(np.bincount(item, minlength=5_000))[::-1]
    assert counts[:500].sum() > 0.4 * len(item)  # a tenth of the items has much of the trade
    user = table["user"].to_numpy()
    same = user[1:] == user[:-1]
    after = Counter(zip(item[:-1][same].tolist(), item[1:][same].tolist(), strict=True))
    habits = sum(1 for (first, second), _ in after.items() if second % 1_000 == (first % 1_000 * 7 + 13) % 1_000)
    assert sum(after.values()) == same.sum()
    habitual = sum(count for (a, b), count in after.items() if b % 1_000 == (a % 1_000 * 7 + 13) % 1_000)
    assert habits > 0 and habitual > 0.3 * same.sum()
