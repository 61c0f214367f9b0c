"""Answers held to a form: whether each is what was asked for, and what that costs a step of writing."""

import gzip
import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import islice
from statistics import median
from typing import Any, NamedTuple
from unittest.mock import patch

import jsonschema_rs

from benchmarks.engines import MODEL
from benchmarks.harness import Bench, shared
from zhumo.bundle import assemble
from zhumo.deploy.reader import written
from zhumo.engine import NativeModel
from zhumo.engine.scheduler import End, Scheduler
from zhumo.sources import fetch
from zhumo.tasks import Answer, Row
from zhumo.tasks.grammar import Grammar
from zhumo.tasks.write import Write
from zhumo.transformer import sample
from zhumo.weights import read_weights

LENGTH, MOST, SLOTS = 1_024, 400, 8
ANSWERS, TIMED = 240, 16  # answers that are held to a form, and of these so many whose steps are timed
TEXT = {"type": "string", "maxLength": 60}
WORDS = {"type": "array", "items": {"type": "string", "maxLength": 15}, "minItems": 1, "maxItems": 4}
PERSON = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "pattern": "^[A-Z][a-z]{1,12}$"},
        "age": {"type": "integer", "minimum": 18, "maximum": 99},
    },
    "required": ["name", "age"],
    "additionalProperties": False,
}
FIELDS: tuple[dict[str, Any], ...] = (
    {"intent": {"enum": ["card", "transfer", "cash", "account", "other"]}, "urgent": {"type": "boolean"}},
    {"summary": TEXT, "words": WORDS},
    {"customer": PERSON, "amount": {"type": "integer", "minimum": 0, "maximum": 9_999}},
    {
        "reply": {"anyOf": [TEXT, {"type": "null"}]},
        "due": {"type": "string", "format": "date"},
        "score": {"type": "integer", "minimum": 1, "maximum": 5},
    },
)


class Cost(NamedTuple):
    """Of steps after a prompt: the share that holding them to a form takes, its microseconds a step, steps a token."""

    share: float
    microseconds: float
    steps: float


def task_and_reader(threads: int) -> tuple[Write, NativeModel]:
    """SmolLM2 in the numbers of its file, by the native core."""
    weights = read_weights(fetch(MODEL))
    task = Write(weights.tokenizer, LENGTH)
    return task, NativeModel(assemble(weights, task).eval(), slots=SLOTS, length=LENGTH, threads=threads)


def asked(count: int) -> list[Row]:
    """Questions of real customers, each to be answered in the form of one of the schemas, drawn at temperature 1."""
    with gzip.open(shared() / "banking77" / "test.jsonl.gz", "rt", encoding="utf-8") as file:
        texts = [json.loads(line)["text"] for line in islice(file, 0, count * 10, 10)]
    rows = []
    for place, text in enumerate(texts):
        fields = FIELDS[place % len(FIELDS)]
        schema = {"type": "object", "properties": fields, "required": list(fields), "additionalProperties": False}
        form = {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema}}
        messages = [{"role": "user", "content": f"{text}\nAnswer in JSON."}]
        options = {"temperature": 1.0, "seed": place, "max_tokens": MOST}
        rows.append({"messages": messages, "response_format": form, **options})
    return rows


def valid(task: Write, reader: NativeModel, rows: list[Row]) -> float:
    """The share of answers that are JSON and hold their schema, as another library judges."""
    answers = written(reader, (task.write(row, LENGTH) for row in rows))
    return sum(holds(row, answer) for row, answer in zip(rows, answers, strict=True)) / len(rows)


def holds(row: Row, answer: Answer) -> bool:
    try:
        found = json.loads(answer["text"])
    except ValueError:
        return False
    schema = row["response_format"]["json_schema"]["schema"]
    return bool(jsonschema_rs.validator_for(schema, validate_formats=True).is_valid(found))


def costs(task: Write, reader: NativeModel, rows: list[Row]) -> list[Cost]:
    """What each text's form cost, the texts written one by one."""
    return [cost(task, reader, row) for row in rows]


def cost(task: Write, reader: NativeModel, row: Row) -> Cost:
    scheduler: Scheduler[int, str, Answer] = Scheduler(reader)
    scheduler.add(0, task.write({**row, "max_tokens": 1}, LENGTH))
    while len(scheduler):  # its prompt is known after this
        list(scheduler.step())
    scheduler.add(0, task.write(row, LENGTH))
    list(scheduler.step())  # gets the form ready and reads what is left of the prompt
    with clocked() as seconds:
        began, steps, tokens = time.perf_counter(), 0, 0
        while len(scheduler):
            for _, said in scheduler.step():
                if isinstance(said, End) and said.result is not None:
                    tokens = said.result["completion_tokens"]
            steps += 1
        whole = time.perf_counter() - began
    return Cost(sum(seconds) / whole, 1e6 * sum(seconds) / steps, steps / tokens)


@contextmanager
def clocked() -> Iterator[list[float]]:
    """The seconds of every call that only a text with a form makes."""
    seconds: list[float] = []

    def timed(work: Callable[..., Any]) -> Callable[..., Any]:
        def run(*arguments: Any) -> Any:
            began = time.perf_counter()
            result = work(*arguments)
            seconds.append(time.perf_counter() - began)
            return result

        return run

    with (
        patch.object(Grammar, "allowed", timed(Grammar.allowed)),
        patch.object(Grammar, "add", timed(Grammar.add)),
        patch.object(sample, "_only", timed(sample._only)),
    ):
        yield seconds


def main() -> None:
    """Measure what is due."""
    bench = Bench("constrained", "Answers held to a JSON Schema: whether they are, and what that takes of a step.")
    task, reader = task_and_reader(2)
    rows = asked(ANSWERS)
    if bench.due("constraint.valid"):
        note = f"of {len(rows)} answers at temperature 1 that hold their schema"
        bench.row("constraint.valid", valid(task, reader, rows), note=note)
    if bench.due("constraint.cost"):
        found = costs(task, reader, rows[:TIMED])
        middle, shares = Cost(*(median(values) for values in zip(*found, strict=True))), [one.share for one in found]
        note = f"{middle.microseconds:.0f} us a step; {middle.steps:.2f} steps a token: what is forced is read at once"
        bench.row("constraint.cost", middle.share, low=min(shares), high=max(shares), note=note)
    bench.done()


if __name__ == "__main__":
    main()
