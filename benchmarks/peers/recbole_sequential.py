"""RecBole's SASRec, in an environment of its own: `recbole_sequential.py TASK.json OUT.json`.

The settings go over RecBole's own defaults. What goes in and what comes out: `contest.py`. RecBole is given each
user's history with the validation item at its end and leaves that out itself (`LS: valid_only`). TensorBoard, which
it imports and does not need here, is stood in for.
"""

import sys
import tempfile
import types
from pathlib import Path
from typing import Any

import torch
from contest import History, clock, compete, read, since

board = types.ModuleType("torch.utils.tensorboard")
board.SummaryWriter = type("SummaryWriter", (), {"__init__": lambda self, *_: None})  # type: ignore[attr-defined]
sys.modules["torch.utils.tensorboard"] = board

import recbole  # noqa: E402
from recbole.config import Config  # noqa: E402
from recbole.data import create_dataset, data_preparation  # noqa: E402
from recbole.data.interaction import Interaction  # noqa: E402
from recbole.model.sequential_recommender import SASRec  # noqa: E402
from recbole.trainer import Trainer  # noqa: E402
from recbole.utils import init_seed  # noqa: E402

AT_ONCE = 256
FIXED = {
    "USER_ID_FIELD": "user_id", "ITEM_ID_FIELD": "item_id", "TIME_FIELD": "timestamp", "use_gpu": False,
    "load_col": {"inter": ["user_id", "item_id", "timestamp"]}, "train_neg_sample_args": None,
    "eval_args": {"split": {"LS": "valid_only"}, "group_by": "user", "order": "TO", "mode": "full"},
    "show_progress": False, "state": "ERROR",
}  # fmt: skip


class RecBole:
    def __init__(self, histories: list[History], settings: dict[str, Any], seed: int, folder: Path) -> None:
        (folder / "data").mkdir()
        rows = [f"{user}\t{item}\t{place}" for user, items in enumerate(histories) for place, item in enumerate(items)]
        head = "user_id:token\titem_id:token\ttimestamp:float"
        (folder / "data" / "data.inter").write_text("\n".join([head, *rows]) + "\n", encoding="utf-8")
        places = {"data_path": str(folder), "checkpoint_dir": str(folder / "saved"), "seed": seed}
        self.config = Config(model="SASRec", dataset="data", config_dict={**FIXED, **places, **settings})
        init_seed(seed, reproducibility=True)
        self.data = create_dataset(self.config)
        self.train, _, _ = data_preparation(self.config, self.data)
        self.module = SASRec(self.config, self.train.dataset)
        self.trainer = Trainer(self.config, self.module)
        self.epochs = 0

    def epoch(self) -> tuple[float, float]:
        began = clock()
        self.trainer._train_epoch(self.train, self.epochs)
        self.epochs += 1
        return since(began)

    def ask(self, histories: list[History], k: int, new: bool) -> list[list[str]]:
        self.module.eval()
        known, names = self.data.field2token_id["item_id"], self.data.field2id_token["item_id"]
        length = self.config["MAX_ITEM_LIST_LENGTH"]
        lists: list[list[str]] = []
        for start in range(0, len(histories), AT_ONCE):
            some = [[known[item] for item in items if item in known] for items in histories[start : start + AT_ONCE]]
            ids = torch.zeros(len(some), length, dtype=torch.long)
            for row, items in enumerate(some):
                ids[row, : len(items[-length:])] = torch.tensor(items[-length:], dtype=torch.long)
            lengths = torch.tensor([max(1, len(items[-length:])) for items in some])
            with torch.no_grad():
                scores = self.module.full_sort_predict(Interaction({"item_id_list": ids, "item_length": lengths}))
            scores[:, 0] = -torch.inf
            for row, items in enumerate(some):
                if new:
                    scores[row, items] = -torch.inf
            best = scores.topk(k).indices.tolist()
            lists += [[str(names[item]) for item in line] if items else [] for line, items in zip(best, some)]  # noqa: B905
        return lists


def joined(train: list[History], valid: list[dict[str, Any]]) -> list[History]:
    """Each history with its validation items; both stand in the same order, and what is too short only trains."""
    rest = iter(valid)
    row = next(rest, None)
    histories = []
    for items in train:
        if row is not None and row["items"] == items:
            histories.append([*items, *row["next"]])
            row = next(rest, None)
        else:
            histories.append(items)
    return histories


if __name__ == "__main__":
    task = read(sys.argv[1])
    with tempfile.TemporaryDirectory() as folder:
        peer = RecBole(joined(task["train"], task["valid"]), task["settings"], task["seed"], Path(folder))
        compete(peer, task, sys.argv[2], recbole.__version__)
