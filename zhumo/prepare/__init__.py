"""Step 1, prepare: rows of business data -> clean rows, dealt to train, valid and test, and encoded.

Every row is accounted for: rows in = rows out + quarantined + deduplicated + filtered. Rows of text tasks stream from
disk to disk, so memory does not grow with their texts, unless wrong answers are looked for among all of them.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from zhumo.bundle import load_task, save_task
from zhumo.errors import DataError, RecipeError
from zhumo.prepare.card import describe
from zhumo.prepare.histories import Dealt, Interactions, Taken, by_moment, leave_one_out
from zhumo.prepare.items import beside, merged, read_items
from zhumo.prepare.pile import DUPLICATE, LEAK, Pile
from zhumo.prepare.reader import Reader
from zhumo.prepare.split import PARTS, Part, cuts
from zhumo.prepare.stored import Stored, each_row, read_rows, write_rows
from zhumo.prepare.texts import texts
from zhumo.prepare.wrong import beside_right
from zhumo.recipe import Recipe
from zhumo.run import Run, write_json
from zhumo.sources import fetch, fingerprint, licence_of, open_rows
from zhumo.tasks import Row, Task, task_class
from zhumo.tasks.catalogue import FIELDS
from zhumo.tasks.examples import Examples, pack
from zhumo.tokenizer import Tokenizer, learn_bpe, learn_characters
from zhumo.weights import read_weights

__all__ = ["each_row", "prepare", "read_rows"]

ASKED = ("pooling", "prefix", "match_prefix", "start")  # what a task keeps of how weights want to be asked
SPELLED = 50_000_000  # bytes of rows are plenty to learn a tokenizer from; of more, one in so many is read

Parts = Mapping[Part, Sequence[Row] | Stored]


def prepare(recipe: Recipe, run: Run) -> None:
    """Make `runs/NAME/prepare/`: the rows of each part, their encoded examples, what the task learned, a data card."""
    section = recipe.prepare
    named = [source for source in (section.source, section.items, section.valid, section.test) if source]
    opened = {source: open_rows(source) for source in named}
    prints = {source: rows.fingerprint for source, rows in opened.items()}
    encodings = {name: kind for rows in opened.values() for name, kind in rows.encodings.items() if kind != "utf-8"}
    tokenizer_source = section.tokenizer if section.tokenizer not in (None, "bpe", "char") else None
    if tokenizer_source is not None:
        prints[tokenizer_source] = fingerprint(tokenizer_source)
    step = run.begin("prepare", recipe, {name: sha for files in prints.values() for name, sha in files.items()})
    if step.done:
        return
    kind = task_class(recipe.task)
    if section.mask and (kind.histories or recipe.task == "tag"):
        raise RecipeError("recipe.mask", task=recipe.task)
    reader = Reader(recipe, kind, step.folder / "quarantine.jsonl")
    parts, known, facts = (_deal_histories if kind.histories else deal)(recipe, reader, step.folder)
    reader.close()
    reader.counts.parts = {part: len(parts[part]) for part in PARTS}
    if not parts["train"]:
        raise DataError("data.no_rows", source=section.source, kept=reader.counts.kept)
    tokenizer, state = _tokenizer(recipe, kind, tokenizer_source, parts["train"])
    state |= {"negatives": section.negatives} if section.negatives and not kind.wrong else {}
    task = kind(tokenizer, section.length, state | known)
    task.learn(parts["train"])
    examples = {part: encode(task, parts[part], step.folder / f"{part}.safetensors") for part in ("train", "valid")}
    if not examples["train"]:
        if kind.wrong:
            raise DataError("rerank.no_choice")
        raise DataError("data.no_rows", source=section.source, kept=reader.counts.kept)
    save_task(step.folder, task)
    if tokenizer is not None:
        tokenizer.save(step.folder)
    counts = reader.counts
    told = {"rows": counts.summary(), "parts": counts.parts, "examples": examples, "encodings": encodings}
    card = {
        "format": 1,
        **told,
        "quarantined": dict(counts.quarantined),
        "leaks": counts.leaks,
        "forms": dict(reader.forms),
        "sources": {source: {"sha256": prints[source], "licence": licence_of(source)} for source in named},
        **facts,
        **describe(parts["train"]),
    }
    write_json(step.folder / "card.json", card)
    step.finish(**told, near=facts.get("near"))


def encode(task: Task, rows: Iterable[Row], path: Path) -> int:
    """Write what a task learns from rows; returns the number of examples."""
    examples = (example for row in rows for example in task.encode(row))
    return Examples.write(path, pack(examples, task.length) if task.packed else examples)


def deal(recipe: Recipe, reader: Reader, folder: Path) -> tuple[Parts, dict[str, Any], dict[str, Any]]:
    """All rows of all sources in their parts, on disk; nothing known beforehand; facts for the data card.

    Raises:
        RecipeError: the split lacks its column, or is none for this task.
    """
    section = recipe.prepare
    split = section.split
    if split.by in ("time", "group") and split.column is None:
        raise RecipeError("recipe.split_column", by=split.by)
    if split.by == "last":
        raise RecipeError("recipe.split_last", task=recipe.task)
    pile = Pile(folder / "rows.jsonl", split)
    given: tuple[tuple[Part | None, str | None], ...] = (("test", section.test), ("valid", section.valid))
    for part, source in (*given, (None, section.source)):
        for row in reader.rows(source) if source else ():
            pile.add(row, part)
    valid, test = (0.0 if section.valid else split.valid), (0.0 if section.test else split.test)
    where, groups = pile.deal(valid, test, dedupe=section.dedupe)
    pile.spread(where, folder)
    reader.counts.duplicates, reader.counts.leaks = int((where == DUPLICATE).sum()), int((where == LEAK).sum())
    parts = {part: Stored(folder / f"{part}.jsonl", int((where == place).sum())) for place, part in enumerate(PARTS)}
    if reader.task.wrong:
        beside_right(parts, section.negatives or reader.task.wrong)
    return parts, {}, {} if split.near is None else {"near": _near(groups[where < len(PARTS)])}


def _near(groups: np.ndarray) -> dict[str, int]:
    """How many rows are like an earlier one, in how many groups, and how many rows the largest has."""
    sizes = np.unique(groups, return_counts=True)[1]
    largest = int(sizes.max(initial=0))
    return {"rows": int((sizes - 1).sum()), "groups": int((sizes > 1).sum()), "largest": largest}


def _deal_histories(recipe: Recipe, reader: Reader, folder: Path) -> tuple[Parts, dict[str, Any], dict[str, Any]]:
    """The histories of all users in their parts, what is known of the items, and facts for the data card."""
    section = recipe.prepare
    if section.split.by not in ("last", "time") or section.valid or section.test:
        other = section.split.by if section.split.by not in ("last", "time") else "valid/test"
        raise RecipeError("recipe.split_histories", by=other)
    if section.split.column is not None:
        raise RecipeError("recipe.split_own_time", column=section.split.column)
    names = [name for name in FIELDS if name in reader.task.fields]
    stream = Interactions([*names, *recipe.evaluate.slices, *section.traits])
    for row in reader.rows(section.source):
        stream.add(row)
    if not len(stream.user):
        raise DataError("data.no_rows", source=section.source, kept=0)
    taken = Taken(stream, dedupe=section.dedupe)
    reader.counts.duplicates += taken.duplicates
    dealt, facts = _dealt(recipe, taken)
    besides = beside(dealt.parts["train"], names)
    described, rows = read_items(section.items, recipe, reader.put_aside) if section.items else ({}, None)
    known = merged(described, besides)
    for part in PARTS:
        write_rows(folder / f"{part}.jsonl", dealt.parts[part])
    return dealt.parts, {"catalogue": known} if known else {}, facts | ({"catalogue": rows} if rows else {})


def _dealt(recipe: Recipe, taken: Taken) -> tuple[Dealt, dict[str, Any]]:
    split, slices = recipe.prepare.split, recipe.evaluate.slices
    if split.by == "last":
        dealt, since = leave_one_out(taken, slices, recipe.prepare.traits), {}
    else:
        moments = cuts(taken.time, split.valid, split.test)
        dealt = by_moment(taken, *moments, slices, recipe.prepare.traits)
        since = {part: _day(moment) for part, moment in zip(("valid", "test"), moments, strict=True)}
    train = dealt.parts["train"]
    trained = int((train.end - train.begin).sum())
    return dealt, {"interactions": {"train": trained, **dealt.windows}, "since": since}


def _day(moment: float) -> str:
    if moment == float("inf"):
        return "–"
    return f"{datetime.fromtimestamp(moment, UTC):%Y-%m-%d %H:%M} UTC".removesuffix(" 00:00 UTC")


def _tokenizer(
    recipe: Recipe, kind: type[Task], source: str | None, rows: Sequence[Row] | Stored
) -> tuple[Tokenizer | None, dict[str, Any]]:
    """The tokenizer, and what published weights want to be asked like: their pooling, what stands before a text."""
    choice = recipe.prepare.tokenizer
    if choice is None or kind.histories:
        return None, {}
    if source is None:
        assert isinstance(rows, Stored)  # rows of texts are dealt on disk
        if choice == "char":
            return learn_characters(text for row in rows for text in texts(row)), {}
        enough = islice(rows, 0, None, 1 + rows.path.stat().st_size // SPELLED)
        return learn_bpe((text for row in enough for text in texts(row)), recipe.prepare.vocabulary), {}
    path = fetch(source)
    weights = read_weights(path)
    if weights.tokenizer is None:
        raise DataError("data.no_tokenizer", source=source)
    if (path / "task.json").is_file():  # an earlier bundle says itself how it asks
        before = load_task(path).state
        return weights.tokenizer, {name: before[name] for name in ASKED if name in before}
    state: dict[str, Any] = {"pooling": weights.pooling} if weights.pooling else {}
    if weights.prefixes is not None:
        state |= {"prefix": weights.prefixes[0], "match_prefix": weights.prefixes[1]}
    if weights.start is not None:
        state["start"] = weights.start
    return weights.tokenizer, state
