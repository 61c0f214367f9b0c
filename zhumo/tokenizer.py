"""Text to token ids and back, in the file format of the Hugging Face `tokenizers` library, with the chat template."""

import json
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import minijinja
from tokenizers import AddedToken, Regex, decoders, models, pre_tokenizers, trainers
from tokenizers import Tokenizer as _Tokenizer

from zhumo.errors import DataError, ModelError

TEMPLATE_FUEL = 1_000_000  # a template is a program; this stops one that loops
MARK = "\ue000"  # a private character, with which the place of a message's content begins
PAD, BOS, EOS = "<pad>", "<s>", "</s>"
Message = dict[str, Any]
"""Who speaks, `role`, and what, `content`; a call of functions or its result may stand beside, in OpenAI's form."""

CHATML = (
    "{%- for message in messages -%}"
    "{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n' }}"
    "{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{ '<|im_start|>assistant\n' }}{%- endif -%}"
)


class Tokenizer:
    """A tokenizer with its special tokens by role and its chat template.

    config: what `tokenizer_config.json` says; `bos_token`, `eos_token`, `pad_token`, `chat_template` are used.
    """

    def __init__(self, backend: _Tokenizer, config: dict[str, Any] | None = None) -> None:
        self.backend = backend
        self.config = dict(config or {})
        self.backend.no_padding()
        self.backend.no_truncation()
        self.template: str | None = self.config.get("chat_template")

    @property
    def size(self) -> int:
        """Number of ids, added tokens included."""
        return max(
            self.backend.get_vocab_size(with_added_tokens=True), 1 + max(self.backend.get_vocab().values(), default=0)
        )

    def special(self, role: str) -> int | None:
        """The id of the `bos`, `eos` or `pad` token, where there is one."""
        token = self.config.get(f"{role}_token")
        text = token.get("content") if isinstance(token, dict) else token
        return self.backend.token_to_id(text) if text else None

    def encode(self, text: str, *, special: bool = True, length: int | None = None) -> list[int]:
        """Ids of a text, with the frame ([CLS] ... [SEP], <s> ...) the tokenizer puts around it where `special`.

        Text never becomes a control token: `<|im_end|>` typed by a user stays letters.
        length: at most so many ids, the frame counted and kept, the end of the text dropped.
        """
        self.backend.encode_special_tokens = True
        # The batch call leaves out where each token stood in the text, which nobody asks: a fifth of the time.
        [found] = self.backend.encode_batch_fast([text], add_special_tokens=False)
        frame = self.backend.num_special_tokens_to_add(False) if special else 0
        if length is not None and len(found) + frame > length:
            found.truncate(max(0, length - frame))
        ids: list[int] = self.backend.post_process(found, add_special_tokens=True).ids if special else found.ids
        return ids

    def encode_trusted(self, text: str) -> list[int]:
        """Ids of a text in which control tokens mean themselves: the fixed parts of a chat template, never a user's."""
        self.backend.encode_special_tokens = False
        ids: list[int] = self.backend.encode(text, add_special_tokens=False).ids
        return ids

    def decode(self, ids: Sequence[int]) -> str:
        """The text of ids, control tokens left out."""
        text: str = self.backend.decode(list(ids), skip_special_tokens=True)
        return text

    def render(self, messages: Sequence[Message], *, prompt: bool, tools: Sequence[Any] = ()) -> str:
        """The chat as the model's template writes it. prompt: open the assistant's turn at the end; tools: functions it
        may call, for a template that takes some.

        Raises:
            ModelError: the tokenizer has no template, or the template fails or does not end.
        """
        if self.template is None:
            raise ModelError("model.no_template")
        environment = minijinja.Environment(trim_blocks=True, lstrip_blocks=True)
        environment.fuel = TEMPLATE_FUEL
        environment.add_filter("tojson", lambda value, **_: json.dumps(value, ensure_ascii=False))
        environment.add_global("raise_exception", _raise)
        try:
            return environment.render_str(
                self.template,
                messages=list(messages),
                tools=list(tools) or None,
                add_generation_prompt=prompt,
                bos_token=self._text("bos"),
                eos_token=self._text("eos"),
            )
        except minijinja.TemplateError as error:
            raise ModelError("model.bad_template", problem=str(error).splitlines()[0]) from error

    def encode_chat(
        self, messages: Sequence[Message], *, prompt: bool, tools: Sequence[Any] = ()
    ) -> list[tuple[int, int | None]]:
        """Ids of a chat, each with the number of the message that says it, or None where the template does.

        What a message says is encoded as plain text, so nobody can write a control token into a chat: each content is
        replaced by a mark before rendering, and the rendered text is cut at the marks. What the template writes itself
        of tools and calls may hold none.

        Raises:
            ModelError: as `render`, or the template leaves a message out.
            DataError: a control token stands in tools or calls.
        """
        beside = [{name: message[name] for name in message.keys() - {"role", "content"}} for message in messages]
        for text in _texts([*beside, *tools]):
            if MARK in text or any(self.is_control(token) for token in self.encode_trusted(text)):
                raise DataError("data.bad_option", problem=f"a control token stands in {text[:80]!r}")
        # A call may say nothing beside itself, and templates ask whether it does.
        marks = [
            f"{MARK}{index}\ue001" if message["content"] or not more else ""
            for index, (message, more) in enumerate(zip(messages, beside, strict=True))
        ]
        marked = [{**message, "content": mark} for message, mark in zip(messages, marks, strict=True)]
        rest = self.render(marked, prompt=prompt, tools=tools)
        result: list[tuple[int, int | None]] = []
        for index, (message, mark) in enumerate(zip(messages, marks, strict=True)):
            head, found, rest = rest.partition(mark) if mark else ("", "-", rest)
            if not found:
                raise ModelError("model.bad_template", problem=f"the template drops message {message['role']}")
            result += [(token, None) for token in self.encode_trusted(head)]
            result += [(token, index) for token in self.encode(message["content"], special=False)]
        return result + [(token, None) for token in self.encode_trusted(rest)]

    def is_control(self, token: int) -> bool:
        """Whether an id is a control token, which no text becomes."""
        added = self.backend.get_added_tokens_decoder().get(token)
        return added is not None and added.special

    def _text(self, role: str) -> str:
        token = self.config.get(f"{role}_token") or ""
        return str(token.get("content", "")) if isinstance(token, dict) else str(token)

    def save(self, folder: Path) -> None:
        """Write `tokenizer.json`, `tokenizer_config.json` and, where there is one, `chat_template.jinja`."""
        self.backend.save(str(folder / "tokenizer.json"))
        config = {"tokenizer_class": "PreTrainedTokenizerFast", **self.config}
        (folder / "tokenizer_config.json").write_text(
            json.dumps(config, ensure_ascii=False, indent=2), encoding="utf-8"
        )
        if self.template is not None:
            (folder / "chat_template.jinja").write_text(self.template, encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> "Tokenizer | None":
        """The tokenizer of a model folder, or None where it has none.

        Raises:
            ModelError: the files are there and cannot be read.
        """
        path = folder / "tokenizer.json"
        if not path.is_file():
            return None
        config_path, template_path = folder / "tokenizer_config.json", folder / "chat_template.jinja"
        try:
            backend = _Tokenizer.from_str(path.read_text(encoding="utf-8"))
            config = json.loads(config_path.read_text(encoding="utf-8")) if config_path.is_file() else {}
        except Exception as error:  # the library raises bare Exception for whatever it cannot parse
            raise ModelError("model.bad_tokenizer", path=path, problem=str(error)[:200]) from error
        if template_path.is_file():
            config["chat_template"] = template_path.read_text(encoding="utf-8")
        return cls(backend, config)


def _texts(value: Any) -> Iterator[str]:
    """Every text in a JSON value, keys too."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for part in value:
            yield from _texts(part)
        if isinstance(value, dict):
            yield from _texts(list(value.values()))


def _raise(message: str) -> None:
    raise minijinja.TemplateError(message)


def learn_bpe(texts: Iterable[str], size: int) -> Tokenizer:
    """A byte-level BPE tokenizer (Sennrich et al. 2016; bytes as in GPT-2) of at most `size` ids, fit for any text."""
    backend = _Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    specials = [PAD, BOS, EOS, "<|im_start|>", "<|im_end|>"]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=size, special_tokens=specials, initial_alphabet=alphabet, show_progress=False
    )
    # The roles of a chat stand in its template, not in the texts; without them each would be spelled letter by letter.
    backend.train_from_iterator(chain(texts, ["system user assistant"] * 1_000), trainer)
    return Tokenizer(backend, {"pad_token": PAD, "bos_token": BOS, "eos_token": EOS, "chat_template": CHATML})


def learn_characters(texts: Iterable[str]) -> Tokenizer:
    """One id a character, those never seen falling together in one."""
    alphabet = sorted({character for text in texts for character in text})
    specials = [PAD, BOS, EOS, "<unk>"]
    vocabulary = {token: index for index, token in enumerate([*specials, *alphabet])}
    backend = _Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), "isolated")
    backend.decoder = decoders.Fuse()
    backend.add_special_tokens([AddedToken(token, special=True) for token in specials])
    return Tokenizer(backend, {"pad_token": PAD, "bos_token": BOS, "eos_token": EOS})
