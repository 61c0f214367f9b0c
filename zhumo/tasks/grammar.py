"""What a text must be, where a row asks for it: JSON of a schema, a regular expression, one of some texts, a grammar.

At each place llguidance (Moskal et al. 2025) says which tokens of this tokenizer may come next. A grammar is a program
of a stranger's: its size, the work a place may cost and the seconds until it is ready are bounded.
"""

import json
from collections.abc import Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import torch
from llguidance import LLMatcher, LLParserLimits, LLTokenizer
from torch import Tensor

from zhumo.errors import DataError, ModelError
from zhumo.tasks import Row
from zhumo.tokenizer import Tokenizer

READY = 1.0  # seconds a grammar may take until its first token
MOST = 65_536  # characters of one grammar
SHOWN = 300  # characters of what is wrong with it
# A fifth of llguidance's own bounds and less: with its own, the worst forms found took seconds at one place.
LIMITS = LLParserLimits(
    initial_lexer_fuel=200_000, step_lexer_fuel=20_000, max_lexer_states=50_000, max_grammar_size=20_000,
    verbose_errors=False,
)  # fmt: skip
# Without freedom in blanks a model that is unsure cannot fill an answer with them, and more tokens are forced.
COMPACT: Any = {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "}
# The days of the calendar: llguidance lets any February have 29.
_YEAR = r"([1-9]\d{3}|0[1-9]\d\d|00[1-9]\d|000[1-9])"
_LEAP = r"(\d\d(0[48]|[2468][048]|[13579][26])|(0[48]|[2468][048]|[13579][26])00)"
_DAY = (rf"({_YEAR}-((0[13578]|1[02])-(0[1-9]|[12]\d|3[01])|(0[469]|11)-(0[1-9]|[12]\d|30)"
        rf"|02-(0[1-9]|1\d|2[0-8]))|{_LEAP}-02-29)")  # fmt: skip
DAYS = {"date": f"^{_DAY}$", "date-time": f"^{_DAY}[Tt]"}
DATA = frozenset(("const", "default", "enum", "examples"))  # what stands there is no schema


def form_of(row: Row) -> str | None:
    """The grammar of the form a row asks for: OpenAI's `response_format`, or `structured_outputs` as vLLM calls it.

    Raises:
        DataError: it is none of the known forms.
    """
    match row.get("response_format"), row.get("structured_outputs"):
        case ((None | {"type": "text"}), None):
            return None
        case {"type": "json_object"}, None:
            return of_schema({"type": "object"})
        case {"type": "json_schema", "json_schema": {"schema": schema}}, None:
            return of_schema(schema)
        case ((None | {"type": "text"}), {"json": schema, **rest}) if not rest:
            return of_schema(schema)
        case ((None | {"type": "text"}), {"regex": str(pattern), **rest}) if not rest:
            return str(LLMatcher.grammar_from_regex(pattern))
        case ((None | {"type": "text"}), {"choice": [*texts], **rest}) if texts and not rest:
            return str(LLMatcher.grammar_from_lark(f"start: {' | '.join(json.dumps(str(text)) for text in texts)}"))
        case ((None | {"type": "text"}), {"grammar": str(lark), **rest}) if not rest:
            return str(LLMatcher.grammar_from_lark(lark))
    raise DataError("data.bad_form", problem="response_format is text, json_object or json_schema, structured_outputs "
                    "one of json, regex, choice and grammar, and a row has one of the two")  # fmt: skip


def of_schema(schema: Any) -> str:
    """The grammar of the JSON that a JSON Schema describes.

    Raises:
        DataError: it is not JSON.
    """
    try:
        return str(LLMatcher.grammar_from_json_schema(json.dumps(_dated(schema), allow_nan=False), overrides=COMPACT))
    except (ValueError, TypeError, RecursionError) as error:
        raise DataError("data.bad_form", problem=str(error)[:SHOWN]) from error


def _dated(schema: Any) -> Any:
    """The same schema, its dates held to the calendar."""
    if isinstance(schema, list):
        return [_dated(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    found = {key: value if key in DATA else _dated(value) for key, value in schema.items()}
    if isinstance(form := found.get("format"), str) and form in DAYS:
        found["allOf"] = [*found.get("allOf", ()), {"pattern": DAYS[form]}]
    return found


class Grammar:
    """A `Constraint` of one text. known: so many tokens the tokenizer has."""

    def __init__(self, matcher: LLMatcher, known: int) -> None:
        self._matcher, self._known = matcher, known
        self._first: Tensor | None = None  # which tokens may begin it, once they were found

    @property
    def ended(self) -> bool:
        """Whether nothing may follow any more."""
        return bool(self._matcher.is_stopped())

    def allowed(self) -> Tensor:
        """Which tokens may come next; those that end a text are among them where it may end.

        Raises:
            DataError: to find them costs more than a place may.
        """
        if self._first is not None:
            return self._first
        bits = np.frombuffer(self._matcher.compute_bitmask(), dtype=np.uint8)
        self._check()
        return torch.from_numpy(np.unpackbits(bits, bitorder="little").view(np.bool_))

    def ready(self) -> None:
        """Find what may begin the text: what a grammar costs shows at its first place.

        Raises:
            DataError: as `allowed`.
        """
        self._first = self.allowed()

    def permits(self, token: int) -> bool:
        """Whether this token may come next.

        Raises:
            DataError: as `allowed`.
        """
        if self._first is not None:  # it begins with what is forced, which the matcher would let one write otherwise
            return token < len(self._first) and bool(self._first[token])
        found = token < self._known and bool(self._matcher.validate_tokens([token]))
        self._check()
        return found

    def add(self, token: int, room: int) -> Sequence[int]:
        """Go on with a token; returns those that must follow, at most `room`, already gone on with.

        Raises:
            DataError: as `allowed`.
        """
        self._first = None
        self._matcher.consume_token(token)
        forced: list[int] = self._matcher.compute_ff_tokens()[:room]
        if forced:
            self._matcher.consume_tokens(forced)
        self._check()
        return forced

    def _check(self) -> None:
        if self._matcher.is_error():
            raise DataError("data.bad_form", problem=" ".join(self._matcher.get_error().split())[:SHOWN])


class Grammars:
    """Grammars over the tokens of one tokenizer. ends: tokens that end a text.

    Raises:
        ModelError: what its tokens read as bytes cannot be known.
    """

    def __init__(self, tokenizer: Tokenizer, ends: Collection[int]) -> None:
        try:
            self._tokens = LLTokenizer(tokenizer.backend.to_str(), eos_token=sorted(ends))
        except ValueError as error:
            raise ModelError("model.no_grammar", problem=str(error)[:SHOWN]) from error
        self._thread = ThreadPoolExecutor(1, "zhumo-grammar")

    def begin(self, source: str) -> Grammar:
        """A text that is to follow a grammar.

        Raises:
            DataError: it is no grammar, too large, or takes too long to get ready.
        """
        if len(source) > MOST:
            raise DataError("data.bad_form", problem=f"it is longer than {MOST} characters")
        try:
            return self._thread.submit(self._ready, source).result(READY)
        except TimeoutError as error:  # llguidance lets go of the interpreter meanwhile, and its own limits end it
            raise DataError("data.bad_form", problem=f"it takes longer than {READY:g} s to get ready") from error

    def _ready(self, source: str) -> Grammar:
        grammar = Grammar(LLMatcher(self._tokens, source, log_level=0, limits=LIMITS), self._tokens.vocab_size)
        grammar.ready()
        return grammar
