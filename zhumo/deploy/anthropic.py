"""Anthropic's form, /v1/messages, over the same chats. Its client sends the key as `auth_token`."""

import json
import secrets
from collections.abc import Iterator, Sequence
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from zhumo.deploy.requests import (
    MAX_FUNCTIONS,
    MAX_TOKENS,
    Call,
    Inner,
    Object,
    Part,
    Schema,
    Stop,
    Streamed,
    Text,
    choices,
)
from zhumo.deploy.streams import Json
from zhumo.tasks import Answer, Row

NAME = Field(pattern="^[a-zA-Z0-9_-]{1,64}$")


class Cached(Inner):
    """Whatever may be marked as worth keeping; what is read is kept anyway."""

    cache_control: Object | None = None


class TextBlock(Cached):
    """Text of a message."""

    type: Literal["text"]
    text: Text
    citations: None = None


class UseBlock(Cached):
    """A call that the assistant made."""

    type: Literal["tool_use"]
    id: Call
    name: str = NAME
    input: Object


class ResultBlock(Cached):
    """What a tool said."""

    type: Literal["tool_result"]
    tool_use_id: Call
    content: Text | Annotated[list[TextBlock], Field(max_length=64)] = ""
    is_error: bool | None = None


Block = Annotated[TextBlock | UseBlock | ResultBlock, Field(discriminator="type")]


class Turn(Inner):
    """One turn of a chat."""

    role: Literal["user", "assistant"]
    content: Text | Annotated[list[Block], Field(min_length=1, max_length=MAX_FUNCTIONS)]

    @model_validator(mode="after")
    def _own(self) -> Self:
        kind = "tool_result" if self.role == "assistant" else "tool_use"
        if any(block.type == kind for block in self.content if not isinstance(block, str)):
            raise ValueError(f"a message of the {self.role} has no {kind}")
        return self


class CustomTool(Cached):
    """A function that may be called."""

    type: Literal["custom"] | None = None
    name: str = NAME
    description: str | None = Field(None, max_length=8_192)
    input_schema: Schema


class Choice(Inner):
    """Whether one calls, and how many at once."""

    type: Literal["auto", "any", "none"]
    disable_parallel_tool_use: bool | None = None


class Named(Inner):
    """The one tool that is to be called."""

    type: Literal["tool"]
    name: str = NAME
    disable_parallel_tool_use: bool | None = None


class Converse(Streamed):
    """A chat to be continued, as Anthropic's /v1/messages."""

    hints = frozenset(("metadata", "service_tier", "cache_control", "inference_geo"))
    features = frozenset(("thinking", "mcp_servers", "container", "context_management", "output_config", "betas"))
    messages: list[Turn] = Field(min_length=1, max_length=1_024)
    max_tokens: int = Field(ge=1, le=MAX_TOKENS)
    system: Text | Annotated[list[TextBlock], Field(max_length=64)] | None = None
    temperature: float | None = Field(None, ge=0, le=1)
    top_p: float | None = Field(None, gt=0, le=1)
    top_k: int | None = Field(None, ge=0, le=100_000)
    stop_sequences: list[Stop] | None = Field(None, max_length=8)
    tools: list[CustomTool] | None = Field(None, max_length=MAX_FUNCTIONS)
    tool_choice: Annotated[Choice | Named, Field(discriminator="type")] | None = None

    @model_validator(mode="after")
    def _asks(self) -> Self:
        if self.messages[-1].role == "assistant":
            raise ValueError("the last message must be one to answer, not the assistant's own")
        if self.tool_choice is not None and self.tool_choice.type in ("any", "tool") and not self.tools:
            raise ValueError("tool_choice asks for a call and there are no tools")
        return self


def rows(ask: Converse) -> list[Row]:
    """The row that a request asks."""
    system = [{"role": "system", "content": _plain(ask.system)}] if ask.system else []
    row: Row = {"messages": [*system, *(message for turn in ask.messages for message in _messages(turn))]}
    given = {"max_tokens": ask.max_tokens, "temperature": ask.temperature, "top_p": ask.top_p, "top_k": ask.top_k,
             "stop": ask.stop_sequences}  # fmt: skip
    row |= {name: value for name, value in given.items() if value is not None}
    if ask.tools:
        row["tools"] = [_function(tool) for tool in ask.tools]
        if ask.tool_choice is not None:
            row["tool_choice"] = _choice(ask.tool_choice)
            row["parallel_tool_calls"] = not ask.tool_choice.disable_parallel_tool_use
    return choices(row)


def response(ask: Converse, answers: Sequence[Answer], used: Json) -> Json:
    """The whole message."""
    [answer] = answers
    return {**_head(ask), "content": _blocks(answer), **_ended(answer), "usage": _usage(used)}


class Events:
    """A message in events: it begins, each block of it begins, comes in pieces and ends, it ends."""

    last = b""

    def __init__(self, ask: Converse) -> None:
        self._ask, self._opened = ask, False

    def begin(self) -> Iterator[Json]:
        """An empty message. How many tokens were read is told at the end."""
        empty: Json = {"content": [], "stop_reason": None, "stop_sequence": None}
        usage = {"input_tokens": 0, "output_tokens": 0}
        yield {"type": "message_start", "message": {**_head(self._ask), **empty, "usage": usage}}

    def piece(self, _: int, text: str) -> Iterator[Json]:
        """A piece of the one block of text."""
        if not self._opened:
            self._opened = True
            yield {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}
        yield {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": text}}

    def end(self, _: int, answer: Answer) -> Iterator[Json]:
        """The text ends; each call begins, is told and ends."""
        self._answer = answer
        for index, block in enumerate(_blocks(answer)):
            if block["type"] == "tool_use":
                said = {"type": "input_json_delta", "partial_json": json.dumps(block["input"], ensure_ascii=False)}
                yield {"type": "content_block_start", "index": index, "content_block": {**block, "input": {}}}
                yield {"type": "content_block_delta", "index": index, "delta": said}
            elif not self._opened:
                yield {"type": "content_block_start", "index": index, "content_block": block}
            yield {"type": "content_block_stop", "index": index}

    def close(self, used: Json) -> Iterator[Json]:
        """Why it ended, and the usage."""
        yield {"type": "message_delta", "delta": _ended(self._answer), "usage": _usage(used)}
        yield {"type": "message_stop"}

    def broken(self, message: str, code: str) -> Json:
        """Anthropic's error event."""
        return {"type": "error", "error": {"type": "api_error", "message": message}}


def _messages(turn: Turn) -> Iterator[Json]:
    """A turn as a row holds it: what tools said before what the user says, text and calls of the assistant as one."""
    blocks = [] if isinstance(turn.content, str) else turn.content
    for block in blocks:
        if isinstance(block, ResultBlock):
            yield {"role": "tool", "content": _plain(block.content), "tool_call_id": block.tool_use_id}
    text = turn.content if isinstance(turn.content, str) else _plain(
        [block for block in blocks if isinstance(block, TextBlock)]
    )  # fmt: skip
    calls = [
        {"id": block.id, "type": "function",
         "function": {"name": block.name, "arguments": json.dumps(block.input, ensure_ascii=False)}}
        for block in blocks if isinstance(block, UseBlock)
    ]  # fmt: skip
    if calls:
        yield {"role": turn.role, "content": text, "tool_calls": calls}
    elif text or not any(isinstance(block, ResultBlock) for block in blocks):
        yield {"role": turn.role, "content": text}


def _plain(content: str | Sequence[Part | TextBlock]) -> str:
    return content if isinstance(content, str) else "".join(part.text for part in content)


def _function(tool: CustomTool) -> Json:
    described = {} if tool.description is None else {"description": tool.description}
    return {"type": "function", "function": {"name": tool.name, **described, "parameters": tool.input_schema}}


def _choice(choice: Choice | Named) -> Any:
    if isinstance(choice, Named):
        return {"type": "function", "function": {"name": choice.name}}
    return "required" if choice.type == "any" else choice.type


def _head(ask: Converse) -> Json:
    return {"id": f"msg_{secrets.token_hex(12)}", "type": "message", "role": "assistant", "model": ask.model}


def _blocks(answer: Answer) -> list[Json]:
    """Text, unless there are only calls, and a block for each call."""
    calls = answer.get("tool_calls", [])
    said = [{"type": "text", "text": answer["text"]}] if answer["text"] or not calls else []
    called = [
        {"type": "tool_use", "id": f"toolu_{secrets.token_hex(12)}", "name": call["name"],
         "input": json.loads(call["arguments"])}
        for call in calls
    ]  # fmt: skip
    return [*said, *called]


def _ended(answer: Answer) -> Json:
    if "stop" in answer:
        return {"stop_reason": "stop_sequence", "stop_sequence": answer["stop"]}
    reason = {"stop": "end_turn", "length": "max_tokens", "tool_calls": "tool_use"}[answer["finish_reason"]]
    return {"stop_reason": reason, "stop_sequence": None}


def _usage(used: Json) -> Json:
    return {"input_tokens": used["prompt_tokens"], "output_tokens": used["completion_tokens"]}
