"""What is asked where: one table from request to row and from answer to response, and back again.

The server reads it forwards, the parity gate backwards: it turns an evaluated row into the request a client would send
and what comes back into the answer, so both speak of the same wire.
"""

import base64
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import numpy as np

from zhumo.deploy.requests import Ask, Chat, Classify, Complete, Embed, Recommend
from zhumo.tasks import Answer, Row

Json = dict[str, Any]
A = TypeVar("A", bound=Ask)


@dataclass(frozen=True)
class Stream:
    """How an endpoint streams: the kind and id its chunks carry, and a piece of text (None: the end) in them."""

    kind: str
    prefix: str
    piece: Callable[[str | None], Json]


@dataclass(frozen=True)
class Route(Generic[A]):
    """One answering endpoint.

    rows, response: request -> rows, (request, answers) -> response.
    request, answer: row -> request, response -> what it says of the row.
    """

    path: str
    ask: type[A]
    rows: Callable[[A], list[Row]]
    response: Callable[[A, Sequence[Answer]], Json]
    request: Callable[[Row], Json]
    answer: Callable[[Json], Answer]
    stream: Stream | None = None


def _data(ask: Ask, answers: Sequence[Answer]) -> Json:
    return {"object": "list", "model": ask.model, "data": list(answers)}


def _first(response: Json) -> Answer:
    answer: Answer = response["data"][0]
    return answer


def _texts(ask: Classify | Embed) -> list[Row]:
    return [{"text": text} for text in ([ask.input] if isinstance(ask.input, str) else ask.input)]


# recommend

def _history(ask: Recommend) -> list[Row]:
    return [{"items": ask.items, "k": ask.k, "seen": ask.seen}]


def _ask_recommend(row: Row) -> Json:
    return {name: row[name] for name in ("items", "k", "seen") if name in row}


# embed

def _embeddings(ask: Embed, answers: Sequence[Answer]) -> Json:
    data = [
        {"object": "embedding", "index": index, "embedding": _packed(answer["embedding"], ask.encoding_format)}
        for index, answer in enumerate(answers)
    ]
    tokens = sum(int(answer.get("tokens", 0)) for answer in answers)
    return {**_data(ask, data), "usage": {"prompt_tokens": tokens, "total_tokens": tokens}}


def _packed(vector: Sequence[float], form: str) -> Sequence[float] | str:
    """base64: little-endian float32, as OpenAI's own client asks for."""
    return base64.b64encode(np.asarray(vector, dtype="<f4").tobytes()).decode() if form == "base64" else vector


# write

def _chat(ask: Chat) -> list[Row]:
    options = ask.options()
    if ask.max_completion_tokens is not None:
        options["max_tokens"] = ask.max_completion_tokens
    return _choices(ask, {"messages": [message.plain() for message in ask.messages], **options})


def _complete(ask: Complete) -> list[Row]:
    prompts = [ask.prompt] if isinstance(ask.prompt, str) else ask.prompt
    return [row for prompt in prompts for row in _choices(ask, {"text": prompt, **ask.options()})]


def _choices(ask: Chat | Complete, row: Row) -> list[Row]:
    """n answers to one row, each with a seed of its own."""
    if ask.n in (None, 1):
        return [row]
    first = ask.seed if ask.seed is not None else secrets.randbelow(2**62)
    return [{**row, "seed": first + index} for index in range(ask.n or 1)]


def _ask_write(row: Row) -> Json:
    sampling = {name: value for name, value in row.items() if name in Chat.model_fields and name != "model"}
    return sampling if "messages" in row else {**sampling, "prompt": row["text"]}


def usage(answers: Sequence[Answer]) -> Json:
    """Tokens read and written."""
    read, wrote = (sum(int(answer.get(name, 0)) for answer in answers) for name in ("prompt_tokens", "tokens"))
    return {"prompt_tokens": read, "completion_tokens": wrote, "total_tokens": read + wrote}


def envelope(ask: Ask, kind: str, prefix: str) -> Json:
    """What every OpenAI answer begins with."""
    return {"id": f"{prefix}-{secrets.token_hex(12)}", "object": kind, "created": int(time.time()), "model": ask.model}


def _chat_response(ask: Chat, answers: Sequence[Answer]) -> Json:
    choices = [
        {"index": index, "message": {"role": "assistant", "content": answer["text"], "refusal": None},
         "logprobs": None, "finish_reason": answer.get("finish", "stop")}
        for index, answer in enumerate(answers)
    ]  # fmt: skip
    return {**envelope(ask, "chat.completion", "chatcmpl"), "choices": choices, "usage": usage(answers)}


def _complete_response(ask: Complete, answers: Sequence[Answer]) -> Json:
    choices = [
        {"index": index, "text": answer["text"], "logprobs": None, "finish_reason": answer.get("finish", "stop")}
        for index, answer in enumerate(answers)
    ]
    return {**envelope(ask, "text_completion", "cmpl"), "choices": choices, "usage": usage(answers)}


def _chat_piece(text: str | None) -> Json:
    return {"delta": {} if text is None else {"role": "assistant", "content": text}}


def _complete_piece(text: str | None) -> Json:
    return {"text": text or ""}


RECOMMEND = Route("/v1/recommendations", Recommend, _history, _data, _ask_recommend, _first)
CLASSIFY = Route("/v1/classify", Classify, _texts, _data, lambda row: {"input": row["text"]}, _first)
EMBED = Route("/v1/embeddings", Embed, _texts, _embeddings, lambda row: {"input": row["text"]}, _first)
CHAT = Route(
    "/v1/chat/completions", Chat, _chat, _chat_response, _ask_write,
    lambda response: {"text": response["choices"][0]["message"]["content"]},
    Stream("chat.completion.chunk", "chatcmpl", _chat_piece),
)  # fmt: skip
COMPLETE = Route(
    "/v1/completions", Complete, _complete, _complete_response, _ask_write,
    lambda response: {"text": response["choices"][0]["text"]}, Stream("text_completion", "cmpl", _complete_piece),
)  # fmt: skip

ROUTES: Mapping[str, Sequence[Route[Any]]] = {
    "recommend": (RECOMMEND,),
    "classify": (CLASSIFY,),
    "embed": (EMBED,),
    "write": (CHAT, COMPLETE),
}


def route_of(task: str, row: Row) -> Route[Any]:
    """The endpoint that answers a row of a task."""
    return next(route for route in ROUTES[task] if route is not CHAT or "messages" in row)
