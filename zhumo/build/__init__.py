"""Step 2, build: what prepare learned -> a model, fresh or from published weights, ready to be trained."""

from dataclasses import replace

from zhumo.build.carry import TOKENS, carried
from zhumo.build.head import put_head
from zhumo.build.teacher import TEACHER, put_teacher
from zhumo.bundle import assemble, load_task, save
from zhumo.errors import ModelError
from zhumo.recipe import Build, Recipe
from zhumo.run import Run, link
from zhumo.sources import fetch, fingerprint, licence_of
from zhumo.tasks import Task
from zhumo.transformer import Config, Transformer, initialise
from zhumo.weights import Weights, read_weights

SIZES = {"tiny": (64, 2, 2), "small": (128, 4, 4), "base": (384, 6, 6)}  # width, depth, heads
TWO_SIDED = ("t5", "bart", "marian")  # with an encoder
SIZED = ("width", "depth", "heads", "kv_heads", "hidden")


def build(recipe: Recipe, run: Run) -> None:
    """Make `runs/NAME/build/`: a model folder with the first weights."""
    section = recipe.build
    step = run.begin("build", recipe, {name: digest for source in (section.start, section.teacher) if source
                                       for name, digest in fingerprint(source).items()})  # fmt: skip
    if step.done:
        return
    task = load_task(run.step("prepare"))
    licence = None
    if section.start is not None:
        path = fetch(section.start)
        weights = read_weights(path)
        family, licence = weights.family, licence_of(section.start) or weights.licence
        before = load_task(path) if (path / "task.json").is_file() else None
        model = started(weights, before, task, recipe)
        if (path / "LICENSE").is_file():
            link(path / "LICENSE", step.folder / "LICENSE")
    else:
        assert section.family is not None  # a recipe fills it in
        family = section.family
        model = initialise(Transformer(fresh(section, task)), recipe.seed)
        task.begin(model)
        put_head(model, task, recipe.seed)
    if (model.encoder is None) == (task.name == "translate"):
        raise ModelError("model.two_sided", task=task.name, family=family, two_sided=", ".join(TWO_SIDED))
    save(step.folder, model, family, task.tokenizer, task)
    if section.teacher is not None:
        put_teacher(section.teacher, task, step.folder / TEACHER)
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
    if section.family in TWO_SIDED:
        return _two_sided(plain, section.family)
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


def _two_sided(plain: Config, family: str) -> Config:
    """Encoder and decoder of one depth, and one embedding for sources, targets and answers."""
    both = replace(plain, encoder_depth=plain.depth)
    if family == "t5":
        gated = replace(both, positions="relative", norm="rms", norm_eps=1e-6, gated=True, bias="none")
        return replace(gated, scaled_scores=False, scaled_states=True)
    after = replace(both, norm_first=False, head_bias=True)
    if family == "bart":
        return replace(after, activation="gelu")
    return replace(after, positions="sinusoidal", activation="silu", stem_norm=False, scaled_embedding=True)


def started(weights: Weights, before: Task | None, task: Task, recipe: Recipe) -> Transformer:
    """The published model, or that of an earlier bundle, ready for the task.

    before: the task of the bundle.

    Raises:
        ModelError: it was made for shorter examples, for other sizes than the recipe says, for another vocabulary, or
            for another task where the vocabulary is the task's own.
    """
    section, config = recipe.build, weights.config
    for name in SIZED:
        if getattr(section, name) not in (None, getattr(config, name)):
            raise ModelError("model.sizes", name=name, here=getattr(section, name), there=getattr(config, name))
    if not config.endless and task.length > config.length:
        raise ModelError("model.too_short", length=task.length, limit=config.length)
    if section.dropout is not None:
        weights = replace(weights, config=replace(config, dropout=section.dropout))
    if TOKENS not in task.legend and task.vocabulary > config.vocabulary:
        raise ModelError("model.vocabulary", tokens=task.vocabulary, limit=config.vocabulary)
    if before is not None and before.name == task.name and task.legend:
        return carried(weights, before, task, recipe.seed)
    if TOKENS in task.legend:
        raise ModelError("model.other_task", task=task.name, start=section.start)
    model = assemble(weights, None)
    put_head(model, task, recipe.seed)
    return model
