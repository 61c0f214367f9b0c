"""What may be asked: request bodies in which every number, string and list is bounded and nothing unknown passes.

The fields OpenAI publishes and we do not have are of two kinds. A hint changes no answer and is ignored. A feature
would change the answer, so it is accepted only at a value that asks for nothing, and refused by name otherwise.
"""

import json
import secrets
from typing import Annotated, Any, ClassVar, Literal, Self

import orjson
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, field_validator, model_validator
from pydantic_core import PydanticCustomError

from zhumo.tasks.grammar import MOST as MAX_GRAMMAR

MAX_TEXT = 1_000_000  # characters of one text
MAX_IDS = 131_072  # tokens of one prompt that comes as ids
MAX_TEXTS = 256  # texts of one request
MAX_ITEMS = 20_000  # items of one history
MAX_COLUMNS = 64  # columns of one filter, boost or new item
MAX_VALUES = 1_000  # values of one column that a filter or a boost names; new items of one request
MAX_TOKENS = 8_192  # tokens of one generated answer
MAX_CHOICES = 8
MAX_FUNCTIONS = 128  # functions one chat may call

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
Call = Annotated[str, Field(min_length=1, max_length=128)]


def _plain(value: dict[str, Any]) -> dict[str, Any]:
    """JSON that every reader of JSON takes: Python's own reads more."""
    try:
        orjson.dumps(value)
    except TypeError as error:
        raise ValueError(f"not plain JSON: {error}") from error
    return value


def _small(schema: dict[str, Any]) -> dict[str, Any]:
    if len(json.dumps(schema)) > MAX_GRAMMAR:
        raise ValueError(f"a schema has at most {MAX_GRAMMAR} characters")
    return schema


Object = Annotated[dict[str, Any], AfterValidator(_plain)]
Schema = Annotated[Object, AfterValidator(_small)]

OPTIONS = (
    "max_tokens", "temperature", "top_p", "top_k", "min_p", "repetition_penalty", "stop", "seed",
    "response_format", "structured_outputs", "tools", "tool_choice", "parallel_tool_calls",
)  # fmt: skip
HINTS = frozenset(
    (
        "user",
        "metadata",
        "store",
        "service_tier",
        "prediction",
        "prompt_cache_key",
        "prompt_cache_retention",
        "safety_identifier",
        "reasoning_effort",
        "verbosity",
    )
)
FEATURES = frozenset(
    ("functions", "function_call", "logit_bias", "frequency_penalty", "presence_penalty", "audio", "modalities",
     "web_search_options", "best_of", "echo", "suffix", "dimensions")
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
    seen: bool | None = Field(
        None, description="Whether items of the history may be recommended again; null: as most are in this shop."
    )
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


class Inner(BaseModel):
    """A part of a request body."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)


class StreamOptions(Inner):
    """What a stream says besides the text."""

    include_usage: bool = False
    include_obfuscation: bool = False


class Plain(Inner):
    """Any text."""

    type: Literal["text"]


class AnyObject(Inner):
    """A JSON object."""

    type: Literal["json_object"]


class NamedSchema(Inner):
    """A JSON Schema with its name."""

    name: str = Field(min_length=1, max_length=64)
    description: str | None = Field(None, max_length=8_192)
    schema_: Schema = Field(alias="schema")
    strict: bool | None = Field(None, description="An answer is held to the schema either way.")


class OfSchema(Inner):
    """JSON of a schema."""

    type: Literal["json_schema"]
    json_schema: NamedSchema


class StructuredOutputs(Inner):
    """What the answer must be, as vLLM calls it: one of these."""

    json_: Schema | None = Field(None, alias="json", description="A JSON Schema.")
    regex: str | None = Field(None, min_length=1, max_length=8_192)
    choice: list[Annotated[str, Field(min_length=1, max_length=1_024)]] | None = Field(
        None, min_length=1, max_length=1_000
    )
    grammar: str | None = Field(None, min_length=1, max_length=MAX_GRAMMAR, description="In llguidance's form of Lark.")

    @model_validator(mode="after")
    def _one(self) -> Self:
        if sum(value is not None for value in (self.json_, self.regex, self.choice, self.grammar)) != 1:
            raise ValueError("one of json, regex, choice and grammar is needed, and one only")
        return self


class Document(Inner):
    """A text among which is looked."""

    text: Input


class Streamed(Ask):
    """A text that may come in pieces."""

    stream: bool | None = None


class Sampling(Streamed):
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
    stream_options: StreamOptions | None = None
    response_format: Annotated[Plain | AnyObject | OfSchema, Field(discriminator="type")] | None = None
    structured_outputs: StructuredOutputs | None = None

    @model_validator(mode="after")
    def _one_form(self) -> Self:
        if self.structured_outputs and self.response_format and self.response_format.type != "text":
            raise ValueError("an answer has one form: response_format or structured_outputs")
        return self

    def options(self) -> dict[str, Any]:
        """The row's part that says how to write."""
        return self.model_dump(include={*OPTIONS}, exclude_none=True, by_alias=True)


class Part(Inner):
    """A piece of a message; text is the only kind a text model reads."""

    type: Literal["text"]
    text: Text


class Function(Inner):
    """A function that may be called."""

    name: str = Field(pattern="^[a-zA-Z0-9_-]{1,64}$")
    description: str | None = Field(None, max_length=8_192)
    parameters: Schema | None = Field(None, description="The JSON Schema of its arguments; without one it takes none.")
    strict: bool | None = Field(None, description="Arguments are held to the schema either way.")


class Tool(Inner):
    """A function, the only kind of tool a text model has."""

    type: Literal["function"]
    function: Function


class Name(Inner):
    """A function's name."""

    name: str = Field(pattern="^[a-zA-Z0-9_-]{1,64}$")


class ToolName(Inner):
    """The one tool that is to be called."""

    type: Literal["function"]
    function: Name


class Called(Name):
    """A function, and what it is called with as JSON."""

    arguments: Text


class ToolCall(Inner):
    """A call that the assistant made."""

    id: Call
    type: Literal["function"]
    function: Called


class Message(Inner):
    """One turn of a chat."""

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: Text | Annotated[list[Part], Field(max_length=64)] | None = None
    name: str | None = Field(None, max_length=64)
    refusal: None = None
    tool_calls: list[ToolCall] | None = Field(None, min_length=1, max_length=MAX_FUNCTIONS)
    tool_call_id: Call | None = None

    @model_validator(mode="after")
    def _says(self) -> Self:
        if self.tool_calls and self.role != "assistant":
            raise ValueError("only the assistant has tool_calls")
        if self.content is None and not self.tool_calls:
            raise ValueError("a message needs its content")
        if (self.role == "tool") != (self.tool_call_id is not None):
            raise ValueError("a message of a tool, and no other, says by tool_call_id what it answers")
        return self

    def plain(self) -> dict[str, Any]:
        """The turn as a row holds it."""
        text = self.content if isinstance(self.content, str) else "".join(part.text for part in self.content or ())
        beside = self.model_dump(include={"tool_calls", "tool_call_id"}, exclude_none=True)
        return {"role": "system" if self.role == "developer" else self.role, "content": text, **beside}


class Chat(Sampling):
    """A chat to be continued, as OpenAI's /v1/chat/completions."""

    messages: list[Message] = Field(min_length=1, max_length=1_024)
    max_completion_tokens: int | None = Field(None, ge=1, le=MAX_TOKENS, description="The newer name of max_tokens.")
    tools: list[Tool] | None = Field(None, max_length=MAX_FUNCTIONS)
    tool_choice: Literal["none", "auto", "required"] | ToolName | None = None
    parallel_tool_calls: bool | None = Field(None, description="Whether an answer may hold several calls.")
    logprobs: bool | None = Field(None, description="Whether to tell how likely each token is.")
    top_logprobs: int | None = Field(None, ge=0, le=20, description="How many likeliest tokens to tell at each place.")

    @field_validator("messages")
    @classmethod
    def _asks(cls, messages: list[Message]) -> list[Message]:
        if messages[-1].role == "assistant":
            raise ValueError("the last message must be one to answer, not the assistant's own")
        return messages

    @model_validator(mode="after")
    def _whole(self) -> Self:
        self.max_tokens = self.max_tokens if self.max_completion_tokens is None else self.max_completion_tokens
        if self.tool_choice not in (None, "none", "auto") and not self.tools:
            raise ValueError("tool_choice asks for a call and there are no tools")
        if self.top_logprobs is not None and not self.logprobs:
            raise ValueError("top_logprobs needs logprobs")
        if self.stream and self.logprobs:
            raise PydanticCustomError("unsupported", "not supported", {"name": "stream with logprobs"})
        return self

    def asked(self) -> dict[str, Any]:
        """The row's part that says what to tell beside the text."""
        return {"logprobs": self.top_logprobs or 0} if self.logprobs else {}


class Complete(Sampling):
    """A text to be continued, as OpenAI's /v1/completions; also as ids of the model's own tokenizer."""

    features = FEATURES - {"echo"} | {"tools", "tool_choice", "parallel_tool_calls", "top_logprobs"}
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


class Rerank(Ask):
    """Documents to be put in the order in which they answer a query, as Cohere's and Jina's /v1/rerank."""

    hints = frozenset(("user", "max_tokens_per_doc", "max_chunks_per_doc", "truncate", "priority"))
    query: Input
    documents: list[Input | Document] = Field(min_length=1, max_length=MAX_TEXTS)
    top_n: int | None = Field(None, ge=1, le=MAX_TEXTS, description="Only the best so many.")
    return_documents: bool = Field(False, description="Whether to say their texts again.")

    def texts(self) -> list[str]:
        """The documents' texts."""
        return [document if isinstance(document, str) else document.text for document in self.documents]


def choices(row: dict[str, Any], count: int = 1, seed: int | None = None) -> list[dict[str, Any]]:
    """`count` answers to one row, each drawn with a seed of its own; one that draws nothing needs none."""
    if not row.get("temperature"):
        return [row] * count
    first = secrets.randbelow(2**62) if seed is None else seed
    return [{**row, "seed": (first + index) % 2**63} for index in range(count)]
