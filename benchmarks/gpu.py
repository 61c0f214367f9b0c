"""On a CUDA GPU: writing beside transformers, learning beside its Trainer and nanoGPT's loop; how near bf16 comes to
the weights, and how much of the GPU's own pace each takes.
"""

import gzip
import json
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import median
from typing import Any, Self

import torch

from benchmarks.engine import by_turns, rates
from benchmarks.engines import MODEL, Engine, formats, hugging_face, prose, quality
from benchmarks.harness import HERE, Bench, shared
from benchmarks.learning import Learned, nanogpt, ours, put, shakespeare, trainer, windows
from zhumo.bundle import load
from zhumo.run import Run
from zhumo.sources import fetch

RUNS, NEW = 5, 64
PROMPT, READ, STREAMS = 16, 512, (1, 32)
WARM, STEPS, BATCH, TEXTS = 20, 100, 16, 4_000  # WARM: updates of a rival before its time is taken
HELD_OUT, LONGEST = 16, 2_000  # texts the loss is of, and their most characters
MINUTES, UPDATES = 0.4, 600  # of nanoGPT's loop, and of ours
TIMES, SIZE, SIDE = 10, 2**30, 8192
SHAPE = {"n_positions": 1024, "n_embd": 768, "n_layer": 12, "n_head": 12,
         "resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0}  # fmt: skip


def paces() -> tuple[float, float]:
    """Bytes a second that the GPU moves within its memory, read and written, and sums and products a second in bf16."""
    matrix, block = (
        torch.randn(SIDE, SIDE, device="cuda").bfloat16(),
        torch.ones(SIZE, dtype=torch.uint8, device="cuda"),
    )
    other = torch.empty_like(block)
    moved = seconds(lambda: other.copy_(block))
    return 2 * SIZE / moved, 2 * SIDE**3 / seconds(lambda: matrix @ matrix)


def seconds(work: Callable[[], object]) -> float:
    """Of one time that it is done, by the GPU's clock."""
    work()
    began, ended = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    began.record()
    for _ in range(TIMES):
        work()
    ended.record()
    torch.cuda.synchronize()
    return began.elapsed_time(ended) / 1e3 / TIMES


class Speeds:
    """The rows of writing. Engines stay open for all: each compiles and captures on its first task of a size."""

    def __init__(self, bench: Bench, folder: Path, bytes_a_second: float) -> None:
        self.bench, self.folder, self.pace = bench, folder, bytes_a_second
        self.prose = prose(max(STREAMS), READ // 4)
        self.ours, self.plain, self.compiled = zhumo(), hugging_face(1), hugging_face(1)
        self.files = formats(self.plain)
        self.theirs = {"file": self.files["bfloat16"], "device": "cuda"}

    def written(self, streams: int) -> None:
        """Tokens after the first, beside `generate` as it comes and compiled."""
        task = {"kind": "write", "prompts": [text[:PROMPT] for text in self.prose[:streams]], "new": NEW, "repeats": 1}
        found = self._by_turns({
            "ours": (self.ours, task | self._mine(streams)),
            "transformers": (self.plain, task | self.theirs),
            "transformers, compiled": (self.compiled, task | self.theirs | {"compiled": True}),
        })  # fmt: skip
        mine = rates(found["ours"], "written")
        size = sum(path.stat().st_size for path in Path(self.files["bfloat16"]).glob("*.safetensors"))
        note = f"{size * median(mine) / streams / self.pace:.0%} of what its memory gives; slots as many as texts"
        for peer, row in (("transformers", f"gpu.decode.{streams}"),
                          ("transformers, compiled", f"gpu.decode.{streams}.compiled")):  # fmt: skip
            self._row(row, mine, peer, rates(found[peer], "written"), note)

    def read(self) -> None:
        """A prompt."""
        long = [token for text in self.prose for token in text][:READ]
        task = {"kind": "write", "prompts": [long], "new": 0, "repeats": 1}
        found = self._by_turns({"ours": (self.ours, task | self._mine(1)), "theirs": (self.plain, task | self.theirs)})
        mine, other = (rates(answers, "read") for answers in found.values())
        self._row("gpu.prefill", mine, "transformers", other)

    def agreed(self) -> None:
        """bf16 on the GPU beside the weights in float32 on the processor, over real text."""
        task = {"kind": "quality", "sequences": self.prose}
        asked = {"reference": (self.compiled, {"file": self.files["float32"]}),
                 "ours": (self.ours, self._mine(1)), "theirs": (self.plain, self.theirs)}  # fmt: skip
        told = []
        for name, (engine, further) in asked.items():
            place = {"out": str(self.folder / f"{name}.npy")}
            told.append(place | engine.ask(task | further | place))
        full, mine, other = (quality(told[0], answer) for answer in told)
        worse = mine.perplexity / full.perplexity - 1
        note = f"KL {mine.kl:.5f}, theirs {other.kl:.5f}; perplexity {worse:+.2%}"
        self.bench.row("gpu.agreement", mine.agreement, "", peer="transformers bf16", peer_value=other.agreement,
                       ratio=mine.agreement / other.agreement, note=note)  # fmt: skip

    def _mine(self, slots: int) -> dict[str, Any]:
        return {"file": str(fetch(MODEL)), "device": "cuda", "slots": slots}

    def _by_turns(self, engines: Mapping[str, tuple[Engine, Mapping[str, Any]]]) -> dict[str, list[dict[str, Any]]]:
        """Asked in turn, once all are warm; they warm up side by side."""
        with ThreadPoolExecutor(len(engines)) as pool:
            list(pool.map(lambda one: one[0].ask(one[1]), engines.values()))
        return by_turns(engines, RUNS)

    def _row(self, name: str, mine: Sequence[float], peer: str, theirs: Sequence[float], note: str = "") -> None:
        self.bench.row(name, median(mine), " tokens/s", low=min(mine), high=max(mine), peer=f"{peer} bf16",
                       peer_value=median(theirs), ratio=median(mine) / median(theirs), note=note)  # fmt: skip

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for engine in (self.ours, self.plain, self.compiled):
            engine.__exit__()


def zhumo() -> Engine:
    """Ours."""
    return Engine([sys.executable, str(HERE / "peers" / "zhumo_speed.py")], 1)


def answers() -> list[str]:
    """Texts about diseases."""
    with gzip.open(shared() / "medquad" / "train.jsonl.gz", "rt", encoding="utf-8") as file:
        return [row["answer"] for _, row in zip(range(TEXTS), map(json.loads, file), strict=False) if row["answer"]]


def learned_ours(recipe: str, work: Path, valid: Sequence[str], *overrides: str) -> tuple[Learned, Run]:
    """The steady rate of a training on the GPU, of its second half: code for a size of batch is made when such a batch
    first comes, as a rival's is before its time is taken. Beside it memory and the loss it came to."""
    found = ours(recipe, work, valid, *overrides)
    run = Run(max(work.glob("run-*")))
    lines = [json.loads(line) for line in (run.step("train") / "metrics.jsonl").open(encoding="utf-8")]
    steps = [line for line in lines if "tokens" in line]
    steps = steps[len(steps) // 2 :]
    rate = sum(line["tokens"] for line in steps[:-1]) / (steps[-1]["seconds"] - steps[0]["seconds"])
    memory = int((work / "ours.log").read_text(encoding="utf-8").split()[-1]) / 1e9
    return Learned(found.loss, found.seconds, rate, memory, found.parameters), run


def row(bench: Bench, name: str, mine: Learned, peer: str, theirs: Learned, flops: float) -> None:
    """Tokens a second and memory, with the loss of both and the share of what the GPU computes."""
    share = 6 * mine.parameters * mine.tokens_per_second / flops
    note = f"loss {mine.loss:.4f} against {theirs.loss:.4f}; {share:.0%} of what it multiplies"
    for what, unit in (("tokens_per_second", " tokens/s"), ("memory", " GB")):
        one, other = getattr(mine, what), getattr(theirs, what)
        bench.row(f"gpu.{name}.{what}", one, unit, peer=peer, peer_value=other, ratio=one / other, note=note)


def beside_trainer(bench: Bench, work: Path, flops: float) -> None:
    """GPT-2's small size, as many updates over as many tokens."""
    texts = answers()
    train, valid = "\n\n".join(texts[:-HELD_OUT]), [text[:LONGEST] for text in texts[-HELD_OUT:]]
    put(work, [train], valid)
    mine, run = learned_ours("gpu.yaml", work, valid, f"train.steps={STEPS}")
    tokenizer = load(run.step("train")).tokenizer
    assert tokenizer is not None
    flat, context = tokenizer.encode(train, special=False), SHAPE["n_positions"]
    ids = {"train": [flat[start : start + context] for start in range(0, len(flat) - context, context)],
           "valid": [tokenizer.encode(text, special=False) for text in valid]}  # fmt: skip
    theirs = trainer(work, shape=SHAPE | {"vocab_size": tokenizer.size}, **ids, steps=STEPS, batch=BATCH, bf16=True,
                     gpu=True, warm=WARM, rate=6e-4, seed=0)  # fmt: skip
    row(bench, "trainer", mine, "Trainer", theirs, flops)


def beside_nanogpt(bench: Bench, work: Path, flops: float) -> None:
    """Ten million parameters over the characters of Shakespeare."""
    text = gzip.decompress(shakespeare().read_bytes()).decode()
    cut = int(0.9 * len(text))
    put(work, [text[:cut]], [text[cut:]])
    theirs = nanogpt(0, MINUTES, "cuda")
    asked = (
        "train.minutes=null",
        f"train.steps={UPDATES}",
        "train.batch=64",
        "train.device=cuda",
        "train.compile=true",
    )
    mine, _ = learned_ours("gpt.yaml", work, windows(text[cut:]), *asked)
    row(bench, "nanogpt", mine, "nanoGPT, compiled", theirs, flops)


if __name__ == "__main__":
    bench = Bench("gpu", __doc__ or "")
    if not torch.cuda.is_available():
        sys.exit("there is no CUDA GPU here")
    bench.card = torch.cuda.get_device_name()
    moved, flops = paces()
    with tempfile.TemporaryDirectory(prefix="zhumo-bench-") as folder:
        writing = [name for name in bench.bars if name.startswith(("gpu.decode", "gpu.prefill", "gpu.agreement"))]
        if any(map(bench.due, writing)):
            with Speeds(bench, Path(folder), moved) as speeds:
                if bench.due("gpu.agreement"):
                    speeds.agreed()
                if bench.due("gpu.prefill"):
                    speeds.read()
                for streams in STREAMS:
                    if bench.due(f"gpu.decode.{streams}"):
                        speeds.written(streams)
        for name, beside in (("trainer", beside_trainer), ("nanogpt", beside_nanogpt)):
            if bench.due(f"gpu.{name}.tokens_per_second"):
                work = Path(folder) / name
                work.mkdir()
                beside(bench, work, flops)
    bench.done()
