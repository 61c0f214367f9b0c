"""Rotary positions in `config.json`, old spelling (`rope_theta`, `rope_scaling`) and new (`rope_parameters`)."""

import math
from collections.abc import Mapping
from typing import Any

from zhumo.transformer.config import Config
from zhumo.transformer.families.family import Json, Key, number

SPELLINGS = ("rope_parameters", "rope_scaling")
_THETA = Key("rope_theta", "rope_theta", 10_000.0)
_FACTOR = Key("factor", "rope_factor")
_LENGTH = Key("original_max_position_embeddings", "rope_length")

_NUMBERS: Mapping[str, tuple[Key, ...]] = {
    "default": (),
    "linear": (_FACTOR,),
    "dynamic": (_FACTOR,),
    "yarn": (_FACTOR, _LENGTH),
    "llama3": (_FACTOR, _LENGTH),
}
"""What each kind of rope is told beside theta."""

_CONSTANTS: Mapping[str, Mapping[str, float]] = {
    "yarn": {"beta_fast": 32.0, "beta_slow": 1.0},
    "llama3": {"low_freq_factor": 1.0, "high_freq_factor": 4.0},
}
"""What a file may say as well, and every published one says alike."""

_HARMLESS = {"rope_type", "type", "rope_theta", "finetuned"}


def read_rope(hf: Json) -> dict[str, Any]:
    """The fields of `Config` that say how a rope turns.

    Raises:
        ValueError: a kind or a number we do not compute, or two spellings that mean different things.
    """
    tables = [_table(hf, spelling) for spelling in SPELLINGS if hf.get(spelling) is not None]
    thetas = {number(table, _THETA) for table in (hf, *tables) if table.get("rope_theta") is not None}
    ropes = [_read(table) for table in tables]
    if len(thetas) > 1 or ropes[1:] != ropes[:-1]:
        raise ValueError(f"the rope is said twice and differently: {sorted(thetas)}, {ropes}")
    theta = thetas.pop() if thetas else _THETA.default
    if theta is None or theta <= 1:
        raise ValueError(f"rope_theta is {theta!r}; it must be above 1")
    return {"rope_theta": theta, **(ropes[0] if ropes else {})}


def write_rope(config: Config) -> Json:
    """The same in all spellings."""
    said: Json = {"rope_type": config.rope, **_CONSTANTS.get(config.rope, {})}
    said |= {key.theirs: getattr(config, key.ours) for key in _NUMBERS[config.rope]}
    old = {} if config.rope == "default" else {"rope_scaling": {"type": config.rope, **said}}
    return {"rope_theta": config.rope_theta, "rope_parameters": {"rope_theta": config.rope_theta, **said}, **old}


def _table(hf: Json, spelling: str) -> Json:
    table = hf[spelling]
    if not isinstance(table, dict):
        raise ValueError(f"{spelling} is {table!r}, not a table")
    return table


def _read(table: Json) -> dict[str, Any]:
    kind = table.get("rope_type", table.get("type", "default"))
    if not isinstance(kind, str) or kind not in _NUMBERS:
        raise ValueError(f"rope_type is {kind!r}; known are {', '.join(_NUMBERS)}")
    found: dict[str, Any] = {key.ours: number(table, key) for key in _NUMBERS[kind]}
    if any(value < 1 for value in found.values()):
        raise ValueError(f"rope of kind {kind!r} with numbers below 1: {found}")
    constants: dict[str, object] = {"partial_rotary_factor": 1.0, "truncate": True, **_CONSTANTS.get(kind, {})}
    if kind == "yarn":
        constants["attention_factor"] = 1 + 0.1 * math.log(found["rope_factor"])
    allowed = _HARMLESS | {key.theirs for key in _NUMBERS[kind]}
    for key, value in table.items():
        if key not in allowed and value is not None and value != constants.get(key):
            raise ValueError(f"{key} is {value!r} in a rope of kind {kind!r}, which we do not compute")
    return {"rope": kind, **found}
