"""Losses as pictures, over steps and over learning rates: SVG whose text stays text."""

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import matplotlib
import numpy as np
import orjson
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from zhumo.train.rate import Tried
from zhumo.words import say

POINTS = 400  # a longer curve is drawn as means of its parts


def plot_loss(metrics: Path, target: Path) -> None:
    """Draw training and validation loss over the steps."""
    lines = [orjson.loads(line) for line in metrics.read_bytes().splitlines()]
    seen = np.array([(line["step"], line["loss"]) for line in lines if line.get("loss") is not None])
    valid = np.array([(line["step"], line["valid_loss"]) for line in lines if line.get("valid_loss") is not None])
    with _axes(target) as axes:
        if len(seen):
            parts = np.array([part.mean(axis=0) for part in np.array_split(seen, min(POINTS, len(seen)))])
            axes.plot(parts[:, 0], parts[:, 1], color="#7a8ba6", linewidth=1, label=say("report.loss.train"))
        if len(valid):
            axes.plot(valid[:, 0], valid[:, 1], color="#c8452d", marker=".", label=say("report.loss.valid"))
        axes.set(xlabel=say("report.loss.step"), ylabel=say("report.loss.loss"))
        if len(seen) or len(valid):
            axes.legend(frameon=False)


def plot_rates(tried: Sequence[Tried], taken: float, target: Path) -> None:
    """Draw the loss over the learning rates that were tried, and a line at the one that is taken."""
    with _axes(target) as axes:
        axes.plot([one.rate for one in tried], [one.loss for one in tried], color="#7a8ba6")
        axes.axvline(taken, color="#c8452d", linewidth=1)
        axes.set(xscale="log", xlabel=say("report.loss.rate"), ylabel=say("report.loss.loss"))


@contextmanager
def _axes(target: Path) -> Iterator[Axes]:
    """Axes whose picture is written once they are drawn on."""
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "zhumo", "font.family": "sans-serif"}):
        figure = Figure(figsize=(7, 4), layout="constrained")
        axes = figure.subplots()
        yield axes
        axes.spines[["top", "right"]].set_visible(False)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Glyph .* missing")  # the reader's browser has the font, not this machine
            figure.savefig(target, format="svg", metadata={"Date": None})
