"""Rows by pandas or datasets as one would write it there: read JSONL, NFC, drop equal rows, deal by a hash, write.

python prepare_rows.py pandas|datasets SOURCE FOLDER -> {"rate": MB a CPU second, "peak": GB}
"""

import hashlib
import json
import os
import resource
import sys
import time
import unicodedata
from pathlib import Path


def part(text: str) -> str:
    place = int.from_bytes(hashlib.blake2b(text.casefold().encode(), digest_size=8).digest(), "big") / 2**64
    return "test" if place < 0.1 else "valid" if place < 0.2 else "train"


def clean(text: str) -> str:
    return unicodedata.normalize("NFC", text).strip()


def with_pandas(source: str, folder: Path) -> None:
    import pandas

    rows = pandas.read_json(source, lines=True)
    rows["text"] = rows["text"].map(clean)
    rows = rows.drop_duplicates("text")
    for name, group in rows.groupby(rows["text"].map(part)):
        group.to_json(folder / f"{name}.jsonl", orient="records", lines=True, force_ascii=False)


def with_datasets(source: str, folder: Path) -> None:
    from datasets import load_dataset

    rows = load_dataset("json", data_files=source, split="train", cache_dir=str(folder / "cache"))
    seen: set[bytes] = set()

    def fresh(row: dict) -> bool:
        key = hashlib.blake2b(row["text"].encode(), digest_size=16).digest()
        known = key in seen
        seen.add(key)
        return not known

    rows = rows.map(lambda row: {"text": clean(row["text"])}).filter(fresh)
    rows = rows.map(lambda row: {"part": part(row["text"])})
    for name in ("train", "valid", "test"):
        rows.filter(lambda row, name=name: row["part"] == name).to_json(folder / f"{name}.jsonl", force_ascii=False)


if __name__ == "__main__":
    name, source, folder = sys.argv[1:]
    Path(folder).mkdir(parents=True)
    began = time.process_time()
    {"pandas": with_pandas, "datasets": with_datasets}[name](source, Path(folder))
    seconds = time.process_time() - began
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    print(json.dumps({"rate": os.path.getsize(source) / 1e6 / seconds, "peak": peak}))
