"""Chats in the forms people keep them in -> messages.

| form | looks like |
|---|---|
| messages | {"messages": [{"role", "content"}, ...]}, OpenAI's |
| sharegpt | {"conversations": [{"from", "value"}, ...]} |
| preference | one of these up to the question, {"chosen"}, the reply people liked better, and {"rejected"}, another |
| alpaca | {"instruction", "input", "output"}, and where there are any, "system" and "history" [[prompt, reply], ...] |
| prompt | {"prompt", "reply"} and, where there is one, "system" |
"""

from collections.abc import Mapping, Sequence
from typing import Any

from zhumo.prepare.columns import Unusable
from zhumo.tokenizer import Message

ROLES: Mapping[str, str] = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "human": "user",
    "assistant": "assistant",
    "gpt": "assistant",
    "bot": "assistant",
    "function_call": "assistant",
    "tool": "tool",
    "observation": "tool",
    "function": "tool",
}
"""Who speaks: what files call it, and what a chat template does."""

LISTS = ("messages", "conversations", "conversation")
PROMPTS = ("prompt", "question", "问题", "提问")
REPLIES = ("reply", "response", "completion", "answer", "回答", "回复", "答案")


def to_messages(row: Mapping[str, Any]) -> tuple[list[Message] | None, str]:
    """The chat a record holds and the form it came in; (None, "") where it holds none.

    Raises:
        Unusable: it is a chat, but a turn has no text or an unknown speaker, `system` does not stand first, or nobody
            answers.
    """
    for name in LISTS:
        if isinstance(row.get(name), list):
            return _checked(*_turns(row, name), field=name)
    if _is_pair(row, "instruction", "output"):
        return _checked(_alpaca(row), "alpaca", field="output")
    prompt, reply = _first(row, PROMPTS), _first(row, REPLIES)
    if prompt and not reply and row.get("chosen") is not None:
        return _checked(_asked(row, row[prompt], judged(row, "chosen")), "preference", field="chosen")
    if _is_pair(row, prompt, reply):
        return _checked(_asked(row, row[prompt], row[reply]), "prompt", field=reply)
    return None, ""


def _turns(row: Mapping[str, Any], name: str) -> tuple[list[Message], str]:
    turns: Sequence[Any] = row[name]
    form = "sharegpt" if any(isinstance(turn, dict) and "from" in turn for turn in turns) else "messages"
    messages = [_message(turn, name) for turn in turns]
    if row.get("chosen") is not None and (not messages or messages[-1]["role"] != "assistant"):
        return [*messages, {"role": "assistant", "content": judged(row, "chosen")}], "preference"
    return messages, form


def judged(row: Mapping[str, Any], name: str) -> str:
    """The reply of a preference, `chosen` or `rejected`: a text, a message, or a chat of which it is the last.

    Raises:
        Unusable: it is none of these, or empty.
    """
    value = row[name][-1] if isinstance(row[name], list) and row[name] else row[name]
    text = value if isinstance(value, str) else _message(value, name)["content"]
    if not text.strip():
        raise Unusable("no_value", name)
    return text


def _message(turn: Any, field: str) -> Message:
    if not isinstance(turn, dict):
        raise Unusable("not_a_message", field)
    role = turn.get("role", turn.get("from"))
    if not isinstance(role, str) or role not in ROLES:
        raise Unusable("unknown_role", field)
    return {"role": ROLES[role], "content": _text(turn.get("content", turn.get("value")), field)}


def _text(content: Any, field: str) -> str:
    """A content, which may come in parts of type text."""
    if isinstance(content, list):
        content = "".join(_part(part, field) for part in content)
    if content is None:
        raise Unusable("no_value", field)
    if not isinstance(content, str):
        raise Unusable("not_a_message", field)
    return content


def _part(part: Any, field: str) -> str:
    if not isinstance(part, dict) or part.get("type") != "text" or not isinstance(part.get("text"), str):
        raise Unusable("not_text", field)
    text: str = part["text"]
    return text


def _alpaca(row: Mapping[str, Any]) -> list[Message]:
    prompt = row["instruction"] if not _filled(row, "input") else f"{row['instruction']}\n{row['input']}"
    return _asked(row, prompt, row["output"])


def _asked(row: Mapping[str, Any], prompt: Any, reply: Any) -> list[Message]:
    pairs = [("system", row["system"])] if _filled(row, "system") else []
    for turn in row.get("history") or []:
        if not isinstance(turn, list) or len(turn) != 2:
            raise Unusable("not_a_message", "history")
        pairs += [("user", turn[0]), ("assistant", turn[1])]
    pairs += [("user", prompt), ("assistant", reply)]
    return [{"role": role, "content": _text(content, role)} for role, content in pairs]


def _checked(messages: list[Message], form: str, *, field: str) -> tuple[list[Message], str]:
    if not all(message["content"].strip() for message in messages):
        raise Unusable("no_value", field)
    if any(message["role"] == "system" for message in messages[1:]):
        raise Unusable("late_system", field)
    if not any(message["role"] == "assistant" for message in messages):
        raise Unusable("no_reply", field)
    return messages, form


def _filled(row: Mapping[str, Any], name: str) -> bool:
    return isinstance(row.get(name), str) and bool(row[name].strip())


def _first(row: Mapping[str, Any], names: Sequence[str]) -> str:
    return next((name for name in names if name in row), "")


def _is_pair(row: Mapping[str, Any], prompt: str, reply: str) -> bool:
    """Both columns are there. Half a pair is a chat gone wrong; so is an empty one, unless there is a text instead."""
    filled = _filled(row, prompt) or _filled(row, reply) or not _filled(row, "text")
    return prompt in row and reply in row and filled
