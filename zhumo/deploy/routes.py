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

from zhumo.deploy import anthropic, responses
from zhumo.deploy.requests import (
    OPTIONS,
    Ask,
    Chat,
    Classify,
    Complete,
    Embed,
    Likelihood,
    Recommend,
    Rerank,
    Tag,
    Translate,
    choices,
)
from zhumo.deploy.streams import Chunks, Json, Stream, envelope
from zhumo.metrics.retrieval import candidates
from zhumo.tasks import Answer, Row
from zhumo.tasks.pieces import UNDECODED

WRITTEN = frozenset(("text", "finish_reason", "prompt_tokens", "completion_tokens", "tool_calls"))
A = TypeVar("A", bound=Ask)


@dataclass(frozen=True, kw_only=True)
class Route(Generic[A]):
    """One answering endpoint.

    tasks: whose bundles answer; rows, response: request -> rows, (request, answers, usage) -> response.
    stream: how a request is answered in pieces.
    """

    path: str
    tasks: tuple[str, ...]
    ask: type[A]
    rows: Callable[[A], list[Row]]
    response: Callable[[A, Sequence[Answer], Json], Json]
    stream: Callable[[A], Stream] | None = None


@dataclass(frozen=True, kw_only=True)
class Mirror(Route[A]):
    """One that can be read backwards too.

    request, answer: row -> request, response -> what it says of the row.
    told: the names of an answer the response carries; empty: all.
    """

    request: Callable[[Row], Json]
    answer: Callable[[Json], Answer]
    told: frozenset[str] = frozenset()


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


# rerank


def _candidates(ask: Rerank) -> list[Row]:
    return [{"text": ask.query, "documents": ask.texts()}]


def _ranked(ask: Rerank, answers: Sequence[Answer], used: Json) -> Json:
    """The documents, the likeliest first: by the probability of a reranker, or the cosine of an encoder."""
    scores, texts = answers[0]["scores"], ask.texts()
    best = sorted(range(len(texts)), key=lambda place: -scores[place])[: ask.top_n]
    results = [
        {"index": place, "relevance_score": scores[place],
         **({"document": {"text": texts[place]}} if ask.return_documents else {})}
        for place in best
    ]  # fmt: skip
    return {"id": f"rerank-{secrets.token_hex(12)}", "model": ask.model, "results": results,
            "usage": {name: used[name] for name in ("prompt_tokens", "total_tokens")}}  # fmt: skip


def _weighed(response: Json) -> Answer:
    """The scores in the order in which the documents were sent."""
    results = sorted(response["results"], key=lambda result: int(result["index"]))
    return {"scores": [result["relevance_score"] for result in results]}


# translate


def _sources(ask: Translate) -> list[Row]:
    return [{"source": row["text"]} for row in _texts(ask)]


# write


def _chat(ask: Chat) -> list[Row]:
    messages = [message.plain() for message in ask.messages]
    return choices({"messages": messages, **ask.options(), **ask.asked()}, ask.n or 1, ask.seed)


def _complete(ask: Complete) -> list[Row]:
    several = isinstance(ask.prompt, list) and not isinstance(ask.prompt[0], int)
    rows = [{"prompt": prompt, **ask.options(), **ask.asked()} for prompt in (ask.prompt if several else [ask.prompt])]
    return [one for row in rows for one in choices(row, ask.n or 1, ask.seed)]


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


def _input(row: Row) -> Json:
    return {"input": row["text"]}


RECOMMEND = Mirror(
    path="/v1/recommendations", tasks=("recommend",), ask=Recommend, rows=_history, response=_data,
    request=_ask_recommend, answer=_first,
)  # fmt: skip
CLASSIFY = Mirror(
    path="/v1/classify", tasks=("classify",), ask=Classify, rows=_texts, response=_data, request=_input, answer=_first
)
TAG = Mirror(path="/v1/tag", tasks=("tag",), ask=Tag, rows=_texts, response=_data, request=_input, answer=_first)
EMBED = Mirror(
    path="/v1/embeddings", tasks=("embed",), ask=Embed, rows=_embed, response=_embeddings, request=_input,
    answer=lambda response: {"embedding": _first(response)["embedding"]}, told=frozenset(("embedding",)),
)  # fmt: skip
RERANK = Mirror(
    path="/v1/rerank", tasks=("embed", "rerank"), ask=Rerank, rows=_candidates, response=_ranked,
    request=lambda row: {"query": row["text"], "documents": candidates(row)}, answer=_weighed,
)  # fmt: skip
TRANSLATE = Mirror(
    path="/v1/translations", tasks=("translate",), ask=Translate, rows=_sources, response=_data,
    request=lambda row: {"input": row["source"]}, answer=_first,
)  # fmt: skip
LIKELIHOOD = Mirror(
    path="/v1/likelihood", tasks=("write",), ask=Likelihood, rows=_texts, response=_data, request=_input, answer=_first
)
CHAT = Mirror(
    path="/v1/chat/completions", tasks=("write",), ask=Chat, rows=_chat, response=_chat_response, stream=_chat_stream,
    request=_ask_write, answer=_written, told=WRITTEN,
)  # fmt: skip
COMPLETE = Mirror(
    path="/v1/completions", tasks=("write",), ask=Complete, rows=_complete, response=_complete_response,
    stream=_complete_stream, request=_ask_write, answer=_written, told=WRITTEN,
)  # fmt: skip
RESPOND = Route(
    path="/v1/responses", tasks=("write",), ask=responses.Respond, rows=responses.rows, response=responses.response,
    stream=responses.Events,
)  # fmt: skip
CONVERSE = Route(
    path="/v1/messages", tasks=("write",), ask=anthropic.Converse, rows=anthropic.rows, response=anthropic.response,
    stream=anthropic.Events,
)  # fmt: skip

ROUTES: Sequence[Route[Any]] = (
    RECOMMEND, CLASSIFY, TAG, EMBED, RERANK, TRANSLATE, CHAT, COMPLETE, RESPOND, CONVERSE, LIKELIHOOD,
)  # fmt: skip
MIRRORS: Mapping[str, Mirror[Any]] = {
    "recommend": RECOMMEND, "classify": CLASSIFY, "tag": TAG, "embed": EMBED, "rerank": RERANK, "translate": TRANSLATE,
}  # fmt: skip


def route_of(task: str, row: Row) -> Mirror[Any]:
    """The endpoint that answers a row of a task."""
    if task == "write":
        return CHAT if "messages" in row else COMPLETE if "prompt" in row else LIKELIHOOD
    return MIRRORS[task]
