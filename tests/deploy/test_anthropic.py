"""Anthropic's form, through its official client: the same texts as a chat."""

from pathlib import Path
from typing import Any

import anthropic
import pytest

from tests.deploy.test_openai_client import SCHEMA, Cloth
from zhumo.bundle import load
from zhumo.deploy.parity import Server

ASKED: Any = {"model": "write-small", "max_tokens": 16, "messages": [{"role": "user", "content": "布料 warm?"}]}
TOOLS: Any = [{"name": "buy", "description": "Buy cloth", "input_schema": SCHEMA}]


@pytest.fixture(scope="module")
def client(server: Server) -> anthropic.Anthropic:
    return anthropic.Anthropic(
        base_url=f"http://127.0.0.1:{server.port}", auth_token=server.key, api_key=None, max_retries=0
    )


@pytest.fixture(scope="module")
def said(bundles: dict[str, Path]) -> dict[str, Any]:
    messages = [{"role": "system", "content": "Be brief."}, *ASKED["messages"]]
    return load(bundles["write"]).answer([{"messages": messages, "max_tokens": 16}])[0]


def text_of(message: Any) -> str:
    return "".join(block.text for block in message.content if block.type == "text")


def test_a_message_is_answered_as_a_chat_is(client: anthropic.Anthropic, said: dict[str, Any]) -> None:
    systems: list[Any] = ["Be brief.", [{"type": "text", "text": "Be brief.", "cache_control": {"type": "ephemeral"}}]]
    for system in systems:
        found = client.messages.create(**ASKED, system=system)
        assert text_of(found) == said["text"]
        assert found.stop_reason == {"length": "max_tokens", "stop": "end_turn"}[said["finish_reason"]]
        assert (found.usage.input_tokens, found.usage.output_tokens) == (
            said["prompt_tokens"], said["completion_tokens"],
        )  # fmt: skip


def test_a_stream_says_the_same(client: anthropic.Anthropic, said: dict[str, Any]) -> None:
    with client.messages.stream(**ASKED, system="Be brief.") as stream:
        assert "".join(stream.text_stream) == said["text"]
        found = stream.get_final_message()
    assert text_of(found) == said["text"] and found.usage.output_tokens == said["completion_tokens"]
    assert found.stop_reason is not None


def test_a_stop_sequence_is_named(client: anthropic.Anthropic, said: dict[str, Any]) -> None:
    stop = said["text"][4:6]
    found = client.messages.create(**ASKED, system="Be brief.", stop_sequences=["nowhere", stop])
    assert found.stop_reason == "stop_sequence" and found.stop_sequence == stop
    assert text_of(found) == said["text"][: said["text"].index(stop)]


def test_a_tool_is_used_and_told_what_it_said(client: anthropic.Anthropic) -> None:
    asked = {**ASKED, "max_tokens": 100, "tools": TOOLS, "extra_body": {"temperature": 1}}
    one: Any = {"type": "tool", "name": "buy"}
    found = client.messages.create(**asked, tool_choice=one)
    [block] = found.content
    assert found.stop_reason == "tool_use" and block.type == "tool_use" and Cloth.model_validate(block.input)
    result = {"type": "tool_result", "tool_use_id": block.id, "content": [{"type": "text", "text": "bought"}]}
    chat = [*ASKED["messages"], {"role": "assistant", "content": found.content}, {"role": "user", "content": [result]}]
    again = client.messages.create(**{**asked, "messages": chat, "max_tokens": 8})
    assert again.usage.input_tokens > found.usage.input_tokens
    with client.messages.stream(**asked, tool_choice={"type": "any", "disable_parallel_tool_use": True}) as stream:
        last = stream.get_final_message().content[-1]
    assert last.type == "tool_use" and Cloth.model_validate(last.input)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"thinking": {"type": "enabled", "budget_tokens": 1_024}}, "has no thinking"),
        ({"messages": [{"role": "assistant", "content": "I speak first"}]}, "the last message"),
        ({"tool_choice": {"type": "any"}}, "there are no tools"),
        ({"max_tokens": 9_000}, "max_tokens"),
        ({"messages": [{"role": "user", "content": [
            {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": ""}}]}]}, "content"),
    ],
)  # fmt: skip
def test_what_cannot_be_had_is_refused_by_name(client: anthropic.Anthropic, changes: Any, said: str) -> None:
    with pytest.raises(anthropic.BadRequestError, match=said):
        client.messages.create(**{**ASKED, **changes})


def test_a_wrong_key_is_the_clients_own_error(client: anthropic.Anthropic) -> None:
    with pytest.raises(anthropic.AuthenticationError):
        client.with_options(auth_token="wrong").messages.create(**ASKED)
