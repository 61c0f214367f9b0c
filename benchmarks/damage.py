"""Twelve kinds of damage, seeded, in files that are otherwise fine; and whether each damaged row came back."""

import base64
import csv
import io
import random
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from hashlib import blake2b
from itertools import cycle
from pathlib import Path

import orjson

from zhumo.prepare import each_row, prepare
from zhumo.recipe import Recipe
from zhumo.run import Run, read_json
from zhumo.sources.lines import LONGEST

SHARE = 0.01  # of the rows
WORDS = ("the", "price", "of", "this", "质量", "很好", "delivery", "was", "快递", "slow", "but", "客服", "kind", "颜色",
         "nice", "and", "warm", "尺码", "size", "too", "small", "不合适", "so")  # fmt: skip
READ_RIGHTLY = {"bom"}  # a byte order mark in the middle of a file, where files were joined, means nothing

# The twelfth, a row that is too long, stands in three places of any file.
JSON_DAMAGE: Mapping[str, Callable[[int, str], bytes]] = {
    "utf-8": lambda id_, text: _line(id_, text).replace(b'"text":"', b'"text":"\xff\xc3('),
    "cut off": lambda id_, text: _line(id_, text)[: -len(text.encode()) // 2 - 4] + b"\n",
    "nul": lambda id_, text: _line(id_, text).replace(b'"text":"', b'"text":"\0'),
    "type": lambda id_, text: orjson.dumps({"id": id_, "text": {"is": text}, "label": "a"}) + b"\n",
    "bom": lambda id_, text: b"\xef\xbb\xbf" + _line(id_, text),
    "gbk": lambda id_, text: f'{{"id":{id_},"text":"褪色 {text}","label":"a"}}\n'.encode("gbk"),
    "surrogate": lambda id_, text: _line(id_, text).replace(b'"text":"', b'"text":"\\ud83d '),
    "nan": lambda id_, text: _line(id_, text).replace(b'"label":"a"', b'"label":NaN'),
    "empty": lambda id_, text: b"\n",
    "same id": lambda id_, text: _line(0, f"{text} {id_}"),
}
CSV_DAMAGE: Mapping[str, Callable[[int, str], bytes]] = {
    "quotes": lambda id_, text: f'{id_},"{text}" {text},a\n'.encode(),
}


@dataclass
class Damaged:
    """What was written. good: ids of rows that must come through; bad: sha of the bytes of those that must not."""

    folder: Path
    good: set[str] = field(default_factory=set)
    bad: Counter[bytes] = field(default_factory=Counter)
    kinds: Counter[str] = field(default_factory=Counter)


def damage(folder: Path, rows: int, seed: int = 0, long: int = 50 << 20) -> Damaged:
    """Rows in `rows.jsonl`, and a quarter of them in `rows.csv`; a hundredth of them damaged. long: bytes of a row that
    is too long."""
    folder.mkdir(parents=True)
    draw = random.Random(seed)
    made = Damaged(folder)
    in_csv = rows // 4
    with (folder / "rows.csv").open("wb") as file:
        file.write(b"id,text,label\n")
        file.writelines(_rows(made, draw, range(rows - in_csv, rows), CSV_DAMAGE, _record))
    with (folder / "rows.jsonl").open("wb") as file:
        json_rows = rows - in_csv
        for place, line in enumerate(_rows(made, draw, range(json_rows), JSON_DAMAGE, _line)):
            file.write(line)
            if place in (json_rows // 4, json_rows // 2, json_rows * 3 // 4):
                file.write(_too_long(made, long))
    return made


def _rows(
    made: Damaged,
    draw: random.Random,
    ids: range,
    kinds: Mapping[str, Callable[[int, str], bytes]],
    whole: Callable[[int, str], bytes],
) -> Iterator[bytes]:
    order = cycle(kinds)
    share = SHARE / 2 if len(kinds) == 1 else SHARE * 7 / 6  # as the files are of different length
    for id_ in ids:
        text = f"{' '.join(draw.choices(WORDS, k=draw.randrange(4, 40)))} {id_}"
        if id_ == 0 or draw.random() >= share:
            made.good.add(str(id_))
            yield whole(id_, text)
            continue
        kind = next(order)
        raw = kinds[kind](id_, text)
        made.kinds[kind] += 1
        if kind in READ_RIGHTLY:
            made.good.add(str(id_))
        else:
            made.bad[_sha(raw)] += 1
        yield raw


def _too_long(made: Damaged, size: int) -> bytes:
    raw = b'{"id":-1,"text":"' + b"x" * size + b'"}\n'
    made.bad[_sha(raw)] += 1
    made.kinds["too long"] += 1
    return raw


def _line(id_: int, text: str) -> bytes:
    return orjson.dumps({"id": id_, "text": text, "label": "a"}) + b"\n"


def _record(id_: int, text: str) -> bytes:
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="\n").writerow([id_, f'{text}, "so"\nthey say', "b"])
    return buffer.getvalue().encode()


def _sha(raw: bytes) -> bytes:
    return blake2b(raw, digest_size=16).digest()


def account(made: Damaged, runs: Path) -> dict[str, int]:
    """Prepare it; how many rows are not where they should be: `lost` and `strange` among those that came through,
    `unrecovered` among those put aside, and by how many the sum of the account is wrong."""
    recipe = Recipe.check(
        {
            "name": "damage",
            "task": "classify",
            "prepare": {"source": str(made.folder), "id": "id", "max_bad": 0.02, "vocabulary": 1_000, "length": 64},
            "evaluate": {"slices": ["id"]},
        },
        "damage",
    )
    run = Run.of(recipe, runs)
    prepare(recipe, run)
    folder = run.step("prepare")
    kept = Counter(str(row["id"]) for part in ("train", "valid", "test") for row in each_row(folder / f"{part}.jsonl"))
    rows = read_json(folder / "card.json")["rows"]
    put_aside = quarantined(folder / "quarantine.jsonl")
    return {
        "lost": len(made.good - kept.keys()),
        "strange": len(kept.keys() - made.good) + kept.total() - len(kept),
        "unrecovered": (made.bad - put_aside).total() + (put_aside - made.bad).total(),
        "sum": abs(rows["in"] - rows["out"] - rows["quarantined"] - rows["deduplicated"] - rows["filtered"])
        + abs(rows["in"] - len(made.good) - made.bad.total())
        + abs(rows["quarantined"] - made.bad.total()),
        **{"rows": rows["in"], "bad": made.bad.total(), "kinds": len(made.kinds)},
    }


def quarantined(path: Path) -> Counter[bytes]:
    """The sha of the bytes of every row in quarantine, the pieces of one put together."""
    found: Counter[bytes] = Counter()
    pieces: list[bytes] = []
    for entry in each_row(path):
        if not entry.get("piece") and pieces:
            found[_sha(b"".join(pieces))] += 1
            pieces.clear()
        pieces.append(base64.b64decode(entry["bytes"]))
        assert len(pieces[-1]) <= LONGEST + 2
    if pieces:
        found[_sha(b"".join(pieces))] += 1
    return found
