"""What may be asked: request bodies in which every number, string and list is bounded and nothing unknown passes.

The fields OpenAI publishes and we do not have are of two kinds. A hint changes no answer and is ignored. A feature
would change the answer, so it is accepted only at a value that asks for nothing, and refused by name otherwise.
"""

from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator
from pydantic_core import PydanticCustomError

MAX_TEXT = 1_000_000  # characters of one text
MAX_TEXTS = 256  # texts of one request
MAX_ITEMS = 20_000  # items of one history
MAX_TOKENS = 8_192  # tokens of one generated answer
MAX_CHOICES = 8

Text = Annotated[str, Field(max_length=MAX_TEXT)]
Input = Annotated[str, Field(min_length=1, max_length=MAX_TEXT)]
Inputs = Annotated[list[Input], Field(min_length=1, max_length=MAX_TEXTS)]
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
    """A history, oldest item first; an empty one is a new user."""

    items: list[Annotated[str, Field(max_length=512)]] = Field(max_length=MAX_ITEMS)
    k: int = Field(10, ge=1, le=1_000, description="How many to recommend.")
    seen: bool = Field(False, description="Whether items of the history may be recommended again.")


class Classify(Ask):
    """One text or several."""

    input: Text | Inputs


class Likelihood(Classify):
    """One text or several, of which is asked how likely the model finds them."""


class Embed(Ask):
    """One text or several, as OpenAI's /v1/embeddings."""

    hints = frozenset(("user",))
    features = frozenset(("dimensions",))
    input: Text | Inputs
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
    """A text to be continued, as OpenAI's /v1/completions."""

    prompt: Text | Inputs
