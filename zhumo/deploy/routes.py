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

from zhumo.deploy.requests import OPTIONS, Ask, Chat, Classify, Complete, Embed, Likelihood, Recommend, Tag, Translate
from zhumo.tasks import Answer, Row

Json = dict[str, Any]
WRITTEN = frozenset(("text", "finish_reason", "prompt_tokens", "completion_tokens"))
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

    rows, response: request -> rows, (request, answers, usage) -> response.
    request, answer: row -> request, response -> what it says of the row.
    told: the names of an answer the response carries; empty: all.
    """

    path: str
    ask: type[A]
    rows: Callable[[A], list[Row]]
    response: Callable[[A, Sequence[Answer], Json], Json]
    request: Callable[[Row], Json]
    answer: Callable[[Json], Answer]
    told: frozenset[str] = frozenset()
    stream: Stream | None = None


def _data(ask: Ask, answers: Sequence[Answer], _: Json) -> Json:
    return {"object": "list", "model": ask.model, "data": list(answers)}


def _first(response: Json) -> Answer:
    answer: Answer = response["data"][0]
    return answer


def _texts(ask: Classify | Embed | Likelihood) -> list[Row]:
    return [{"text": text} for text in ([ask.input] if isinstance(ask.input, str) else ask.input)]


# recommend


SHELF = ("items", "k", "seen", "traits", "only", "exclude", "boost", "diversity", "new", "reasons")


def _history(ask: Recommend) -> list[Row]:
    return [ask.model_dump(include={*SHELF}, exclude_unset=True)]


def _ask_recommend(row: Row) -> Json:
    return {name: row[name] for name in SHELF if name in row}


# embed


def _embed(ask: Embed) -> list[Row]:
    """A document is asked as what a query looks for: some weights want another prefix before it."""
    beside = {} if ask.dimensions is None else {"dimensions": ask.dimensions}
    rows = [{**row, **beside} for row in _texts(ask)]
    return [{**row, "match": row["text"]} for row in rows] if ask.input_type == "document" else rows


def _embeddings(ask: Embed, answers: Sequence[Answer], used: Json) -> Json:
    name = "match_embedding" if ask.input_type == "document" else "embedding"
    data = [
        {"object": "embedding", "index": index, "embedding": _packed(answer[name], ask.encoding_format)}
        for index, answer in enumerate(answers)
    ]
    return {**_data(ask, data, used), "usage": {name: used[name] for name in ("prompt_tokens", "total_tokens")}}


def _packed(vector: Sequence[float], form: str) -> Sequence[float] | str:
    """base64: little-endian float32, as OpenAI's own client asks for."""
    return base64.b64encode(np.asarray(vector, dtype="<f4").tobytes()).decode() if form == "base64" else vector


# translate


def _sources(ask: Translate) -> list[Row]:
    return [{"source": row["text"]} for row in _texts(ask)]


# write


def _chat(ask: Chat) -> list[Row]:
    return _choices(ask, {"messages": [message.plain() for message in ask.messages], **ask.options()})


def _complete(ask: Complete) -> list[Row]:
    several = isinstance(ask.prompt, list) and not isinstance(ask.prompt[0], int)
    prompts = ask.prompt if several else [ask.prompt]
    return [row for prompt in prompts for row in _choices(ask, {"prompt": prompt, **ask.options(), **ask.asked()})]


def _choices(ask: Chat | Complete, row: Row) -> list[Row]:
    """n answers to one row, each drawn with a seed of its own; one that draws nothing needs none."""
    if not ask.temperature:
        return [row] * (ask.n or 1)
    first = secrets.randbelow(2**62) if ask.seed is None else ask.seed
    return [{**row, "seed": (first + index) % 2**63} for index in range(ask.n or 1)]


def _ask_write(row: Row) -> Json:
    """A reference reply at the end of an evaluated chat is what the model was not shown."""
    request = {name: row[name] for name in (*OPTIONS, "prompt") if name in row}
    if "messages" in row:
        messages = row["messages"]
        request["messages"] = messages[:-1] if messages[-1]["role"] == "assistant" else messages
    return request


def _written(response: Json) -> Answer:
    choice, used = response["choices"][0], response["usage"]
    text = choice["message"]["content"] if "message" in choice else choice["text"]
    counts = {name: used[name] for name in ("prompt_tokens", "completion_tokens")}
    return {"text": text, "finish_reason": choice["finish_reason"], **counts}


def envelope(ask: Ask, kind: str, prefix: str) -> Json:
    """What every OpenAI answer begins with."""
    return {"id": f"{prefix}-{secrets.token_hex(12)}", "object": kind, "created": int(time.time()), "model": ask.model}


def _chat_response(ask: Chat, answers: Sequence[Answer], used: Json) -> Json:
    choices = [
        {"index": index, "message": {"role": "assistant", "content": answer["text"], "refusal": None},
         "logprobs": None, "finish_reason": answer["finish_reason"]}
        for index, answer in enumerate(answers)
    ]  # fmt: skip
    return {**envelope(ask, "chat.completion", "chatcmpl"), "choices": choices, "usage": used}


def _complete_response(ask: Complete, answers: Sequence[Answer], used: Json) -> Json:
    choices = [
        {
            "index": index,
            "text": answer["text"],
            "logprobs": answer.get("logprobs"),
            "finish_reason": answer["finish_reason"],
        }
        for index, answer in enumerate(answers)
    ]
    return {**envelope(ask, "text_completion", "cmpl"), "choices": choices, "usage": used}


def _chat_piece(text: str | None) -> Json:
    return {"delta": {} if text is None else {"role": "assistant", "content": text}}


def _complete_piece(text: str | None) -> Json:
    return {"text": text or ""}


RECOMMEND = Route("/v1/recommendations", Recommend, _history, _data, _ask_recommend, _first)
CLASSIFY = Route("/v1/classify", Classify, _texts, _data, lambda row: {"input": row["text"]}, _first)
TAG = Route("/v1/tag", Tag, _texts, _data, lambda row: {"input": row["text"]}, _first)
EMBED = Route(
    "/v1/embeddings", Embed, _embed, _embeddings, lambda row: {"input": row["text"]},
    lambda response: {"embedding": _first(response)["embedding"]}, frozenset(("embedding",)),
)  # fmt: skip
TRANSLATE = Route("/v1/translations", Translate, _sources, _data, lambda row: {"input": row["source"]}, _first)
LIKELIHOOD = Route("/v1/likelihood", Likelihood, _texts, _data, lambda row: {"input": row["text"]}, _first)
CHAT = Route(
    "/v1/chat/completions", Chat, _chat, _chat_response, _ask_write,
    _written, WRITTEN, Stream("chat.completion.chunk", "chatcmpl", _chat_piece),
)  # fmt: skip
COMPLETE = Route(
    "/v1/completions", Complete, _complete, _complete_response, _ask_write,
    _written, WRITTEN, Stream("text_completion", "cmpl", _complete_piece),
)  # fmt: skip

ROUTES: Mapping[str, Sequence[Route[Any]]] = {
    "recommend": (RECOMMEND,),
    "classify": (CLASSIFY,),
    "tag": (TAG,),
    "embed": (EMBED,),
    "translate": (TRANSLATE,),
    "write": (CHAT, COMPLETE, LIKELIHOOD),
}


def route_of(task: str, row: Row) -> Route[Any]:
    """The endpoint that answers a row of a task."""
    if task == "write":
        return CHAT if "messages" in row else COMPLETE if "prompt" in row else LIKELIHOOD
    return ROUTES[task][0]
