"""Step 3, train: a plain function of (recipe, run), so that it can run anywhere."""

from zhumo.train.loop import TrainError, train
from zhumo.train.stop import Interrupted

__all__ = ["Interrupted", "TrainError", "train"]
