"""Step 2, build: what prepare learned -> a model, fresh or from published weights, ready to be trained."""

from dataclasses import replace

import torch
from torch import nn

from zhumo.bundle import assemble, load_task, save
from zhumo.errors import ModelError
from zhumo.recipe import Build, Recipe
from zhumo.run import Run, link
from zhumo.sources import fetch, fingerprint, licence_of
from zhumo.tasks import Task
from zhumo.transformer import Config, Transformer, initialise
from zhumo.weights import Weights, read_weights

SIZES = {"tiny": (64, 2, 2), "small": (128, 4, 4), "base": (384, 6, 6)}  # width, depth, heads


def build(recipe: Recipe, run: Run) -> None:
    """Make `runs/NAME/build/`: a model folder with the first weights."""
    section = recipe.build
    step = run.begin("build", recipe, fingerprint(section.start) if section.start else None)
    if step.done:
        return
    task = load_task(run.step("prepare"))
    licence = None
    if section.start is not None:
        path = fetch(section.start)
        weights = read_weights(path)
        family, licence = weights.family, licence_of(section.start) or weights.licence
        model = started(weights, task, section)
        if (path / "LICENSE").is_file():
            link(path / "LICENSE", step.folder / "LICENSE")
    else:
        assert section.family is not None  # a recipe fills it in
        family = section.family
        model = initialise(Transformer(fresh(section, task)), recipe.seed)
        task.begin(model)
    put_head(model, task, recipe.seed)
    save(step.folder, model, family, task.tokenizer, task)
    step.finish(family=family, parameters=model.parameter_count(), start=section.start, licence=licence)


def fresh(section: Build, task: Task) -> Config:
    """The configuration of a fresh model, sized by one dial and every number overridable."""
    width, depth, heads = SIZES[section.size]
    width, depth, heads = section.width or width, section.depth or depth, section.heads or heads
    if width % heads:
        raise ModelError("model.width_heads", width=width, heads=heads)
    plain = Config(  # GPT-2
        vocabulary=task.vocabulary,
        width=width,
        depth=depth,
        heads=heads,
        kv_heads=section.kv_heads or heads,
        hidden=section.hidden or 4 * width,
        length=task.length,
        activation="gelu_tanh",
        dropout=0.1 if section.dropout is None else section.dropout,
    )
    if section.family == "gpt2":
        return plain
    if section.family == "bert":
        return replace(plain, activation="gelu", norm_first=False, norm_eps=1e-12, types=2, causal=False, head="none")
    return replace(
        plain,
        hidden=section.hidden or -(-8 * width // 3 // 64) * 64,  # a gate makes three matrices of two, so 8/3 not 4
        positions="rotary",
        norm="rms",
        norm_eps=1e-6,
        activation="silu",
        gated=True,
        bias="qkv" if section.family == "qwen2" else "none",
        qk_norm=section.family == "qwen3",
    )


def started(weights: Weights, task: Task, section: Build) -> Transformer:
    """The published model, ready for the task.

    Raises:
        ModelError: it was made for shorter examples, or for another vocabulary.
    """
    if weights.config.positions != "rotary" and task.length > weights.config.length:
        raise ModelError("model.too_short", length=task.length, limit=weights.config.length)
    if task.vocabulary > weights.config.vocabulary:
        raise ModelError("model.vocabulary", tokens=task.vocabulary, limit=weights.config.vocabulary)
    if section.dropout is not None:
        weights = replace(weights, config=replace(weights.config, dropout=section.dropout))
    return assemble(weights, None)


def put_head(model: Transformer, task: Task, seed: int) -> None:
    """Give the model the task's own head, freshly drawn, where the task has one."""
    head = task.head(model.config.width)
    if head is None:
        return
    generator = torch.Generator().manual_seed(seed + 1)
    for module in head.modules():
        if isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, std=0.02, generator=generator)
            nn.init.zeros_(module.bias)
    model.head = head
