"""One golden row for each form of chat, what is refused and why, and every row of the real files."""

import gzip
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from zhumo.prepare.chats import to_messages
from zhumo.prepare.columns import Unusable

Row = dict[str, Any]


def said(*pairs: tuple[str, str]) -> list[dict[str, str]]:
    return [{"role": role, "content": content} for role, content in pairs]


GOLDEN: list[tuple[str, Row, list[dict[str, str]]]] = [
    (
        "messages",
        {"messages": said(("system", "Be kind."), ("user", "你好"), ("assistant", "您好！"))},
        said(("system", "Be kind."), ("user", "你好"), ("assistant", "您好！")),
    ),
    (
        "messages",
        {"messages": [
            {"role": "developer", "content": "S"},
            {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}], "name": "x"},
            {"role": "assistant", "content": "c"},
        ]},
        said(("system", "S"), ("user", "ab"), ("assistant", "c")),
    ),
    (
        "sharegpt",
        {"conversations": [
            {"from": "system", "value": "S"}, {"from": "human", "value": "q"},
            {"from": "function_call", "value": "{}"}, {"from": "observation", "value": "7"},
            {"from": "gpt", "value": "r"},
        ], "tools": "[]"},
        said(("system", "S"), ("user", "q"), ("assistant", "{}"), ("tool", "7"), ("assistant", "r")),
    ),
    (
        "preference",
        {"conversations": [{"from": "human", "value": "q"}], "chosen": {"from": "gpt", "value": "good"},
         "rejected": {"from": "gpt", "value": "bad"}},
        said(("user", "q"), ("assistant", "good")),
    ),
    (
        "alpaca",
        {"instruction": "翻译成英文", "input": "你好", "output": "Hello"},
        said(("user", "翻译成英文\n你好"), ("assistant", "Hello")),
    ),
    (
        "alpaca",
        {"instruction": "Go on", "input": "", "output": "c", "system": "S", "history": [["a", "b"]]},
        said(("system", "S"), ("user", "a"), ("assistant", "b"), ("user", "Go on"), ("assistant", "c")),
    ),
    ("prompt", {"prompt": "q", "reply": "r"}, said(("user", "q"), ("assistant", "r"))),
    ("prompt", {"问题": "几点？", "回答": "九点。", "编号": 3}, said(("user", "几点？"), ("assistant", "九点。"))),
    (
        "prompt",
        {"system": "S", "prompt": "q", "completion": "r"},
        said(("system", "S"), ("user", "q"), ("assistant", "r")),
    ),
]  # fmt: skip
IDS = [f"{index}-{form}" for index, (form, _, _) in enumerate(GOLDEN)]


@pytest.mark.parametrize(("form", "row", "messages"), GOLDEN, ids=IDS)
def test_golden(form: str, row: Row, messages: list[dict[str, str]]) -> None:
    before = json.dumps(row)
    assert to_messages(row) == (messages, form)
    assert json.dumps(row) == before


@pytest.mark.parametrize(
    "row",
    [{}, {"text": "plain"}, {"prompt": "only half of it"}, {"messages": "not a list"}, {"output": "x", "input": "y"},
     {"text": "x", "question": None, "answer": ""}],
    ids=str,
)  # fmt: skip
def test_what_is_no_chat_is_left_alone(row: Row) -> None:
    assert to_messages(row) == (None, "")


@pytest.mark.parametrize(
    ("row", "reason", "field"),
    [
        ({"messages": said(("user", "q"), ("king", "r"))}, "unknown_role", "messages"),
        ({"messages": said(("user", "q"))}, "no_reply", "messages"),
        ({"messages": []}, "no_reply", "messages"),
        ({"messages": said(("user", "q"), ("system", "S"), ("assistant", "r"))}, "late_system", "messages"),
        ({"messages": said(("user", " "), ("assistant", "r"))}, "no_value", "messages"),
        ({"messages": ["q", "r"]}, "not_a_message", "messages"),
        ({"messages": [{"role": "user", "content": 3}]}, "not_a_message", "messages"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "not_text", "messages"),
        ({"conversations": [{"from": ["human"], "value": "q"}]}, "unknown_role", "conversations"),
        ({"conversations": [{"from": "human", "value": "q"}], "chosen": {"from": "gpt"}}, "no_value", "chosen"),
        ({"instruction": "do", "input": "", "output": ""}, "no_value", "output"),
        ({"instruction": "do", "output": None}, "no_value", "assistant"),
        ({"instruction": "do", "output": "x", "history": ["a", "b"]}, "not_a_message", "history"),
        ({"prompt": "", "reply": "r"}, "no_value", "reply"),
        ({"prompt": None, "reply": None}, "no_value", "user"),
        ({"prompt": "q", "reply": 5}, "not_a_message", "assistant"),
    ],
    ids=str,
)
def test_a_broken_chat_says_why(row: Row, reason: str, field: str) -> None:
    with pytest.raises(Unusable) as error:
        to_messages(row)
    assert (error.value.reason, error.value.field) == (reason, field)


def rows(path: Path) -> Iterator[Row]:
    with gzip.open(path, "rt", encoding="utf-8") as file:
        yield from map(json.loads, file)


@pytest.mark.parametrize(
    ("name", "form"),
    [
        ("alpaca-zh-en/zh_dev", "alpaca"),
        ("alpaca-zh-en/en_dev", "alpaca"),
        ("preference-and-tools-demo/dpo_zh_demo", "preference"),
        ("preference-and-tools-demo/dpo_en_demo", "preference"),
        ("preference-and-tools-demo/glaive_toolcall_zh_demo", "sharegpt"),
        ("preference-and-tools-demo/glaive_toolcall_en_demo", "sharegpt"),
        ("preference-and-tools-demo/identity", "alpaca"),
        ("belle-eval/test", ""),
    ],
)
def test_real_files(name: str, form: str, shared: Path) -> None:
    for row in rows(shared / f"{name}.jsonl.gz"):
        messages, found = to_messages(row)
        assert found == form
        assert messages is None or messages[-1]["role"] == "assistant"
