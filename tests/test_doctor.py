"""The doctor on this machine, and on machines that lack something."""

import json
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from zhumo import doctor
from zhumo.cli import app
from zhumo.errors import RunError
from zhumo.words import LANGUAGES, words


def test_this_machine_is_looked_at_all_over_and_can_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZHUMO_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("ZHUMO_DATA", raising=False)
    found = {one.name: one for one in doctor.examine(tmp_path / "runs")}
    wanted = {"python", "packages", "torch", "threads", "memory", "disk", "cache", "data", "compiler", "core", "fonts",
              "screen", "extras", "port"}  # fmt: skip
    assert found.keys() - {"gpu", "gpu_use"} == wanted
    assert not [one for one in found.values() if one.state == "broken"]
    assert found["data"].state == "note" and not (tmp_path / "runs").exists() and not (tmp_path / "cache").exists()
    assert found["threads"].facts["best"] <= found["threads"].facts["cores"]
    for one in found.values():
        assert all("{" not in one.say(language) for language in LANGUAGES)


def test_every_finding_has_its_sentences_and_what_is_not_fine_a_remedy() -> None:
    for key, said in words("en").items():
        area, _, rest = key.partition(".")
        if area == "doctor" and not rest.endswith(".fine"):
            assert ". " in said and ("请" in words("zh")[key] or "建议" in words("zh")[key]), key


def test_what_is_in_the_way_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "file"
    file.write_text("")
    monkeypatch.setenv("ZHUMO_DATA", str(file))
    assert doctor.data().state == "broken"
    with socket.socket() as door:
        door.bind(("127.0.0.1", 0))
        door.listen()
        port = door.getsockname()[1]
        assert doctor.ports(port).state == "note" and str(port) in doctor.ports(port).say("zh")
    assert doctor.ports(port).state == "fine"
    monkeypatch.setattr(doctor, "LEAST", 1e18)
    assert [one.state for one in (doctor.memory(), doctor.disk(tmp_path))] == ["broken", "broken"]
    monkeypatch.setattr(doctor, "PYTHON", (4, 0))
    assert doctor.python().state == "broken" and "4.0" in doctor.python().say("en")


def test_a_gpu_is_named_and_one_that_torch_does_not_see_is_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = {"is_available": lambda: False, "get_device_name": lambda: "Card 7", "mem_get_info": lambda: (3e9, 8e9)}
    for name, answer in seen.items():
        monkeypatch.setattr(torch.cuda, name, answer)
    monkeypatch.setattr(doctor, "DRIVER", tmp_path / "version")
    assert doctor.gpu() is None, "none is needed"
    (tmp_path / "version").write_text("580.1")
    found = doctor.gpu()
    assert found is not None and found.state == "note" and str(tmp_path) in found.say("zh")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    found = doctor.gpu()
    assert found is not None and found.state == "fine" and "Card 7, 3.0 of 8.0 GB" in found.say("en")

    def refuses() -> None:
        raise RuntimeError("CUDA error: all CUDA-capable devices are busy or unavailable\nSearch for it")

    monkeypatch.setattr(torch.cuda, "mem_get_info", refuses)
    found = doctor.gpu()
    assert found is not None and found.state == "note" and "busy or unavailable. See" in found.say("en")


def test_the_command_ends_with_one_where_something_is_broken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZHUMO_DATA", str(tmp_path / "nowhere"))
    result = CliRunner().invoke(app, ["doctor", "--json", "--runs", str(tmp_path)])
    assert result.exit_code == 1 and isinstance(result.exception, RunError)
    states = {one["name"]: one["state"] for one in json.loads(result.output)}
    assert states["data"] == "broken" and states["torch"] == "fine"


def test_a_torch_that_cannot_be_loaded_is_a_finding(tmp_path: Path) -> None:
    (tmp_path / "torch.py").write_text("raise ImportError('libtorch_cpu.so: no such file')\n")
    code = "from zhumo.doctor import threads, torch_build; print(torch_build().say('en')); print(threads().state)"
    path = {"PYTHONPATH": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", code], env=path, capture_output=True, text=True)
    said, state = done.stdout.splitlines()
    assert "libtorch_cpu.so" in said and "pip install" in said and state == "broken"


def test_what_the_machine_refuses_is_one_sentence(tmp_path: Path) -> None:
    """A folder that is not there: no traceback, and exit code 1."""
    (tmp_path / "rows.csv").write_text("text,label\n" + "good day,b\nbad day,c\n" * 9)
    command = [sys.executable, "-m", "zhumo", "new", "classify", str(tmp_path / "rows.csv"), "-o", "no/a.yaml"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 1 and "Traceback" not in done.stderr and "zhumo doctor" in done.stderr
