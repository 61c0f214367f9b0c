"""row -> example -> batch: what a task's `encode` makes, how it lies on disk, how it becomes tensors."""

from bisect import bisect_left, insort
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from safetensors import safe_open
from safetensors.numpy import save_file
from torch import Tensor

Example = Mapping[str, Sequence[int] | np.ndarray]
"""Integer sequences by name. `ids` is always there; `targets` are what each position should say, IGNORE for nothing."""

Batch = dict[str, Tensor]
"""The same names, each (batch, time) int64, padded on the right; `segments` is 1 on an example and 0 on padding."""

IGNORE = -100
PACK_WINDOW = 4_096  # examples that are packed together; more would save less than 1% of padding


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
    """Examples on disk: for each name one long array and the offsets at which examples begin, read when asked for."""

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
        for name in flat or ("ids",):
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


def windows(ids: Sequence[int], learned: Sequence[bool], length: int, context: int = 0) -> list[Example]:
    """Examples of at most `length` in which every learned id but the first of all is a target once.

    learned: which ids are targets. context: positions each later window repeats, to be read and not learned again.
    """
    targets = [token if wanted else IGNORE for token, wanted in zip(ids, learned, strict=True)][1:]
    examples: list[Example] = []
    fresh = 0  # the first position whose target is not yet asked
    while fresh < len(targets):
        start = max(0, fresh - context)
        end = min(start + length, len(targets))
        asked = [IGNORE] * (fresh - start) + targets[fresh:end]
        if any(target != IGNORE for target in asked):
            examples.append({"ids": list(ids[start:end]), "targets": asked})
        fresh = end
    return examples


def pack(examples: Iterable[Example], length: int) -> Iterator[Example]:
    """Lay short examples side by side in rows of at most `length`, numbered 1, 2, ... in `segments`.

    Attention and positions follow the segments, so an example learns exactly what it would learn alone. Best-fit
    decreasing (Johnson 1973) over windows of the stream: the same examples in the same order give the same rows, and
    memory is bounded.

    Raises:
        ValueError: an example is longer than `length`.
    """
    stream = iter(examples)
    while window := list(islice(stream, PACK_WINDOW)):
        for group in _fit([len(example["ids"]) for example in window], length):
            yield _joined([window[index] for index in group])


def _fit(lengths: Sequence[int], length: int) -> list[list[int]]:
    """Indices in groups whose lengths sum to at most `length`, each put where the least room is left over."""
    groups: list[list[int]] = []
    rooms: list[tuple[int, int]] = []  # (room left, group), ascending
    for index in sorted(range(len(lengths)), key=lambda index: -lengths[index]):
        if lengths[index] > length:
            raise ValueError(f"an example of {lengths[index]} does not fit into rows of {length}")
        place = bisect_left(rooms, (lengths[index], 0))
        if place == len(rooms):
            groups.append([])
            room, group = length, len(groups) - 1
        else:
            room, group = rooms.pop(place)
        groups[group].append(index)
        insort(rooms, (room - lengths[index], group))
    return groups


def _joined(examples: Sequence[Example]) -> Example:
    lengths = [len(example["ids"]) for example in examples]
    row = {name: np.concatenate([np.asarray(example[name]) for example in examples]) for name in examples[0]}
    return {**row, "segments": np.repeat(np.arange(1, len(examples) + 1), lengths)}
