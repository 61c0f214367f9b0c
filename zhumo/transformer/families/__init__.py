"""Published families: their folders load here, ours load in `transformers`.

`FAMILIES` is the whole registry, by the `model_type` of `config.json`. A family is data (`family.Family`); what follows
is all the code there is, and the same for each.
"""

import re
from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor

from zhumo.transformer.config import Config
from zhumo.transformer.families.bart import BART, MARIAN
from zhumo.transformer.families.bert import BERT, XLM_ROBERTA
from zhumo.transformer.families.family import Family, Json, check_keys, differences, numbers
from zhumo.transformer.families.fit import Misfit, Shape, check_fit
from zhumo.transformer.families.gpt2 import GPT2
from zhumo.transformer.families.llama import LLAMA, MISTRAL, QWEN2, QWEN3
from zhumo.transformer.families.t5 import MT5, T5
from zhumo.transformer.model import Transformer, Unset

__all__ = [
    "FAMILIES",
    "Family",
    "Misfit",
    "from_disk",
    "layer_names",
    "read_config",
    "shapes",
    "tied_names",
    "to_disk",
    "write_config",
]

FAMILIES: Mapping[str, Family] = {
    family.name: family for family in (BERT, XLM_ROBERTA, GPT2, LLAMA, MISTRAL, QWEN2, QWEN3, T5, MT5, BART, MARIAN)
}

_BLOCK = re.compile(r"(?<=\bblocks\.)\d+(?=\.)")
_OLD_LEAVES = {"gamma": "weight", "beta": "bias"}  # what TensorFlow called them, still in BERT's first checkpoints


def _family(name: object) -> Family:
    if not isinstance(name, str) or name not in FAMILIES:
        raise ValueError(f"model_type is {name!r}; known are {', '.join(FAMILIES)}")
    return FAMILIES[name]


def read_config(hf: Json) -> Config:
    """The `Config` of a Hugging Face `config.json`.

    Raises:
        ValueError: an unknown family, a key or a value that asks for maths we do not have, a size out of all bounds.
    """
    family = _family(hf.get("model_type"))
    check_keys(family, hf)
    config = Config(**(numbers(family, hf) | family.read(hf)))
    if family.fixed["is_encoder_decoder"] is True and not config.encoder_depth:
        raise ValueError(f"a {family.name} without an encoder is none")
    # The other sizes have tensors on disk that must fit; these two are allocated before any is compared.
    table = config.length * config.width if config.positions == "sinusoidal" else 0
    if max(config.depth * config.heads * config.head_dim, table) > 2**31:
        raise ValueError("the sizes together are beyond any model")
    return config


def write_config(config: Config, family: str) -> Json:
    """The `config.json` that makes `transformers` build the same model, in its old and its new spellings.

    Token ids and the number format are left to whoever writes the folder: it says float32 and no ids.

    Raises:
        ValueError: the family cannot say what `config` asks for.
    """
    kind = _family(family)
    hf: Json = {"model_type": family, **{key.theirs: getattr(config, key.ours) for key in kind.keys}}
    hf |= kind.write(config) | {"dtype": "float32", "torch_dtype": "float32"}
    told = read_config(hf)
    if told != config:
        raise ValueError(f"{family} cannot be configured so: {differences(config, told)}")
    return hf


def tied_names(config: Config) -> frozenset[str]:
    """The tensors of `Transformer(config)` that are the embedding once more, and are kept once."""
    tied = {"head.weight"} if config.head == "tied" else set()
    return frozenset(tied | ({"encoder.stem.tokens.weight"} if config.encoder_depth else set()))


def shapes(config: Config) -> dict[str, Shape]:
    """Name and shape of every tensor of `Transformer(config)`, none twice; nothing is allocated."""
    with torch.device("meta"), Unset():
        state = Transformer(replace(config, depth=1, encoder_depth=min(1, config.encoder_depth))).state_dict()
    for name in tied_names(config):
        del state[name]
    depths = {"": config.depth, "encoder.": config.encoder_depth}
    found: dict[str, Shape] = {}
    for name, tensor in state.items():
        stack, inside, _ = name.partition("blocks.0.")
        blocks = range(depths[stack]) if inside else range(1)
        found |= {name.replace("blocks.0.", f"blocks.{block}."): tuple(tensor.shape) for block in blocks}
    return found


def layer_names(config: Config, family: str) -> Mapping[str, str]:
    """Our modules to the family's on disk, as in `Family.names`."""
    kind = _family(family)
    return {**kind.names, **kind.gated} if config.gated else kind.names


def from_disk(tensors: Mapping[str, Tensor], config: Config, family: str) -> dict[str, Tensor]:
    """A published checkpoint under our names, ready for `Transformer(config).load_state_dict`.

    tensors: as they lie on disk, with or without the family's prefix. Their number format is kept. Where the
    configuration has no head, tensors named `head.` belong to a task and stay as they are.

    Raises:
        ValueError: a tensor is missing, unknown or of another shape, or a tied head is not the embedding.
    """
    kind = _family(family)
    theirs, task_head = _plain(tensors, kind, config)
    wanted = _grouped(config, family)
    if kind.stand_in and config.head == "own" and "lm_head.weight" not in theirs:
        theirs |= {"lm_head.weight": theirs[kind.stand_in]} if kind.stand_in in theirs else {}
    allowed = () if config.head == "own" else ("lm_head.weight",)
    check_fit(theirs, {name: place.shape for name, place in wanted.items()}, allowed)
    state = dict(task_head)
    for name, place in wanted.items():
        tensor = theirs[name][0] if place.lone else theirs[name].t() if place.turned else theirs[name]
        parts = torch.split(tensor[place.led :], place.rows)
        state |= dict(zip(place.ours, (part.contiguous() for part in parts), strict=True))
    if config.head == "tied":
        _check_tied(state["stem.tokens.weight"], theirs.get("lm_head.weight"))
    return state | dict.fromkeys(tied_names(config), state["stem.tokens.weight"])


def to_disk(state: Mapping[str, Tensor], config: Config, family: str) -> dict[str, Tensor]:
    """The tensors of `Transformer(config)` as the family keeps them on disk; a tied head is left out.

    Where the configuration has no head, tensors named `head.` belong to a task and stay as they are.

    Raises:
        ValueError: a tensor is missing, unknown or of another shape, or the family has no place for it.
    """
    wanted, twice = shapes(config), tied_names(config)
    given = {n: tensor.detach() for n, tensor in state.items() if not _of_task(n, config) and n not in twice}
    check_fit(given, wanted)
    result = {name: tensor.detach().contiguous() for name, tensor in state.items() if _of_task(name, config)}
    for name, place in _grouped(config, family, prefix=True).items():
        parts = [given[ours] for ours in place.ours]
        if place.led:
            parts.insert(0, parts[0].new_zeros(place.led, *place.rest))
        joined = torch.cat(parts) if len(parts) > 1 else parts[0]  # one part stays where it is, uncopied
        joined = joined.unsqueeze(0) if place.lone else joined.t() if place.turned else joined
        result[name] = joined.contiguous()
    return result


class _Place:
    """One tensor on disk: which of ours lie in it, how many rows each, how many lead them, whether it is turned, and
    whether it has an axis of 1 before all others."""

    def __init__(self, turned: bool, led: int, lone: bool) -> None:
        self.ours: list[str] = []
        self.rows: list[int] = []
        self.turned, self.led, self.lone = turned, led, lone
        self.rest: Shape = ()

    def add(self, name: str, shape: Shape) -> None:
        self.ours.append(name)
        self.rows.append(shape[0])
        self.rest = shape[1:]

    @property
    def shape(self) -> Shape:
        whole = (self.led + sum(self.rows), *self.rest)
        return (1, *whole) if self.lone else whole[::-1] if self.turned else whole


def _grouped(config: Config, family: str, *, prefix: bool = False) -> dict[str, _Place]:
    """Our tensors by the name on disk, without the family's prefix unless `prefix`."""
    kind, names = _family(family), layer_names(config, family)
    places: dict[str, _Place] = {}
    for name, shape in shapes(config).items():
        lone = name in names
        module, _, leaf = name.rpartition(".")
        template = names[name] if lone else names.get(_BLOCK.sub("{}", module))
        if template is None:
            raise ValueError(f"{family} has no place for {name}")
        number = _BLOCK.search(module)
        theirs = template if lone else f"{template.format(number[0]) if number else template}.{leaf}"
        theirs = theirs if prefix else theirs.removeprefix(kind.prefix)
        turned = template in kind.turned and len(shape) == 2
        places.setdefault(theirs, _Place(turned, kind.led.get(template, 0), lone)).add(name, shape)
    return places


def _plain(tensors: Mapping[str, Tensor], kind: Family, config: Config) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """The tensors on disk without prefix, old leaves and what is to be ignored; and those of a task's head."""
    plain: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        if _of_task(name, config):
            continue
        module, dot, leaf = name.removeprefix(kind.prefix).rpartition(".")
        short = f"{module}{dot}{_OLD_LEAVES.get(leaf, leaf)}"
        if short in plain:
            raise ValueError(f"{short} stands there twice, with and without {kind.prefix!r}")
        if not kind.ignored.fullmatch(short):
            plain[short] = tensor
    return plain, {name: tensor for name, tensor in tensors.items() if _of_task(name, config)}


def _of_task(name: str, config: Config) -> bool:
    return config.head == "none" and name.startswith("head.")


def _check_tied(embedding: Tensor, head: Tensor | None) -> None:
    if head is not None and not torch.equal(head, embedding):
        raise ValueError("lm_head.weight is not the embedding, though tie_word_embeddings says so")
