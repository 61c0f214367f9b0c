"""row -> example -> batch: what a task's `encode` makes, how it lies on disk, how it becomes tensors."""

import json
import shutil
from array import array
from bisect import bisect_left, insort
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from itertools import islice
from pathlib import Path
from tempfile import TemporaryFile
from typing import BinaryIO

import numpy as np
import torch
from safetensors import safe_open
from torch import Tensor

Example = Mapping[str, Sequence[int] | np.ndarray]
"""Integer sequences by name. `ids` is always there; `targets` are what each position should say, IGNORE for nothing."""

Batch = dict[str, Tensor]
"""The same names, each (batch, time) int64, padded on the right; `segments` is 1 on an example and 0 on padding. One
that `whole` made has none: all of it are targets."""

IGNORE = -100
PLAIN = {"ids", "targets"}  # what examples hold that may share a row
BESIDE = ("targets", "labels", "segments")  # how names end of what says something about tokens and is none to be read
PACK_WINDOW = 4_096  # examples that are packed together; more would save less than 1% of padding


def collate(examples: Sequence[Example], device: str | torch.device = "cpu") -> Batch:
    """Pad examples to the longest and stack them."""
    batch: Batch = {}
    for name in examples[0]:
        rows = [torch.as_tensor(np.asarray(example[name], dtype=np.int64)) for example in examples]
        fill = IGNORE if name.endswith("targets") else 0
        batch[name] = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=fill).to(device)
    if "segments" not in batch:
        ones = [torch.ones(len(example["ids"]), dtype=torch.int64) for example in examples]
        batch["segments"] = torch.nn.utils.rnn.pad_sequence(ones, batch_first=True).to(device)
    return batch


def whole(examples: Sequence[Example], device: str | torch.device = "cpu") -> Batch | None:
    """A batch of ids and targets alone, where each example is a single text, all are equally long and every position
    has a target; else None."""
    for example in examples:
        segments = example.get("segments", (1, 1))
        if not PLAIN <= example.keys() <= {*PLAIN, "segments"} or segments[0] != segments[-1]:
            return None
    if len({len(example["ids"]) for example in examples}) > 1:
        return None
    made = {name: np.stack([_numbers(example[name]) for example in examples]).astype(np.int64) for name in PLAIN}
    if (made["targets"] == IGNORE).any():
        return None
    return {name: torch.from_numpy(array).to(device) for name, array in made.items()}


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
        """Tokens to be read in each example, in all its texts."""
        read = [np.diff(self.arrays[f"{name}.offsets"]) for name in self.names if not name.endswith(BESIDE)]
        lengths: np.ndarray = np.sum(read, axis=0)
        return lengths

    @staticmethod
    def write(path: Path, examples: Iterable[Example]) -> int:
        """Write examples to one safetensors file as they come; returns their number. Memory holds their offsets."""
        offsets = {"ids": array("q", [0])}
        with ExitStack() as stack:
            files: dict[str, BinaryIO] = {}
            for example in examples:
                for name, values in example.items():
                    if name not in files:
                        files[name] = stack.enter_context(TemporaryFile(dir=path.parent))
                        offsets.setdefault(name, array("q", [0]))
                    files[name].write(_numbers(values).tobytes())
                    offsets[name].append(offsets[name][-1] + len(values))
            _join(path, files, offsets)
        return len(offsets["ids"]) - 1


def _numbers(values: Sequence[int] | np.ndarray) -> np.ndarray:
    """int32 in memory; `array` reads a list three times as fast as numpy does."""
    return np.asarray(values if isinstance(values, np.ndarray) else array("i", values), dtype=np.int32)


def _join(path: Path, files: Mapping[str, BinaryIO], offsets: Mapping[str, "array[int]"]) -> None:
    """The safetensors file of long arrays that lie in files of their own, with their offsets."""
    header: dict[str, dict[str, object]] = {}
    size = 0
    for name, places in sorted(offsets.items()):
        for key, kind, count, width in ((f"{name}.offsets", "I64", len(places), 8), (name, "I32", places[-1], 4)):
            header[key] = {"dtype": kind, "shape": [count], "data_offsets": [size, size + count * width]}
            size += count * width
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)  # what follows is aligned
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for name, places in sorted(offsets.items()):
            file.write(places)
            if name in files:
                files[name].seek(0)
                shutil.copyfileobj(files[name], file, 1 << 20)


def batches(items: Sequence[Example], size: int) -> Iterator[tuple[list[int], list[Example]]]:
    """All items in batches of like length, so that little is padded; with the indices they had."""
    lengths = [sum(len(item[name]) for name in item if not name.endswith(BESIDE)) for item in items]
    order = sorted(range(len(items)), key=lengths.__getitem__)
    for start in range(0, len(order), size):
        indices = order[start : start + size]
        yield indices, [items[index] for index in indices]


def windows(ids: Sequence[int], learned: Sequence[bool] | None, length: int, context: int = 0) -> list[Example]:
    """Examples of at most `length` in which every learned id but the first of all is a target once.

    learned: which ids are targets; None: all. context: positions each later window repeats, to be read and not learned
    again.
    """
    numbers = _numbers(ids)
    targets = (numbers if learned is None else np.where(learned, numbers, np.int32(IGNORE)))[1:]
    examples: list[Example] = []
    fresh = 0  # the first position whose target is not yet asked
    while fresh < len(targets):
        start = max(0, fresh - context)
        end = min(start + length, len(targets))
        asked = targets[start:end].copy()
        asked[: fresh - start] = IGNORE
        if learned is None or (asked != IGNORE).any():
            examples.append({"ids": numbers[start:end], "targets": asked})
        fresh = end
    return examples


def pack(examples: Iterable[Example], length: int) -> Iterator[Example]:
    """Lay short examples side by side in rows of at most `length`, numbered 1, 2, ... in `segments`.

    Attention and positions follow the segments, so an example learns exactly what it would learn alone. Best-fit
    decreasing (Johnson 1973) over windows of the stream: the same examples in the same order give the same rows, and
    memory is bounded. An example that holds more than ids and targets keeps a row for itself.

    Raises:
        ValueError: an example is longer than `length`.
    """
    stream = iter(examples)
    while window := list(islice(stream, PACK_WINDOW)):
        yield from (example for example in window if not example.keys() <= PLAIN)
        window = [example for example in window if example.keys() <= PLAIN]
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
    row = {name: np.concatenate([_numbers(example[name]) for example in examples]) for name in examples[0]}
    return {**row, "segments": np.repeat(np.arange(1, len(examples) + 1, dtype=np.int32), lengths)}
