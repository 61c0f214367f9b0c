"""Checkpoints: whole or not there; damage is seen, named and put aside; older ones go only when the new one stands."""

import json
import logging
import os
from pathlib import Path

import numpy as np
import pytest
import torch

from zhumo.errors import RunError
from zhumo.run import digest
from zhumo.train import checkpoint


def write(folder: Path, step: int) -> Path:
    generator = torch.Generator().manual_seed(step)
    tensors = {"model": {"a": torch.randn(7, 5, generator=generator), "b": torch.randn(3, generator=generator)}}
    return checkpoint.save(folder, step, tensors, {"step": step, "loss": 0.1 + step})


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_there_and_back(tmp_path: Path) -> None:
    write(tmp_path, 3)
    found = checkpoint.newest(tmp_path)
    assert found is not None and found.name == "step-00000003"
    tensors, state = checkpoint.read(found)
    assert state == {"step": 3, "loss": 3.1}
    assert torch.equal(tensors["model"]["a"], torch.randn(7, 5, generator=torch.Generator().manual_seed(3)))


def test_the_last_two_are_kept(tmp_path: Path) -> None:
    for step in (1, 9, 10, 11):
        write(tmp_path, step)
    assert names(tmp_path) == ["step-00000010", "step-00000011"]


def test_half_written_ones_are_swept(tmp_path: Path) -> None:
    write(tmp_path, 1)
    (tmp_path / ".tmp-2-99").mkdir()
    (tmp_path / ".tmp-2-99" / "model.safetensors").write_bytes(b"half")
    checkpoint.sweep(tmp_path, keep=checkpoint.KEEP)
    assert names(tmp_path) == ["step-00000001"]
    assert checkpoint.newest(tmp_path / "nowhere") is None


@pytest.mark.parametrize("seed", range(6))
def test_a_flipped_bit_anywhere_is_seen(tmp_path: Path, seed: int) -> None:
    path = write(tmp_path, 1)
    assert checkpoint.damage(path) is None
    files = sorted(path.iterdir())
    generator = np.random.default_rng(seed)
    for _ in range(50):
        victim = files[generator.integers(len(files))]
        content = bytearray(victim.read_bytes())
        place = generator.integers(len(content))
        before = bytes(content)
        content[place] ^= 1 << generator.integers(8)
        victim.write_bytes(content)
        assert checkpoint.damage(path) == victim.name, (victim.name, place)
        victim.write_bytes(before)
    assert checkpoint.damage(path) is None


@pytest.mark.parametrize("file", ["model.safetensors", "state.json", "manifest.json"])
def test_a_damaged_one_is_put_aside_for_the_one_before(
    tmp_path: Path, file: str, caplog: pytest.LogCaptureFixture
) -> None:
    write(tmp_path, 1)
    victim = write(tmp_path, 2) / file
    victim.write_bytes(victim.read_bytes()[:-1])
    with caplog.at_level(logging.WARNING):
        found = checkpoint.newest(tmp_path)
    assert found is not None and found.name == "step-00000001"
    assert file in caplog.text and "step-00000002" in caplog.text
    assert names(tmp_path) == ["step-00000001", "step-00000002.corrupt"]
    write(tmp_path, 2)  # the step is made again, and damaged again
    (tmp_path / "step-00000002" / file).unlink()
    assert checkpoint.newest(tmp_path) == found
    assert names(tmp_path) == ["step-00000001", f"step-00000002.{os.getpid()}.corrupt", "step-00000002.corrupt"]


def test_a_newer_format_is_not_called_damage(tmp_path: Path) -> None:
    path = write(tmp_path, 1) / "manifest.json"
    manifest = {"format": 99, "files": {}}
    path.write_text(json.dumps({**manifest, "digest": digest(manifest)}))
    with pytest.raises(RunError, match="newer"):
        checkpoint.newest(tmp_path)


def test_a_failed_save_leaves_the_earlier_ones(tmp_path: Path) -> None:
    write(tmp_path, 1)
    with pytest.raises(TypeError):
        checkpoint.save(tmp_path, 2, {}, {"not": object()})
    found = checkpoint.newest(tmp_path)
    assert found is not None and found.name == "step-00000001"
