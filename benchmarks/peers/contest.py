"""What every sequential peer does alike: learn by epochs within a budget, keep the best one, answer. Needs torch alone.

TASK.json holds {"train": [histories], "valid": [{"items", "next"}], "test": [histories], "settings": the peer's own,
"epochs", "patience": epochs without a better validation, "minutes": CPU time a thread, "threads", "seed", "k",
"lead": "new" or "again", whether seen items are removed in the validation}. A history is a list of item ids, oldest
first.

A peer learns from `train`, is asked `valid` after every epoch (NDCG@10, at most 5,000 rows), and
answers `test` with the weights of its best epoch: when it has run its epochs, when patience or minutes are over, or
when it is told to end (SIGTERM). OUT.json holds {"answers": {"new": lists, "again": lists}, "curve": one entry an
epoch, ...}; the seconds of the curve are those of training alone, without the validation.
"""

import json
import math
import signal
import time
from pathlib import Path
from types import FrameType
from typing import Any, Protocol

import torch

VALIDATED = 5_000

History = list[str]


class Peer(Protocol):
    """A model that can be trained an epoch at a time."""

    module: torch.nn.Module

    def epoch(self) -> tuple[float, float]:
        """One epoch; its wall and CPU seconds."""

    def ask(self, histories: list[History], k: int, new: bool) -> list[list[str]]:
        """The best k items of each history, of those not in it if `new`; none where it knows no item of it."""


class Over(Exception):
    """The budget is spent, or somebody asked for the end; says which."""


def over(number: int, _frame: FrameType | None) -> None:
    raise Over("minutes" if number == signal.SIGPROF else "hand")


def clock() -> tuple[float, float]:
    return time.perf_counter(), time.process_time()


def since(began: tuple[float, float]) -> tuple[float, float]:
    now = clock()
    return now[0] - began[0], now[1] - began[1]


def read(path: str) -> dict[str, Any]:
    """The task; threads and seeds are set as it says."""
    task: dict[str, Any] = json.loads(Path(path).read_text(encoding="utf-8"))
    torch.set_num_threads(task["threads"])
    torch.manual_seed(task["seed"])
    return task


def compete(peer: Peer, task: dict[str, Any], out: str, version: str) -> None:
    """Learn, choose, answer, write."""
    signal.signal(signal.SIGPROF, over)
    signal.signal(signal.SIGTERM, over)
    signal.setitimer(signal.ITIMER_PROF, task["minutes"] * 60 * task["threads"])
    curve, weights, ended = learn(peer, task)
    signal.setitimer(signal.ITIMER_PROF, 0)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    if not curve:
        raise SystemExit("not one epoch within the budget")
    peer.module.load_state_dict(weights)
    answers = {name: peer.ask(task["test"], task["k"], name == "new") for name in ("new", "again")}
    told = ("settings", "epochs", "patience", "minutes", "threads", "seed")
    found = {"answers": answers, "curve": curve, "ended": ended, "version": version, **{key: task[key] for key in told}}
    Path(out).write_text(json.dumps(found), encoding="utf-8")


def learn(peer: Peer, task: dict[str, Any]) -> tuple[list[dict[str, float]], dict[str, torch.Tensor], str]:
    """The curve over epochs, the weights of the best one, and why it ended there."""
    asked = task["valid"][:: 1 + len(task["valid"]) // VALIDATED]
    histories, wanted = [row["items"] for row in asked], [row["next"] for row in asked]
    curve: list[dict[str, float]] = []
    weights: dict[str, torch.Tensor] = {}
    wall, cpu, best, best_epoch = 0.0, 0.0, -1.0, 0
    try:
        for epoch in range(1, task["epochs"] + 1):
            seconds = peer.epoch()
            wall, cpu = wall + seconds[0], cpu + seconds[1]
            value = ndcg(peer.ask(histories, 10, task["lead"] == "new"), wanted)
            if value > best:
                weights = {name: tensor.clone() for name, tensor in peer.module.state_dict().items()}
                best, best_epoch = value, epoch
            curve.append({"epoch": epoch, "wall": round(wall, 2), "cpu": round(cpu, 2), "ndcg@10": round(value, 5)})
            print(json.dumps(curve[-1]), flush=True)
            if epoch - best_epoch >= task["patience"]:
                return curve, weights, "patience"
    except Over as error:
        return curve, weights, str(error)
    return curve, weights, "epochs"


def ndcg(lists: list[list[str]], wanted: list[list[str]]) -> float:
    """The mean over rows; only chooses the epoch, the answers are measured by the script that asked for them."""

    def gain(list_: list[str], right: list[str]) -> float:
        best = sum(1 / math.log2(place + 2) for place in range(min(len(right), 10)))
        return sum(1 / math.log2(place + 2) for place, item in enumerate(list_[:10]) if item in right) / best

    return sum(map(gain, lists, wanted)) / len(lists)
