"""Whether tensors are those a model needs, and if not, what is wrong with which."""

import difflib
from collections.abc import Collection, Iterable, Mapping
from itertools import islice

from torch import Tensor

from zhumo.transformer.families.family import LISTED, listed

Shape = tuple[int, ...]

COMPARED = 1_000  # unknown names that a missing one is compared with: a large model has many thousands, much alike


class Misfit(ValueError):
    """Tensors are not those of the model. present: those of them that are there."""

    def __init__(self, problem: str, present: Collection[str]) -> None:
        super().__init__(problem)
        self.present = present


def check_fit(tensors: Mapping[str, Tensor], wanted: Mapping[str, Shape], allowed: Collection[str] = ()) -> None:
    """Raise unless there is a tensor of floating point and of the right shape for each name. allowed: names that may be
    there besides.

    Raises:
        Misfit: each that is missing, with its shape and the unknown one it may be; unknown, misshapen or quantised.
    """
    shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    missing = [name for name in wanted if name not in shapes]
    unknown = [name for name in shapes if name not in wanted and name not in allowed]
    misshapen = [name for name in wanted if name in shapes and shapes[name] != wanted[name]]
    quantised = [name for name in wanted if name in shapes and not tensors[name].is_floating_point()]
    found = {
        "missing": [
            f"{name} {wanted[name]}{_perhaps(name, unknown) if n < LISTED else ''}" for n, name in enumerate(missing)
        ],
        "unknown": [f"{name} {shapes[name]}" for name in unknown],
        "misshapen": [f"{name} {shapes[name]} instead of {wanted[name]}" for name in misshapen],
        "quantised": quantised,
    }
    said = [f"{what}: {listed(names)}" for what, names in found.items() if names]
    if said:
        raise Misfit("; ".join(said), [*unknown, *misshapen, *quantised])


def _perhaps(name: str, unknown: Iterable[str]) -> str:
    near = difflib.get_close_matches(name, list(islice(unknown, COMPARED)), n=1, cutoff=0.8)
    return f" (is it {near[0]}?)" if near else ""
