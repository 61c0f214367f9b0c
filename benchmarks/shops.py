"""The shops that `recommend` measures on: each as files the product reads, and a synthetic one of any size.

The Amazon files are ids alone, one history a line or one purchase a line, in time order without times; they are
written as interactions in that order. Online Retail keeps what has a customer and a positive quantity and was not
cancelled; its moments are invoices.
"""

import csv
import gzip
import hashlib
import json
from collections.abc import Iterable, Iterator
from itertools import groupby
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.harness import shared

INTERACTIONS, ITEMS = "interactions.csv", "items.jsonl"


def beauty(folder: Path) -> None:
    """Amazon Beauty (5-core), and its attributes as a category list an item."""
    with gzip.open(shared() / "amazon-beauty" / "sequences.txt.gz", "rt", encoding="utf-8") as lines:
        histories = [(user, items) for user, *items in map(str.split, lines)]
    write_histories(folder, histories)
    with gzip.open(shared() / "amazon-beauty" / "item2attributes.json.gz", "rt", encoding="utf-8") as file:
        attributes = json.load(file)
    write_items(folder, ({"item": item, "category": list(map(str, found))} for item, found in attributes.items()))


def games(folder: Path) -> None:
    """SASRec's own file of Amazon Video Games."""
    with gzip.open(shared() / "amazon-video-games" / "Video.txt.gz", "rt", encoding="utf-8") as lines:
        pairs = [line.split() for line in lines]
    write_histories(
        folder, ((user, [item for _, item in some]) for user, some in groupby(pairs, key=lambda pair: pair[0]))
    )


def retail(folder: Path) -> None:
    """Online Retail: interactions with times, and an item's commonest description as its title."""
    titles: dict[str, str] = {}
    with (
        gzip.open(shared() / "online-retail" / "transactions.csv.gz", "rt", encoding="utf-8") as lines,
        (folder / INTERACTIONS).open("w", encoding="utf-8", newline="") as file,
    ):
        out = csv.writer(file)
        out.writerow(["user", "item", "time"])
        for row in csv.DictReader(lines):
            if row["CustomerID"] and int(row["Quantity"]) > 0 and not row["InvoiceNo"].startswith("C"):
                out.writerow([row["CustomerID"], row["StockCode"], row["InvoiceDate"]])
                titles.setdefault(row["StockCode"], row["Description"].strip())
    write_items(folder, ({"item": item, "title": title} for item, title in titles.items() if title))


def write_histories(folder: Path, histories: Iterable[tuple[str, list[str]]]) -> None:
    """Histories as interactions."""
    with (folder / INTERACTIONS).open("w", encoding="utf-8", newline="") as file:
        out = csv.writer(file)
        out.writerow(["user", "item"])
        for user, items in histories:
            out.writerows((user, item) for item in items)


def write_items(folder: Path, items: Iterable[dict[str, object]]) -> None:
    """One row an item."""
    with (folder / ITEMS).open("w", encoding="utf-8") as file:
        file.writelines(json.dumps(item, ensure_ascii=False) + "\n" for item in items)


def held_out(item: str, share: float = 0.2) -> bool:
    """Whether an item is one of those that nobody may have taken: by a hash of its id, the same everywhere."""
    place = int.from_bytes(hashlib.blake2b(item.encode(), digest_size=8, person=b"cold items").digest(), "big")
    return place / 2**64 < share


def synthetic(path: Path, interactions: int, items: int, seed: int = 0, at_once: int = 1_000_000) -> None:
    """Users of 20 interactions each, as parquet: popularity falls like a power law, tastes have structure.

    Items lie in clusters of 1,000; a user likes three of them, stays in one for a few interactions, and takes an item
    of it by its popularity, or one time in two the item that usually follows the last one.
    """
    schema = pa.schema([("user", pa.int64()), ("item", pa.int64()), ("time", pa.int64())])
    with pq.ParquetWriter(path, schema) as writer:
        for start in range(0, interactions, at_once):
            count = min(at_once, interactions - start)
            user, item, time = _some(start // 20, count, items, np.random.default_rng([seed, start]))
            writer.write_table(pa.table([user, item, time], schema=schema))


def _some(first: int, count: int, items: int, chance: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    users, length, size = -(-count // 20), 20, 1_000
    clusters = max(1, items // size)
    likes = np.minimum((clusters * chance.random((users, 3)) ** 2).astype(np.int64), clusters - 1)
    stays = chance.random((users, length)) < 0.8
    picked = chance.integers(0, 3, (users, length))
    follows = chance.random((users, length)) < 0.5
    inside = np.minimum((size * chance.random((users, length)) ** 3).astype(np.int64), size - 1)
    taken, now = np.empty((users, length), np.int64), picked[:, 0]
    for step in range(length):
        if step:
            now = np.where(stays[:, step], now, picked[:, step])
            next_ = (inside[:, step - 1] * 7 + 13) % size
            inside[:, step] = np.where(follows[:, step] & stays[:, step], next_, inside[:, step])
        taken[:, step] = np.minimum(likes[np.arange(users), now] * size + inside[:, step], items - 1)
    user = np.repeat(np.arange(first, first + users), length)
    return user[:count], taken.ravel()[:count], np.tile(np.arange(length), users)[:count]


def lines(path: Path) -> Iterator[dict[str, str]]:
    """The interactions of a shop."""
    with path.open(encoding="utf-8", newline="") as file:
        yield from csv.DictReader(file)
