"""An answer held to a form has it, however little the model knows; a hostile form costs a second and nothing else."""

import json
import random
import re
import time
from collections.abc import Generator
from datetime import date
from typing import Any

import pytest
import torch
from llguidance import LLMatcher
from torch import Tensor

from tests.tasks.test_write import TEXTS, tiny
from zhumo.engine import NativeModel, Reader, TorchModel, library
from zhumo.engine.scheduler import End, Scheduler
from zhumo.errors import DataError, ModelError
from zhumo.tasks import Answer, Row
from zhumo.tasks.grammar import COMPACT, MOST, READY, Grammars, form_of, of_schema
from zhumo.tasks.write import Write
from zhumo.tokenizer import Tokenizer, learn_bpe, learn_characters
from zhumo.transformer import Transformer
from zhumo.transformer.sample import Read

ORDER = {
    "type": "object",
    "properties": {
        "size": {"enum": ["S", "M", "L"]},
        "count": {"type": "integer", "minimum": 1, "maximum": 99},
        "note": {"type": "string", "maxLength": 8},
        "paid": {"type": "boolean"},
    },
    "required": ["size", "count", "note", "paid"],
    "additionalProperties": False,
}
FORM = {"type": "json_schema", "json_schema": {"name": "order", "schema": ORDER}}


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return learn_bpe([*TEXTS, json.dumps({"size": "M", "count": 7, "paid": True})] * 5, 420)


@pytest.fixture(scope="module")
def task(tokenizer: Tokenizer) -> Write:
    return Write(tokenizer, length=64)


@pytest.fixture(scope="module")
def model(task: Write) -> Transformer:
    return tiny(task, length=256)


@pytest.fixture(scope="module", params=["native", "torch"])
def reader(request: pytest.FixtureRequest, task: Write, model: Transformer) -> Reader:
    if request.param == "torch":
        return TorchModel(model, slots=3, length=256)
    if library() is None:
        pytest.skip("no compiler")
    return NativeModel(tiny(task, length=256, heads=1, kv_heads=1), slots=3, length=256)


def answer(task: Write, model: Transformer, row: Row) -> Answer:
    with torch.inference_mode():
        return task.answer(model, [row])[0]


def is_order(text: str) -> bool:
    found = json.loads(text)
    return (
        list(found) == ["size", "count", "note", "paid"]
        and found["size"] in ("S", "M", "L")
        and 1 <= found["count"] <= 99
        and len(found["note"]) <= 8
        and isinstance(found["paid"], bool)
    )


def is_whole(text: str) -> bool:
    try:
        json.loads(text)
    except ValueError:
        return False
    return True


@pytest.mark.parametrize("asked", [{"response_format": FORM}, {"structured_outputs": {"regex": "[a-z]+(ab|ba)*\\."}}])
def test_each_token_is_permitted_that_is_among_those_allowed(tokenizer: Tokenizer, task: Write, asked: Row) -> None:
    form, draw = form_of(asked), random.Random(0)
    assert form is not None
    grammar, places = Grammars(tokenizer, task._stop_ids).begin(form), 0
    while not grammar.ended and places < 40:
        allowed = grammar.allowed()
        assert [token for token in range(500) if grammar.permits(token)] == allowed.nonzero().flatten().tolist()
        grammar.add(draw.choice(allowed.nonzero().flatten().tolist()), 100)
        places += 1
    assert places > 8


@pytest.mark.parametrize("seed", range(20))
def test_an_answer_has_the_schema_it_was_asked_for(task: Write, model: Transformer, seed: int) -> None:
    row = {"prompt": "The cat", "response_format": FORM, "temperature": 1.0, "seed": seed, "max_tokens": 200}
    found = answer(task, model, row)
    assert is_order(found["text"]) and found["finish_reason"] == "stop"


def test_any_json_object(task: Write, model: Transformer) -> None:
    row = {"messages": [{"role": "user", "content": "hello"}], "response_format": {"type": "json_object"}}
    options = {"temperature": 1.0, "max_tokens": 40}
    texts = [answer(task, model, {**row, **options, "seed": seed})["text"] for seed in range(6)]
    assert all(text.startswith("{") for text in texts)
    assert all(isinstance(json.loads(text), dict) for text in texts if text.endswith("}"))


@pytest.mark.parametrize(
    ("form", "fits"),
    [
        ({"regex": "[a-c]{3}-[0-9]+x"}, r"[a-c]{3}-[0-9]+x"),
        ({"choice": ["yes", "no", 'a "quote"', "不知道"]}, 'yes|no|a "quote"|不知道'),
        ({"grammar": 'start: "<" word ">"\nword: /[a-z]{1,4}/'}, "<[a-z]{1,4}>"),
        ({"json": {"type": "array", "items": {"type": "boolean"}, "maxItems": 3}}, r"\[((true|false)(, )?)*\]"),
    ],
)
def test_other_forms(task: Write, model: Transformer, form: Row, fits: str) -> None:
    for seed in range(5):
        row = {"prompt": "hello", "structured_outputs": form, "temperature": 1.0, "seed": seed}
        assert re.fullmatch(fits, answer(task, model, row)["text"])


def test_a_cut_answer_says_so(task: Write, model: Transformer) -> None:
    for most in range(1, 9):
        found = answer(task, model, {"prompt": "The", "response_format": FORM, "max_tokens": most})
        assert found["finish_reason"] == "length" and found["completion_tokens"] == most
        assert not is_whole(found["text"])


def test_what_is_forced_is_read_at_once_and_is_as_likely_as_the_model_says(task: Write, model: Transformer) -> None:
    row = {"prompt": "The cat", "response_format": FORM, "logprobs": 0, "max_tokens": 200}
    reads: list[int] = []

    def watched() -> Generator[Read | str, Tensor | None, Answer]:
        writing = task.write(row, 256)
        reply = None
        while True:
            try:
                piece = writing.send(reply)
            except StopIteration as end:
                found: Answer = end.value
                return found
            if isinstance(piece, Read):
                reads.append(len(piece.ids))
            reply = yield piece

    scheduler: Scheduler[int, str, Answer] = Scheduler(TorchModel(model, slots=1, length=256))
    scheduler.add(0, watched())
    ends = [piece for _ in iter(lambda: len(scheduler), 0) for _, piece in scheduler.step() if isinstance(piece, End)]
    found = ends[0].result
    assert found is not None and is_order(found["text"])
    assert len(reads) < 0.7 * found["completion_tokens"]
    assert task.tokenizer is not None
    ids = [*task._start(), *task.tokenizer.encode("The cat", special=False)]
    written = task.tokenizer.encode(found["text"], special=False)
    assert len(written) == found["completion_tokens"]
    with torch.inference_mode():
        chances = model(torch.tensor([[*ids, *written]]))[0].log_softmax(-1)
    wanted = [float(chances[len(ids) - 1 + place, token]) for place, token in enumerate(written)]
    assert found["logprobs"]["token_logprobs"] == pytest.approx(wanted, abs=1e-4)


def test_many_texts_with_forms_say_what_each_says_alone(task: Write, reader: Reader) -> None:
    forms: list[Row] = [{"response_format": FORM}, {"structured_outputs": {"regex": "[ab]{9}"}}, {}]
    rows = [
        {"prompt": "The cat", "temperature": 1.0, "seed": seed, "max_tokens": 60, **forms[seed % 3]}
        for seed in range(9)
    ]

    def said(rows: list[Row]) -> list[Answer]:
        scheduler: Scheduler[int, str, Answer] = Scheduler(reader)
        for place, row in enumerate(rows):
            scheduler.add(place, task.write(row, 256))
        found: dict[int, Any] = {}
        while len(scheduler):
            for place, piece in scheduler.step():
                if isinstance(piece, End):
                    assert piece.error is None
                    found[place] = piece.result
        return [found[place] for place in range(len(rows))]

    together = said(rows)
    assert together == [said([row])[0] for row in rows]
    assert all(is_order(one["text"]) for one in together[::3] if one["finish_reason"] == "stop")
    assert all(re.fullmatch("[ab]{9}", one["text"]) for one in together[1::3])


@pytest.mark.parametrize(
    "row",
    [
        {"response_format": {"type": "xml"}},
        {"response_format": {"type": "json_schema"}},
        {"response_format": "json"},
        {"structured_outputs": {}},
        {"structured_outputs": {"regex": "a", "choice": ["b"]}},
        {"structured_outputs": {"choice": []}},
        {"structured_outputs": {"regex": 5}},
        {"response_format": {"type": "json_object"}, "structured_outputs": {"regex": "a"}},
        {"response_format": {"type": "json_schema", "json_schema": {"schema": {"minimum": float("nan")}}}},
    ],
)
def test_what_is_no_form_is_said(row: Row) -> None:
    with pytest.raises(DataError, match="form of the answer"):
        form_of(row)


def test_characters_have_no_grammar() -> None:
    with pytest.raises(ModelError, match="how its tokens read"):
        Grammars(learn_characters(["abc"]), [2])


def nested(depth: int, inside: Any) -> Any:
    for _ in range(depth):
        inside = {"type": "array", "items": inside}
    return inside


def doubled(depth: int) -> Any:
    schema: Any = {"type": "string"}
    for _ in range(depth):
        schema = {"allOf": [{"anyOf": [schema, {"type": "integer"}]}, {"anyOf": [schema, {"type": "number"}]}]}
    return schema


YEARS = ("0000", "0001", "1900", "1996", "2000", "2023", "2024", "2100", "9999")
ENDS = ("00-10", "01-31", "02-28", "02-29", "02-30", "04-30", "04-31", "12-00", "12-31", "12-32", "13-01")


def hostile() -> list[Row]:
    """More than a hundred forms nobody means well with."""
    chance = random.Random(5)
    words = ("type", "items", "anyOf", "pattern", "enum", "$ref")
    schemas: list[Any] = [
        *(doubled(depth) for depth in range(2, 11)),
        *(nested(depth, {}) for depth in (30, 100, 300, 900)),
        *({"type": "object", "properties": {f"p{i}": {"type": "string"} for i in range(n)}} for n in (300, 900, 2_000)),
        *({"enum": [f"{i:x}" * width for i in range(2_000)]} for width in (1, 3, 6)),
        *({"type": "string", "minLength": n, "maxLength": n + 5} for n in (10**3, 10**5, 10**9)),
        *({"type": "array", "minItems": n, "items": {"type": "integer"}} for n in (10**3, 10**6, 10**9)),
        *({"type": "integer", "multipleOf": n} for n in (7, 9_973, 10**9 + 7, -3, 0, 1e-9)),
        *({"type": "integer", "minimum": -n, "maximum": n} for n in (10**3, 10**18, 10**30)),
        *({"type": "number", "minimum": -n, "maximum": n} for n in (10**3, 10**18, 10**30)),
        *({"type": "string", "pattern": pattern} for pattern in (
            "(a{1000}){1000}", "(a{300}){300}b", "((a{1,99}){1,99}){1,99}", "(x+x+)+y", "(.*a){30}.*b(.*c){30}",
            "(a|b|ab)*" * 300, "(?=a)b", "(?<=a)b", "(a)\\1", "[", "a{99999999}", "(" * 5_000 + ")" * 5_000,
            "\\p{L}{1000}", "[^a]{0,20000}", "|".join("a" * i + "b" for i in range(200)), "^$", "\\", "(?i)xX",
        )),
        {"$ref": "#"}, {"$ref": "#/$defs/a", "$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}}},
        {"$ref": "http://127.0.0.1:1/x.json"}, {"$ref": "file:///etc/passwd"}, {"$ref": "#/nowhere"},
        {"not": {}}, False, True, {}, [], None, 5, "x", {"type": "nothing"}, {"type": ["string", 7]}, {"enum": []},
        {"const": "x" * 60_000}, {"required": "a"}, {"properties": []}, {"items": "x"}, {"anyOf": []},
        *({"type": "string", "format": form} for form in ("date-time", "email", "x")), {"allOf": [False]},
        {"oneOf": [{"type": "string", "pattern": f"a{{{i}}}b*"} for i in range(500)]},
        {"patternProperties": {f"^{'a' * i}": {"type": "integer"} for i in range(60)}},
        {"x-guidance": {"lenient": "yes"}}, {"x-guidance": {"whitespace_pattern": "(a{1000}){1000}"}, "type": "array"},
        {"type": "object", "minProperties": 10**6}, {"type": "object", "additionalProperties": {"$ref": "#"}},
        *({chance.choice(words): chance.choice((chance.random(), "x" * 50, [[]] * 9, {"a": {}}, None))}
          for _ in range(8)),
    ]  # fmt: skip
    grammars = (
        'start: "a"{1000000}', 'start: start start | "a"', "start: start", "start: " + "(" * 5_000,
        "start: A\nA: /.*a.{40}/ & /.*b.{40}/ & ~/.*c.{40}/", "start: @nothing", "start: <|im_end|>", "start: <[0-9]>",
        'start: %regex {"substring_chars": "' + "ab" * 20_000 + '"}', "%llguidance {", "x" * (MOST + 1), "start:", "",
    )  # fmt: skip
    return [*({"json": schema} for schema in schemas), *({"grammar": grammar} for grammar in grammars)]


@pytest.mark.parametrize(("form", "end"), [("date", ""), ("date-time", "T08:30:00Z")])
def test_dates_are_days_of_the_calendar(tokenizer: Tokenizer, task: Write, form: str, end: str) -> None:
    grammars, days = Grammars(tokenizer, task._stop_ids), [f"{year}-{month}" for year in YEARS for month in ENDS]
    source = of_schema({"type": "object", "properties": {"day": {"format": form, "type": "string"}}})
    for day in days:
        ids = tokenizer.encode(json.dumps({"day": day + end}), special=False)
        fits = grammars.begin(source)._matcher.validate_tokens(ids) == len(ids)
        try:
            date.fromisoformat(day)
        except ValueError:
            assert not fits, day
        else:
            assert fits, day
    kept = {"enum": [{"format": "date"}]}
    assert of_schema(kept) == LLMatcher.grammar_from_json_schema(json.dumps(kept), overrides=COMPACT), "data is data"


def test_a_hundred_hostile_forms_are_answered_within_a_second(tokenizer: Tokenizer, task: Write) -> None:
    grammars, forms, refused = Grammars(tokenizer, task._stop_ids), hostile(), 0
    assert len(forms) >= 100
    for form in forms:
        began = time.perf_counter()
        try:
            source = form_of({"structured_outputs": form})
            assert source is not None
            grammar = grammars.begin(source)
        except DataError as error:
            refused += 1
            assert "form of the answer" in str(error) and len(str(error)) < 600
        assert time.perf_counter() - began < 1.2 * READY, str(form)[:200]
    assert 20 < refused < len(forms)
    grammar = grammars.begin(of_schema({"const": 7}))  # after all that an honest form is as good as ever
    assert grammar.add(int(grammar.allowed().nonzero()[0]), 9) == [] and grammar.ended


def test_a_form_that_takes_too_long_is_given_up(
    tokenizer: Tokenizer, task: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    grammars = Grammars(tokenizer, task._stop_ids)
    monkeypatch.setattr(grammars, "_ready", lambda source: time.sleep(1.5))
    with pytest.raises(DataError, match="takes longer than 1 s"):
        grammars.begin(of_schema({}))
