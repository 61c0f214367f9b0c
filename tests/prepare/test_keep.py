"""Which rows are wanted, ids that may not repeat, and what is computed from a text."""

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from zhumo.errors import DataError
from zhumo.prepare import prepare, read_rows
from zhumo.prepare.texts import language, quality
from zhumo.recipe import Recipe
from zhumo.run import Run, read_json

ROWS: list[dict[str, Any]] = [
    {"id": 1, "text": "The delivery was very fast and they were kind", "label": "good", "stars": 5, "toxicity": 0.1},
    {"id": 2, "text": "发货很快，质量也不错，下次还来买", "label": "good", "stars": "4", "toxicity": 0.2},
    {"id": 3, "text": "It is the worst of all, you idiots", "label": "bad", "stars": 1.0, "toxicity": 0.9},
    {"id": 4, "text": "Das ist nicht die Farbe auf dem Bild", "label": "bad", "stars": 2},
    {"id": 5, "text": "很差", "label": "bad", "stars": 1, "toxicity": "high"},
]


def kept(
    folder: Path, rows: list[dict[str, Any]], **section: Any
) -> tuple[set[int], dict[str, Any], list[dict[str, Any]]]:
    (folder / "rows.jsonl").write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    recipe = Recipe.check(
        {
            "name": "x",
            "task": "write",
            "prepare": {"source": str(folder / "rows.jsonl"), "tokenizer": "char", "split": {"valid": 0, "test": 0}}
            | section,
            "evaluate": {"slices": ["id"]},
        },
        "test",
    )
    run = Run.of(recipe, folder / "runs")
    prepare(recipe, run)
    step = run.step("prepare")
    card = read_json(step / "card.json")["rows"]
    assert card["in"] == card["out"] + card["quarantined"] + card["deduplicated"] + card["filtered"]
    return {row["id"] for row in read_rows(step / "train.jsonl")}, card, read_rows(step / "quarantine.jsonl")


@pytest.mark.parametrize(
    ("keep", "ids", "bad"),
    [
        ({"stars": [4, "5"]}, {1, 2}, []),
        ({"stars": {"at_least": 2}}, {1, 2, 4}, []),
        ({"stars": {"at_most": 4, "at_least": 1.5}, "label": ["bad"]}, {4}, []),
        ({"toxicity": {"at_most": 0.5}}, {1, 2}, [5]),
        ({"text.language": ["zh", "en"]}, {1, 2, 3, 5}, []),
        ({"text.characters": {"at_least": 5}}, {1, 2, 3, 4}, []),
        ({"text.quality": {"at_least": 0.9}, "label": ["good"]}, {1, 2}, []),
    ],
)
def test_only_what_is_wanted_is_kept_and_the_rest_counted(
    tmp_path: Path, keep: dict[str, Any], ids: set[int], bad: list[int]
) -> None:
    found, card, quarantine = kept(tmp_path, ROWS, keep=keep)
    assert found == ids
    assert [entry["line"] for entry in quarantine] == bad
    assert card["filtered"] == len(ROWS) - len(ids) - len(bad)


def test_a_column_that_is_not_there_names_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="toxicity"):
        kept(tmp_path, ROWS, keep={"toxic": {"at_most": 0.5}})


def test_an_id_comes_once_or_says_the_same(tmp_path: Path) -> None:
    again = [*ROWS, ROWS[0], {**ROWS[1], "text": "another text"}, {"text": "no id", "label": "bad"}]
    found, card, quarantine = kept(tmp_path, again, id="id")
    assert found == {1, 2, 3, 4, 5}
    assert (card["deduplicated"], card["quarantined"]) == (1, 2)
    assert [(entry["line"], entry["reason"]) for entry in quarantine] == [(7, "same_id"), (8, "no_value")]


def test_languages_of_real_sentences(shared: Path) -> None:
    def right(file: str, column: str, code: str) -> float:
        with gzip.open(shared / file) as lines:
            texts = [json.loads(line)[column] for line in lines][:500]
        return sum(language(text) == code for text in texts) / len(texts)

    assert right("multi30k-en-de/test2016.jsonl.gz", "de", "de") > 0.98
    assert right("multi30k-en-de/test2016.jsonl.gz", "en", "en") > 0.98
    assert right("tatoeba-en-zh/test.jsonl.gz", "zh", "zh") > 0.98
    assert right("banking77/test.jsonl.gz", "text", "en") > 0.98
    assert [language(text) for text in ("ありがとうございます、先生", "안녕하세요", "спасибо", "12345", "")] == [
        "ja", "ko", "ru", "-", "-"
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "share"),
    [
        ("The quick brown fox jumps over the lazy dog.", 1.0),
        ("房间很大，服务也好。", 1.0),
        ("BUY NOW!!! CHEAP CHEAP CHEAP", 0.8),
        ("$$$ ### 100 200 300 %%%", 0.8),
        ("ä½ å¥½ FranÃ§ais", 0.8),
        ("锟斤拷锟斤拷 很好", 0.8),
        ("spam " * 200, 0.8),
        ("", 0.8),
    ],
)
def test_each_plain_test_counts_a_fifth(text: str, share: float) -> None:
    assert quality(text) == share
