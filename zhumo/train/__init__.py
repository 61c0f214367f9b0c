"""Step 3, train: a plain function of (recipe, run), so that it can run anywhere."""

from zhumo.train.loop import TrainError
from zhumo.train.step import train

__all__ = ["TrainError", "train"]
