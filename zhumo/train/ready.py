"""Everything a training needs, from the folders of the steps before it."""

from copy import deepcopy
from pathlib import Path

from zhumo.build.teacher import TEACHER
from zhumo.bundle import Bundle, load
from zhumo.errors import ModelError
from zhumo.prepare import read_rows
from zhumo.recipe import Recipe
from zhumo.tasks.examples import Examples
from zhumo.train.loop import Training
from zhumo.transformer import Transformer
from zhumo.transformer.lora import add_lora
from zhumo.weights.adapter import write_adapter

ADAPTER = "adapter"


def ready(recipe: Recipe, prepared: Path, built: Path, folder: Path) -> Training:
    """A training in `folder`, of the first weights in `built` on the examples in `prepared`.

    Raises:
        ModelError: the recipe asks for adapters, and this model cannot carry them; or to freeze more blocks than
            there are; or for vectors wider than the model.
    """
    bundle = load(built)
    _set_widths(recipe.train.widths, bundle)
    _adapt(recipe, bundle, folder / ADAPTER)
    _freeze(recipe.build.freeze, bundle.model)
    examples, valid = (Examples(prepared / f"{name}.safetensors") for name in ("train", "valid"))
    rows, elder = read_rows(prepared / "valid.jsonl"), _elder(bundle, built / TEACHER)
    return Training(recipe, bundle, examples, valid, rows, folder, elder)


def _elder(bundle: Bundle, teacher: Path) -> Transformer | None:
    """The model beside the one that learns: its teacher; what it is now; or None. What is frozen is not held twice."""
    if teacher.is_dir():
        return load(teacher).model.requires_grad_(False)
    if bundle.task is None or not bundle.task.keeps_start:
        return None
    frozen = {id(parameter): parameter for parameter in bundle.model.parameters() if not parameter.requires_grad}
    return deepcopy(bundle.model, frozen).requires_grad_(False)


def _adapt(recipe: Recipe, bundle: Bundle, folder: Path) -> None:
    """Put adapters on where the recipe asks for them."""
    lora = recipe.build.lora
    if lora is None:
        return
    try:
        add_lora(bundle.model, lora.rank, lora.alpha, lora.targets, recipe.seed)
    except ValueError as error:
        raise ModelError("train.no_lora", problem=error) from error
    # Written before they have learned: a family whose adapters fit no PEFT file is refused now, not at the end.
    write_adapter(folder, bundle.model, bundle.family, recipe.build.start)


def _set_widths(widths: list[int], bundle: Bundle) -> None:
    """What the loss and the report of `embed` cut vectors to."""
    if not widths:
        return
    if bundle.task is None or bundle.task.name != "embed" or max(widths) > bundle.model.config.width:
        raise ModelError("train.widths", widths=widths, width=bundle.model.config.width)
    bundle.task.state["widths"] = sorted(set(widths), reverse=True)


def _freeze(blocks: int | None, model: Transformer) -> None:
    """What does not learn needs neither gradient nor memory of the optimiser, and no backward pass goes below it."""
    if blocks is None:
        return
    first = [*([] if model.encoder is None else model.encoder.blocks), *model.blocks]
    if blocks > len(first):
        raise ModelError("train.freeze", asked=blocks, blocks=len(first))
    for module in (model.stem, *first[:blocks]):
        module.requires_grad_(False)
