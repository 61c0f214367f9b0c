"""OpenAI's newer form, /v1/responses, over the same chats: nothing is stored, so each request brings its whole chat."""

import secrets
import time
from collections.abc import Iterator, Sequence
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from zhumo.deploy.requests import (
    HINTS,
    MAX_FUNCTIONS,
    MAX_TOKENS,
    AnyObject,
    Call,
    Function,
    Inner,
    Name,
    NamedSchema,
    Plain,
    Streamed,
    Text,
    choices,
)  # fmt: skip
from zhumo.deploy.streams import Json
from zhumo.tasks import Answer, Row


class Piece(Inner):
    """Text of a message, asked or answered."""

    type: Literal["input_text", "output_text"]
    text: Text
    annotations: Annotated[list[Any], Field(max_length=0)] | None = None
    logprobs: Annotated[list[Any], Field(max_length=0)] | None = None


Content = Text | Annotated[list[Piece], Field(max_length=64)]


class Kept(Inner):
    """What an item of an earlier answer carries besides."""

    id: str | None = Field(None, max_length=128)
    status: str | None = Field(None, max_length=32)


class Said(Kept):
    """A message."""

    type: Literal["message"] = "message"
    role: Literal["system", "developer", "user", "assistant"]
    content: Content


class Calls(Kept):
    """A call that the assistant made."""

    type: Literal["function_call"]
    call_id: Call
    name: str = Field(pattern="^[a-zA-Z0-9_-]{1,64}$")
    arguments: Text


class Result(Kept):
    """What a function said."""

    type: Literal["function_call_output"]
    call_id: Call
    output: Content


class FunctionTool(Function):
    """A function that may be called."""

    type: Literal["function"]


class FunctionName(Name):
    """The one function that is to be called."""

    type: Literal["function"]


class SchemaForm(NamedSchema):
    """JSON of a schema."""

    type: Literal["json_schema"]


class TextOptions(Inner):
    """The form of the text."""

    format: Annotated[Plain | AnyObject | SchemaForm, Field(discriminator="type")] | None = None
    verbosity: Literal["low", "medium", "high"] | None = None


class Respond(Streamed):
    """A chat to be continued, as OpenAI's /v1/responses."""

    hints = HINTS | {"reasoning", "include", "truncation", "stream_options"}
    features = frozenset(
        ("previous_response_id", "conversation", "background", "prompt", "max_tool_calls", "top_logprobs")
    )
    input: Text | Annotated[list[Said | Calls | Result], Field(min_length=1, max_length=1_024)]
    instructions: Text | None = None
    max_output_tokens: int | None = Field(None, ge=1, le=MAX_TOKENS)
    temperature: float | None = Field(None, ge=0, le=2)
    top_p: float | None = Field(None, gt=0, le=1)
    text: TextOptions | None = None
    tools: list[FunctionTool] | None = Field(None, max_length=MAX_FUNCTIONS)
    tool_choice: Literal["none", "auto", "required"] | FunctionName | None = None
    parallel_tool_calls: bool | None = None

    @model_validator(mode="after")
    def _asks(self) -> Self:
        last = None if isinstance(self.input, str) else self.input[-1]
        if isinstance(last, Calls) or (isinstance(last, Said) and last.role == "assistant"):
            raise ValueError("the last item must be one to answer, not the assistant's own")
        if self.tool_choice not in (None, "none", "auto") and not self.tools:
            raise ValueError("tool_choice asks for a call and there are no tools")
        return self


def rows(ask: Respond) -> list[Row]:
    """The row that a request asks."""
    row: Row = {"messages": list(_messages(ask))}
    if ask.text is not None and ask.text.format is not None:
        row["response_format"] = _form(ask.text.format)
    if ask.tools is not None:
        row["tools"] = [{"type": "function", "function": tool.model_dump(exclude={"type"}, exclude_none=True)}
                        for tool in ask.tools]  # fmt: skip
    if isinstance(ask.tool_choice, FunctionName):
        row["tool_choice"] = {"type": "function", "function": {"name": ask.tool_choice.name}}
    given: Json = {"max_tokens": ask.max_output_tokens, "temperature": ask.temperature, "top_p": ask.top_p,
             "parallel_tool_calls": ask.parallel_tool_calls}  # fmt: skip
    if isinstance(ask.tool_choice, str):
        given["tool_choice"] = ask.tool_choice
    return choices({**row, **{name: value for name, value in given.items() if value is not None}})


def response(ask: Respond, answers: Sequence[Answer], used: Json) -> Json:
    """The whole answer."""
    [answer] = answers
    return _response(ask, _head(ask), _items(answer, f"msg_{secrets.token_hex(12)}"), answer, used)


class Events:
    """A response in events: it begins, each item of it begins, comes in pieces and is done, it is done."""

    last = b""

    def __init__(self, ask: Respond) -> None:
        self._ask, self._head, self._message = ask, _head(ask), f"msg_{secrets.token_hex(12)}"
        self._number = 0
        self._opened = False
        self._items: list[Json] = []

    def begin(self) -> Iterator[Json]:
        """An empty response."""
        empty = {**self._head, "status": "in_progress", "output": [], "usage": None}
        yield self._event("created", response=empty)
        yield self._event("in_progress", response=empty)

    def piece(self, _: int, text: str) -> Iterator[Json]:
        """A piece of the one message."""
        if not self._opened:
            yield from self._open()
        yield self._event("output_text.delta", **self._place(), content_index=0, delta=text, logprobs=[])

    def end(self, _: int, answer: Answer) -> Iterator[Json]:
        """The message is done; each call begins and is done."""
        self._answer, self._items = answer, _items(answer, self._message)
        for place, item in enumerate(self._items):
            if item["type"] == "message":
                if not self._opened:
                    yield from self._open()
                [part] = item["content"]
                yield self._event("output_text.done", **self._place(), content_index=0, text=part["text"], logprobs=[])
                yield self._event("content_part.done", **self._place(), content_index=0, part=part)
            else:
                begun = {**item, "status": "in_progress", "arguments": ""}
                yield self._event("output_item.added", output_index=place, item=begun)
                where, said = {"output_index": place, "item_id": item["id"]}, item["arguments"]
                yield self._event("function_call_arguments.delta", **where, delta=said)
                yield self._event("function_call_arguments.done", **where, name=item["name"], arguments=said)
            yield self._event("output_item.done", output_index=place, item=item)

    def close(self, used: Json) -> Iterator[Json]:
        """The whole response."""
        whole = _response(self._ask, self._head, self._items, self._answer, used)
        yield self._event(whole["status"], response=whole)

    def broken(self, message: str, code: str) -> Json:
        """OpenAI's error event."""
        return {"type": "error", "code": code, "message": message, "param": None,
                "sequence_number": self._number}  # fmt: skip

    def _open(self) -> Iterator[Json]:
        self._opened = True
        empty = {**_said("", self._message), "status": "in_progress", "content": []}
        yield self._event("output_item.added", output_index=0, item=empty)
        yield self._event("content_part.added", **self._place(), content_index=0, part=_part(""))

    def _place(self) -> Json:
        return {"output_index": 0, "item_id": self._message}

    def _event(self, kind: str, **facts: Any) -> Json:
        self._number += 1
        return {"type": f"response.{kind}", "sequence_number": self._number - 1, **facts}


def _messages(ask: Respond) -> Iterator[Json]:
    """The chat as a row holds it; calls that follow each other are one turn."""
    if ask.instructions:
        yield {"role": "system", "content": ask.instructions}
    if isinstance(ask.input, str):
        yield {"role": "user", "content": ask.input}
        return
    calls: list[Json] = []
    for item, after in zip(ask.input, [*ask.input[1:], None], strict=True):
        if isinstance(item, Calls):
            called = {"name": item.name, "arguments": item.arguments}
            calls.append({"id": item.call_id, "type": "function", "function": called})
            if not isinstance(after, Calls):
                yield {"role": "assistant", "content": "", "tool_calls": calls}
                calls = []
        elif isinstance(item, Result):
            yield {"role": "tool", "content": _plain(item.output), "tool_call_id": item.call_id}
        else:
            role = "system" if item.role == "developer" else item.role
            yield {"role": role, "content": _plain(item.content)}


def _plain(content: str | list[Piece]) -> str:
    return content if isinstance(content, str) else "".join(part.text for part in content)


def _form(form: Plain | AnyObject | SchemaForm) -> Json:
    if not isinstance(form, SchemaForm):
        return form.model_dump()
    return {"type": "json_schema", "json_schema": form.model_dump(exclude={"type"}, exclude_none=True, by_alias=True)}


def _head(ask: Respond) -> Json:
    """What a response says from the beginning, in the words of the request."""
    said = ask.model_dump(mode="json", by_alias=True)
    return {
        "id": f"resp_{secrets.token_hex(12)}",
        "object": "response",
        "created_at": int(time.time()),
        "model": ask.model,
        **{name: said[name] for name in ("instructions", "max_output_tokens", "temperature", "top_p")},
        "text": said["text"] or {"format": {"type": "text"}},
        "tools": said["tools"] or [],
        "tool_choice": said["tool_choice"] or "auto",
        "parallel_tool_calls": ask.parallel_tool_calls is not False,
        "store": False,
        "metadata": {},
        "error": None,
        "incomplete_details": None,
        "previous_response_id": None,
    }


def _response(ask: Respond, head: Json, items: list[Json], answer: Answer, used: Json) -> Json:
    cut = answer["finish_reason"] == "length"
    usage = {
        "input_tokens": used["prompt_tokens"],
        "input_tokens_details": {"cached_tokens": 0},
        "output_tokens": used["completion_tokens"],
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": used["total_tokens"],
    }
    details = {"incomplete_details": {"reason": "max_output_tokens"}} if cut else {}
    return {**head, **details, "status": "incomplete" if cut else "completed", "output": items, "usage": usage}


def _items(answer: Answer, message: str) -> list[Json]:
    """A message, unless only functions are called, and a call each."""
    calls = answer.get("tool_calls", [])
    said = [_said(answer["text"], message)] if answer["text"] or not calls else []
    called = [
        {"id": f"fc_{secrets.token_hex(12)}", "type": "function_call", "status": "completed",
         "call_id": f"call_{secrets.token_hex(12)}", **call}
        for call in calls
    ]  # fmt: skip
    return [*said, *called]


def _said(text: str, name: str) -> Json:
    return {"id": name, "type": "message", "status": "completed", "role": "assistant", "content": [_part(text)]}


def _part(text: str) -> Json:
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}
