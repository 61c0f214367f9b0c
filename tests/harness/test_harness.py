"""lm-evaluation-harness says the same of a bundle in process and over HTTP: real lines of Shakespeare, no network.

By hand, where `zhumo[harness]` is installed: pytest -m long tests/harness
"""

import gzip
import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from zhumo.deploy.parity import Server, served
from zhumo.make import make
from zhumo.recipe import Recipe
from zhumo.run import Run

pytestmark = pytest.mark.long
QUESTIONS = 24
TASKS = ("lines", "likely", "written")


def lines(shared: Path) -> list[str]:
    """Lines of the plays, long enough to be halved."""
    with gzip.open(next((shared / "tiny-shakespeare").glob("*.gz")), "rt", encoding="utf-8") as file:
        return [line.strip() for line in file if 40 < len(line) < 60]


@pytest.fixture(scope="module")
def folder(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model of Shakespeare, and three tasks of the harness over lines it has not seen."""
    place = tmp_path_factory.mktemp("plays")
    said = lines(shared)
    rows = [json.dumps({"text": line}) for line in said[:1_000]]
    (place / "plays.jsonl").write_text("\n".join(rows) + "\n", encoding="utf-8")
    recipe = Recipe.model_validate({
        "task": "write", "name": "plays",
        "prepare": {"source": str(place / "plays.jsonl"), "length": 96, "vocabulary": 400},
        "build": {"size": "tiny"}, "train": {"steps": 60, "batch": 16, "threads": 1},
        "evaluate": {"rows": 5}, "deploy": {"parity": 2},
    })  # fmt: skip
    make(recipe, Run(place / "run"))
    asked = said[-4 * QUESTIONS :]
    tables = [
        {"begin": line[: len(line) // 2].strip(), "line": line,
         "ends": [other[len(other) // 2 :].strip() for other in asked[start : start + 4]], "right": 0}
        for start, line in ((start, asked[start]) for start in range(0, len(asked), 4))
    ]  # fmt: skip
    (place / "asked.jsonl").write_text("\n".join(map(json.dumps, tables)) + "\n", encoding="utf-8")
    head = f"dataset_path: json\ndataset_kwargs: {{data_files: {{test: {place / 'asked.jsonl'}}}}}\ntest_split: test\n"
    (place / "tasks").mkdir()
    for name, rest in (
        ("lines", 'output_type: multiple_choice\ndoc_to_text: "{{begin}}"\ndoc_to_target: right\n'
                  'doc_to_choice: "{{ends}}"\nmetric_list: [{metric: acc}]\n'),
        ("likely", 'output_type: loglikelihood_rolling\ndoc_to_text: ""\ndoc_to_target: "{{line}}"\n'
                   "metric_list: [{metric: bits_per_byte}]\n"),
        ("written", 'output_type: generate_until\ndoc_to_text: "{{begin}}"\ndoc_to_target: "{{line}}"\n'
                    'generation_kwargs: {until: ["."], max_gen_toks: 8}\nmetric_list: [{metric: exact_match}]\n'),
    ):  # fmt: skip
        (place / "tasks" / f"{name}.yaml").write_text(f"task: {name}\n{head}{rest}", encoding="utf-8")
    return place


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[Server]:
    with served([folder / "run" / "deploy"]) as running:
        yield running


def numbers(results: dict[str, float]) -> dict[str, float]:
    return {key: value for key, value in results.items() if key.endswith(",none") and "stderr" not in key}


def test_both_ways_give_the_same_numbers(folder: Path, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_DATASETS_OFFLINE", "1")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_HOME", str(folder / "hf"))
    monkeypatch.setenv("OPENAI_API_KEY", server.key)
    lm_eval = pytest.importorskip("lm_eval")
    tasks = pytest.importorskip("lm_eval.tasks")
    monkeypatch.setattr(sys, "argv", ["lm_eval"])
    from zhumo.harness import Bundled

    bundle = folder / "run" / "deploy"
    known = tasks.TaskManager(include_path=str(folder / "tasks"), include_defaults=False)
    name = server.get("/v1/models")["data"][0]["id"]
    address = {"model": name, "base_url": f"http://127.0.0.1:{server.port}/v1/completions", "tokenizer": str(bundle),
               "tokenizer_backend": "huggingface", "max_length": 96}  # fmt: skip
    found = [
        lm_eval.simple_evaluate(model=model, model_args=arguments, tasks=list(TASKS), task_manager=known,
                                bootstrap_iters=0, log_samples=True)
        for model, arguments in ((Bundled(bundle), None), ("local-completions", address))
    ]  # fmt: skip
    here, there = ({task: numbers(one["results"][task]) for task in TASKS} for one in found)
    assert here["lines"]["acc,none"] > 0 and here["likely"]["bits_per_byte,none"] < 8
    for task in TASKS:
        for key, value in here[task].items():
            assert there[task][key] == pytest.approx(value, rel=1e-5), (task, key)
        answers = [[sample["resps"] for sample in one["samples"][task]] for one in found]
        assert len(answers[0]) == QUESTIONS
        if task == "written":
            assert answers[0] == answers[1]
