"""A peer learns by epochs, the best one answers, patience and budget end it. The peer here is a table of numbers."""

import importlib.util
import json
import os
import signal
import threading
from pathlib import Path
from types import ModuleType

import pytest
import torch

PEERS = Path(__file__).parents[2] / "benchmarks" / "peers"


@pytest.fixture(scope="module")
def contest() -> ModuleType:
    spec = importlib.util.spec_from_file_location("contest", PEERS / "contest.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Slider:
    """Puts the right item at the place that its epoch says: 3, 1, 2, 2, 2 ..."""

    def __init__(self, endless: bool = False) -> None:
        self.module = torch.nn.Linear(1, 1, bias=False)
        self.epochs = 0
        self.endless = endless

    def epoch(self) -> tuple[float, float]:
        self.epochs += 1
        while self.endless and self.epochs > 1:
            pass
        torch.nn.init.constant_(self.module.weight, {1: 3.0, 2: 1.0}.get(self.epochs, 2.0))
        return 1.0, 0.5

    def ask(self, histories: list[list[str]], k: int, new: bool) -> list[list[str]]:
        place = int(self.module.weight.item())
        return [["x"] * place + ["right"] for _ in histories]


def task(**settings: object) -> dict[str, object]:
    return {"train": [["a", "b"]], "valid": [{"items": ["a"], "next": ["right"]}], "test": [["a"]], "settings": {},
            "epochs": 9, "patience": 3, "minutes": 1.0, "threads": 1, "seed": 0, "k": 10, "lead": "new",
            **settings}  # fmt: skip


def test_the_best_epoch_answers(contest: ModuleType, tmp_path: Path) -> None:
    contest.compete(Slider(), task(), str(tmp_path / "out.json"), "1")
    found = json.loads((tmp_path / "out.json").read_text(encoding="utf-8"))
    assert found["ended"] == "patience"
    assert [entry["epoch"] for entry in found["curve"]] == [1, 2, 3, 4, 5]
    assert found["curve"][-1]["wall"] == 5.0
    assert found["answers"]["new"] == [["x", "right"]]


def test_who_ends_it_by_hand_gets_answers(contest: ModuleType, tmp_path: Path) -> None:
    alarm = threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGTERM))
    alarm.start()
    contest.compete(Slider(endless=True), task(), str(tmp_path / "out.json"), "1")
    assert json.loads((tmp_path / "out.json").read_text(encoding="utf-8"))["ended"] == "hand"


def test_the_budget_ends_it_in_the_middle_of_an_epoch(contest: ModuleType, tmp_path: Path) -> None:
    contest.compete(Slider(endless=True), task(minutes=0.005), str(tmp_path / "out.json"), "1")
    found = json.loads((tmp_path / "out.json").read_text(encoding="utf-8"))
    assert found["ended"] == "minutes"
    assert len(found["curve"]) == 1
    assert found["answers"]["new"] == [["x", "x", "x", "right"]]
