"""A folder of documents becomes rows: as many out, or in quarantine with what is wrong, as there are sections and bad
files."""

import json
from pathlib import Path

import orjson
import pytest

from zhumo.errors import SourceError
from zhumo.prepare import prepare, read_rows
from zhumo.recipe import Recipe
from zhumo.run import Run
from zhumo.sources import Bad, Record, open_rows

RETURNS = "# Returns\n\nWithin thirty days.\n\n## Costs\n\nNone at all.\n"
FAQ = "类别,问题,答案\n配送,多久能到？,三天内送达。\n配送,运费多少？,满五十元免运费。\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "handbook"
    (folder / "zh").mkdir(parents=True)
    (folder / "returns.md").write_text(RETURNS, encoding="utf-8")
    (folder / "zh" / "faq.csv").write_text(FAQ, encoding="utf-8")
    (folder / "plain.txt").write_text("Words under no heading.\n", encoding="utf-8")
    (folder / "picture.png").write_bytes(b"\x89PNG")
    (folder / "empty.md").touch()
    return folder


def test_headings_and_text_question_and_answer(folder: Path) -> None:
    rows = open_rows(f"documents:{folder}")
    found = list(rows)
    said = [(one.row["text"], one.row["match"], one.row["file"]) for one in found if isinstance(one, Record)]
    assert said == [
        ("", "Words under no heading.", "plain.txt"),
        ("Returns", "Within thirty days.", "returns.md"),
        ("Returns > Costs", "None at all.", "returns.md"),
        ("配送 > 多久能到？", "三天内送达。", "zh/faq.csv"),
        ("配送 > 运费多少？", "满五十元免运费。", "zh/faq.csv"),
    ]
    bad = {one.source.rpartition("/")[2]: one for one in found if isinstance(one, Bad)}
    assert set(bad) == {"picture.png", "empty.md"} and all(one.reason == "document" for one in bad.values())
    assert ".png" in bad["picture.png"].why and "empty.md" in bad["empty.md"].why
    assert len(rows.fingerprint) == 5 and len(set(rows.fingerprint.values())) == 5


def test_another_document_is_other_data(folder: Path) -> None:
    before = open_rows(f"documents:{folder}").fingerprint
    (folder / "returns.md").write_text("# Returns\n\nWithin forty days.\n", encoding="utf-8")
    after = open_rows(f"documents:{folder}").fingerprint
    assert {name for name in before if before[name] != after[name]} == {f"documents:{folder}/returns.md"}


def test_a_document_outside_the_folder_is_bad_and_not_opened(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "secret.md").write_text("# Secret\n\nNobody's.\n", encoding="utf-8")
    (folder / "link.md").symlink_to(tmp_path / "secret.md")
    rows = open_rows(f"documents:{folder}")
    assert not any("Nobody" in str(one) for one in rows)
    assert any(isinstance(one, Bad) and "link.md" in one.why for one in rows)


def test_no_such_folder(tmp_path: Path) -> None:
    with pytest.raises(SourceError):
        open_rows(f"documents:{tmp_path / 'none'}")
    (tmp_path / "file.md").touch()
    with pytest.raises(SourceError):
        open_rows(f"documents:{tmp_path / 'file.md'}")


def test_every_row_is_accounted_for(folder: Path, tmp_path: Path) -> None:
    section = {"source": f"documents:{folder}", "split": {"valid": 0}}
    recipe = Recipe.check({"task": "embed", "name": "handbook", "prepare": section}, "test")
    run = Run(tmp_path / "run")
    prepare(recipe, run)
    card = json.loads((run.step("prepare") / "card.json").read_text(encoding="utf-8"))
    assert card["rows"] == {"in": 7, "out": 4, "quarantined": 3, "deduplicated": 0, "filtered": 0}
    assert card["quarantined"] == {"document": 2, "no_value": 1}
    lines = (run.step("prepare") / "quarantine.jsonl").read_bytes().splitlines()
    aside = {row["source"].rpartition("/")[2]: row for row in map(orjson.loads, lines)}
    assert ".png" in aside["picture.png"]["why"] and "why" not in aside["plain.txt"]
    rows = [row for part in ("train", "test") for row in read_rows(run.step("prepare") / f"{part}.jsonl")]
    asked = ["Returns", "Returns > Costs", "配送 > 多久能到？", "配送 > 运费多少？"]
    assert sorted(row["text"] for row in rows) == asked
