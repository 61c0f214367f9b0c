"""lm-evaluation-harness in process: a bundle of the task `write` as its model. `pip install 'zhumo[harness]'`

    import lm_eval
    from zhumo.harness import Bundled

    found = lm_eval.simple_evaluate(model=Bundled("runs/replies/deploy"), tasks=["..."])

It asks by the same `answer` that serves; over HTTP the harness asks the same of `zhumo serve`, with its own model
`local-completions` (docs/evaluate.md).
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lm_eval.api.instance import Instance
from lm_eval.api.model import TemplateLM
from lm_eval.utils import get_rolling_token_windows, make_disjoint_window

from zhumo.bundle import load
from zhumo.errors import ModelError
from zhumo.tasks.write import Write

MAX_TOKENS = 256  # of an answer whose task asks for no other length
Asked = tuple[tuple[str, str], list[int], list[int]]
"""Both texts, and their ids."""


class Bundled(TemplateLM):  # type: ignore[misc]  # the library has no types
    """A bundle as the harness sees a model.

    Raises:
        ModelError: the bundle does not write.
    """

    def __init__(self, folder: str | Path) -> None:
        super().__init__()
        self.bundle = load(folder)
        if not isinstance(self.bundle.task, Write) or self.bundle.tokenizer is None:
            raise ModelError("model.not_of_task", folder=folder, task="write")
        self.words = self.bundle.tokenizer

    @property
    def eot_token_id(self) -> int:
        """What ends a text, and stands before one that has no beginning of its own."""
        end = self.words.special("eos")
        return 0 if end is None else end

    @property
    def prefix_token_id(self) -> int:
        """What stands before a text."""
        begin = self.words.special("bos")
        return self.eot_token_id if begin is None else begin

    @property
    def max_length(self) -> int:
        """Tokens the model reads at once, one left to be written."""
        return self.bundle.model.config.length - 1

    def tok_encode(self, string: str, add_special_tokens: bool | None = None, **_: Any) -> list[int]:
        """Ids of a text, without a frame."""
        return self.words.encode(string, special=False)

    def _loglikelihood_tokens(self, requests: Sequence[Asked], **_: Any) -> list[tuple[float, bool]]:
        """Log probability of each continuation, and whether it is what the model would have written."""
        asked = [([*before, *after][-self.max_length :], len(after)) for _, before, after in requests]
        rows = [{"prompt": ids, "echo": True, "logprobs": 1, "max_tokens": 1} for ids, _ in asked]
        told = [answer["logprobs"] for answer in self.bundle.answer(rows)]
        return [_judged(one, len(ids) - count, len(ids)) for one, (ids, count) in zip(told, asked, strict=True)]

    def loglikelihood_rolling(self, requests: Sequence[Instance], disable_tqdm: bool = False) -> list[float]:
        """Log probability of whole texts, each token once, in windows the model can read."""
        found = []
        for request in requests:
            ids, room = self.tok_encode(request.args[0]), self.max_length - 1
            windows = get_rolling_token_windows(
                token_list=ids, prefix_token=self.prefix_token_id, max_seq_len=room, context_len=1
            )
            parts = [(("", ""), *make_disjoint_window(window)) for window in windows]
            found.append(sum(chance for chance, _ in self._loglikelihood_tokens(parts)))
        return found

    def generate_until(self, requests: Sequence[Instance], disable_tqdm: bool = False) -> list[str]:
        """What the model writes, up to where the task says."""
        rows = []
        for request in requests:
            text, options = request.args
            stops = options.get("until") or []
            rows.append({
                "prompt": self.tok_encode(text), "max_tokens": options.get("max_gen_toks", MAX_TOKENS),
                "temperature": options.get("temperature") or 0.0, "stop": [stops] if isinstance(stops, str) else stops,
            })  # fmt: skip
        return [answer["text"] for answer in self.bundle.answer(rows)]


def _judged(told: dict[str, Any], start: int, end: int) -> tuple[float, bool]:
    chances, best = told["token_logprobs"][start:end], told["top_logprobs"][start:end]
    greedy = all(chance >= max(others.values()) for chance, others in zip(chances, best, strict=True))
    return sum(chances), greedy
