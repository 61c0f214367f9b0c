"""The official client of OpenAI, unchanged, against a real server."""

from pathlib import Path

import numpy as np
import openai
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
    with pytest.raises(openai.BadRequestError, match="has no tools"):
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


@pytest.mark.parametrize(
    ("name", "value"),
    [("logprobs", True), ("top_logprobs", 2), ("tools", [{"type": "function"}]), ("response_format", {"type": "json"})],
)
def test_a_chat_refuses_them_as_well(client: openai.OpenAI, name: str, value: object) -> None:
    with pytest.raises(openai.BadRequestError, match=f"has no {name}"):
        client.chat.completions.create(model="write-small", messages=CHAT, extra_body={name: value})  # type: ignore[arg-type]


def test_of_a_prompt_that_fills_the_model_is_said_what_was_not_read(client: openai.OpenAI) -> None:
    found = client.completions.create(model="write-small", prompt="ä" * 6_000, max_tokens=1)
    assert found.usage is not None and found.usage.prompt_tokens == 9_999
    assert found.usage.model_extra == {"prompt_dropped": 12_001 - 9_999}
    short = client.completions.create(model="write-small", prompt="soft", max_tokens=1)
    assert short.usage is not None and not short.usage.model_extra
