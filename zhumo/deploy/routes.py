"""What is asked where: one table from request to row and from answer to response, and back again.

The server reads it forwards, the parity gate backwards: it turns an evaluated row into the request a client would send
and what comes back into the answer, so both speak of the same wire.
"""

import base64
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import numpy as np

from zhumo.deploy.requests import OPTIONS, Ask, Chat, Classify, Complete, Embed, Likelihood, Recommend, Tag, Translate
from zhumo.deploy.streams import Chunks, Json, Stream, envelope
from zhumo.tasks import Answer, Row
from zhumo.tasks.pieces import UNDECODED

WRITTEN = frozenset(("text", "finish_reason", "prompt_tokens", "completion_tokens", "tool_calls"))
A = TypeVar("A", bound=Ask)


@dataclass(frozen=True)
class Route(Generic[A]):
    """One answering endpoint.

    rows, response: request -> rows, (request, answers, usage) -> response.
    request, answer: row -> request, response -> what it says of the row.
    told: the names of an answer the response carries; empty: all.
    stream: how a request is answered in pieces.
    """

    path: str
    ask: type[A]
    rows: Callable[[A], list[Row]]
    response: Callable[[A, Sequence[Answer], Json], Json]
    request: Callable[[Row], Json]
    answer: Callable[[Json], Answer]
    told: frozenset[str] = frozenset()
    stream: Callable[[A], Stream] | None = None


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
    messages = [message.plain() for message in ask.messages]
    return _choices(ask, {"messages": messages, **ask.options(), **ask.asked()})


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
    said = choice.get("message", {})
    text = (said["content"] or "") if said else choice["text"]
    counts = {name: used[name] for name in ("prompt_tokens", "completion_tokens")}
    calls = {"tool_calls": [call["function"] for call in said["tool_calls"]]} if "tool_calls" in said else {}
    return {"text": text, "finish_reason": choice["finish_reason"], **counts, **calls}


def _message(answer: Answer) -> Json:
    """What the assistant says. One that only calls says nothing."""
    calls = {"tool_calls": _tool_calls(answer)} if "tool_calls" in answer else {}
    return {"role": "assistant", "content": answer["text"] if answer["text"] or not calls else None, "refusal": None,
            **calls}  # fmt: skip


def _tool_calls(answer: Answer) -> list[Json]:
    return [{"id": f"call_{secrets.token_hex(12)}", "type": "function", "function": call}
            for call in answer["tool_calls"]]  # fmt: skip


def _likely(answer: Answer) -> Json | None:
    """OpenAI's newer form of how likely each token is."""
    if "logprobs" not in answer:
        return None
    said = answer["logprobs"]
    lines = zip(said["tokens"], said["token_logprobs"], said["top_logprobs"], strict=True)
    return {"content": [
        {**_token(text, chance), "top_logprobs": [_token(*one) for one in (others or {}).items()]}
        for text, chance, others in lines
    ], "refusal": None}  # fmt: skip


def _token(text: str, logprob: float) -> Json:
    """bytes: None of half a character, whose bytes its text does not show."""
    return {"token": text, "logprob": logprob, "bytes": None if UNDECODED in text else list(text.encode())}


def _chat_response(ask: Chat, answers: Sequence[Answer], used: Json) -> Json:
    choices = [
        {"index": index, "message": _message(answer), "logprobs": _likely(answer),
         "finish_reason": answer["finish_reason"]}
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


def _chat_stream(ask: Chat) -> Stream:
    def said(text: str | None) -> Json:
        return {"delta": {} if text is None else {"role": "assistant", "content": text}}

    def called(answer: Answer) -> Json:
        calls = [{"index": index, **call} for index, call in enumerate(_tool_calls(answer))]
        return {"delta": {"role": "assistant", "tool_calls": calls}}

    return Chunks(ask, "chat.completion.chunk", "chatcmpl", said, called)


def _complete_stream(ask: Complete) -> Stream:
    return Chunks(ask, "text_completion", "cmpl", lambda text: {"text": text or ""})


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
    _written, WRITTEN, _chat_stream,
)  # fmt: skip
COMPLETE = Route(
    "/v1/completions", Complete, _complete, _complete_response, _ask_write,
    _written, WRITTEN, _complete_stream,
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
