"""The command line as a stranger meets it: help at once, plain errors, and two files of their own made into bundles."""

import csv
import gzip
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from zhumo.prepare.guess import guess
from zhumo.recipe import Recipe


def zhumo(*arguments: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "zhumo", *arguments],
        cwd=cwd,
        env={**os.environ, "COLUMNS": "200", **environment},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize(
    "what", ["import zhumo", "import zhumo.cli, typer.testing as t; t.CliRunner().invoke(zhumo.cli.app, ['--help'])"]
)
def test_neither_import_nor_help_waits_for_torch(what: str, tmp_path: Path) -> None:
    code = f"{what}\nimport sys; print(sorted({{'torch', 'matplotlib', 'sklearn', 'fastapi'}} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_help_names_every_command(tmp_path: Path) -> None:
    done = zhumo("--help", cwd=tmp_path)
    assert done.returncode == 0
    for command in (
        "run",
        "prepare",
        "build",
        "train",
        "evaluate",
        "deploy",
        "plan",
        "new",
        "serve",
        "answer",
        "pull",
        "demo",
    ):
        assert f"  {command} " in done.stdout


def test_an_error_is_one_sentence_in_the_users_language(tmp_path: Path) -> None:
    for language, words in (("en", "There is no recipe"), ("zh", "没有配方文件")):
        done = zhumo("--lang", language, "run", "nowhere.yaml", cwd=tmp_path)
        assert done.returncode == 1
        assert words in done.stderr and "Traceback" not in done.stderr


def test_a_wrong_option_is_a_usage_error(tmp_path: Path) -> None:
    assert zhumo("run", cwd=tmp_path).returncode == 2
    assert zhumo("--lang", "fr", "pull", cwd=tmp_path).returncode == 2


def test_the_catalogue_is_listed_without_network(tmp_path: Path) -> None:
    done = zhumo("pull", cwd=tmp_path)
    assert done.returncode == 0
    for name in ("movielens-100k", "minilm", "multilingual-e5-small", "smollm2-135m-instruct", "clothing-reviews"):
        assert name in done.stdout


@pytest.fixture(scope="module")
def shop(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A shop's orders with Chinese headings, made of real ones."""
    folder = tmp_path_factory.mktemp("shop")
    with gzip.open(shared / "online-retail" / "transactions.csv.gz", "rt", encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["CustomerID"]][:6_000]
    with (folder / "orders.csv").open("w", encoding="gb18030", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["会员号", "商品编号", "商品名称", "数量", "下单时间"])
        for row in rows:
            writer.writerow(
                [row["CustomerID"], row["StockCode"], row["Description"], row["Quantity"], row["InvoiceDate"]]
            )
    return folder


def test_a_shops_orders_go_from_new_to_a_bundle_without_an_edit(shop: Path) -> None:
    new = zhumo("new", "recommend", "orders.csv", cwd=shop)
    assert new.returncode == 0, new.stderr
    text = (shop / "orders.yaml").read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 15
    columns = Recipe.read(shop / "orders.yaml").prepare.columns
    assert columns == {"user": "会员号", "item": "商品编号", "time": "下单时间", "title": "商品名称"}
    for name in columns.values():
        assert str(name) in new.stdout  # it says what it guessed
    run = zhumo("run", "orders.yaml", "train.epochs=2", "train.threads=1", "deploy.parity=20", "--json", cwd=shop)
    assert run.returncode == 0, run.stderr
    steps = {step["step"]: step for step in json.loads(run.stdout)["steps"]}
    rows = steps["prepare"]["rows"]
    assert rows["in"] == 6_000 == rows["out"] + rows["quarantined"] + rows["deduplicated"]
    again = zhumo("run", "orders.yaml", "train.epochs=2", "train.threads=1", "deploy.parity=20", "--json", cwd=shop)
    assert all(step["wall_seconds"] == 0 for step in json.loads(again.stdout)["steps"])
    visitor = {"items": ["85123A", "71053"], "k": 3}
    (shop / "visitors.jsonl").write_text(json.dumps(visitor) + "\n", encoding="utf-8")
    answer = zhumo("answer", "runs/orders/deploy", "visitors.jsonl", "-o", "answers.jsonl", cwd=shop)
    assert answer.returncode == 0, answer.stderr
    [answered] = [json.loads(line) for line in (shop / "answers.jsonl").read_text(encoding="utf-8").splitlines()]
    assert len(answered["items"]) == 3 and all("title" in item for item in answered["items"])


def test_the_recipe_that_comes_with_zhumo_takes_a_shops_own_orders(shop: Path) -> None:
    settings = ["name=own", "prepare.source=orders.csv", "prepare.items=null", "prepare.limit=2000",
                "train.epochs=null", "train.steps=5", "train.threads=1", "deploy.parity=5"]  # fmt: skip
    guessed = zhumo("run", "recommend", *settings, cwd=shop)
    assert guessed.returncode != 0 and "nearest: 会员号" in guessed.stderr
    columns = "prepare.columns={user: 会员号, item: 商品编号, time: 下单时间, title: 商品名称}"
    run = zhumo("run", "recommend", *settings, columns, "--json", cwd=shop)
    assert run.returncode == 0, run.stderr
    (shop / "one.jsonl").write_text('{"items": ["85123A"], "k": 2}\n', encoding="utf-8")
    assert zhumo("answer", "runs/own/deploy", "one.jsonl", "-o", "one.out.jsonl", cwd=shop).returncode == 0
    [answered] = [json.loads(line) for line in (shop / "one.out.jsonl").read_text(encoding="utf-8").splitlines()]
    assert len(answered["items"]) == 2 and all("title" in item for item in answered["items"])


def test_a_plan_shows_what_will_be_made(shop: Path) -> None:
    (shop / "plan.yaml").write_text("task: recommend\nprepare: {source: orders.csv}\n", encoding="utf-8")
    plan = json.loads(zhumo("plan", "plan.yaml", "--json", cwd=shop).stdout)
    assert plan["recipe"]["build"]["family"] == "llama"
    assert plan["parameters"] is None and plan["steps"] is None


def test_how_the_characters_were_read_is_said(shop: Path) -> None:
    recipe = "task: recommend\nprepare: {source: orders.csv, limit: 500, columns: {user: 会员号, item: 商品编号}}\n"
    (shop / "said.yaml").write_text(recipe, encoding="utf-8")
    done = zhumo("prepare", "said.yaml", cwd=shop)
    assert done.returncode == 0, done.stderr
    assert "500 rows in" in done.stdout and "orders.csv was read as gb18030" in done.stdout


@pytest.mark.net
def test_a_desks_tickets_go_from_new_to_a_bundle_without_an_edit(shared: Path, tmp_path: Path) -> None:
    with gzip.open(shared / "banking77" / "train.jsonl.gz", "rt", encoding="utf-8") as file:
        rows = [json.loads(line) for line in file]
    wanted = sorted({row["label"] for row in rows})[:6]
    tickets = [
        {"id": index, "content": row["text"], "category": row["label"]}
        for index, row in enumerate(rows)
        if row["label"] in wanted
    ]
    (tmp_path / "tickets.jsonl").write_text("".join(json.dumps(ticket) + "\n" for ticket in tickets), encoding="utf-8")
    assert zhumo("new", "classify", "tickets.jsonl", cwd=tmp_path).returncode == 0
    recipe = Recipe.read(tmp_path / "tickets.yaml")
    assert recipe.prepare.columns == {"text": "content", "label": "category"}
    run = zhumo("run", "tickets.yaml", "--json", cwd=tmp_path)
    assert run.returncode == 0, run.stderr
    report = json.loads((tmp_path / "runs" / "tickets" / "evaluate" / "report.json").read_text(encoding="utf-8"))
    assert report["measures"][0]["value"] > 0.8


def test_chats_are_seen_as_chats(shared: Path) -> None:
    found = guess("write", str(shared / "preference-and-tools-demo" / "identity.jsonl.gz"))
    assert "columns" not in found.recipe and found.reasons


def test_what_is_read_at_once_decides_the_length(tmp_path: Path) -> None:
    faq = tmp_path / "faq.csv"
    rows = [{"question": f"问题{one}？", "answer": f"第{one}个回答。" + "很长的回答" * 19} for one in range(40)]
    with faq.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, ("question", "answer"))
        writer.writeheader()
        writer.writerows(rows)
    made = {task: Recipe.read(_saved(tmp_path, guess(task, str(faq)).recipe)) for task in ("embed", "rerank")}
    # An answer has 102 letters, with its question 107: 20% more must fit.
    assert made["embed"].prepare.length == 128 and made["rerank"].prepare.length == 256
    # Published vectors serve as they are; the head of a reranker has everything to learn.
    assert made["embed"].train.epochs == 0 and made["rerank"].train.epochs == 2


def test_words_of_a_sentence_are_read_as_one_text(tmp_path: Path) -> None:
    source = tmp_path / "names.jsonl"
    row = {"chars": list("李四住在北京的胡同里" * 9), "tags": ["O"] * 90}
    source.write_text("".join(json.dumps(row) + "\n" for _ in range(20)), encoding="utf-8")
    found = Recipe.read(_saved(tmp_path, guess("tag", str(source)).recipe))
    assert found.prepare.length == 128 and found.build.start == "multilingual-e5-small"


def test_a_chat_is_read_as_a_whole(tmp_path: Path) -> None:
    source = tmp_path / "chats.jsonl"
    row = {"messages": [{"role": role, "content": "word " * 60} for role in ("user", "assistant")]}
    source.write_text("".join(json.dumps(row) + "\n" for _ in range(20)), encoding="utf-8")
    # 600 letters, four of which are about a token, with the names of the roles and a fifth to spare.
    assert Recipe.read(_saved(tmp_path, guess("write", str(source)).recipe)).prepare.length == 256
    row = {"instruction": "word " * 60, "output": "word " * 60}
    source.write_text("".join(json.dumps(row) + "\n" for _ in range(20)), encoding="utf-8")
    assert Recipe.read(_saved(tmp_path, guess("write", str(source)).recipe)).prepare.length == 256


def _saved(folder: Path, recipe: str) -> Path:
    path = folder / "guessed.yaml"
    path.write_text(recipe, encoding="utf-8")
    return path


def test_a_recipe_is_never_written_over(shop: Path) -> None:
    (shop / "kept.csv").write_text("用户,物品\na,b\n", encoding="utf-8")
    (shop / "kept.yaml").write_text("mine", encoding="utf-8")
    done = zhumo("new", "recommend", "kept.csv", cwd=shop)
    assert done.returncode == 1 and (shop / "kept.yaml").read_text() == "mine"
