"""OpenAI's newer form, through the official client: the same texts as a chat."""

import json
from pathlib import Path
from typing import Any

import openai
import pytest

from tests.deploy.test_openai_client import SCHEMA, Cloth
from zhumo.bundle import load
from zhumo.deploy.parity import Server

TOOLS: list[Any] = [
    {"type": "function", "name": "buy", "description": "Buy cloth", "parameters": SCHEMA, "strict": True},
    {"type": "function", "name": "wait"},
]


@pytest.fixture(scope="module")
def client(server: Server) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"http://127.0.0.1:{server.port}/v1", api_key=server.key, max_retries=0)


@pytest.fixture(scope="module")
def said(bundles: dict[str, Path]) -> dict[str, Any]:
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "布料 warm?"}]
    return load(bundles["write"]).answer([{"messages": messages, "max_tokens": 16}])[0]


def test_a_text_is_answered_as_a_chat_is(client: openai.OpenAI, said: dict[str, Any]) -> None:
    asked: list[Any] = ["布料 warm?", [{"role": "user", "content": [{"type": "input_text", "text": "布料 warm?"}]}]]
    for text in asked:
        found = client.responses.create(
            model="write-small", input=text, instructions="Be brief.", max_output_tokens=16, temperature=0
        )
        assert found.output_text == said["text"]
        assert found.usage is not None and found.usage.output_tokens == said["completion_tokens"]
        assert found.status == ("completed" if said["finish_reason"] == "stop" else "incomplete")


def test_a_stream_says_the_same(client: openai.OpenAI, said: dict[str, Any]) -> None:
    with client.responses.stream(
        model="write-small", input="布料 warm?", instructions="Be brief.", max_output_tokens=16
    ) as stream:
        events = list(stream)
    kinds = [event.type for event in events]
    assert kinds[:4] == [
        "response.created", "response.in_progress", "response.output_item.added", "response.content_part.added",
    ]  # fmt: skip
    assert kinds[-1] in ("response.completed", "response.incomplete")
    assert "".join(event.delta for event in events if event.type == "response.output_text.delta") == said["text"]
    assert [event.sequence_number for event in events] == sorted({event.sequence_number for event in events})
    assert events[-1].response.output_text == said["text"]  # type: ignore[union-attr]


def test_a_form(client: openai.OpenAI) -> None:
    parsed = client.responses.parse(model="write-small", input="soft?", temperature=1, text_format=Cloth)
    assert isinstance(parsed.output_parsed, Cloth)


def test_a_function_is_called_and_told_what_it_said(client: openai.OpenAI) -> None:
    asked: Any = {"model": "write-small", "temperature": 1, "tools": TOOLS, "parallel_tool_calls": False}
    chat: list[Any] = [{"role": "user", "content": "Buy some."}]
    found = client.responses.create(input=chat, tool_choice={"type": "function", "name": "buy"}, **asked)
    [call] = found.output
    assert call.type == "function_call" and call.name == "buy" and Cloth.model_validate_json(call.arguments)
    result = {"type": "function_call_output", "call_id": call.call_id, "output": "bought"}
    again = client.responses.create(input=[*chat, *found.output, result], max_output_tokens=8, **asked)
    assert again.usage is not None and found.usage is not None
    assert again.usage.input_tokens > found.usage.input_tokens
    with client.responses.stream(input=chat, tool_choice="required", **asked) as stream:
        events = list(stream)
    done = [event for event in events if event.type == "response.function_call_arguments.done"]
    assert len(done) == 1 and isinstance(json.loads(done[0].arguments), dict)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"previous_response_id": "resp_1"}, "has no previous_response_id"),
        ({"input": []}, "input"),
        ({"input": [{"role": "assistant", "content": "I speak first"}]}, "the last item"),
        ({"tool_choice": "required"}, "there are no tools"),
        ({"max_output_tokens": 10**6}, "max_output_tokens"),
    ],
)
def test_what_cannot_be_had_is_refused_by_name(client: openai.OpenAI, changes: Any, said: str) -> None:
    with pytest.raises(openai.BadRequestError, match=said):
        client.responses.create(**{"model": "write-small", "input": "hi", **changes})
