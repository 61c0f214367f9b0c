"""Adapters in PEFT's file format: `adapter_config.json` and `adapter_model.safetensors`, out and in.

Ours load in `peft` and theirs here. Names are those of the family's Hugging Face modules. GPT-2 keeps query, key and
value in one turned layer, for which PEFT's matrices would mean something else, so it is refused.
"""

import json
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from zhumo.errors import ModelError
from zhumo.transformer import Transformer
from zhumo.transformer.families import FAMILIES, Family, layer_names
from zhumo.transformer.lora import LoraLinear, add_lora, layers, lora_state

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
PREFIX = "base_model.model."
BLOCK = re.compile(r"(?<=\bblocks\.)(\d+)")
MAX_CONFIG = 1_000_000  # bytes
PARTS = {"a": "lora_A", "b": "lora_B"}

# What may stand in a file without changing what the adapter computes; a key not here must be empty.
_HARMLESS = """
peft_type task_type peft_version base_model_name_or_path revision inference_mode target_modules r lora_alpha
lora_dropout use_rslora init_lora_weights auto_mapping megatron_core qalora_group_size runtime_config
"""
HARMLESS = frozenset(_HARMLESS.split())


def write_adapter(folder: Path, model: Transformer, family: str, base: str | None = None) -> None:
    """Write the adapters of `model`. base: the weights they belong to, as PEFT names them.

    Raises:
        ModelError: there are none, or the family's layers cannot carry PEFT's matrices.
    """
    adapted = [(name, layer) for name, _, _, layer in layers(model) if isinstance(layer, LoraLinear)]
    if not adapted:
        raise ModelError("model.no_adapter", folder=folder)
    names = _names(model, family)
    rank = len(adapted[0][1].a)
    folder.mkdir(parents=True, exist_ok=True)
    config = {
        "peft_type": "LORA",
        "task_type": _kind(model),
        "base_model_name_or_path": base,
        "r": rank,
        "lora_alpha": adapted[0][1].scale * rank,
        "target_modules": _targets([names[name] for name, _ in adapted], list(names.values())),
        "lora_dropout": 0.0,
        "bias": "none",
        "fan_in_fan_out": False,
        "inference_mode": True,
    }
    (folder / CONFIG).write_text(json.dumps(config, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    tensors = {_key(names, name): tensor.cpu().contiguous() for name, tensor in lora_state(model).items()}
    save_file(tensors, folder / WEIGHTS, metadata={"format": "pt"})


def read_adapter(folder: Path, model: Transformer, family: str) -> Transformer:
    """Put the adapters of a folder on `model`.

    Raises:
        ModelError: the files are missing or damaged, ask for maths we do not have, or belong to another model.
    """
    config, tensors = _read(folder)
    names = _names(model, family)
    ours = {_bare(_key(names, f"{name}.{part}"), family): (name, part) for name in names for part in PARTS}
    found = {_bare(key, family): tensor for key, tensor in tensors.items()}
    if unknown := sorted(found.keys() - ours.keys()):
        raise ModelError("model.bad_adapter", folder=folder, problem=f"no layer of this model for {unknown[0]}")
    targets = {ours[key][0].rpartition(".")[2] for key in found}
    alpha = config["lora_alpha"] * (math.sqrt(config["r"]) if config.get("use_rslora") else 1)
    try:
        add_lora(model, config["r"], alpha, targets, seed=0)
    except ValueError as error:
        raise ModelError("model.bad_adapter", folder=folder, problem=str(error)) from error
    for name, tensor in lora_state(model).items():
        given = found.get(_bare(_key(names, name), family))
        if given is None or given.shape != tensor.shape:
            problem = f"{name} is {'missing' if given is None else tuple(given.shape)}, not {tuple(tensor.shape)}"
            raise ModelError("model.bad_adapter", folder=folder, problem=problem)
        tensor.copy_(given)
    return model


def _kind(model: Transformer) -> str:
    if model.config.head == "none":
        return "FEATURE_EXTRACTION"
    return "CAUSAL_LM" if model.encoder is None else "SEQ_2_SEQ_LM"


def _names(model: Transformer, family: str) -> dict[str, str]:
    """Every layer that can be adapted: our name to that of the module in the family's Hugging Face model."""
    kind, templates = FAMILIES[family], layer_names(model.config, family)
    names = {}
    for name, _, _, _ in layers(model):
        before, number, after = BLOCK.split(name, maxsplit=1)
        template = templates[f"{before}{{}}{after}"]
        if template in kind.turned:
            raise ModelError("model.adapter_family", family=family)
        whole = template.format(number)
        names[name] = whole.removeprefix(kind.prefix) if model.config.head == "none" else whole
    return names


def _key(names: Mapping[str, str], tensor: str) -> str:
    """`blocks.0.attention.query.a` as PEFT keeps it."""
    name, _, part = tensor.rpartition(".")
    return f"{PREFIX}{names[name]}.{PARTS[part]}.weight"


def _bare(key: str, family: str) -> str:
    """A key without what depends on the class of model it was made with."""
    kind: Family = FAMILIES[family]
    return key.removeprefix(PREFIX).removeprefix(kind.prefix)


def _targets(adapted: list[str], every: list[str]) -> list[str]:
    """The last words of the adapted modules where these name no other module, else the whole names."""
    words = sorted({name.rpartition(".")[2] for name in adapted})
    matched = [name for name in every if name.rpartition(".")[2] in words]
    return words if len(matched) == len(adapted) else adapted


def _read(folder: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    path = folder / CONFIG
    try:
        if path.stat().st_size > MAX_CONFIG:
            raise ModelError("model.bad_adapter", folder=folder, problem=f"{CONFIG} is too large")
        config = json.loads(path.read_text(encoding="utf-8"))
        tensors = load_file(folder / WEIGHTS)
    except (OSError, ValueError, SafetensorError) as error:
        raise ModelError("model.bad_adapter", folder=folder, problem=str(error)[:200]) from error
    _check(folder, config)
    return config, tensors


def _check(folder: Path, config: Any) -> None:
    if not isinstance(config, dict) or config.get("peft_type") != "LORA":
        raise ModelError("model.bad_adapter", folder=folder, problem="it is not a LoRA adapter")
    rank, alpha = config.get("r"), config.get("lora_alpha")
    if not isinstance(rank, int) or not 1 <= rank <= 2**16 or not isinstance(alpha, int | float):
        raise ModelError("model.bad_adapter", folder=folder, problem=f"r is {rank!r}, lora_alpha {alpha!r}")
    for key, value in config.items():
        # Only a start from random numbers leaves the base weights as they were published.
        started = key == "init_lora_weights" and value not in (True, False, None, "gaussian")
        if started or (key not in HARMLESS and value not in (None, False, {}, [], "none", "")):
            raise ModelError("model.adapter_option", folder=folder, name=key, value=value)
