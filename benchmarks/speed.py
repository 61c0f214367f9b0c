"""The page on speed: its table and its plot, of what was measured beside somebody else."""

import json
import math
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Any, NamedTuple

RESULTS = Path(__file__).parent / "results"
# Of each script the rows that say how fast something is, with what they measure in English and in Chinese.
SHOWN: dict[str, dict[str, tuple[str, str]]] = {
    "engine": {
        "decode.1.Q4_1": ("one text, 4 bits, 1 thread", "一段文本，4 位，1 线程"),
        "decode.1.Q8_0": ("one text, 8 bits, 1 thread", "一段文本，8 位，1 线程"),
        "decode.1.Q4_0": ("one text, 4 bits, 1 thread", "一段文本，4 位，1 线程"),
        "decode.2.Q4_1": ("one text, 4 bits, 2 threads", "一段文本，4 位，2 线程"),
        "decode.2.Q8_0": ("one text, 8 bits, 2 threads", "一段文本，8 位，2 线程"),
        "decode.2.Q4_0": ("one text, 4 bits, 2 threads", "一段文本，4 位，2 线程"),
        "decode.2.hugging_face": ("one text, 4 bits, 2 threads", "一段文本，4 位，2 线程"),
        "streams.8": ("8 texts at once", "同时 8 段文本"),
        "streams.32": ("32 texts at once", "同时 32 段文本"),
        "prefill.hugging_face": ("a prompt of 512 tokens, 4 bits", "512 个词元的提示，4 位"),
        "prefill.llama_cpp": ("a prompt of 512 tokens, 4 bits", "512 个词元的提示，4 位"),
        "lookup": ("an answer that quotes its passage", "引用原文的回答"),
    },
    "served": {
        "served.llama_cpp": ("16 clients over HTTP", "16 个客户端，经 HTTP"),
        "served.transformers": ("16 clients over HTTP", "16 个客户端，经 HTTP"),
    },
    "embed": {
        "embed.1.sentence_transformers": ("2,000 sentences, 1 thread", "2,000 个句子，1 线程"),
        "embed.1.onnxruntime": ("2,000 sentences, 1 thread", "2,000 个句子，1 线程"),
        "embed.2.sentence_transformers": ("2,000 sentences, 2 threads", "2,000 个句子，2 线程"),
        "embed.2.onnxruntime": ("2,000 sentences, 2 threads", "2,000 个句子，2 线程"),
    },
    "learning": {
        "learn.trainer.wall": ("a GPT to the same loss", "GPT 达到同样的损失"),
        "learn.nanogpt.wall": ("a GPT to the same loss", "GPT 达到同样的损失"),
        "learn.peft.tokens_per_second": ("LoRA, the same steps", "LoRA，同样的步数"),
        "learn.encoder.tokens_per_second": ("an encoder, the same pairs", "编码器，同样的文本对"),
    },
    "gpu": {
        "gpu.decode.1": ("one text in one slot, bf16, GPU", "一段文本，一个位置，bf16，GPU"),
        "gpu.decode.1.compiled": ("one text in one slot, bf16, GPU", "一段文本，一个位置，bf16，GPU"),
        "gpu.decode.32": ("32 texts at once, bf16, GPU", "同时 32 段文本，bf16，GPU"),
        "gpu.decode.32.compiled": ("32 texts at once, bf16, GPU", "同时 32 段文本，bf16，GPU"),
        "gpu.prefill": ("a prompt of 512 tokens, bf16, GPU", "512 个词元的提示，bf16，GPU"),
        "gpu.trainer.tokens_per_second": ("learning a GPT, GPU", "学习 GPT，GPU"),
        "gpu.nanogpt.tokens_per_second": ("learning a small GPT, GPU", "学习小 GPT，GPU"),
    },
    "spine": {"shakespeare.wall": ("letters, to the same loss", "字符模型达到同样的损失")},
}
LESS_IS_MORE = ("wall",)  # what such a row's name ends with is time
HEADS = {
    "en": ("what", "ours", "theirs", "times as fast", "asked for", "measured"),
    "zh": ("做什么", "我们", "对方", "倍数", "要求", "测量"),
}
NONE = {"en": "nothing", "zh": "无"}
IN_CHINESE = {"ourselves without": "不用它的我们自己"}  # of peers, those whose name is words
ROW, LEFT, WIDTH, RIGHT = 26, 420, 330, 110  # height and widths of the plot
LEAST, MOST = 0.25, 8.0  # the ends of its axis


class Speed(NamedTuple):
    """One row. times: how many times as fast as the peer; asked: how many it should be, None where nothing was said."""

    what: tuple[str, str]
    ours: str
    peer: tuple[str, str]
    theirs: str
    times: float
    asked: float | None
    day: str
    maker: str  # of the processor, or of the GPU


def speeds() -> list[Speed]:
    """The rows that were measured, in the order of `SHOWN`; one on two kinds of processor is two."""
    found: list[Speed] = []
    for script, shown in SHOWN.items():
        path = RESULTS / f"{script}.json"
        rows = json.loads(path.read_text(encoding="utf-8"))["rows"] if path.is_file() else []
        measured = [row for row in rows if row["value"] is not None and row["ratio"]]
        for name, what in shown.items():
            own = [faster(what, row) for row in measured if row["name"] == name]
            found += sorted(own, key=lambda speed: speed.maker)
    return found


def faster(what: tuple[str, str], row: dict[str, Any]) -> Speed:
    """A row of results. Where it is a time, the less the faster."""
    turned = row["name"].endswith(LESS_IS_MORE)
    times, asked = (1 / value if turned and value else value for value in (row["ratio"], row["at_least"]))
    peer, theirs = row["peer"], f"{row['peer_value']:,.4g}{row['unit']}"
    chip = row.get("gpu", row["cpu"])
    ours, maker = f"{row['value']:,.4g}{row['unit']}", chip.split()[0].removesuffix("(R)")
    return Speed(what, ours, (peer, IN_CHINESE.get(peer, peer)), theirs, times, asked, f"{row['date']}, {chip}", maker)


def table(rows: Sequence[Speed], language: str) -> str:
    """The rows as Markdown."""
    lines = [f"| {' | '.join(HEADS[language])} |", "|---" * len(HEADS[language]) + "|"]
    for row in rows:
        asked = NONE[language] if row.asked is None else f"{row.asked:.3g}"
        theirs = f"{row.peer[language == 'zh']}: {row.theirs}"
        cells = (row.what[language == "zh"], row.ours, theirs, f"{row.times:.2f}", asked, row.day)
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def plot(rows: Sequence[Speed], language: str) -> str:
    """The rows as an SVG: a bar for how many times as fast, a mark for what was asked, a line where both are equal."""
    height = ROW * len(rows) + 40
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {LEFT + WIDTH + RIGHT} {height}" '
        'font-family="sans-serif" font-size="12">',
        "<style>text{fill:#333}.ours{fill:#2a6f6b}.behind{fill:#b4532a}.axis{stroke:#999}.asked{stroke:#111;stroke-width:2}"
        "@media(prefers-color-scheme:dark){text{fill:#ddd}.asked{stroke:#eee}}</style>",
    ]
    for tick in (0.25, 0.5, 1, 2, 4, 8):
        strong = "" if tick == 1 else ' stroke-dasharray="2 4"'
        parts.append(f'<line class="axis" x1="{_x(tick)}" x2="{_x(tick)}" y1="6" y2="{height - 26}"{strong}/>')
        parts.append(f'<text x="{_x(tick)}" y="{height - 10}" text-anchor="middle">{tick:g}×</text>')
    for place, row in enumerate(rows):
        top, ends = 8 + ROW * place, sorted((_x(1), _x(row.times)))
        parts.append(f'<text x="{LEFT - 8}" y="{top + 14}" text-anchor="end">{escape(row.what[language == "zh"])} · '
                     f"{escape(row.peer[language == 'zh'])}</text>")  # fmt: skip
        parts.append(f'<rect class="{"ours" if row.times >= 1 else "behind"}" x="{ends[0]}" y="{top + 3}" '
                     f'width="{ends[1] - ends[0]:.1f}" height="14"/>')  # fmt: skip
        if row.asked is not None:
            x = _x(row.asked)
            parts.append(f'<line class="asked" x1="{x}" x2="{x}" y1="{top}" y2="{top + 20}"/>')
        parts.append(f'<text x="{LEFT + WIDTH + 8}" y="{top + 14}">{row.times:.2f}× {escape(row.maker)}</text>')
    return "\n".join([*parts, "</svg>"]) + "\n"


def _x(times: float) -> float:
    """Where a ratio stands: doubling is always as far."""
    share = math.log(min(max(times, LEAST), MOST) / LEAST) / math.log(MOST / LEAST)
    return round(LEFT + WIDTH * share, 1)
