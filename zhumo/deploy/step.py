"""Step 5, deploy: the bundle, complete and held to its sums, and the proof that it serves what was measured."""

import platform
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.metadata import version
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
import torch

from zhumo.bundle import FULL, HALF, Bundle, load, load_task
from zhumo.deploy import parity
from zhumo.deploy.export import export
from zhumo.deploy.golden import WARMING, write_golden
from zhumo.deploy.reader import narrows, reader_of, written
from zhumo.deploy.sums import write_sums
from zhumo.engine.agreement import agree
from zhumo.errors import GateError
from zhumo.prepare import read_rows
from zhumo.recipe import STEPS, Deploy, Recipe
from zhumo.run import Run, link, read_json, write_json, write_text
from zhumo.tasks import Answer, Row, Task
from zhumo.tasks.pooling import pooling_of
from zhumo.tasks.write import Write
from zhumo.transformer.families import read_config
from zhumo.words import LANGUAGES, say

FORMAT = 2  # of a bundle: 2 has golden.json
TOP, WORSE = 0.95, 1.01  # how often weights in fewer bits must say the same, and how much worse they may know a text
ALIKE = 0.999  # cosine of vectors, on average
COMPARED = 8_192  # tokens they are compared over
MODEL = (
    "config.json", "model*.safetensors", "model.safetensors.index.json", "generation_config.json", "tokenizer.json",
    "tokenizer_config.json",
    "chat_template.jinja", "task.json", "task.safetensors",
)  # fmt: skip
CARDS = {"report.json": "report.json", "report.en.html": "report.en.html", "report.zh.html": "report.zh.html",
         "card.en.md": "README.md", "card.zh.md": "README.zh-CN.md"}  # fmt: skip
POOLING = {"mean_tokens": "mean", "cls_token": "cls", "lasttoken": "last"}  # what sentence-transformers calls ours
PACKAGES = ("zhumo", "torch", "numpy", "safetensors", "tokenizers", "pydantic", "scikit-learn", "pyarrow")


def deploy(recipe: Recipe, run: Run) -> None:
    """Make `runs/NAME/deploy/`, the bundle. It passes the parity gate and ends; it never blocks.

    Raises:
        RunError: a step before it is not finished.
        GateError: a served answer is not the evaluated one.
    """
    step = run.begin("deploy", recipe)
    if step.done:
        return
    _gather(recipe, run, step.folder)
    write_sums(step.folder)
    narrowed = {} if recipe.deploy.bits == FULL else {"bits": _narrowed(run, recipe.deploy)}
    found = ask_again(run, recipe.deploy.parity) | narrowed
    write_json(step.folder / "parity.json", found)
    write_golden(load(step.folder))
    write_sums(step.folder)
    size = sum(path.stat().st_size for path in step.folder.rglob("*"))
    said = say("cli.step.deployed", rows=found["rows"], difference=f"{found['largest_difference']:.1e}")
    step.finish(said=said, bytes=size, parity=found)


def ask_again(run: Run, limit: int) -> dict[str, Any]:
    """Start the bundle of a run and ask it up to `limit` evaluated rows again; what `parity.check` returns.

    Raises:
        GateError: a served answer is not the evaluated one.
    """
    rows, answers = (read_rows(run.step("evaluate") / f"{name}.jsonl") for name in ("rows", "answers"))
    folder = run.step("deploy")
    task, facts = load_task(folder), read_json(folder / "run.json")
    if facts["bits"] != FULL and isinstance(task, Write):
        answers = _in_fewer_bits(folder, task, rows, answers, limit)
    elif facts["bits"] != FULL:
        answers = load(folder).answer(rows)
    return parity.check(folder, task.name, rows, answers, limit)


def _in_fewer_bits(folder: Path, task: Write, rows: list[Row], answers: list[Answer], limit: int) -> list[Answer]:
    """The answers with the texts that weights in fewer bits write; likelihoods are always those of the weights.

    The texts that a server will be asked for, in the same order and after the same first one: on a GPU a text may
    depend on what was read before it, since the same sum comes out otherwise in another shape.
    """
    facts = read_json(folder / "run.json")
    reader = reader_of(load(folder).model, facts["bits"], facts["cache_bits"])
    asked = [place for place in parity.spread(len(rows), limit) if "text" in answers[place]]
    _, *texts = written(reader, (task.write(row, reader.length) for row in [WARMING, *(rows[i] for i in asked)]))
    del reader
    torch.cuda.empty_cache()  # the server that is asked next needs as much
    told = dict(zip(asked, texts, strict=True))
    return [answer | told.get(place, {}) for place, answer in enumerate(answers)]


def _narrowed(run: Run, deploy: Deploy) -> dict[str, Any]:
    """How far the weights in fewer bits are from those that were evaluated, over evaluated rows.

    Raises:
        GateError: this machine cannot compute them; too far; or there is no text to compare them by.
    """
    bundle, rows = load(run.step("deploy"), bits=FULL), read_rows(run.step("evaluate") / "rows.jsonl")
    task, bits = bundle.task, deploy.bits
    if task is None or not (isinstance(task, Write) or task.reads) or not narrows(bundle.model, bits):
        raise GateError("bits.no_gpu" if bits == HALF else "bits.unknown", bits=bits, family=bundle.family)
    if isinstance(task, Write):
        return {"bits": bits, "cache_bits": deploy.cache_bits, **_texts_apart(bundle, task, deploy, rows)}
    return {"bits": bits, **_answers_apart(run, task, bits, rows)}


def _texts_apart(bundle: Bundle, task: Write, deploy: Deploy, rows: list[Row]) -> dict[str, Any]:
    bits = deploy.bits
    texts = [example["ids"] for row in rows for example in task.reference(row)]
    texts = [text for text in texts if len(text) > 1]
    if not texts:
        raise GateError("bits.no_texts", bits=bits)
    lengths = accumulate(len(text) for text in texts)
    texts = [text for text, so_far in zip(texts, lengths, strict=True) if so_far <= COMPARED] or texts[:1]
    found = agree(bundle.model, reader_of(bundle.model, bits, deploy.cache_bits), texts)
    if found.top < TOP or found.perplexity > WORSE:
        raise GateError("bits.apart", bits=bits, top=f"{found.top:.3f}", perplexity=f"{found.perplexity - 1:+.2%}",
                        least=TOP, most=f"{WORSE - 1:.0%}")  # fmt: skip
    return asdict(found)


def _answers_apart(run: Run, task: Task, bits: int, rows: list[Row]) -> dict[str, Any]:
    """For vectors their cosines; for labels, spans and items how much of them is the same; and the measure that
    decides."""
    evaluated = read_rows(run.step("evaluate") / "answers.jsonl")
    found = load(run.step("deploy")).answer(rows)
    likeness = [_likeness(one, other) for one, other in zip(evaluated, found, strict=True)]
    alike, least = sum(likeness) / len(likeness), ALIKE if "embedding" in found[0] else TOP
    if alike < least:
        raise GateError("bits.answers_apart", bits=bits, alike=f"{alike:.5f}", least=least)
    values = [next((measure.value for measure in task.score(said, rows) if measure.name == task.metric), None)
              for said in (evaluated, found)]  # fmt: skip
    return {"rows": len(rows), "alike": alike, "least_alike": min(likeness), task.metric: values}


def _likeness(evaluated: Answer, found: Answer) -> float:
    """The cosine of two vectors of length 1; of two lists of items the share that is in both; else 1 where the same is
    said, however surely, and 0 where not."""
    if "embedding" in evaluated:
        cosine: float = np.dot(evaluated["embedding"], found["embedding"])
        return cosine
    if "items" in evaluated:
        shown, other = ({item["id"] for item in answer["items"]} for answer in (evaluated, found))
        return len(shown & other) / max(len(shown), len(other)) if shown != other else 1.0
    return float(_said(evaluated) == _said(found))


def _said(answer: Answer) -> object:
    """A label, labels, where which spans lie, or which document answers best."""
    if isinstance(answer.get("scores"), list):
        return int(np.argmax(answer["scores"]))
    if "spans" in answer:
        return [(span["start"], span["end"], span["label"]) for span in answer["spans"]]
    return answer["labels"] if "labels" in answer else answer["label"]


def _gather(recipe: Recipe, run: Run, folder: Path) -> None:
    """Put everything a bundle holds into its folder."""
    for pattern in MODEL:
        for path in run.step("train").glob(pattern):
            link(path, folder / path.name)
    for source, target in CARDS.items():
        link(run.step("evaluate") / source, folder / target)
    task = load_task(folder)
    write_text(folder / "recipe.yaml", recipe.dump())
    write_json(folder / "run.json", _facts(recipe, run))
    write_text(folder / "LICENSE", _licence(run, recipe.build.start))
    if isinstance(task, Write) and not (folder / "generation_config.json").is_file():
        write_json(folder / "generation_config.json", _generation(task))
    if task.name == "embed":
        _write_sentence_transformer(folder, task)
    if recipe.deploy.export:
        export(load(folder, bits=FULL), recipe.deploy.export)


def _facts(recipe: Recipe, run: Run) -> dict[str, Any]:
    """Where the bundle comes from: all that is needed to make it again."""
    built, trained, card = run.facts("build"), run.facts("train"), read_json(run.step("prepare") / "card.json")
    return {
        "format": FORMAT,
        "name": recipe.name or recipe.task,
        "task": recipe.task,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "seed": recipe.seed,
        "chosen": trained.get("chosen", {}),
        "threads": trained.get("threads"),
        "versions": {name: version(name) for name in PACKAGES},
        "python": platform.python_version(),
        "platform": platform.platform(),
        "bits": recipe.deploy.bits,
        "cache_bits": recipe.deploy.cache_bits,
        "chat": recipe.task == "write" and (bool(card["forms"]) or recipe.build.start is not None),
        "data": card["sources"],
        "start": {"source": recipe.build.start, "licence": built.get("licence")},
        "steps": {name: run.facts(name)["hash"] for name in STEPS[:-1]},
    }


def _licence(run: Run, start: str | None) -> str:
    """The licence of the start weights in their own words where they came with some; else whose the weights are."""
    own = run.step("build") / "LICENSE"
    if own.is_file():
        return own.read_text(encoding="utf-8")
    facts = {"start": start, "licence": run.facts("build").get("licence") or "-"}
    key = "deploy.licence.own" if start is None else "deploy.licence.start"
    return "\n\n".join(say(key, language, **facts) for language in LANGUAGES) + "\n"


def _generation(task: Write) -> dict[str, Any]:
    """What `transformers` needs to write with the model as we do: greedily, until a text or a turn of a chat ends."""
    assert task.tokenizer is not None
    begin, end, padding = (task.tokenizer.special(role) for role in ("bos", "eos", "pad"))
    ends = {end} if task.tokenizer.template is None else {end, task.closing}
    ids = {
        "bos_token_id": begin,
        "eos_token_id": sorted(token for token in ends if token is not None),
        "pad_token_id": padding,
    }
    return {"do_sample": False, **{name: token for name, token in ids.items() if token not in (None, [])}}


def _write_sentence_transformer(folder: Path, task: Task) -> None:
    """The files by which sentence-transformers makes the same vectors of the same folder."""
    config = read_config(read_json(folder / "config.json"))
    pooling = pooling_of(task.state.get("pooling"), config)
    parts = ("Transformer", ""), ("Pooling", "1_Pooling"), ("Normalize", "2_Normalize")
    modules = [
        {"idx": index, "name": str(index), "path": path, "type": f"sentence_transformers.models.{name}"}
        for index, (name, path) in enumerate(parts)
    ]
    write_json(folder / "modules.json", modules)
    write_json(folder / "sentence_bert_config.json", {"max_seq_length": task.length, "do_lower_case": False})
    (folder / "1_Pooling").mkdir(exist_ok=True)
    modes = {f"pooling_mode_{theirs}": pooling == ours for theirs, ours in POOLING.items()}
    write_json(folder / "1_Pooling" / "config.json", {"word_embedding_dimension": config.width, **modes})
    prompts = {"query": task.state.get("prefix", ""), "document": task.state.get("match_prefix", "")}
    write_json(folder / "config_sentence_transformers.json", {"prompts": prompts, "default_prompt_name": "query"})
