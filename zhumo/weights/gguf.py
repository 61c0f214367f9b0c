"""The GGUF container of llama.cpp, versions 2 and 3: facts and tensors. https://github.com/ggml-org/ggml/blob/master/docs/gguf.md

A file from anywhere is read here, so nothing in it is believed: counts, lengths, offsets and types are all checked.
"""

from dataclasses import dataclass
from math import prod
from pathlib import Path

from torch import Tensor

from zhumo.errors import ModelError
from zhumo.weights.blocks import BF16, F16, F32, Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, Format
from zhumo.weights.cursor import Cursor
from zhumo.weights.superblocks import Q2_K, Q3_K, Q4_K, Q5_K, Q6_K

Fact = int | float | bool | str | list[int] | list[float] | list[bool] | list[str]

MAGIC = b"GGUF"
VERSIONS = (2, 3)
MOST_FACTS, MOST_TENSORS, MOST_DIMENSIONS = 4096, 65_536, 4
LONGEST_NAME, LONGEST_TEXT = 256, 16 * 2**20

_NUMBERS = {
    0: "<u1", 1: "<i1", 2: "<u2", 3: "<i2", 4: "<u4", 5: "<i4", 6: "<f4", 7: "?", 10: "<u8", 11: "<i8", 12: "<f8",
}  # fmt: skip
_TEXT, _LIST = 8, 9
FORMATS: dict[int, Format] = {
    0: F32, 1: F16, 2: Q4_0, 3: Q4_1, 6: Q5_0, 7: Q5_1, 8: Q8_0,
    10: Q2_K, 11: Q3_K, 12: Q4_K, 13: Q5_K, 14: Q6_K, 30: BF16,
}  # fmt: skip


@dataclass(frozen=True)
class Entry:
    """Where a tensor lies. shape: the slowest axis first, as in torch (GGUF writes it the other way round)."""

    shape: tuple[int, ...]
    form: Format
    start: int
    size: int


class Gguf:
    """An opened file: its `facts` by key, its tensors by name. A tensor is read when it is asked for.

    Raises:
        ModelError: not a GGUF file, damaged, or in a number format we do not read.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._cursor = cursor = Cursor(path)
        if cursor.size < 4 or cursor.take(4).tobytes() != MAGIC:
            raise cursor.fail("not a GGUF file")
        version = cursor.whole("<u4")
        if version not in VERSIONS:
            raise cursor.fail(f"GGUF version {version}, not {' or '.join(map(str, VERSIONS))}")
        tensors, facts = cursor.whole("<u8"), cursor.whole("<u8")
        if tensors > MOST_TENSORS or facts > MOST_FACTS:
            raise cursor.fail(f"{tensors} tensors and {facts} facts")
        self.facts = _facts(cursor, facts)
        self.entries = _entries(cursor, tensors, self._alignment())

    def _alignment(self) -> int:
        value = self.facts.get("general.alignment", 32)
        if not isinstance(value, int) or isinstance(value, bool) or not 8 <= value <= 65_536 or value % 8:
            raise self._cursor.fail(f"general.alignment {value!r}")
        return value

    def tensor(self, name: str) -> Tensor:
        """A tensor as float32."""
        entry = self.entries[name]
        return self._cursor.weights(entry.start, entry.size, entry.form).view(entry.shape)

    def fail(self, problem: object) -> ModelError:
        """The error for a file whose facts make no sense."""
        return ModelError("weights.damaged", path=self._cursor.path, problem=problem)


def _facts(cursor: Cursor, count: int) -> dict[str, Fact]:
    facts: dict[str, Fact] = {}
    for _ in range(count):
        key = _text(cursor, LONGEST_NAME)
        if key in facts:
            raise cursor.fail(f"{key} stands twice")
        facts[key] = _value(cursor, cursor.whole("<u4"))
    return facts


def _text(cursor: Cursor, most: int) -> str:
    return cursor.text(cursor.whole("<u8"), most)


def _value(cursor: Cursor, kind: int) -> Fact:
    if kind == _TEXT:
        return _text(cursor, LONGEST_TEXT)
    if kind == _LIST:
        return _list(cursor, cursor.whole("<u4"), cursor.whole("<u8"))
    if kind not in _NUMBERS:
        raise cursor.fail(f"a fact of kind {kind}")
    if _NUMBERS[kind] == "<f4":
        return cursor.decimal()
    value: Fact = cursor.numbers(_NUMBERS[kind], 1)[0].item()
    return value


def _list(cursor: Cursor, kind: int, count: int) -> Fact:
    if kind == _TEXT:
        if count > (cursor.size - cursor.place) // 8:  # a text takes at least the 8 bytes of its length
            raise cursor.fail(f"a list of {count} texts")
        return [_text(cursor, LONGEST_TEXT) for _ in range(count)]
    if kind not in _NUMBERS:  # nor lists of lists, which no model has
        raise cursor.fail(f"a list of kind {kind}")
    values: Fact = cursor.numbers(_NUMBERS[kind], count).tolist()
    return values


def _entries(cursor: Cursor, count: int, alignment: int) -> dict[str, Entry]:
    headers = [_header(cursor) for _ in range(count)]
    data = -(-cursor.place // alignment) * alignment
    entries: dict[str, Entry] = {}
    for name, shape, form, offset in headers:
        size = prod(shape) // form.numbers * form.size
        if name in entries or offset % alignment or data + offset + size > cursor.size:
            raise cursor.fail(f"{name} stands twice, or lies off the grid or beyond the end")
        entries[name] = Entry(shape, form, data + offset, size)
    if sum(entry.size for entry in entries.values()) > cursor.size:
        raise cursor.fail("tensors lie in one another")
    return entries


def _header(cursor: Cursor) -> tuple[str, tuple[int, ...], Format, int]:
    name = _text(cursor, LONGEST_NAME)
    axes = cursor.whole("<u4")
    if not 1 <= axes <= MOST_DIMENSIONS:
        raise cursor.fail(f"{name} has {axes} axes")
    shape = tuple(cursor.whole("<u8") for _ in range(axes))[::-1]
    kind, offset = cursor.whole("<u4"), cursor.whole("<u8")
    if kind not in FORMATS:
        known = ", ".join(form.name for form in FORMATS.values())
        raise ModelError("weights.format", path=cursor.path, name=name, kind=kind, known=known)
    form = FORMATS[kind]
    if not all(1 <= axis <= 2**40 for axis in shape) or shape[-1] % form.numbers:
        raise cursor.fail(f"{name} has shape {shape}")
    return name, shape, form, offset
