"""Every row of a damaged folder is accounted for, and each damaged one comes back byte for byte."""

from pathlib import Path

import pytest

from benchmarks.damage import account, damage


def check(folder: Path, rows: int, long: int) -> None:
    made = damage(folder / "data", rows, long=long)
    found = account(made, folder / "runs")
    assert found["rows"] == rows + 3 and found["kinds"] == 12 and 0.007 * rows < found["bad"] < 0.014 * rows
    assert {name: found[name] for name in ("lost", "strange", "unrecovered", "sum")} == {
        "lost": 0, "strange": 0, "unrecovered": 0, "sum": 0
    }  # fmt: skip


def test_every_damaged_row_is_accounted_for(tmp_path: Path) -> None:
    check(tmp_path, 4_000, 11 << 20)


@pytest.mark.long
def test_two_hundred_thousand_rows(tmp_path: Path) -> None:
    check(tmp_path, 200_000, 50 << 20)
