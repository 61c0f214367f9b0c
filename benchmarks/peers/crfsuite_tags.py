"""CRFsuite on rows of units: the settings are chosen on validation rows. `python crfsuite_tags.py IN OUT`, both JSON.

Runs in an environment of its own, without Zhumo. in: {"train", "valid", "test"}: [{"units": [...], "tags": [...]}];
out: {"tags": [[...]], "settings": {...}, "valid": share of units right that are not O}.
"""

import json
import sys
import tempfile
from pathlib import Path

import pycrfsuite

PENALTIES = (
    (0.0, 1.0),
    (0.0, 0.1),
    (0.0, 0.01),
    (0.1, 0.1),
    (0.1, 0.01),
    (0.05, 0.01),
    (0.5, 0.1),
)  # of size, of square


def looks(units: list[str], place: int) -> list[str]:
    """The unit and two on each side, in pairs and threes, and how it is written."""
    around = [units[at] if 0 <= at < len(units) else "<>" for at in range(place - 2, place + 3)]
    found = ["always", *(f"{number}={one}" for number, one in enumerate(around))]
    found += [f"{number}+={around[number]}|{around[number + 1]}" for number in range(4)]
    found += [f"around={around[1]}|{around[3]}", f"three={around[1]}|{around[2]}|{around[3]}"]
    return [*found, f"digit={around[2].isdigit()}", f"latin={around[2].isascii()}"]


def spans(tags: list[str]) -> set[tuple[int, int, str]]:
    """Where each span begins and ends, and what it is."""
    found, begin = set(), None
    for place, tag in enumerate([*tags, "O"]):
        if begin is not None and tag != f"I-{tags[begin][2:]}":
            found.add((begin, place, tags[begin][2:]))
            begin = None
        if begin is None and tag != "O":
            begin = place
    return found


def f1(said: list[list[str]], true: list[list[str]]) -> float:
    """Micro-F1 over spans."""
    pairs = [(spans(one), spans(other)) for one, other in zip(said, true, strict=True)]
    return 2 * sum(len(a & b) for a, b in pairs) / max(1, sum(len(a) + len(b) for a, b in pairs))


def tagger(rows: list[dict[str, list[str]]], size: float, square: float, path: str) -> pycrfsuite.Tagger:
    """A field learned from rows."""
    trainer = pycrfsuite.Trainer(verbose=False)
    trainer.set_params({"c1": size, "c2": square, "max_iterations": 150, "feature.possible_transitions": True})
    for row in rows:
        trainer.append([looks(row["units"], place) for place in range(len(row["units"]))], row["tags"])
    trainer.train(path)
    found = pycrfsuite.Tagger()
    found.open(path)
    return found


def main() -> None:
    data = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    said: dict[tuple[float, float], dict[str, list[list[str]]]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for number, (size, square) in enumerate(PENALTIES):
            model = tagger(data["train"], size, square, f"{folder}/{number}.crf")
            said[size, square] = {
                part: [model.tag([looks(row["units"], at) for at in range(len(row["units"]))]) for row in data[part]]
                for part in ("valid", "test")
            }
    true = [row["tags"] for row in data["valid"]]
    best = max(said, key=lambda settings: f1(said[settings]["valid"], true))
    result = {"tags": said[best]["test"], "c1": best[0], "c2": best[1], "valid_f1": f1(said[best]["valid"], true)}
    Path(sys.argv[2]).write_text(json.dumps(result, ensure_ascii=False), encoding="utf-8")


if __name__ == "__main__":
    main()
