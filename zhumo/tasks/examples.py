"""row -> example -> batch: what a task's `encode` makes, how it lies on disk, how it becomes tensors."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from safetensors import safe_open
from safetensors.numpy import save_file
from torch import Tensor

Example = Mapping[str, Sequence[int]]
"""Integer sequences by name. `ids` is always there; `targets` are what each position should say, IGNORE for nothing."""

Batch = dict[str, Tensor]
"""The same names, each (batch, time) int64, padded on the right; `segments` is 1 on an example and 0 on padding."""

IGNORE = -100


def collate(examples: Sequence[Example], device: str | torch.device = "cpu") -> Batch:
    """Pad examples to the longest and stack them."""
    batch: Batch = {}
    for name in examples[0]:
        rows = [torch.as_tensor(np.asarray(example[name], dtype=np.int64)) for example in examples]
        fill = IGNORE if name == "targets" else 0
        batch[name] = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=fill).to(device)
    if "segments" not in batch:
        ones = [torch.ones(len(example["ids"]), dtype=torch.int64) for example in examples]
        batch["segments"] = torch.nn.utils.rnn.pad_sequence(ones, batch_first=True).to(device)
    return batch


class Examples(Sequence[Example]):
    """Examples on disk: for each name one long array and the offsets at which examples begin; read as they are asked for."""

    def __init__(self, path: Path) -> None:
        self.arrays: dict[str, np.ndarray] = {}
        with safe_open(path, framework="numpy") as file:
            for key in file.keys():  # noqa: SIM118, the file is not a mapping
                self.arrays[key] = file.get_tensor(key)
        self.names = sorted(key for key in self.arrays if not key.endswith(".offsets"))

    def __len__(self) -> int:
        return len(self.arrays["ids.offsets"]) - 1

    def __getitem__(self, index: int) -> Example:  # type: ignore[override]
        result = {}
        for name in self.names:
            offsets = self.arrays[f"{name}.offsets"]
            result[name] = self.arrays[name][offsets[index] : offsets[index + 1]]
        return result

    def lengths(self) -> np.ndarray:
        """Tokens in each example."""
        return np.diff(self.arrays["ids.offsets"])

    @staticmethod
    def write(path: Path, examples: Iterable[Example]) -> int:
        """Write examples to one safetensors file; returns their number."""
        flat: dict[str, list[np.ndarray]] = {}
        lengths: dict[str, list[int]] = {}
        for example in examples:
            for name, values in example.items():
                flat.setdefault(name, []).append(np.asarray(values, dtype=np.int32))
                lengths.setdefault(name, [0]).append(len(values))
        arrays = {}
        for name in flat or {"ids": None}:
            arrays[name] = np.concatenate(flat[name]) if name in flat else np.zeros(0, np.int32)
            arrays[f"{name}.offsets"] = np.cumsum(np.asarray(lengths.get(name, [0]), dtype=np.int64))
        save_file(arrays, path)
        return len(arrays["ids.offsets"]) - 1


def batches(items: Sequence[Example], size: int) -> Iterator[tuple[list[int], list[Example]]]:
    """All items in batches of like length, so that little is padded; with the indices they had."""
    order = sorted(range(len(items)), key=lambda index: len(items[index]["ids"]))
    for start in range(0, len(order), size):
        indices = order[start : start + size]
        yield indices, [items[index] for index in indices]
