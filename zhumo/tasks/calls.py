"""Functions a chat may call: how they are told to the model, and which calls stand in what it wrote.

A template that knows functions and has calls written between `<tool_call>` tags (Hermes, Qwen) is given them. To any
other they are told in a system message, and a call is a line of JSON: {"name": ..., "arguments": {...}}. Either way a
call is held to the schema of its function while it is written.
"""

import json
import re
from collections.abc import Sequence
from typing import Any

from zhumo.errors import DataError
from zhumo.tasks import Row
from zhumo.tasks.grammar import COMPACT
from zhumo.tasks.pieces import Stops
from zhumo.tokenizer import Message, Tokenizer

Function = dict[str, Any]
OPEN, CLOSE = "<tool_call>", "</tool_call>"
NONE: Function = {"type": "object", "properties": {}, "additionalProperties": False}
"""The schema of a function that takes nothing."""

_NAME = "[a-zA-Z0-9_-]{1,64}"
_HEAD = re.compile(rf'{{"name": "(?P<name>{_NAME})", "arguments": ')
_JSON = json.JSONDecoder()
TOLD = """You may call these functions, each given by its JSON Schema:
{functions}
To call one, answer with nothing but a line {{"name": its name, "arguments": its arguments}}; another call is another line."""  # noqa: E501


def takes_functions(tokenizer: Tokenizer) -> bool:
    """Whether the chat template has its own way with functions, and it is one we know."""
    template, tag = tokenizer.template or "", tokenizer.backend.token_to_id(OPEN)
    return "tools" in template and OPEN in template and (tag is None or not tokenizer.is_control(tag))


class Calls:
    """The functions of a row and the calls of its answer.

    row: {"tools", "tool_choice", "parallel_tool_calls"} as OpenAI's chat; tokenizer: of the model, with its template.

    Raises:
        DataError: these make no sense.
    """

    def __init__(self, row: Row, tokenizer: Tokenizer) -> None:
        choice, several = row.get("tool_choice", "auto"), row.get("parallel_tool_calls", True)
        tagged = takes_functions(tokenizer)
        self.begin, self.end = (f"{OPEN}\n", f"\n{CLOSE}") if tagged else ("", "")
        self._tokens = tagged and tokenizer.backend.token_to_id(OPEN) is not None
        self._free, self._several = choice == "auto", several
        match row, choice:
            case {"response_format": {"type": "json_object" | "json_schema"}} | {"structured_outputs": _}, _:
                raise DataError("data.bad_option", problem="an answer is held to a form or to tools, not to both")
            case {"tools": [*tools]}, ("auto" | "required"):
                self.functions = [_function(tool) for tool in tools]
            case {"tools": [*tools]}, {"type": "function", "function": {"name": name}}:
                self._several = False
                self.functions = [one for tool in tools if (one := _function(tool))["name"] == name]
                if not self.functions:
                    raise DataError("data.bad_option", problem=f"tool_choice names {name!r}, which is none of tools")
            case _:
                raise DataError("data.bad_option", problem="tool_choice is auto, none, required or a function's name")
        self._text = Stops([self._trigger])
        self._written, self._told = "", 0

    @property
    def _trigger(self) -> str:
        """What only a call begins with."""
        return self.begin + '{"name": "'

    @property
    def grammar(self) -> str:
        """Calls, and before them any text where the model may choose; in llguidance's form of Lark."""
        bodies = [self._body(place, function) for place, function in enumerate(self.functions)]
        more = r' ("\n" call)*' if self._several else ""
        # Text ends where a tag that is one token comes, else with the first letters of a call.
        head = f"head{'' if self._tokens else '[lazy]'}: TEXT {self._fixed(self._trigger)}"
        return "\n".join((
            f"start: TEXT | head body{more}" if self._free else f"start: call{more}",
            f"call: {self._fixed(self._trigger)} body",
            f"body: {' | '.join(f'body{place}' for place in range(len(bodies)))}",
            *bodies,
            *((head, "TEXT: /(?s:.*)/") if self._free else ()),
        ))  # fmt: skip

    def _body(self, place: int, function: Function) -> str:
        name, close = self._fixed(function["name"] + '", "arguments": '), self._fixed("}" + self.end)
        schema = json.dumps({**function.get("parameters", NONE), "x-guidance": COMPACT})
        return f"body{place}: {name} %json {schema} {close}"

    def _fixed(self, text: str) -> str:
        """A text in Lark, where tags that are tokens of their own stand without quotes."""
        parts = re.split(f"({OPEN}|{CLOSE})", text) if self._tokens else [text]
        return " ".join(part if part in (OPEN, CLOSE) else json.dumps(part) for part in parts if part)

    def add(self, piece: str) -> str:
        """What of the text so far is certainly no call."""
        self._written += piece
        told = self._text.add(piece)
        self._told += len(told)
        return told

    def made(self, piece: str) -> tuple[list[Function], str]:
        """The calls that were written, each {"name", "arguments": JSON}, and what is no whole one; with the last piece
        of the text."""
        rest, close, found = self._written[self._told :] + piece, "}" + self.end, []
        while rest.startswith(self.begin) and (head := _HEAD.match(rest, len(self.begin))):
            try:
                _, end = _JSON.raw_decode(rest, head.end())
            except (ValueError, RecursionError):
                break
            if not rest.startswith(close, end):
                break
            found.append({"name": head["name"], "arguments": rest[head.end() : end]})
            rest = rest[end + len(close) :].removeprefix("\n")
        return found, rest


def told(messages: Sequence[Message], functions: Sequence[Function], tokenizer: Tokenizer) -> list[Message]:
    """A chat as the template is to write it: calls in the way it knows them, and functions if it knows none."""
    if takes_functions(tokenizer):
        return [_parsed(message) for message in messages]
    written = [_spelled(message) for message in messages]
    if not functions:
        return written
    lines = "\n".join(json.dumps(function, ensure_ascii=False) for function in functions)
    first = TOLD.format(functions=lines)
    if written and written[0]["role"] == "system":
        return [{**written[0], "content": f"{written[0]['content']}\n\n{first}"}, *written[1:]]
    return [{"role": "system", "content": first}, *written]


def _function(tool: Any) -> Function:
    match tool:
        case {"type": "function", "function": {"name": str(name)} as function} if re.fullmatch(_NAME, name):
            if isinstance(function.get("parameters", {}), dict):
                return dict(function)
    raise DataError("data.bad_option", problem='a tool is {"type": "function", "function": {"name", "parameters"}}')


def _parsed(message: Message) -> Message:
    """Templates take arguments as an object and write them as JSON themselves."""
    if "tool_calls" not in message:
        return message
    calls = [
        {**call, "function": {**call["function"], "arguments": _arguments(call)}} for call in message["tool_calls"]
    ]
    return {**message, "tool_calls": calls}


def _spelled(message: Message) -> Message:
    if "tool_calls" not in message:
        return message
    calls = [
        json.dumps({"name": call["function"]["name"], "arguments": _arguments(call)}, ensure_ascii=False)
        for call in message["tool_calls"]
    ]
    return {"role": message["role"], "content": "\n".join(filter(None, (message["content"], *calls)))}


def _arguments(call: Any) -> Any:
    try:
        return json.loads(call["function"]["arguments"])
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise DataError("data.bad_option", problem='the arguments of a call in "tool_calls" are JSON') from error
