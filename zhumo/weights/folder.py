"""A Hugging Face folder: `config.json`, safetensors, tokenizer, and what sentence-transformers adds. Never a pickle."""

import json
import re
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from zhumo.errors import ModelError
from zhumo.tokenizer import Tokenizer
from zhumo.transformer import Config
from zhumo.transformer.families import Misfit, from_disk, read_config
from zhumo.weights.weights import Pooling, Weights

Json = dict[str, Any]

WHOLE, INDEX = "model.safetensors", "model.safetensors.index.json"
MOST_BYTES = 5_000_000_000  # of one file, as the libraries around us cut
LARGEST_JSON = 64 * 2**20
PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle")
PICKLE_MAGIC = (b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05", b"PK\x03\x04")  # torch.save makes a zip of pickles
_PLAIN = re.compile(r"[\w-][\w.-]*")  # a name in this folder, never a way out of it
_LICENCE = re.compile(r"^license:\s*(\S+)", re.MULTILINE)


def read_folder(folder: Path) -> Weights:
    """The model of a Hugging Face folder.

    Raises:
        ModelError: as `read_weights`.
    """
    hf = _json(folder / "config.json")
    try:
        config = read_config(hf)
    except ValueError as error:
        raise ModelError("weights.config", path=folder / "config.json", problem=error) from error
    family = hf["model_type"]
    tensors = partial(_tensors, folder, tensor_files(folder), config, family)
    pooling, normalise = _pooling(folder)
    prefixes, licence = _prefixes(folder), _licence(folder)
    tokenizer = partial(Tokenizer.load, folder)
    return Weights(config, family, tensors, tokenizer, pooling, prefixes, normalise, _start(hf, config), licence)


def _start(hf: dict[str, Any], config: Config) -> int | None:
    token = hf.get("decoder_start_token_id")
    if not config.encoder_depth or not isinstance(token, int) or isinstance(token, bool):
        return None
    return token if 0 <= token < config.vocabulary else None


def refuse_pickle(path: Path) -> None:
    """Refuse a pickle by its name or its first bytes: unpickling runs whatever program its maker put there.

    Raises:
        ModelError: it is one, or it cannot be opened.
    """
    try:
        with path.open("rb") as file:
            start = file.read(4)
    except OSError as error:
        raise ModelError("weights.damaged", path=path, problem=error.strerror) from error
    if path.suffix in PICKLES or start.startswith(PICKLE_MAGIC):
        raise ModelError("weights.pickle", path=path)


def tensor_files(folder: Path) -> list[Path]:
    """The safetensors of a folder: one file, or the shards its index names.

    Raises:
        ModelError: there are none, or the index is damaged or names files elsewhere.
    """
    whole, index = folder / WHOLE, folder / INDEX
    if whole.is_file():
        return [whole]
    if not index.is_file():
        for file in sorted(folder.iterdir()):
            if file.suffix in PICKLES:
                raise ModelError("weights.pickle", path=file)
        raise ModelError("weights.none", path=folder)
    shards = _json(index).get("weight_map")
    if not isinstance(shards, dict) or not shards:
        raise ModelError("weights.damaged", path=index, problem="weight_map")
    for name in shards.values():
        if not isinstance(name, str) or not _PLAIN.fullmatch(name) or not name.endswith(".safetensors"):
            raise ModelError("weights.outside", path=index, name=name)
    return [folder / name for name in sorted(set(shards.values()))]


def write_tensors(folder: Path, tensors: Mapping[str, Tensor], most: int = MOST_BYTES) -> None:
    """Write `model.safetensors`, or above `most` bytes shards of at most so much each (a larger tensor has one to
    itself) and the index that says what lies where."""
    shards: list[dict[str, Tensor]] = []
    room = 0
    for name, tensor in tensors.items():
        if not shards or tensor.nbytes > room:
            shards.append({})
            room = most
        shards[-1][name] = tensor
        room -= tensor.nbytes
    if len(shards) <= 1:
        save_file(dict(tensors), folder / WHOLE, metadata={"format": "pt"})
        return
    files = [f"model-{number:05d}-of-{len(shards):05d}.safetensors" for number in range(1, len(shards) + 1)]
    for file, shard in zip(files, shards, strict=True):
        save_file(shard, folder / file, metadata={"format": "pt"})
    places = {name: file for file, shard in zip(files, shards, strict=True) for name in shard}
    size = sum(tensor.nbytes for tensor in tensors.values())
    index = {"metadata": {"total_size": size}, "weight_map": places}
    (folder / INDEX).write_text(json.dumps(index, indent=2), encoding="utf-8")


def _tensors(folder: Path, files: list[Path], config: Config, family: str) -> dict[str, Tensor]:
    tensors: dict[str, Tensor] = {}
    lies: dict[str, Path] = {}
    for file in files:
        found = _load(file)
        tensors |= found
        lies |= dict.fromkeys(found, file)
    try:
        return from_disk(tensors, config, family)
    except ValueError as error:
        if len(files) == 1:
            raise ModelError("weights.tensors", path=files[0], problem=error) from error
        present = tuple(f".{name}" for name in error.present) if isinstance(error, Misfit) else ()
        inside = sorted({file.name for name, file in lies.items() if f".{name}".endswith(present)})
        said = f"{error} ({', '.join(inside)})" if inside else error
        raise ModelError("weights.tensors", path=folder, problem=said) from error


def _load(file: Path) -> dict[str, Tensor]:
    refuse_pickle(file)
    try:
        return load_file(file)
    except (SafetensorError, OSError) as error:
        raise ModelError("weights.damaged", path=file, problem=error) from error


def _json(path: Path) -> Json:
    """A JSON object of a foreign folder."""
    try:
        if path.stat().st_size > LARGEST_JSON:
            raise ModelError("weights.damaged", path=path, problem=f"> {LARGEST_JSON} bytes")
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ModelError("weights.damaged", path=path, problem=error) from error
    if not isinstance(found, dict):
        raise ModelError("weights.damaged", path=path, problem=f"{type(found).__name__} instead of {{...}}")
    return found


def _pooling(folder: Path) -> tuple[Pooling | None, bool]:
    """What `modules.json` of sentence-transformers puts after the Transformer: pooling, and whether it normalises."""
    path = folder / "modules.json"
    if not path.is_file():
        return None, False
    pooling: Pooling | None = None
    normalise = False
    for module in _modules(path):
        kind = str(module.get("type")).rpartition(".")[2]
        inner = str(module.get("path", ""))
        if kind == "Pooling" and _PLAIN.fullmatch(inner):
            pooling = _pooling_mode(folder / inner / "config.json")
        elif kind == "Normalize":
            normalise = True
        elif kind != "Transformer":
            raise ModelError("weights.module", path=path, module=kind)
    return pooling, normalise


def _modules(path: Path) -> list[Json]:
    try:
        modules = json.loads(path.read_text(encoding="utf-8")[:LARGEST_JSON])
    except (OSError, ValueError, RecursionError) as error:
        raise ModelError("weights.damaged", path=path, problem=error) from error
    if not isinstance(modules, list) or not all(isinstance(module, dict) for module in modules):
        raise ModelError("weights.damaged", path=path, problem="not a list of modules")
    return modules


_MODES: dict[str, Pooling] = {
    "mean": "mean",
    "pooling_mode_mean_tokens": "mean",
    "cls": "cls",
    "pooling_mode_cls_token": "cls",
    "lasttoken": "last",
    "pooling_mode_lasttoken": "last",
}


def _pooling_mode(path: Path) -> Pooling:
    """The one way to pool that a `1_Pooling/config.json` names, or in the old spelling switches on."""
    said = _json(path)
    mode = said.get("pooling_mode")
    if mode is None:
        mode = [key for key, value in said.items() if key.startswith("pooling_mode_") and value]
    names = mode if isinstance(mode, list) else [mode]
    if (
        len(names) != 1
        or not isinstance(names[0], str)
        or names[0] not in _MODES
        or not said.get("include_prompt", True)
    ):
        raise ModelError("weights.module", path=path, module=", ".join(map(str, names)) or "pooling_mode")
    return _MODES[names[0]]


def _prefixes(folder: Path) -> tuple[str, str] | None:
    """The prompts for a question and a passage, where `config_sentence_transformers.json` has both."""
    path = folder / "config_sentence_transformers.json"
    prompts = _json(path).get("prompts") if path.is_file() else None
    if not isinstance(prompts, dict):
        return None
    query, passage = prompts.get("query"), prompts.get("passage", prompts.get("document"))
    return (query, passage) if isinstance(query, str) and isinstance(passage, str) and (query or passage) else None


def _licence(folder: Path) -> str | None:
    """What the model card beside the files says."""
    card = folder / "README.md"
    found = _LICENCE.search(card.read_text(encoding="utf-8", errors="replace")[:10_000]) if card.is_file() else None
    return found[1] if found else None
