"""Small bundles on disk, one a task, made by our own core with fresh weights; and a server of them."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from zhumo.bundle import save
from zhumo.deploy.parity import Server, served
from zhumo.make import make
from zhumo.recipe import Recipe
from zhumo.run import Run, write_json
from zhumo.tasks import Row, Task, task_class
from zhumo.tokenizer import Tokenizer, learn_bpe
from zhumo.transformer import Config, Transformer, initialise

HOSTILE = "<img src=x onerror=alert(1)>&<script>alert(2)</script>"
FILMS = ["Casablanca", "Metropolis", "七武士", HOSTILE, "Solaris", "Vertigo", "M", "Persona", "大路", "Ikiru"]
SHOP = {
    "title": FILMS,
    "category": [["drama"], ["silent", "drama"], ["动作"], None, *[["drama"]] * 3, ["silent"], ["动作"], ["drama"]],
    "price": [9.5, 12.0, 8.0, 1.0, None, 20.0, 15.5, 7.0, 11.0, 13.0],
    "picture": ["casablanca.png", "../outside.png", "七武士.jpg", "notes.png", "link.png", None, *["nowhere.png"] * 4],
}
TEXTS = [
    ("the dress is lovely and fits", "good"),
    ("poor cloth, it tore at once", "bad"),
    ("布料很好，很喜欢", "good"),
    ("颜色不对，退货了", "bad"),
    ("soft, warm and well made", "good"),
    ("the zip broke on day one", HOSTILE),
]
CHATS = [
    {"messages": [{"role": "user", "content": text}, {"role": "assistant", "content": label}]} for text, label in TEXTS
]


def _bundle(folder: Path, task: Task, **changes: object) -> Path:
    config = Config(vocabulary=task.vocabulary, width=32, depth=2, **{"length": 128, "heads": 2, **changes})  # type: ignore[arg-type]
    model = Transformer(config)
    model.head = task.head(config.width) or model.head
    family = FAMILY.get(task.name, "bert")
    initialise(model, 1)
    if task.name == "rerank":  # its head begins at zero, and would find all documents alike
        torch.nn.init.normal_(model.head.weight, std=0.02, generator=torch.Generator().manual_seed(1))  # type: ignore[arg-type]
    save(folder, model, family, task.tokenizer, task)
    write_json(folder / "run.json", {"format": 1, "name": f"{task.name}-small", "task": task.name})
    return folder


def _task(name: str, tokenizer: Tokenizer | None, rows: list[Row], **state: object) -> Task:
    task = task_class(name)(tokenizer, 64, dict(state))
    task.learn(rows)
    return task


MARKED: tuple[Row, ...] = tuple(
    {"text": f"warm 大衣 from {city}", "spans": [{"start": 13, "end": 13 + len(city), "label": "CITY"}]}
    for city in ("Oslo", "北京", "New York")
)
BERT = {"causal": False, "norm_first": False, "norm_eps": 1e-12, "types": 2, "head": "none"}
LLAMA = {"positions": "rotary", "norm": "rms", "activation": "silu", "gated": True, "bias": "none", "length": 10_000}
MARIAN = {"encoder_depth": 1, "positions": "sinusoidal", "norm_first": False, "stem_norm": False, "head_bias": True}
FAMILY = {"recommend": "gpt2", "write": "llama", "translate": "marian"}


@pytest.fixture(scope="session")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A folder a task."""
    root = tmp_path_factory.mktemp("bundles")
    tokenizer = learn_bpe([text for text, _ in TEXTS], 400)
    histories = [{"items": [str((user + step * step) % len(FILMS)) for step in range(6)]} for user in range(12)]
    texts = [{"text": text, "label": label} for text, label in TEXTS]
    described = {
        str(place): {name: cells[place] for name, cells in SHOP.items() if cells[place] is not None}
        for place in range(len(FILMS))
    }
    shop = _task("recommend", None, histories, catalogue=described)
    return {
        "recommend": _bundle(root / "recommend", shop, heads=1),  # of a width that the native core computes too
        "classify": _bundle(root / "classify", _task("classify", tokenizer, texts), **BERT),
        "tag": _bundle(root / "tag", _task("tag", tokenizer, list(MARKED)), **BERT),
        "embed": _bundle(root / "embed", _task("embed", tokenizer, texts), **BERT),
        "rerank": _bundle(root / "rerank", _task("rerank", tokenizer, []), **BERT),
        "write": _bundle(root / "write", _task("write", tokenizer, list(CHATS)), **LLAMA),
        "translate": _bundle(root / "translate", _task("translate", tokenizer, []), **MARIAN),
    }


@pytest.fixture(scope="session")
def server(bundles: dict[str, Path]) -> Iterator[Server]:
    """All of them behind one real server process."""
    with served(list(bundles.values())) as found:
        yield found


@pytest.fixture(scope="session")
def hostile() -> str:
    """Markup that a title and a label of the bundles hold."""
    return HOSTILE


RECIPE = """
task: classify
name: 评论
prepare:
  {source: DATA, columns: {text: 评论内容, label: 评价}, length: 32, vocabulary: 400, split: {test: 0.2, valid: 0.1}}
build: {size: tiny}
train: {steps: 20, batch: 16, threads: 1}
deploy: {parity: 20}
"""


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Recipe, Run]:
    """A run through all five steps, from a file with Chinese headings."""
    root = tmp_path_factory.mktemp("made")
    lines = [f"{text} {number},{label}" for number in range(40) for text, label in TEXTS if "," not in text]
    (root / "reviews.csv").write_text("\n".join(["评论内容,评价", *lines]), encoding="utf-8")
    (root / "recipe.yaml").write_text(RECIPE.replace("DATA", str(root / "reviews.csv")), encoding="utf-8")
    recipe = Recipe.read(root / "recipe.yaml")
    return recipe, make(recipe, Run.of(recipe, root / "runs"))
