"""Step 3, learn: from the first weights in `build/` and the examples in `prepare/` to the final weights in `train/`.

With `build.lora` only adapters and a task's own head learn; the adapters are saved beside the model and folded into it.
With `train.search` the hyper-parameters are chosen first.
"""

import logging
import time
from pathlib import Path
from typing import Any

import torch

from zhumo.bundle import save as save_bundle
from zhumo.errors import RunError
from zhumo.prepare import each_row
from zhumo.recipe import Recipe
from zhumo.run import Run
from zhumo.train import checkpoint
from zhumo.train.loop import Training
from zhumo.train.plot import plot_loss
from zhumo.train.ready import ADAPTER, ready
from zhumo.train.search import Search
from zhumo.train.stop import listening
from zhumo.train.trouble import explained
from zhumo.transformer.fast import slow_down
from zhumo.transformer.lora import merge_lora
from zhumo.weights.adapter import write_adapter
from zhumo.words import say

log = logging.getLogger(__name__)


def train(recipe: Recipe, run: Run, progress: bool = True) -> None:
    """Make `train/` of a run, or go on making it. progress: say on stderr how it goes.

    Raises:
        Interrupted: Ctrl-C or SIGTERM; all is saved.
        TrainError: loss or gradient are not finite, again and again.
        DataError: there are no examples to learn from.
        RunError: the recipe asks for a GPU that is not there, another process works on the run, or disk or memory are
            at their end.
    """
    # It goes on in a folder as it lies, so two processes would write into each other.
    with explained(run.folder), run.lock():
        step = run.begin("train", recipe, resume=True)
        if step.done:
            return
        if recipe.train.device == "cuda" and not torch.cuda.is_available():
            raise RunError("train.no_cuda")
        threads = torch.get_num_threads()
        with torch.random.fork_rng([0] if recipe.train.device == "cuda" else []):
            try:
                step.finish(**_train(recipe, run, step.folder, progress))
            finally:
                torch.set_num_threads(threads)


def _train(recipe: Recipe, run: Run, folder: Path, progress: bool) -> dict[str, Any]:
    began, built, chosen = time.monotonic(), run.step("build"), {}
    with listening() as stop:
        if recipe.train.search:
            search = Search(recipe, run, folder)
            recipe, built = search.choose(stop, progress)
            chosen = search.facts()
        training = ready(recipe, run.step("prepare"), built, folder)
        training.begin(began)
        training.learn(stop, progress)
    if kept := training.best or training.average:
        training.learner.put(kept)
    if training.published and training.best and training.state.best_step == 0:
        log.warning(say("cli.train.not_better"))
    if recipe.build.lora is not None:
        write_adapter(folder / ADAPTER, training.bundle.model, training.bundle.family, recipe.build.start)
        merge_lora(training.bundle.model)
    finish(training, run.step("prepare"))
    return {**training.facts(), **chosen}


def finish(training: Training, prepared: Path) -> None:
    """The last act: what the task settles on validation rows, the model folder, the picture."""
    bundle = training.bundle
    assert bundle.task is not None
    slow_down(bundle.model)
    bundle.model.to("cpu").eval()  # where it will be served
    if training.rows:
        with torch.no_grad():
            bundle.task.calibrate(bundle.model, training.rows)
        bundle.task.refresh(each_row(prepared / "train.jsonl"), training.rows)
    save_bundle(training.folder, bundle.model, bundle.family, bundle.tokenizer, bundle.task)
    plot_loss(training.folder / "metrics.jsonl", training.folder / "loss.svg")
    checkpoint.sweep(training.checkpoints, keep=1)  # the last one, which holds the best weights too
