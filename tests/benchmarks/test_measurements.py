"""A measurement takes the place of its last one; of a speed, of its last one on that kind of processor."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks import harness


def test_a_speed_is_kept_once_per_processor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["serving"])
    monkeypatch.setattr(harness, "RESULTS", tmp_path)
    names = ("overload.p99", "drains.cut")

    def measured(cpu: str, value: float) -> list[dict[str, Any]]:
        monkeypatch.setattr(harness, "machine", lambda: {"cpu": cpu})
        bench = harness.Bench("serving", "")
        for name in names:
            bench.row(name, value, ratio=value)
        found: list[dict[str, Any]] = json.loads((tmp_path / "serving.json").read_text())["rows"]
        return found

    measured("A", 1.0)
    measured("B", 2.0)
    rows = measured("A", 3.0)
    assert [(row["name"], row["cpu"], row["value"]) for row in rows] == [
        ("overload.p99", "A", 3.0), ("overload.p99", "B", 2.0), ("drains.cut", "A", 3.0)
    ]  # fmt: skip


def test_a_name_that_no_row_begins_with_is_told(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["learning", "--only", "encoder"])
    with pytest.raises(SystemExit, match="2"):
        harness.Bench("learning", "")
    assert "nearest: learn.encoder" in capsys.readouterr().err
