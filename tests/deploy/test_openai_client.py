"""The official client of OpenAI, unchanged, against a real server."""

import json
from pathlib import Path
from typing import Any, Literal

import numpy as np
import openai
import pydantic
import pytest

from zhumo.bundle import load
from zhumo.deploy.parity import Server
from zhumo.tasks.write import Write

CHAT = [{"role": "user", "content": "布料 warm?"}]


@pytest.fixture(scope="module")
def client(server: Server) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"http://127.0.0.1:{server.port}/v1", api_key=server.key, max_retries=0)


@pytest.fixture(scope="module")
def said(bundles: dict[str, Path]) -> dict[str, object]:
    return load(bundles["write"]).answer([{"messages": CHAT, "max_tokens": 16}])[0]


def test_models(client: openai.OpenAI) -> None:
    assert "write-small" in [model.id for model in client.models.list()]
    assert client.models.retrieve("write-small").owned_by == "zhumo"


def test_chat(client: openai.OpenAI, said: dict[str, object]) -> None:
    answer = client.chat.completions.create(model="write-small", messages=CHAT, max_tokens=16)  # type: ignore[arg-type]
    assert answer.choices[0].message.content == said["text"]
    assert answer.choices[0].finish_reason == said["finish_reason"]
    assert answer.usage is not None and answer.usage.completion_tokens == said["completion_tokens"]
    assert answer._request_id


def test_a_streamed_chat_is_the_same_text(client: openai.OpenAI, said: dict[str, object]) -> None:
    chunks = list(
        client.chat.completions.create(
            model="write-small",
            messages=CHAT,
            max_completion_tokens=16,
            stream=True,
            stream_options={"include_usage": True},
        )
    )  # type: ignore[call-overload]
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices) == said["text"]
    assert [chunk.choices[0].finish_reason for chunk in chunks if chunk.choices][-1] == said["finish_reason"]
    assert chunks[-1].usage.completion_tokens == said["completion_tokens"]
    assert len(chunks) > 3


def test_choices_differ_by_their_seed_and_repeat_with_it(client: openai.OpenAI) -> None:
    def texts(seed: int) -> list[str]:
        answer = client.completions.create(
            model="write-small", prompt="the", n=3, temperature=1.5, seed=seed, max_tokens=8
        )
        return [choice.text for choice in answer.choices]

    assert texts(3) == texts(3)
    assert len(set(texts(3))) == 3


def test_choices_can_be_streamed_together(client: openai.OpenAI) -> None:
    whole = client.completions.create(
        model="write-small", prompt=["the", "soft"], n=2, temperature=1.0, seed=1, max_tokens=6
    )
    texts = [""] * 4
    for chunk in client.completions.create(
        model="write-small", prompt=["the", "soft"], n=2, temperature=1.0, seed=1, max_tokens=6, stream=True
    ):
        texts[chunk.choices[0].index] += chunk.choices[0].text
    assert texts == [choice.text for choice in whole.choices]


def test_stop_strings_end_the_text(client: openai.OpenAI, said: dict[str, object]) -> None:
    text = str(said["text"])
    stop = text[4:6]
    answer = client.chat.completions.create(model="write-small", messages=CHAT, max_tokens=16, stop=[stop])  # type: ignore[arg-type]
    assert answer.choices[0].message.content == text[: text.index(stop)]
    assert answer.choices[0].finish_reason == "stop"


def test_embeddings(client: openai.OpenAI, bundles: dict[str, Path]) -> None:
    found = client.embeddings.create(
        model="embed-small", input=["soft", "很好"]
    )  # the client asks for base64 by itself
    assert found.usage.prompt_tokens == found.usage.total_tokens > 1
    own = load(bundles["embed"]).answer([{"text": "很好"}])[0]["embedding"]
    assert found.data[1].embedding == pytest.approx(own, abs=1e-6)


def test_embeddings_cut_to_fewer_numbers(client: openai.OpenAI) -> None:
    whole, cut = (
        np.array(client.embeddings.create(model="embed-small", input="soft", **asked).data[0].embedding)  # type: ignore[arg-type]
        for asked in ({}, {"dimensions": 5})
    )
    assert cut == pytest.approx(whole[:5] / np.linalg.norm(whole[:5]), abs=1e-6)
    with pytest.raises(openai.BadRequestError, match="dimensions were asked for"):
        client.embeddings.create(model="embed-small", input="soft", dimensions=60_000)


def test_a_completion_tells_how_likely_each_token_is(client: openai.OpenAI, bundles: dict[str, Path]) -> None:
    bundle = load(bundles["write"])
    assert isinstance(bundle.task, Write) and bundle.tokenizer is not None
    ids = [*bundle.task._start(), *bundle.tokenizer.encode("soft 布料", special=False), *bundle.task._end()]
    [known] = bundle.answer([{"text": "soft 布料"}])
    found = client.completions.create(
        model="write-small", prompt=[ids], echo=True, logprobs=2, max_tokens=1, temperature=0
    ).choices[0]
    assert found.logprobs is not None and found.logprobs.token_logprobs is not None
    said = found.logprobs.token_logprobs
    assert len(said) == len(ids) + 1 and said[0] is None
    assert sum(said[1 : len(ids)]) == pytest.approx(-known["nll"], abs=1e-3)
    for chance, others in zip(said[1:], found.logprobs.top_logprobs[1:], strict=True):  # type: ignore[index]
        assert 1 <= len(others) <= 2 and chance <= max(others.values())
    text = client.completions.create(model="write-small", prompt="soft 布料", echo=True, logprobs=0, max_tokens=1)
    assert text.choices[0].text.startswith("soft 布料")
    assert text.choices[0].logprobs is not None
    again = text.choices[0].logprobs.token_logprobs
    assert again is not None and again[:-1] == pytest.approx(said[1 : len(ids) - 1], abs=1e-4)
    only = client.completions.create(model="write-small", prompt="soft", logprobs=1, max_tokens=3).choices[0].logprobs
    assert only is not None and only.tokens is not None and len(only.tokens) <= 3
    with pytest.raises(openai.BadRequestError, match="ids of a prompt"):
        client.completions.create(model="write-small", prompt=[10**6], max_tokens=1)
    with pytest.raises(openai.BadRequestError, match="reads at most"):
        client.completions.create(model="write-small", prompt="ä" * 6_000, echo=True, max_tokens=1)
    with pytest.raises(openai.BadRequestError, match="has no stream"):
        client.completions.create(model="write-small", prompt="a", logprobs=1, stream=True)


def test_errors_are_the_clients_own(client: openai.OpenAI, server: Server) -> None:
    with pytest.raises(openai.NotFoundError, match="There is no model 'gpt-4' here") as missing:
        client.chat.completions.create(model="gpt-4", messages=CHAT)  # type: ignore[arg-type]
    assert missing.value.code == "model_not_found" and missing.value.param == "model"
    with pytest.raises(openai.AuthenticationError):
        client.with_options(api_key="wrong").models.list()
    with pytest.raises(openai.BadRequestError, match="did you mean temperature"):
        client.chat.completions.create(model="write-small", messages=CHAT, extra_body={"temperatur": 1})  # type: ignore[arg-type]
    with pytest.raises(openai.BadRequestError, match=r"tools\.0\.function is needed"):
        client.chat.completions.create(model="write-small", messages=CHAT, tools=[{"type": "function"}])  # type: ignore[arg-type,list-item]


@pytest.mark.parametrize(
    ("name", "value"), [("suffix", "x"), ("best_of", 2), ("logit_bias", {"5": 1}), ("presence_penalty", 1)]
)
def test_what_would_change_a_text_and_is_not_there_is_refused_by_name(
    client: openai.OpenAI, name: str, value: object
) -> None:
    with pytest.raises(openai.BadRequestError, match=f"has no {name}") as refused:
        client.completions.create(model="write-small", prompt="the", extra_body={name: value})
    assert refused.value.param == name and refused.value.code == "unsupported"


SCHEMA = {
    "type": "object",
    "properties": {"soft": {"type": "boolean"}, "city": {"enum": ["Oslo", "北京"]}},
    "required": ["soft", "city"],
    "additionalProperties": False,
}
FORM = {"type": "json_schema", "json_schema": {"name": "cloth", "schema": SCHEMA, "strict": True}}
TOOLS = [
    {"type": "function", "function": {"name": "buy", "description": "Buy cloth", "parameters": SCHEMA, "strict": True}},
    {"type": "function", "function": {"name": "wait"}},
]


class Cloth(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="forbid")
    soft: bool
    city: Literal["Oslo", "北京"]


def test_an_answer_has_the_schema_it_was_asked_for(client: openai.OpenAI, bundles: dict[str, Path]) -> None:
    asked: Any = {"messages": CHAT, "temperature": 1, "seed": 4, "response_format": FORM}
    answer = client.chat.completions.create(model="write-small", **asked)
    said = answer.choices[0].message.content
    assert said is not None and set(json.loads(said)) == {"soft", "city"}
    assert said == load(bundles["write"]).answer([asked])[0]["text"]
    chunks = client.chat.completions.create(model="write-small", stream=True, **asked)
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == said
    parsed = client.chat.completions.parse(
        model="write-small",
        messages=CHAT,
        temperature=1,
        response_format=Cloth,  # type: ignore[arg-type]
    )
    assert isinstance(parsed.choices[0].message.parsed, Cloth)


def test_other_forms_are_those_of_vllm(client: openai.OpenAI) -> None:
    for form, known in (({"choice": ["wool", "silk"]}, {"wool", "silk"}), ({"regex": "[0-9]"}, set("0123456789"))):
        found = client.completions.create(
            model="write-small", prompt="the", n=4, temperature=1, extra_body={"structured_outputs": form}
        )
        assert {choice.text for choice in found.choices} <= known


@pytest.mark.parametrize(
    "form", [{"type": "json"}, {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "what"}}}]
)
def test_a_form_that_is_none_is_a_status_of_its_own(client: openai.OpenAI, form: object) -> None:
    for stream in (False, True):
        with pytest.raises(openai.BadRequestError, match=r"response_format|form of the answer"):
            client.chat.completions.create(model="write-small", messages=CHAT, response_format=form, stream=stream)  # type: ignore[call-overload]


def test_a_function_is_called_and_told_what_it_said(client: openai.OpenAI) -> None:
    asked: Any = {"model": "write-small", "temperature": 1, "seed": 3, "tools": TOOLS}
    named = {"type": "function", "function": {"name": "buy"}}
    message = client.chat.completions.create(**asked, messages=CHAT, tool_choice=named).choices[0].message
    assert message.content is None and message.tool_calls is not None
    [call] = message.tool_calls
    assert call.type == "function" and call.function.name == "buy" and call.id.startswith("call_")
    assert Cloth.model_validate_json(call.function.arguments)
    result = {"role": "tool", "tool_call_id": call.id, "content": "bought"}
    again = client.chat.completions.create(**asked, messages=[*CHAT, message, result], max_tokens=8)
    assert again.usage is not None and again.usage.prompt_tokens > 40
    found = client.chat.completions.create(
        **asked, messages=CHAT, tool_choice="required", parallel_tool_calls=False
    ).choices[0]
    assert found.finish_reason == "tool_calls" and found.message.tool_calls


def test_a_call_is_streamed(client: openai.OpenAI) -> None:
    asked: Any = {"model": "write-small", "messages": CHAT, "temperature": 1, "seed": 3, "tools": TOOLS}
    whole = client.chat.completions.create(**asked, tool_choice="required", parallel_tool_calls=False).choices[0]
    with client.chat.completions.stream(**asked, tool_choice="required", parallel_tool_calls=False) as stream:
        kinds = {event.type for event in stream}
        found = stream.get_final_completion().choices[0]
    assert "tool_calls.function.arguments.done" in kinds and found.finish_reason == whole.finish_reason == "tool_calls"
    assert found.message.tool_calls is not None and whole.message.tool_calls is not None
    assert [call.function.arguments for call in found.message.tool_calls] == [
        call.function.arguments
        for call in whole.message.tool_calls  # type: ignore[union-attr]
    ]


def test_a_chat_tells_how_likely_each_token_is(client: openai.OpenAI) -> None:
    asked: Any = {"model": "write-small", "messages": CHAT, "max_tokens": 5}
    choice = client.chat.completions.create(**asked, logprobs=True, top_logprobs=2).choices[0]
    assert choice.logprobs is not None and choice.logprobs.content is not None
    said = choice.logprobs.content
    assert "".join(token.token for token in said).startswith(str(choice.message.content))
    assert all(token.logprob <= 0 and 1 <= len(token.top_logprobs) <= 2 for token in said)
    assert all(token.bytes is None or bytes(token.bytes).decode() == token.token for token in said)
    with pytest.raises(openai.BadRequestError, match="top_logprobs needs logprobs"):
        client.chat.completions.create(**asked, top_logprobs=2)
    with pytest.raises(openai.BadRequestError, match="no stream with logprobs"):
        client.chat.completions.create(**asked, logprobs=True, stream=True)


@pytest.mark.parametrize(
    ("messages", "said"),
    [
        ([{"role": "user", "content": None}], "needs its content"),
        ([{"role": "tool", "content": "x"}], "tool_call_id"),
        ([{"role": "user", "content": "x", "tool_call_id": "1"}], "tool_call_id"),
        ([{"role": "user", "content": "x", "tool_calls": [
            {"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}}]}], "only the assistant"),
    ],
)  # fmt: skip
def test_messages_that_make_no_sense_are_refused(client: openai.OpenAI, messages: Any, said: str) -> None:
    with pytest.raises(openai.BadRequestError, match=said):
        client.chat.completions.create(model="write-small", messages=messages)


def test_a_call_that_is_required_needs_tools(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError, match="there are no tools"):
        client.chat.completions.create(model="write-small", messages=CHAT, tool_choice="required")  # type: ignore[arg-type]


def test_of_a_prompt_that_fills_the_model_is_said_what_was_not_read(client: openai.OpenAI) -> None:
    found = client.completions.create(model="write-small", prompt="ä" * 6_000, max_tokens=1)
    assert found.usage is not None and found.usage.prompt_tokens == 9_999
    assert found.usage.model_extra == {"prompt_dropped": 12_001 - 9_999}
    short = client.completions.create(model="write-small", prompt="soft", max_tokens=1)
    assert short.usage is not None and not short.usage.model_extra
