"""What may be asked: request bodies in which every number, string and list is bounded and nothing unknown passes.

The fields OpenAI publishes and we do not have are of two kinds. A hint changes no answer and is ignored. A feature
would change the answer, so it is accepted only at a value that asks for nothing, and refused by name otherwise.
"""

from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator
from pydantic_core import PydanticCustomError

MAX_TEXT = 1_000_000  # characters of one text
MAX_IDS = 131_072  # tokens of one prompt that comes as ids
MAX_TEXTS = 256  # texts of one request
MAX_ITEMS = 20_000  # items of one history
MAX_COLUMNS = 64  # columns of one filter, boost or new item
MAX_VALUES = 1_000  # values of one column that a filter or a boost names; new items of one request
MAX_TOKENS = 8_192  # tokens of one generated answer
MAX_CHOICES = 8

Text = Annotated[str, Field(max_length=MAX_TEXT)]
Input = Annotated[str, Field(min_length=1, max_length=MAX_TEXT)]
Inputs = Annotated[list[Input], Field(min_length=1, max_length=MAX_TEXTS)]
Item = Annotated[str, Field(max_length=512)]
Column = Annotated[str, Field(min_length=1, max_length=128)]
Number = Annotated[int, Field(ge=-(10**15), le=10**15)] | Annotated[float, Field(ge=-1e15, le=1e15)]
Value = Item | bool | Number | None
Cell = Annotated[str, Field(max_length=20_000)] | bool | Number | Annotated[list[Item], Field(max_length=64)] | None
Factor = Annotated[float, Field(gt=0, le=1_000)]
Ids = Annotated[list[Annotated[int, Field(ge=0, lt=2**31)]], Field(min_length=1, max_length=MAX_IDS)]
Stop = Annotated[str, Field(min_length=1, max_length=256)]

OPTIONS = ("max_tokens", "temperature", "top_p", "top_k", "min_p", "repetition_penalty", "stop", "seed")
HINTS = frozenset(
    (
        "user",
        "metadata",
        "store",
        "service_tier",
        "parallel_tool_calls",
        "prediction",
        "prompt_cache_key",
        "prompt_cache_retention",
        "safety_identifier",
        "reasoning_effort",
        "verbosity",
    )
)
FEATURES = frozenset(
    ("tools", "tool_choice", "functions", "function_call", "response_format", "logit_bias", "logprobs", "top_logprobs",
     "frequency_penalty", "presence_penalty", "audio", "modalities", "web_search_options", "best_of", "echo", "suffix",
     "dimensions")
)  # fmt: skip
NEUTRAL: tuple[object, ...] = (None, False, 0, {}, [], "", "none", "auto", ["text"], {"type": "text"})


class Ask(BaseModel):
    """A request body."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)
    hints: ClassVar[frozenset[str]] = frozenset()
    features: ClassVar[frozenset[str]] = frozenset()

    model: str = Field(min_length=1, max_length=128, description="Which bundle, by a name of /v1/models.")

    @model_validator(mode="before")
    @classmethod
    def _published(cls, data: Any) -> Any:
        if not isinstance(data, dict):
            return data
        for name in cls.features & data.keys():
            if data[name] not in NEUTRAL and not (name == "best_of" and data[name] == 1):
                raise PydanticCustomError("unsupported", "not supported", {"name": name})
        return {name: value for name, value in data.items() if name not in cls.hints | cls.features}


class Recommend(Ask):
    """A history, oldest item first; an empty one is a new user. All else shapes the shelf."""

    items: list[Item] = Field(max_length=MAX_ITEMS)
    k: int = Field(10, ge=1, le=1_000, description="How many to recommend.")
    seen: bool = Field(False, description="Whether items of the history may be recommended again.")
    user: str | None = Field(None, min_length=1, max_length=512, description="Who asks; a split needs it.")
    traits: dict[Column, Cell] = Field(
        default={}, max_length=MAX_COLUMNS, description="What is known of the user, by the recipe's `prepare.traits`."
    )
    only: dict[Column, Annotated[list[Value], Field(min_length=1, max_length=MAX_VALUES)]] = Field(
        default={}, max_length=MAX_COLUMNS, description="Column: values; of a column of numbers [lowest, highest]."
    )
    exclude: list[Item] = Field(default=[], max_length=MAX_ITEMS, description="Items not to be shown.")
    boost: dict[Column, Annotated[dict[Item, Factor], Field(max_length=MAX_VALUES)]] = Field(
        default={}, max_length=MAX_COLUMNS, description="Column: value: what the odds of its items are multiplied by."
    )
    diversity: float = Field(0.0, ge=0, le=1, description="0: the likeliest items; 1: as unlike as can be.")
    new: list[Annotated[dict[Column, Cell], Field(max_length=MAX_COLUMNS)]] = Field(
        default=[], max_length=MAX_VALUES, description="Items the catalogue does not have, each a row like one of it."
    )
    reasons: bool = Field(False, description="Whether to say which items of the history each answer rests on.")

    @field_validator("new")
    @classmethod
    def _named(cls, new: list[dict[str, Any]]) -> list[dict[str, Any]]:
        if not all(isinstance(item.get("item"), str) and item["item"] for item in new):
            raise ValueError("each new item needs its id, a text, as 'item'")
        return new


class Similar(Ask):
    """One item, of which is asked what is like it, or what is taken after it."""

    item: Item
    k: int = Field(10, ge=1, le=1_000)
    kind: Literal["similar", "complement"] = Field("similar", description="What is like it, or what goes with it.")


class Feedback(Ask):
    """What somebody did with what was shown."""

    user: str | None = Field(None, min_length=1, max_length=512)
    event: Literal["shown", "click", "buy", "dismiss"]
    items: list[Item] = Field(min_length=1, max_length=1_000)
    list_: str | None = Field(
        None, alias="list", min_length=1, max_length=128, description="Which answer it was, e.g. its X-Request-Id."
    )


class Classify(Ask):
    """One text or several."""

    input: Text | Inputs


class Tag(Classify):
    """One text or several, whose names and places are asked for."""


class Translate(Classify):
    """One text or several, each to be translated."""


class Likelihood(Classify):
    """One text or several, of which is asked how likely the model finds them."""


class Embed(Ask):
    """One text or several, as OpenAI's /v1/embeddings."""

    hints = frozenset(("user",))
    input: Text | Inputs
    dimensions: int | None = Field(None, ge=1, le=65_536, description="Only the first numbers of each vector.")
    encoding_format: Literal["float", "base64"] = "float"
    input_type: Literal["query", "document"] = Field("query", description="What looks, or what it looks for.")


class StreamOptions(BaseModel):
    """What a stream says besides the text."""

    model_config = ConfigDict(extra="forbid", strict=True)
    include_usage: bool = False
    include_obfuscation: bool = False


class Sampling(Ask):
    """How text is written: shared by chat and completions. What is not given, the bundle decides."""

    hints = HINTS
    features = FEATURES
    max_tokens: int | None = Field(None, ge=1, le=MAX_TOKENS)
    temperature: float | None = Field(None, ge=0, le=2)
    top_p: float | None = Field(None, gt=0, le=1)
    top_k: int | None = Field(None, ge=0, le=100_000)
    min_p: float | None = Field(None, ge=0, le=1)
    repetition_penalty: float | None = Field(None, ge=0.1, le=10)
    stop: Stop | Annotated[list[Stop], Field(max_length=8)] | None = None
    seed: int | None = Field(None, ge=0, lt=2**63)
    n: int | None = Field(None, ge=1, le=MAX_CHOICES)
    stream: bool | None = None
    stream_options: StreamOptions | None = None

    def options(self) -> dict[str, Any]:
        """The row's part that says how to write."""
        return {name: getattr(self, name) for name in OPTIONS if getattr(self, name) is not None}


class Part(BaseModel):
    """A piece of a message; text is the only kind a text model reads."""

    model_config = ConfigDict(extra="forbid", strict=True)
    type: Literal["text"]
    text: Text


class Message(BaseModel):
    """One turn of a chat."""

    model_config = ConfigDict(extra="forbid", strict=True)
    role: Literal["system", "developer", "user", "assistant"]
    content: Text | Annotated[list[Part], Field(max_length=64)]
    name: str | None = Field(None, max_length=64)

    def plain(self) -> dict[str, str]:
        """The turn as a row holds it."""
        text = self.content if isinstance(self.content, str) else "".join(part.text for part in self.content)
        return {"role": "system" if self.role == "developer" else self.role, "content": text}


class Chat(Sampling):
    """A chat to be continued, as OpenAI's /v1/chat/completions."""

    messages: list[Message] = Field(min_length=1, max_length=1_024)
    max_completion_tokens: int | None = Field(None, ge=1, le=MAX_TOKENS, description="The newer name of max_tokens.")

    @field_validator("messages")
    @classmethod
    def _asks(cls, messages: list[Message]) -> list[Message]:
        if messages[-1].role == "assistant":
            raise ValueError("the last message must be one to answer, not the assistant's own")
        return messages

    @model_validator(mode="after")
    def _one_length(self) -> Self:
        self.max_tokens = self.max_tokens if self.max_completion_tokens is None else self.max_completion_tokens
        return self


class Complete(Sampling):
    """A text to be continued, as OpenAI's /v1/completions; also as ids of the model's own tokenizer."""

    features = FEATURES - {"echo", "logprobs"}
    prompt: Text | Inputs | Ids | Annotated[list[Ids], Field(min_length=1, max_length=MAX_TEXTS)]
    echo: bool | None = Field(None, description="Whether to say the prompt again, before what follows it.")
    logprobs: int | None = Field(None, ge=0, le=20, description="How many likeliest tokens to tell at each place.")

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if self.stream and (self.echo or self.logprobs is not None):
            raise PydanticCustomError("unsupported", "not supported", {"name": "stream with echo or logprobs"})
        return self

    def asked(self) -> dict[str, Any]:
        """The row's part that says what to tell beside the text."""
        echo = {"echo": True} if self.echo else {}
        return echo if self.logprobs is None else {**echo, "logprobs": self.logprobs}
