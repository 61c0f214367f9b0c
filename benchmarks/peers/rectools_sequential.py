"""RecTools' sequential Transformers, in an environment of their own: `rectools_sequential.py TASK.json OUT.json`.

The settings are what `SASRecModel.from_config` takes. What goes in and what comes out: `contest.py`.
"""

import sys
from typing import ClassVar

import pandas as pd
import rectools
from contest import History, clock, compete, read, since
from pytorch_lightning import Callback, LightningModule, Trainer, seed_everything
from rectools import Columns
from rectools.dataset import Dataset
from rectools.models import SASRecModel


class Clock(Callback):
    """Seconds of the newest epoch, without what RecTools prepares before it. On the class: it copies its trainers."""

    began: ClassVar[tuple[float, float]]
    seconds: ClassVar[tuple[float, float]]

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        Clock.began = clock()

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        Clock.seconds = since(Clock.began)


def dataset(histories: list[History]) -> Dataset:
    rows = [(user, item, 1.0, place) for user, items in enumerate(histories) for place, item in enumerate(items)]
    frame = pd.DataFrame(rows, columns=[Columns.User, Columns.Item, Columns.Weight, Columns.Datetime])
    frame[Columns.Datetime] = pd.Timestamp("2000-01-01") + pd.to_timedelta(frame[Columns.Datetime], unit="s")
    return Dataset.construct(frame)


class RecTools:
    def __init__(self, train: list[History], settings: dict[str, object]) -> None:
        self.train = dataset(train)
        self.model = SASRecModel.from_config(settings)
        self.model._trainer = Trainer(  # RecTools' guide says to set it so
            accelerator="cpu", callbacks=[Clock()], enable_progress_bar=False, enable_model_summary=False,
            enable_checkpointing=False, logger=False,
        )  # fmt: skip

    def epoch(self) -> tuple[float, float]:
        self.model.fit_partial(self.train, min_epochs=1, max_epochs=1)
        self.module = self.model.torch_model
        return Clock.seconds

    def ask(self, histories: list[History], k: int, new: bool) -> list[list[str]]:
        asked = [user for user, items in enumerate(histories) if items]
        found = self.model.recommend(
            asked, dataset(histories), k=k, filter_viewed=new, on_unsupported_targets="ignore"
        ).sort_values([Columns.User, Columns.Rank])
        lists = found.groupby(Columns.User)[Columns.Item].agg(list).to_dict()
        return [lists.get(user, []) for user in range(len(histories))]


if __name__ == "__main__":
    task = read(sys.argv[1])
    seed_everything(task["seed"], verbose=False)
    compete(RecTools(task["train"], task["settings"]), task, sys.argv[2], rectools.VERSION)
