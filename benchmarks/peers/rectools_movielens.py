"""RecTools' SASRec on MovieLens-100K, in an environment of its own: `python rectools_movielens.py ROWS.json OUT.json`.

Settings as its tutorials give them for full softmax: 128 wide, 2 blocks, 100 items, 30 epochs. It learns from each
user's history less the last two items and is asked with the history less the last one; seen items are removed.
"""

import json
import sys
import time
from pathlib import Path

import pandas as pd
import torch
from rectools import Columns
from rectools.dataset import Dataset
from rectools.models import SASRecModel


def dataset(histories: dict[str, list[str]]) -> Dataset:
    rows = [(user, item, 1.0, place) for user, items in histories.items() for place, item in enumerate(items)]
    frame = pd.DataFrame(rows, columns=[Columns.User, Columns.Item, Columns.Weight, Columns.Datetime])
    frame[Columns.Datetime] = pd.Timestamp("2000-01-01") + pd.to_timedelta(frame[Columns.Datetime], unit="h")
    return Dataset.construct(frame)


if __name__ == "__main__":
    torch.manual_seed(0)
    histories: dict[str, list[str]] = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    model = SASRecModel(
        n_factors=128, n_blocks=2, n_heads=4, session_max_len=100, loss="softmax", epochs=30, lr=1e-3, batch_size=128,
        dropout_rate=0.2, deterministic=True, verbose=0,
    )  # fmt: skip
    began = time.perf_counter()
    model.fit(dataset({user: items[:-1] for user, items in histories.items()}))
    seconds = time.perf_counter() - began
    found = model.recommend(list(histories), dataset(histories), k=10, filter_viewed=True)
    answers = {
        str(user): group.sort_values(Columns.Rank)[Columns.Item].tolist() for user, group in found.groupby(Columns.User)
    }
    Path(sys.argv[2]).write_text(json.dumps({"seconds": seconds, "answers": answers}), encoding="utf-8")
