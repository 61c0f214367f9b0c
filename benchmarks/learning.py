"""Learning a language model beside transformers' Trainer, nanoGPT's loop and PEFT, and an encoder beside
sentence-transformers: the same texts, the same threads.

Time to a loss is asked for, not updates: a rival learns for ten minutes (Trainer at the best of a few rates), ours
until it is as good. Adapters make as many updates over as many tokens as PEFT's, an encoder as many over the same
pairs. Trainer runs in bf16 where this processor is faster in it, else in fp32, as we do.
"""

import csv
import gzip
import json
import math
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import torch
import torch.nn.functional as F

from benchmarks.engines import MODEL, formats, hugging_face
from benchmarks.harness import HERE, Bench, peer_python, shared
from benchmarks.measured import Cost, child
from benchmarks.support import read
from benchmarks.vectors import found
from zhumo.bundle import load
from zhumo.make import make
from zhumo.prepare import write_rows
from zhumo.recipe import Recipe
from zhumo.run import Run
from zhumo.sources import fetch
from zhumo.tasks import Row
from zhumo.train.pace import bf16_pays
from zhumo.weights import read_weights

RUNS = 3
MINUTES, TUNING = 10.0, 1.0  # of a rival, and of each rate that is tried first
RATES, NANOGPT_RATE = (5e-4, 1e-3, 2e-3), 1e-3  # of Trainer; the one nanoGPT's README names
CONTEXT, BATCH = 256, 16
REVIEWS, HELD_OUT, RANK = 640, 64, 8
PAIRS, ASKED = 2_560, 500  # of questions and answers
ENCODER = ("torch==2.13.0", "sentence-transformers==6.2.0", "transformers==5.24.0", "accelerate==1.15.0",
           "datasets==5.2.0")  # fmt: skip
SHAPE = {"vocab_size": 65, "n_positions": CONTEXT, "n_embd": 384, "n_layer": 6, "n_head": 6,
         "resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0}  # fmt: skip


@dataclass(frozen=True)
class Learned:
    """What a training came to. loss: nats a token of the held-out texts, of an encoder how late (one less MRR@10) their
    questions find their answers; seconds: of ours the whole program, of a rival its updates; memory: GB at most."""

    loss: float
    seconds: float
    tokens_per_second: float
    memory: float
    parameters: int

    @classmethod
    def told(cls, facts: dict[str, Any]) -> "Learned":
        """By a rival."""
        return cls(**{field.name: facts[field.name] for field in fields(cls)})


def shakespeare() -> Path:
    """All of it in one text."""
    return shared() / "tiny-shakespeare" / "input.txt.gz"


def learned(recipe: str, work: Path, *overrides: str) -> tuple[Recipe, Run, Cost]:
    """Prepared, built and learned in one process, from the rows in the work folder."""
    path, name = HERE / "recipes" / recipe, f"name=run-{len(list(work.glob('run-*')))}"
    asked = [f"prepare.source={work / 'train.jsonl'}", f"prepare.test={work / 'test.jsonl'}", name, *overrides]
    cost = child("-m", "benchmarks.trained", str(path), str(work), *asked, log=work / "ours.log")
    read = Recipe.read(path, asked)
    return read, Run.of(read, work), cost


def ours(recipe: str, work: Path, valid: Sequence[str], *overrides: str) -> Learned:
    """A language model, and what it makes of unseen texts."""
    _, run, cost = learned(recipe, work, *overrides)
    facts, bundle = run.facts("train"), load(run.step("train"))
    assert bundle.tokenizer is not None
    total, count = 0.0, 0
    with torch.inference_mode():
        for text in valid:
            ids = torch.tensor([bundle.tokenizer.encode(text, special=False)])
            total += F.cross_entropy(bundle.model(ids)[0, :-1].float(), ids[0, 1:], reduction="sum").item()
            count += ids.size(1) - 1
    size = bundle.model.parameter_count()
    return Learned(total / count, cost.wall, facts["tokens_per_second"], cost.memory, size)


def told(work: Path, python: Path, script: str, **task: Any) -> dict[str, Any]:
    """What a rival says once it has learned."""
    asked, answered = work / "asked.json", work / "answered.json"
    asked.write_text(json.dumps({"bf16": bf16_pays(), "threads": torch.get_num_threads(), **task}), encoding="utf-8")
    command = [str(python), str(HERE / "peers" / script), str(asked), str(answered)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    facts: dict[str, Any] = json.loads(answered.read_text(encoding="utf-8"))
    return facts


def trainer(work: Path, **task: Any) -> Learned:
    """The same by transformers' Trainer."""
    return Learned.told(told(work, Path(sys.executable), "hugging_face_trainer.py", **{"batch": BATCH, **task}))


def tuned(work: Path, ids: dict[str, list[list[int]]]) -> tuple[float, Callable[[int], Learned]]:
    """The best of a few rates, and Trainer at it, by its seed."""
    learned = partial(trainer, work, shape=SHAPE, **ids)
    tried = {rate: learned(minutes=TUNING, rate=rate, seed=0).loss for rate in RATES}
    rate = min(tried, key=lambda rate: tried[rate])
    return rate, lambda seed: learned(minutes=MINUTES, rate=rate, seed=seed)


def nanogpt(seed: int, minutes: float = MINUTES, device: str = "cpu") -> Learned:
    """The same by nanoGPT's loop."""
    asked = (shakespeare(), torch.get_num_threads(), minutes, seed, device)
    command = [str(HERE / "peers" / "nanogpt.py"), *map(str, asked)]
    done = subprocess.run([sys.executable, *command], check=True, stdout=subprocess.PIPE)
    return Learned.told(json.loads(done.stdout))


def windows(text: str) -> list[str]:
    """A text cut into pieces as long as the context."""
    return [text[start : start + CONTEXT] for start in range(0, len(text) - CONTEXT, CONTEXT)]


def put(work: Path, train: Sequence[Row | str], valid: Sequence[Row | str]) -> None:
    """Rows, or texts, as files of the work folder."""
    for name, rows in (("train", train), ("test", valid)):
        write_rows(work / f"{name}.jsonl", ({"text": row} if isinstance(row, str) else row for row in rows))


def fresh(bench: Bench, peer: str) -> None:
    """Ten million parameters over the characters of Shakespeare, in turns with one rival."""
    text = gzip.decompress(shakespeare().read_bytes()).decode()
    cut = int(0.9 * len(text))
    index = {character: place for place, character in enumerate(sorted(set(text)))}
    cuts = [windows(part) for part in (text[:cut], text[cut:])]
    ids = {name: [[index[one] for one in window] for window in windows]
           for name, windows in zip(("train", "valid"), cuts, strict=True)}  # fmt: skip
    mine: list[Learned] = []
    theirs: list[Learned] = []
    with tempfile.TemporaryDirectory(prefix="zhumo-bench-") as folder:
        work = Path(folder)
        put(work, [text[:cut]], [text[cut:]])
        rate, rival = (NANOGPT_RATE, nanogpt) if peer == "nanoGPT" else tuned(work, ids)
        for seed in range(RUNS):
            theirs.append(rival(seed))
            mine.append(ours("gpt.yaml", work, cuts[1], f"seed={seed}"))
    worst, best = max(one.loss for one in mine), min(one.loss for one in theirs)
    seconds = median(one.seconds for one in mine)
    note = f"loss {worst:.4f} (largest of {RUNS}) with {mine[0].parameters:,} parameters; the peer's {best:.4f} (its "
    note += f"best) with {theirs[0].parameters:,}"
    prefix = f"learn.{peer.lower()}"
    bench.row(f"{prefix}.wall", seconds, " s", peer=peer, peer_value=60 * MINUTES,
              ratio=seconds / (60 * MINUTES) if worst <= best else math.inf, note=note)  # fmt: skip
    beside(bench, prefix, mine, peer, theirs, f"rate {rate:g}")


def adapters(bench: Bench) -> None:
    """LoRA beside every linear layer of SmolLM2's blocks, over reviews of clothes."""
    tokenizer = read_weights(fetch(MODEL)).tokenizer
    assert tokenizer is not None
    with gzip.open(shared() / "clothing-reviews" / "data.csv.gz", "rt", encoding="utf-8", newline="") as file:
        texts = [row["Review Text"] for row in csv.DictReader(file) if row["Review Text"]][: REVIEWS + HELD_OUT]
    train, valid = texts[:REVIEWS], texts[REVIEWS:]
    ids = {name: [tokenizer.encode(text) for text in some] for name, some in (("train", train), ("valid", valid))}
    steps = REVIEWS // BATCH
    packed = max(1, round(sum(map(len, ids["train"])) / CONTEXT / steps))  # rows that hold as many tokens
    with hugging_face(1) as engine:
        start = formats(engine)["float32"]
    found: dict[str, list[Learned]] = {"ours": [], "PEFT": []}
    with tempfile.TemporaryDirectory(prefix="zhumo-bench-") as folder:
        work = Path(folder)
        put(work, train, valid)
        for seed in range(RUNS):
            found["PEFT"].append(trainer(work, start=start, rank=RANK, **ids, steps=steps, rate=5e-4, seed=seed))
            asked = (f"seed={seed}", f"train.batch={packed}", f"train.steps={steps}", f"build.lora={RANK}")
            found["ours"].append(ours("lora.yaml", work, valid, *asked))
    beside(bench, "learn.peft", found["ours"], "PEFT", found["PEFT"], f"{steps} updates")


def encoder(bench: Bench) -> None:
    """multilingual-e5-small over questions to doctors and their answers, each pair once, as sentence-transformers
    learns from pairs."""
    train, test = ([{"text": row["title"], "match": row["answer"]} for row in read("zh-medical-qa", part)[:count]]
                   for part, count in (("train", PAIRS), ("dev", ASKED)))  # fmt: skip
    mine: list[Learned] = []
    theirs: list[Learned] = []
    with tempfile.TemporaryDirectory(prefix="zhumo-bench-") as folder:
        work = Path(folder)
        put(work, train, test)
        recipe, run, _ = learned("encoder.yaml", work, "train.epochs=0")
        start = str(make(recipe, run).step("deploy"))
        python, script = peer_python("sentence_transformers", *ENCODER), "sentence_transformers_trainer.py"
        task = {"start": start, "train": train, "test": test, "batch": recipe.train.batch, "rate": recipe.train.lr}
        for seed in range(RUNS):
            other = told(work, python, script, **task, seed=seed)
            _, run, cost = learned("encoder.yaml", work, f"seed={seed}")
            facts, bundle = run.facts("train"), load(run.step("train"))
            answers = bundle.task.answer(bundle.model, test)
            vectors = ([answer[name] for answer in answers] for name in ("embedding", "match_embedding"))
            size, tokens = bundle.model.parameter_count(), facts["tokens_per_second"] * facts["seconds"]
            mine.append(Learned(late(test, *vectors), cost.wall, facts["tokens_per_second"], cost.memory, size))
            theirs.append(Learned(late(test, other["texts"], other["matches"]), other["seconds"],
                                  tokens / other["seconds"], other["memory"], other["parameters"]))  # fmt: skip
    note = f"1 - MRR@10 among {ASKED} answers; {PAIRS} pairs once"
    beside(bench, "learn.encoder", mine, ENCODER[1], theirs, note)


def late(rows: list[dict[str, Any]], texts: list[list[float]], matches: list[list[float]]) -> float:
    """How late texts find their matches."""
    return 1 - found(rows, texts, matches).value


def beside(bench: Bench, prefix: str, ours: Sequence[Learned], peer: str, theirs: Sequence[Learned], note: str) -> None:
    """Tokens a second and memory, with the loss of both."""
    said = f"loss {median(one.loss for one in ours):.4f} against {median(one.loss for one in theirs):.4f}; {note}"
    for name, unit in (("tokens_per_second", " tokens/s"), ("memory", " GB")):
        mine, other = ([getattr(one, name) for one in some] for some in (ours, theirs))
        bench.row(f"{prefix}.{name}", median(mine), unit, low=min(mine), high=max(mine), peer=peer,
                  peer_value=median(other), ratio=median(mine) / median(other), note=said)  # fmt: skip


if __name__ == "__main__":
    bench = Bench("learning", __doc__ or "")
    for peer in ("Trainer", "nanoGPT"):
        if bench.due(f"learn.{peer.lower()}.tokens_per_second"):
            fresh(bench, peer)
    if bench.due("learn.peft.tokens_per_second"):
        adapters(bench)
    if bench.due("learn.encoder.tokens_per_second"):
        encoder(bench)
    bench.done()
