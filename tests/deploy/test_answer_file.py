"""A file of rows is answered as the bundle answers: in order, with nothing dropped in silence."""

import base64
import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from zhumo.bundle import load
from zhumo.deploy.answer import answer_file
from zhumo.errors import DataError, SourceError
from zhumo.recipe import Recipe
from zhumo.run import Run


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def write(path: Path, *rows: str) -> str:
    path.write_text("\n".join(rows) + "\n", encoding="utf-8")
    return str(path)


def test_a_csv_with_the_columns_of_the_recipe(made: tuple[Recipe, Run], tmp_path: Path) -> None:
    texts = [f"布料很好 {number}" for number in range(150)]
    source = write(tmp_path / "in.csv", "评论内容,别的", *(f"{text},x" for text in texts))
    bundle = made[1].step("deploy")
    assert answer_file(bundle, source, tmp_path / "out.jsonl") == {"rows": 150, "answers": 150, "quarantined": 0}
    found = lines(tmp_path / "out.jsonl")
    assert [answer["line"] for answer in found] == list(range(2, 152))
    own = load(bundle).answer([{"text": text} for text in texts])
    assert [answer["label"] for answer in found] == [answer["label"] for answer in own]
    assert found[149]["scores"] == pytest.approx(own[149]["scores"], abs=1e-6)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.csv", "out.jsonl"]


def test_the_tasks_own_names_do_as_well(made: tuple[Recipe, Run], tmp_path: Path) -> None:
    source = write(tmp_path / "in.csv", "text", "布料很好")
    assert answer_file(made[1].step("deploy"), source, tmp_path / "out.jsonl")["answers"] == 1


def test_what_cannot_be_asked_is_put_aside_and_counted(bundles: dict[str, Path], tmp_path: Path) -> None:
    rows = ['{"text": "soft"}', "{broken", '{"text": ""}', '{"other": 1}', "[1]", '{"text": "broken zip"}']
    counts = answer_file(bundles["classify"], write(tmp_path / "in.jsonl", *rows), tmp_path / "out.jsonl")
    assert counts == {"rows": 6, "answers": 2, "quarantined": 4}
    assert [answer["line"] for answer in lines(tmp_path / "out.jsonl")] == [1, 6]
    aside = lines(tmp_path / "out.jsonl.quarantine.jsonl")
    assert [entry["line"] for entry in aside] == [2, 3, 4, 5] and all(entry["reason"] for entry in aside)
    assert base64.b64decode(aside[0]["bytes"]).strip() == b"{broken"


def test_bad_lines_before_the_first_good_one_are_kept(bundles: dict[str, Path], tmp_path: Path) -> None:
    source = write(tmp_path / "in.jsonl", "{", "{", '{"text": "soft"}')
    assert answer_file(bundles["classify"], source, tmp_path / "out.jsonl")["quarantined"] == 2


def test_histories_as_lists_and_as_text(bundles: dict[str, Path], tmp_path: Path) -> None:
    own = load(bundles["recommend"]).answer([{"items": ["1", "4"], "k": 3}, {"items": ["1", "4"]}])
    source = write(tmp_path / "in.jsonl", '{"items": ["1", "4"], "k": 3}', '{"items": "1, 4"}', '{"items": []}')
    assert answer_file(bundles["recommend"], source, tmp_path / "out.jsonl")["answers"] == 3
    found = lines(tmp_path / "out.jsonl")
    assert [[item["id"] for item in answer["items"]] for answer in found[:2]] == [
        [item["id"] for item in answer["items"]] for answer in own
    ]
    assert len(found[0]["items"]) == 3


def test_interactions_are_gathered_by_user(bundles: dict[str, Path], tmp_path: Path) -> None:
    source = write(tmp_path / "in.csv", "user,item,time", "小王,4,9", "ann,2,3", "小王,1,5", ",3,3")
    counts = answer_file(bundles["recommend"], source, tmp_path / "out.jsonl")
    assert counts == {"rows": 3, "answers": 2, "quarantined": 1}
    found = lines(tmp_path / "out.jsonl")
    own = load(bundles["recommend"]).answer([{"items": ["1", "4"]}])[0]
    assert [answer["user"] for answer in found] == ["小王", "ann"]
    assert [item["id"] for item in found[0]["items"]] == [item["id"] for item in own["items"]]


def test_lists_become_a_table_where_the_ending_says_so(bundles: dict[str, Path], tmp_path: Path) -> None:
    source = write(tmp_path / "in.csv", "user,item,time,price", "小王,4,9,?", "ann,2,3,", "小王,1,5,x", ",3,3,1")
    counts = answer_file(bundles["recommend"], source, tmp_path / "out.parquet")
    assert counts == {"rows": 3, "answers": 2, "quarantined": 1}  # a price is no reason not to be asked
    table = pq.read_table(tmp_path / "out.parquet").to_pydict()
    own = load(bundles["recommend"]).answer([{"items": ["1", "4"]}, {"items": ["2"]}])
    assert list(table) == ["user", "rank", "item", "score"]
    assert table["item"] == [item["id"] for answer in own for item in answer["items"]]
    assert table["score"] == pytest.approx([item["score"] for answer in own for item in answer["items"]], rel=1e-5)
    assert table["user"] == ["小王"] * len(own[0]["items"]) + ["ann"] * len(own[1]["items"])
    assert table["rank"][: len(own[0]["items"])] == list(range(1, len(own[0]["items"]) + 1))
    answer_file(bundles["recommend"], write(tmp_path / "in.jsonl", '{"items": ["1"]}', "{"), tmp_path / "l.parquet")
    assert set(pq.read_table(tmp_path / "l.parquet")["line"].to_pylist()) == {1}
    answer_file(bundles["recommend"], write(tmp_path / "bad.jsonl", "{"), tmp_path / "none.parquet")
    assert pq.read_table(tmp_path / "none.parquet").column_names == ["user", "rank", "item", "score"]
    with pytest.raises(DataError, match="makes no lists"):
        answer_file(bundles["classify"], source, tmp_path / "labels.parquet")
    assert not (tmp_path / "labels.parquet").exists()


def test_prompts_become_chats_where_the_model_knows_chats(bundles: dict[str, Path], tmp_path: Path) -> None:
    chat = {
        "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "hi"}],
        "max_tokens": 5,
    }
    rows = [
        '{"prompt": "hi", "system": "Be brief.", "max_tokens": 5}',
        json.dumps(chat),
        '{"prompt": "hi", "max_tokens": 0}',
    ]
    counts = answer_file(bundles["write"], write(tmp_path / "in.jsonl", *rows), tmp_path / "out.jsonl")
    assert counts == {"rows": 3, "answers": 2, "quarantined": 1}  # no answer has 0 tokens
    one, other = lines(tmp_path / "out.jsonl")
    assert one["text"] == other["text"] == load(bundles["write"]).answer([chat])[0]["text"]


def test_without_the_column_nothing_is_written(bundles: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(DataError, match="text"):
        answer_file(bundles["classify"], write(tmp_path / "in.csv", "words", "soft"), tmp_path / "out.jsonl")
    with pytest.raises(SourceError):
        answer_file(bundles["classify"], str(tmp_path / "nowhere.csv"), tmp_path / "out.jsonl")
    assert [path.name for path in tmp_path.iterdir()] == ["in.csv"]


def test_an_older_quarantine_does_not_stay(bundles: dict[str, Path], tmp_path: Path) -> None:
    answer_file(bundles["embed"], write(tmp_path / "in.jsonl", "{", '{"text": "a"}'), tmp_path / "out.jsonl")
    assert (tmp_path / "out.jsonl.quarantine.jsonl").exists()
    answer_file(bundles["embed"], write(tmp_path / "in.jsonl", '{"text": "a"}'), tmp_path / "out.jsonl")
    assert not (tmp_path / "out.jsonl.quarantine.jsonl").exists()


def test_documents_are_texts_or_the_row_is_put_aside(bundles: dict[str, Path], tmp_path: Path) -> None:
    rows = ['{"text": "soft?", "documents": ["soft", "broken"]}', '{"text": "soft?", "documents": [null]}',
            '{"text": "soft?", "documents": [""]}', '{"text": "soft?"}']  # fmt: skip
    counts = answer_file(bundles["rerank"], write(tmp_path / "in.jsonl", *rows), tmp_path / "out.jsonl")
    assert counts == {"rows": 4, "answers": 1, "quarantined": 3}
    [answer] = lines(tmp_path / "out.jsonl")
    assert len(answer["scores"]) == 2
