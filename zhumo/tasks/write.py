"""write: language modelling, and chats of which only what the assistant says is learned.

- A plain text stands between the tokenizer's `bos` and `eos` (only `eos` where there is no `bos`), so its first token
  is learned and its end too.
- A chat goes through the model's template. Learned are the assistant's words and the template's closing control token
  after them: this is how the model learns to stop, and where it stops when it writes.
- What is longer than `length` is cut into windows, none of its targets lost, each counted once.
- Where rows say which of two replies people liked better (a chat with {"rejected"} beside it), the preference itself is
  learned: DPO (Rafailov et al. 2023).
"""

from collections import Counter
from collections.abc import Generator, Iterable, Mapping, Sequence
from functools import cached_property, partial
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from zhumo.baselines.text import NGram, Pair, nearest
from zhumo.errors import DataError, ModelError
from zhumo.metrics.measure import Measure
from zhumo.metrics.text import likelihood_measures, preferred, text_measures
from zhumo.tasks import Answer, Baseline, Field, Loss, Row, Task
from zhumo.tasks.calls import Calls, takes_functions, told
from zhumo.tasks.examples import IGNORE, Batch, Example, batches, collate, windows
from zhumo.tasks.grammar import Grammars, form_of
from zhumo.tasks.likely import logprobs, read_tokens
from zhumo.tasks.pieces import Decoder, Stops
from zhumo.tasks.taught import taught
from zhumo.tokenizer import Message, Tokenizer
from zhumo.transformer import Transformer, linear_cross_entropy
from zhumo.transformer.sample import Read, Sampling, Token, read_by, write

MAX_TOKENS = 256  # of an answer whose row asks for no other length
OPTIONS = ("temperature", "top_k", "top_p", "min_p", "repetition_penalty", "seed")
NLL_BATCH = 16
BETA = 0.1  # of DPO: how far a preference may draw the model away from where it started
LOGITS = 2**25  # logits held at once: 128 MiB in float32


def ngram(task: Task, train: Sequence[Row], test: Sequence[Row]) -> list[Answer]:
    """How likely an n-gram model of the same ids finds the references; it writes nothing."""
    assert isinstance(task, Write)
    model = NGram((_pair(example) for row in train for example in task.encode(row)), task.vocabulary)
    examples = [(index, kind, example) for index, row in enumerate(test)
                for kind, asked in task.sides(row) for example in task.reference(asked)]  # fmt: skip
    answers: list[Answer] = [{} for _ in test]
    nats_and_tokens = model.nll(_pair(example) for *_, example in examples)
    for (index, kind, _), (nats, tokens) in zip(examples, nats_and_tokens, strict=True):
        _add(answers[index], kind, float(nats), int(tokens))
    return answers


def nearest_reply(_task: Task, train: Sequence[Row], test: Sequence[Row]) -> list[Answer]:
    """To each prompt the reply of the most similar training prompt; nothing where there are no chats."""
    known = [row for row in train if _reply(row) is not None]
    asked = [index for index, row in enumerate(test) if _reply(row) is not None]
    answers: list[Answer] = [{} for _ in test]
    if known and asked:
        found = nearest([_question(row) for row in known], [_question(test[index]) for index in asked])
        for index, place in zip(asked, found, strict=True):
            answers[index] = {"text": _reply(known[place]), "finish_reason": "stop"}
    return answers


class Write(Task):
    """Rows {"text"}, {"prompt"} (a text, or ids) or {"messages"}; beside them the options of `Sampling`, `max_tokens`,
    `stop`; `response_format` or `structured_outputs`: the form of the answer; with messages, functions: `tools`,
    `tool_choice`, `parallel_tool_calls`; `logprobs`: how many likeliest tokens to tell at each place; `echo`: say the
    prompt again."""

    name: ClassVar[str] = "write"
    fields: ClassVar[Mapping[str, Field]] = {
        "text": Field(str, guess=("text", "content", "review", "文本", "正文", "内容", "评论")),
        "messages": Field(list, needed=False, guess=("messages", "conversations", "对话")),
        "prompt": Field(str, needed=False, guess=("prompt", "question", "instruction", "问题", "提问", "指令")),
        "reply": Field(str, needed=False, guess=("reply", "answer", "response", "output", "回答", "回复", "答案")),
        "system": Field(str, needed=False, guess=("system",)),
        "chosen": Field(str, needed=False, guess=("chosen",)),
        "rejected": Field(str, needed=False, guess=("rejected",)),
    }
    protocol: ClassVar[str] = "report.protocol.write"
    baselines: ClassVar[Mapping[str, Baseline]] = {"ngram": ngram, "nearest": nearest_reply}
    packed: ClassVar[bool] = True
    whole: ClassVar[bool] = True

    def learn(self, rows: Iterable[Row]) -> None:
        """Whether the rows are preferences; chats make sure that the template can be learned from.

        Raises:
            ModelError: there are chats, and the tokenizer has no template or one that closes no turn.
            DataError: some rows are preferences, and some are not.
        """
        kinds = Counter("rejected" if "rejected" in row else "chat" if "messages" in row else "text" for row in rows)
        if kinds["rejected"]:
            if len(kinds) > 1:
                raise DataError("write.mixed", preferences=kinds["rejected"], others=kinds["chat"] + kinds["text"])
            self.state["preferences"] = True
        if kinds["chat"] or kinds["rejected"]:
            _ = self.closing

    @property
    def metric(self) -> str:  # type: ignore[override]  # other tasks are decided by the same measure whatever the rows
        """How likely the references are; for preferences, how often the better reply is the likelier one."""
        return "preferred" if self.keeps_start else "bits_per_byte"

    @property
    def keeps_start(self) -> bool:
        """A preference draws the model away from where it started, and is measured by how far."""
        return bool(self.state.get("preferences"))

    def encode(self, row: Row) -> list[Example]:
        """Windows of at most `length`; a chat's later windows begin with half a window of context. A preference is one
        example, both replies in it; what is too long loses the beginning of its prompt, then the ends of its replies.
        """
        if "rejected" in row:
            return [self._preference(row)]
        if row.get("messages"):
            said = [index for index, message in enumerate(row["messages"]) if message["role"] == "assistant"]
            return windows(*self._chat(row["messages"], said), self.length, context=self.length // 2)
        if row.get("text"):
            return windows(self._plain(row["text"]), None, self.length)
        return []

    def reference(self, row: Row) -> list[Example]:
        """What the reference of a row asks of the model, as it would be learned."""
        if "messages" not in row:
            return self.encode(row)
        if _reply(row) is None:
            return []
        ids, learned = self._chat(row["messages"], [len(row["messages"]) - 1])
        return windows(ids, learned, self.length, context=self.length // 2)

    @property
    def vocabulary(self) -> int:
        return self._tokenizer.size

    def head(self, width: int) -> nn.Module | None:
        """None: the model's own language-model head."""
        return None

    def loss(self, model: Transformer, batch: Batch) -> Loss:
        states, targets = _asked(model, batch)
        assert isinstance(model.head, nn.Linear)
        return Loss(linear_cross_entropy(states, model.head.weight, targets, model.head.bias), len(targets))

    def loss_beside(self, model: Transformer, elder: Transformer, batch: Batch) -> Loss:
        """Of preferences: how sure the model is of them, beyond what it was when it started (DPO). Of texts: half the
        loss above, half how far its chances of the next token are from the teacher's."""
        if "rejected_ids" in batch:
            with torch.no_grad():
                before = margins(elder, batch)
            return Loss(-F.logsigmoid(BETA * (margins(model, batch) - before)).sum(), len(before))
        with torch.no_grad():
            theirs, _ = _asked(elder, batch)
        states, targets = _asked(model, batch)
        parts = zip(*(torch.split(value, _rows(model)) for value in (states, theirs, targets)), strict=True)
        losses = [checkpoint(_taught, model, elder, *part, use_reentrant=False) for part in parts]
        return Loss(torch.stack(losses).sum(), len(targets))

    def answer(self, model: Transformer, rows: Sequence[Row]) -> list[Answer]:
        """{"text", "finish_reason", "prompt_tokens", "completion_tokens"} for a row that asks for text, with
        "prompt_dropped" where the prompt was too long, "stop", the stop string that ended it, and "tool_calls", each
        {"name", "arguments": JSON}; {"nll", "tokens"} for one that holds a reference: the nats of
        all its tokens, and their number; for a preference {"rejected_nll", "rejected_tokens"} as well.

        Rows that ask for text are `{"messages"}` and `{"prompt"}`. The reference is the assistant's message at the end
        of a chat, which the model does not see when it writes, or a row's `text`.
        """
        answers = [_last(self.stream(model, row)) if _asks(row) else {} for row in rows]
        references = [(index, kind, example) for index, row in enumerate(rows)
                      for kind, asked in self.sides(row) for example in self.reference(asked)]  # fmt: skip
        for places, examples in batches([example for _, _, example in references], NLL_BATCH):
            batch = collate(examples, model.stem.tokens.weight.device)
            counts = (batch["targets"] != IGNORE).sum(1).tolist()
            for place, part in zip(places, torch.split(target_nll(model, batch), counts), strict=True):
                index, kind, _ = references[place]
                _add(answers[index], kind, float(part.double().sum()), len(part))
        return answers

    def sides(self, row: Row) -> list[tuple[str, Row]]:
        """What a row is asked for the likelihood of: itself, and with the reply people liked less."""
        return [("", row), ("rejected_", _with_rejected(row))] if "rejected" in row else [("", row)]

    def stream(self, model: Transformer, row: Row) -> Generator[str, None, Answer]:
        """Write piece by piece with a model of its own; see `write`."""
        return read_by(model, self.write(row, model.config.length))

    def write(self, row: Row, length: int) -> Generator[Read | str, Tensor | None, Answer]:
        """Write piece by piece; yields the pieces, and what a model is to read between them; returns the answer, whose
        `text` is all pieces together.

        No piece ends inside a character and none holds any part of a stop string, or of a call. Of a prompt that leaves
        no room in `length` tokens only the newest tokens are read; `prompt_dropped` says how many were not.

        Raises:
            DataError: the row's options make no sense, or there is nothing to begin with.
            ModelError: a chat, and the tokenizer has no template for it; a form, and it has no bytes for its tokens.
        """
        sampling, max_tokens, stops = _sampling(row), _max_tokens(row), Stops(_stop_strings(row))
        calls = Calls(row, self._tokenizer) if _may_call(row) else None
        grammar = form_of(row) if calls is None else calls.grammar
        constraint = None if grammar is None else self._grammars.begin(grammar)
        prompt = self._prompt(row)
        if not prompt:
            raise DataError("data.empty_prompt")
        dropped = 0
        if len(prompt) >= length:
            if row.get("echo"):
                raise DataError("data.long_prompt", tokens=len(prompt), limit=length - 1)
            dropped = len(prompt) - length + min(max_tokens, length // 2)
            prompt = prompt[dropped:]
        room = min(length, len(prompt) + max_tokens)
        echoed: list[Token] | None = None
        if row.get("echo") and row.get("logprobs") is not None:
            echoed = yield from read_tokens(prompt, row["logprobs"], room)
        decoder = Decoder(self._tokenizer)
        pieces: list[str] = []
        written: list[Token] = []
        ended = False
        writing = write(
            prompt, prompt if echoed is None else prompt[-1:], room=room, sampling=sampling, stop_ids=self._stop_ids,
            constraint=constraint,
        )  # fmt: skip
        reply: Tensor | None = None
        while room > len(prompt) and not stops.found:
            try:
                token = writing.send(reply)
            except StopIteration:
                break
            if isinstance(token, Read):
                reply = yield token
                continue
            reply = None
            written.append(token)
            ended = token.id in self._stop_ids
            piece = "" if ended else stops.add(decoder.add(token.id))
            if calls is not None:
                piece = calls.add(piece)
            if piece:
                pieces.append(piece)
                yield piece
        rest = stops.add(decoder.rest()) + stops.rest()
        made: Sequence[Any] = ()
        if calls is not None:
            made, rest = calls.made(rest)
        if rest:
            pieces.append(rest)
            yield rest
        ended = ended or bool(stops.found) or (constraint is not None and constraint.ended)
        return {
            "text": self._echoed(row) + "".join(pieces),
            "finish_reason": "length" if not ended else "tool_calls" if made else "stop",
            "prompt_tokens": len(prompt),
            "completion_tokens": len(written),
            **({"prompt_dropped": dropped} if dropped else {}),
            **({"stop": stops.found} if stops.found else {}),
            **({"tool_calls": made} if made else {}),
            **({"logprobs": self._likely(row, prompt, echoed, written)} if row.get("logprobs") is not None else {}),
        }

    def _echoed(self, row: Row) -> str:
        """The prompt, where the row asks for it to be said again."""
        if not row.get("echo"):
            return ""
        return row["prompt"] if isinstance(row["prompt"], str) else self._tokenizer.decode(row["prompt"])

    def _likely(
        self, row: Row, prompt: Sequence[int], echoed: Sequence[Token] | None, written: Sequence[Token]
    ) -> dict[str, Any]:
        """How likely each token of the answer is, and with `echo` of the prompt, but for what we put before it."""
        if echoed is None:
            return logprobs(self._tokenizer, None, written)
        ours = len(self._start()) if isinstance(row["prompt"], str) else 0
        return logprobs(self._tokenizer, None if ours else prompt[0], [*echoed[max(0, ours - 1) :], *written])

    def score(self, answers: Sequence[Answer], rows: Sequence[Row]) -> list[Measure]:
        """How likely the references are; and for chats, how near what was written is to them."""
        measures: list[Measure] = []
        known = [index for index, answer in enumerate(answers) if "nll" in answer]
        if known:
            nats = [(answers[i]["nll"], answers[i]["tokens"], len(_reference_text(rows[i]).encode())) for i in known]
            measures += likelihood_measures(nats)
        judged = [answer for answer in answers if "rejected_nll" in answer]
        if judged:
            measures.append(preferred(judged))
        told = [index for index, answer in enumerate(answers) if "text" in answer and _reply(rows[index]) is not None]
        if told:
            texts, replies = [answers[i]["text"] for i in told], [_reference_text(rows[i]) for i in told]
            measures += text_measures(texts, replies, lambda text: self._tokenizer.encode(text, special=False))
        return measures

    # -- a row as ids

    @property
    def _tokenizer(self) -> Tokenizer:
        if self.tokenizer is None:
            raise ModelError("model.no_tokenizer", task=self.name)
        return self.tokenizer

    def _start(self) -> list[int]:
        start = self._tokenizer.special("bos")
        return self._end() if start is None else [start]

    def _end(self) -> list[int]:
        end = self._tokenizer.special("eos")
        return [] if end is None else [end]

    def _plain(self, text: str) -> list[int]:
        return [*self._start(), *self._tokenizer.encode(text, special=False), *self._end()]

    def _chat(self, messages: Sequence[Message], said: Sequence[int]) -> tuple[list[int], list[bool]]:
        """Ids of a chat, and which of them are learned: those of the messages `said`, and what closes them."""
        pieces = self._tokenizer.encode_chat(messages, prompt=False)
        learned: list[bool] = []
        closing = False
        for token, speaker in pieces:
            closing = speaker in said if speaker is not None else closing
            learned.append(closing)
            if speaker is None and self._tokenizer.is_control(token):
                closing = False
        return [token for token, _ in pieces], learned

    def _preference(self, row: Row) -> Example:
        example: dict[str, list[int]] = {}
        for kind, asked in self.sides(row):
            ids, learned = self._chat(asked["messages"], [len(asked["messages"]) - 1])
            first = learned.index(True)
            start = min(first - 1, max(0, len(ids) - self.length - 1))
            ids, learned = ids[start:][: self.length + 1], learned[start:][: self.length + 1]
            targets = [token if wanted else IGNORE for token, wanted in zip(ids, learned, strict=True)]
            example |= {f"{kind}ids": ids[:-1], f"{kind}targets": targets[1:]}
        return example

    @cached_property
    def closing(self) -> int:
        """The control token with which the template ends what the assistant says.

        Raises:
            ModelError: there is no template, or it ends a turn with none, so a model could never learn to stop.
        """
        probe = [{"role": "user", "content": "1"}, {"role": "assistant", "content": "2"}]
        pieces = self._tokenizer.encode_chat(probe, prompt=False)
        last = max(index for index, (_, speaker) in enumerate(pieces) if speaker == 1)
        for token, _ in pieces[last + 1 :]:
            if self._tokenizer.is_control(token):
                return token
        raise ModelError("model.open_template")

    @cached_property
    def _stop_ids(self) -> frozenset[int]:
        closing = [] if self._tokenizer.template is None else [self.closing]
        return frozenset((*self._end(), *closing))

    @cached_property
    def _grammars(self) -> Grammars:
        return Grammars(self._tokenizer, self._stop_ids)

    def _ids(self, prompt: str | Sequence[int]) -> list[int]:
        """A prompt as it is read: a text after the token that begins one; ids as they are."""
        if isinstance(prompt, str):
            return [*self._start(), *self._tokenizer.encode(prompt, special=False)]
        if not all(0 <= token < self.vocabulary for token in prompt):
            raise DataError("data.bad_option", problem=f"the ids of a prompt lie between 0 and {self.vocabulary - 1}")
        return list(prompt)

    def _prompt(self, row: Row) -> list[int]:
        if "messages" not in row:
            return self._ids(row["prompt"])
        messages = row["messages"] if _reply(row) is None else row["messages"][:-1]
        tools = row["tools"] if _may_call(row) else []
        taken = tools if takes_functions(self._tokenizer) else []
        messages = told(messages, tools, self._tokenizer)
        return [token for token, _ in self._tokenizer.encode_chat(messages, prompt=True, tools=taken)]


def target_nll(model: Transformer, batch: Batch) -> Tensor:
    """Nats of each target, in reading order, (targets,) float32; logits never all at once."""
    states, targets = _asked(model, batch)
    rows = _rows(model)
    parts = zip(torch.split(states, rows), torch.split(targets, rows), strict=True)
    # What is computed again only saves memory of a backward pass; and its first call imports seconds of code.
    nll = partial(checkpoint, _nll, use_reentrant=False) if torch.is_grad_enabled() else _nll
    return torch.cat([nll(model, *part) for part in parts])


def margins(model: Transformer, batch: Batch) -> Tensor:
    """How much likelier a model finds each chosen reply than the rejected one, in nats, (pairs,)."""
    other = {name: batch[f"rejected_{name}"] for name in ("ids", "targets")}
    return _reply_nll(model, other | {"segments": torch.ones_like(other["ids"])}) - _reply_nll(model, batch)


def _reply_nll(model: Transformer, batch: Batch) -> Tensor:
    counts = (batch["targets"] != IGNORE).sum(1).tolist()
    return torch.stack([part.sum() for part in torch.split(target_nll(model, batch), counts)])


def _taught(model: Transformer, elder: Transformer, states: Tensor, theirs: Tensor, targets: Tensor) -> Tensor:
    assert model.head is not None and elder.head is not None
    logits = model.head(states).float()
    with torch.no_grad():
        wanted = elder.head(theirs).float()[:, : logits.size(1)]  # published tables may have rows to spare
    return taught(F.cross_entropy(logits, targets, reduction="sum"), logits, wanted)


def _rows(model: Transformer) -> int:
    """Positions whose logits are held at once."""
    return max(1, LOGITS // model.config.vocabulary)


def _asked(model: Transformer, batch: Batch) -> tuple[Tensor, Tensor]:
    """Hidden states and targets of the positions that have a target."""
    if "segments" not in batch:
        return model.hidden(batch["ids"]).flatten(0, 1), batch["targets"].flatten()
    # Padding stands on the right, where a causal model does not look: only packed rows need their segments.
    packed = int(batch["segments"].max()) > 1
    states = model.hidden(batch["ids"], segments=batch["segments"] if packed else None)
    wanted = batch["targets"] != IGNORE
    return states[wanted], batch["targets"][wanted]


def _nll(model: Transformer, states: Tensor, targets: Tensor) -> Tensor:
    assert model.head is not None
    return F.cross_entropy(model.head(states).float(), targets, reduction="none")


# -- what a row says


def _asks(row: Row) -> bool:
    return "messages" in row or "prompt" in row


def _may_call(row: Row) -> bool:
    return bool(row.get("tools")) and row.get("tool_choice") != "none"


def _reply(row: Row) -> str | None:
    """The assistant's message at the end of a chat, where there is one."""
    messages = row.get("messages") or [{"role": ""}]
    reply: str | None = messages[-1]["content"] if messages[-1]["role"] == "assistant" else None
    return reply


def _with_rejected(row: Row) -> Row:
    """The chat of a preference, as it ends with the reply people liked less."""
    return {"messages": [*row["messages"][:-1], {"role": "assistant", "content": row["rejected"]}]}


def _add(answer: Answer, kind: str, nats: float, tokens: int) -> None:
    """Count the likelihood of one more window."""
    answer[f"{kind}nll"] = answer.get(f"{kind}nll", 0.0) + nats
    answer[f"{kind}tokens"] = answer.get(f"{kind}tokens", 0) + tokens


def _question(row: Row) -> str:
    return "\n".join(message["content"] for message in row["messages"][:-1])


def _pair(example: Example) -> Pair:
    return example["ids"], example["targets"]


def _reference_text(row: Row) -> str:
    reply = _reply(row)
    return str(row.get("text", "")) if reply is None else reply


def _sampling(row: Row) -> Sampling:
    given = {name: row[name] for name in OPTIONS if row.get(name) is not None}
    given["alternatives"] = row.get("logprobs")
    try:
        return Sampling(**given)
    except (ValueError, TypeError) as error:
        raise DataError("data.bad_option", problem=str(error)) from error


def _max_tokens(row: Row) -> int:
    value: Any = MAX_TOKENS if row.get("max_tokens") is None else row["max_tokens"]
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise DataError("data.bad_option", problem=f"max_tokens must be a whole number from 1, not {value!r}")
    return value


def _stop_strings(row: Row) -> list[str]:
    value: Any = row.get("stop") or []
    stops = [value] if isinstance(value, str) else value
    if not isinstance(stops, list) or not all(isinstance(stop, str) and stop for stop in stops):
        raise DataError("data.bad_option", problem=f"stop must be a text or a list of texts, not {value!r}")
    return stops


def _last(stream: Generator[str, None, Answer]) -> Answer:
    while True:
        try:
            next(stream)
        except StopIteration as end:
            answer: Answer = end.value
            return answer
