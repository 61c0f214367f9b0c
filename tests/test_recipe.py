"""The recipe: strict, with errors that say where and what was meant."""

import json
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zhumo.errors import RecipeError
from zhumo.recipe import Recipe, parse_yaml

ROOT = Path(__file__).parent.parent


def write(folder: Path, text: str) -> Path:
    path = folder / "shop.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def read(folder: Path, text: str, *overrides: str) -> Recipe:
    return Recipe.read(write(folder, text), overrides)


GOOD = "task: recommend\nprepare: {source: orders.csv, columns: {user: 会员号, item: 商品, time: 下单时间}}\n"


def test_defaults_that_depend_on_others_are_filled_in(tmp_path: Path) -> None:
    recipe = read(tmp_path, GOOD)
    assert recipe.name == "shop"
    assert recipe.prepare.split.by == "last"
    assert recipe.build.family == "llama"
    assert recipe.train.lr == 1e-3
    lora = read(tmp_path, "task: write\nprepare: {source: a.jsonl}\nbuild: {start: smollm2, lora: 8}\n")
    assert lora.prepare.tokenizer == "smollm2"
    assert lora.build.lora is not None and lora.build.lora.rank == 8 and lora.build.lora.alpha == 16
    assert lora.train.lr == 5e-4


def test_what_a_search_chooses_from_can_be_left_to_us_and_is_shown(tmp_path: Path) -> None:
    fresh = read(tmp_path, GOOD + "train: {minutes: 5, search: auto}\n")
    assert fresh.train.search == {
        "train.lr": [5e-4, 1e-3, 2e-3], "build.dropout": [0.1, 0.2, 0.4], "build.width": [64, 128, 256]
    }  # fmt: skip
    again = tmp_path / "again.yaml"
    again.write_text(fresh.dump(), encoding="utf-8")
    assert Recipe.read(again) == fresh
    tuned = read(tmp_path, "task: classify\nprepare: {source: a}\nbuild: {start: minilm}\ntrain: {search: auto}\n")
    assert tuned.train.search == {"train.lr": [5e-5, 1e-4, 2e-4], "build.dropout": [0.1, 0.2, 0.4]}
    own = read(tmp_path, GOOD + "build: {size: base}\ntrain: {search: auto, lr: find}\n")
    assert own.train.search == {"build.dropout": [0.1, 0.2, 0.4]} and own.train.lr == "find"


def test_the_resolved_recipe_reads_back_as_itself(tmp_path: Path) -> None:
    recipe = read(tmp_path, GOOD)
    again = tmp_path / "again.yaml"
    again.write_text(recipe.dump(), encoding="utf-8")
    assert Recipe.read(again) == recipe


def test_overrides_take_the_path_of_the_file(tmp_path: Path) -> None:
    recipe = read(tmp_path, GOOD, "train.lr=3e-4", "train.epochs=2", "prepare.dedupe=false", "seed=7")
    assert (recipe.train.lr, recipe.train.epochs, recipe.prepare.dedupe, recipe.seed) == (3e-4, 2, False, 7)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("task: recommend\nprepare:\n  source: a.csv\n  colums: {}\n", ["shop.yaml:4:3", "prepare.colums", "columns"]),
        ("task: recomend\nprepare: {source: a}\n", ["shop.yaml:1:1", "recommend"]),
        ("task: recommend\ntask: write\nprepare: {source: a}\n", ["shop.yaml:2", "twice"]),
        ("task: recommend\n", ["prepare", "needed"]),
        ("task: recommend\nprepare: {source: a}\ntrain: {epochs: 1, steps: 2}\n", ["only one of"]),
        ("task: write\nprepare: {source: a}\ndeploy: {cache_bits: 8}\n", ["deploy", "write deploy.bits: 8"]),
        ("task: embed\nprepare: {source: a}\ndeploy: {bits: 16}\n", ["deploy.bits: 16", "embed", "8 or 32"]),
        ("task: recommend\nprepare: {source: a}\ntrain: {batch: many}\n", ["train.batch", "many"]),
        ("task: &x recommend\nprepare: {source: a}\n", ["anchor"]),
        ("task: [\n", ["not YAML"]),
        ("- a\n- b\n", ["key: value"]),
        ("task: recommend\nprepare: {source: a}\nbuild: {class_path: os.system}\n", ["build.class_path"]),
    ],
)
def test_a_mistake_is_named_with_its_place(tmp_path: Path, text: str, words: list[str]) -> None:
    with pytest.raises(RecipeError) as caught:
        read(tmp_path, text)
    for word in words:
        assert word in str(caught.value)
    assert caught.value.say("zh") != caught.value.say("en")


@pytest.mark.parametrize(
    ("line", "name", "wanted"),
    [
        ("train: {lr: fast}", "train.lr", "a number or find"),
        ("train: {lr: -1}", "train.lr", "above 0 or find"),
        ("train: {batch: 1.5}", "train.batch", "a whole number"),
        ("train: {batch: 0}", "train.batch", "at least 1"),
        ("train: {ema: 1}", "train.ema", "below 1"),
        ("train: {recompute: maybe}", "train.recompute", "true or false"),
        ("train: {optimizer: adam}", "train.optimizer", "adamw, muon"),
        ("train: {search: {train.lr: 3}}", "train.search.train.lr", "a list"),
        ("train: {search: {train.lr: []}}", "train.search.train.lr", "a list of 1 and more"),
        ("build: {lora: yes}", "build.lora", "keys of its own"),
        ("build: {lora: 0}", "build.lora", "at least 1"),
        ("evaluate: {gate: {accuracy: 3}}", "evaluate.gate.accuracy", "a text"),
        ("deploy: {bits: 4}", "deploy.bits", "8, 16, 32"),
        ("name: a b", "name", "up to 64 letters"),
    ],
)
def test_a_value_that_cannot_stand_is_told_with_what_can(tmp_path: Path, line: str, name: str, wanted: str) -> None:
    with pytest.raises(RecipeError) as caught:
        read(tmp_path, f"task: embed\nprepare: {{source: a}}\n{line}\n")
    english, chinese = caught.value.say("en"), caught.value.say("zh")
    assert "shop.yaml:3:" in english and f"{name} cannot be" in english and f"it can be {wanted}" in english
    assert len(english.splitlines()) == 1  # of all that pydantic tried, one finding
    words = re.findall(r"[A-Za-z]{3,}", chinese.split(f"{name} 不能为")[1])
    assert set(words) <= set(re.findall(r"[A-Za-z]+", f"{line} {wanted}")), chinese


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("prepare: {source: a, split: {valid: 2}}", "比例不小于 0"),
        ("prepare: {source: a, split: {by: time, valid: soon}}", "比例不小于 0"),
        ("prepare: {source: a, split: {test: 2011-11-01}}", "按时间划分"),
        ("prepare: {source: a, split: {by: time, valid: 2011-12-01, test: 2011-11-01}}", "早于测试"),
        ("prepare: {source: a, split: {by: last, near: 0.8}}", "按 last 划分"),
        ("prepare: {source: a}\ntrain: {epochs: 1, minutes: 2}", "epochs, minutes 不能同时成立"),
        ("prepare: {source: a, keep: {text: {at_leest: 1}}}", "at_least, at_most"),
    ],
)
def test_what_does_not_go_together_is_told_in_both_languages(tmp_path: Path, line: str, said: str) -> None:
    with pytest.raises(RecipeError) as caught:
        read(tmp_path, f"task: embed\n{line}\n")
    assert said in caught.value.say("zh") and re.search(r"shop\.yaml:[23]:", caught.value.say("zh"))
    assert "{" not in caught.value.say("en").replace("{'at_leest': 1}", "")


def test_every_mistake_is_told_at_once(tmp_path: Path) -> None:
    with pytest.raises(RecipeError) as caught:
        read(tmp_path, "task: recommend\nprepare: {source: a, colums: 1}\ntrain: {epoch: 2, batch: 0}\n")
    assert len(str(caught.value).splitlines()) == 3


@pytest.mark.parametrize("bomb", ["a: " * 20_000 + "1", "[" * 20_000, "x: !!python/object/apply:os.system ['true']"])
def test_a_bomb_is_an_error_and_nothing_more(tmp_path: Path, bomb: str) -> None:
    with pytest.raises(RecipeError):
        read(tmp_path, bomb)


@given(st.text(max_size=200))
def test_any_text_is_a_recipe_or_a_recipe_error(text: str) -> None:
    try:
        data, _ = parse_yaml(text, "x")
        Recipe.check(data, "x")
    except RecipeError as error:
        assert str(error)


def test_yes_is_a_word_and_a_number_in_e_form_a_number() -> None:
    data, _ = parse_yaml("a: yes\nb: 3e-4\nc: 1_000\nd: 2024-01-01\ne: true\nf: 1:30\ng: 012\n", "x")
    assert data == {"a": "yes", "b": 3e-4, "c": 1000, "d": "2024-01-01", "e": True, "f": "1:30", "g": "012"}


def test_the_published_schema_is_the_one_of_the_code() -> None:
    published = json.loads((ROOT / "recipe.schema.json").read_text(encoding="utf-8"))
    assert published == Recipe.model_json_schema()


@pytest.mark.parametrize("path", sorted((ROOT / "zhumo" / "recipes").glob("*.yaml")), ids=lambda path: path.name)
def test_every_recipe_that_ships_reads(path: Path) -> None:
    assert Recipe.read(path).task
