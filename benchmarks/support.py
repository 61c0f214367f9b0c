"""The desk: does it find what answers, does it keep quiet where nothing does, beside BM25.

    python -m benchmarks.support --only manual

Encoder: multilingual-e5-small as it is, with nothing learned. The manual's sixty questions were committed before there
was an index. Foreign questions are the test rows of banking77 and what users say in CrossWOZ and KdConv. Which kinds of
nearness count was chosen on these sixty and on other samples of the foreign sets, the bound on their validation rows,
with the sixty in sight. So was what the same page in another language counts; `xquad.*.translated` asks others.
"""

import gzip
import json
import random
import re
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.bank import accept, bank
from benchmarks.harness import Bench, shared
from benchmarks.redaction import Put, beside, put, shares_of
from benchmarks.wording import FALSE, TRUE, right
from zhumo.baselines.retrieval import Bm25
from zhumo.bundle import Bundle, load
from zhumo.make import make
from zhumo.metrics.retrieval import place_of, recall
from zhumo.privacy import find
from zhumo.run import Run
from zhumo.support.demo import recipe
from zhumo.support.desk import SURE, cited
from zhumo.support.exam import answered, found, found_by_words, questions
from zhumo.support.improve import improve
from zhumo.support.manual import manual
from zhumo.support.opening import encoder_of, opened
from zhumo.support.search import Hit, Search
from zhumo.support.tickets import Tickets
from zhumo.support.versions import Versions

MANUAL = ("manual.minutes", "manual.recall@5", "manual.over_bm25", "manual.answered", "manual.handed_over",
          "noise.crosswoz", "noise.kdconv")  # fmt: skip
FOREIGN = 50  # of each language
NOISE = 500
CHOSEN_ON = {"crosswoz": "val", "kdconv": "dev"}  # the part of each by which the bound was chosen
REDACTED = 5_500
UNIT = re.compile(r"[\u3400-\u9fff]|[^\W_\u3400-\u9fff]+")
FORMED = ("CREDIT_CARD", "EMAIL_ADDRESS", "IBAN_CODE", "IP_ADDRESS", "PHONE_NUMBER", "US_SSN")
SAID = 500  # of each kind


def manual_rows(bench: Bench) -> None:
    """From nothing to a desk that knows our manual, its exam, and who is handed over."""
    with tempfile.TemporaryDirectory(prefix="zhumo-bench-") as work:
        began = time.perf_counter()
        bundle = encoder(Path(work))
        library, synced = opened(bundle, manual(), Path(work) / "knowledge.sqlite")
        search = library.search
        minutes = (time.perf_counter() - began) / 60
    encode, asked = encoder_of(bundle), questions()
    bench.row("manual.minutes", minutes, " min", note=f"{len(search.files)} documents, {search.size} passages, "
              f"{synced.merged} merged; the encoder's own five steps counted in")  # fmt: skip
    ours, words = found(search, encode, asked), found_by_words(search.passages, asked)
    low, high = ours.interval()
    bench.row("manual.recall@5", ours.value, low=low, high=high, peer="BM25", peer_value=words.value,
              note=f"60 questions; p of no better {ours.beats(words):.4f}")  # fmt: skip
    bench.row("manual.over_bm25", ours.value - words.value, peer="BM25", peer_value=words.value)
    said = answered(search, encode, [question.text for question in asked])
    bench.row("manual.answered", float(said.mean()), note="of the sixty")
    foreign = [*some("banking77", FOREIGN), *some("crosswoz", FOREIGN)]
    bench.row("manual.handed_over", float((~answered(search, encode, foreign)).sum()),
              note=f"of {len(foreign)} foreign questions, half banking77, half CrossWOZ")  # fmt: skip
    for name, part in CHOSEN_ON.items():
        wrong, chosen = (answered(search, encode, said) for said in (some(name, NOISE), some(name, 5 * NOISE, part)))
        note = f"of {NOISE} users' turns; of {len(chosen)} validation turns {chosen.mean():.4f}"
        bench.row(f"noise.{name}", float(wrong.mean()), note=f"share that is answered {note}, by which the bound of "
                  f"{SURE} was chosen")  # fmt: skip


def flywheel_rows(bench: Bench) -> None:
    """Two hundred corrections of a bank's desk: what they lift and cost, and whether poisoned ones are let in."""
    with tempfile.TemporaryDirectory(prefix="zhumo-bench-") as work:
        desk, trials = bank(Path(work), shared()), {}
        for poison in ("", "scattered", "swapped"):
            with closing(Tickets(f"{work}/tickets-{poison}.sqlite")) as tickets:
                accept(tickets, desk.corrections(poison=poison))
                began, versions = time.perf_counter(), Versions(desk.bundle)
                trials[poison] = improve(versions, desk.documents, desk.knowledge, tickets, questions(desk.earlier))
                seconds = time.perf_counter() - began
            if not poison:
                bench.row("flywheel.minutes", seconds / 60, " min", note="from accepted corrections to the gate's word")
    good, poisoned = trials[""], [trials["scattered"], trials["swapped"]]
    for name in ("frozen", "earlier"):
        found = good["questions"][name]
        apart, old, new = found["difference"], found["old"]["value"], found["new"]["value"]
        bench.row(f"flywheel.{name}", apart["value"], low=apart["low"], high=apart["high"], peer="what serves",
                  peer_value=old, note=f"recall@1 of {found['n']} questions {old:.3f} -> {new:.3f}, p "
                  f"{found['p']:.3f}; {good['learned']} corrections learned, tiny encoder from nothing")  # fmt: skip
    bench.row("flywheel.poison", float(sum(not one["passes"] for one in poisoned)), note="of 2 batches refused: "
              + "; ".join(one["said"]["en"] for one in poisoned))  # fmt: skip


def encoder(work: Path) -> Bundle:
    """The demo's encoder, made by the five steps."""
    made = recipe()
    return load(make(made, Run.of(made, work / "runs")).step("deploy"))


def some(name: str, count: int, part: str = "test") -> list[str]:
    """Rows of a data set, as many and always the same."""
    rows = read(name, part)
    texts = {
        "banking77": lambda: [row["text"] for row in rows],
        "crosswoz": lambda: [said["content"] for row in rows for said in row["messages"] if said["role"] == "usr"],
        "kdconv": lambda: [said["text"] for row in rows for said in row["messages"][::2]],
    }[name]()
    return random.Random(0).sample(sorted(set(texts)), count)


def read(name: str, part: str) -> list[dict[str, Any]]:
    """The rows of a file of shared data."""
    with gzip.open(shared() / name / f"{part}.jsonl.gz", "rt", encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def paragraphs(name: str, part: str) -> Callable[[Bench], None]:
    """Does a question find the paragraph that answers it, among all of the file, and does the desk quote the answer?"""

    def measure(bench: Bench) -> None:
        rows = read(name, part)
        documents = list(dict.fromkeys(row["context"] for row in rows))
        place = {document: number for number, document in enumerate(documents)}
        asked, right = [row["question"] for row in rows], [place[row["context"]] for row in rows]
        with tempfile.TemporaryDirectory(prefix="zhumo-bench-") as work:
            hits = searched(Path(work), documents, asked)
        ours = recall(ranks(hits, [f"{own}.txt" for own in right]), 1)
        words = recall(in_words(documents, asked, right), 1)
        row = f"{name}.{part}.recall@1"
        low, high = ours.interval()
        bench.row(row, ours.value, low=low, high=high, peer="BM25", peer_value=words.value,
                  ratio=ours.value / words.value, note=f"{len(documents)} paragraphs, {len(asked)} questions; "
                  f"p of no better {ours.beats(words):.4f}")  # fmt: skip
        quotes(bench, f"{name}.{part}", hits, [[answer["text"] for answer in row["answers"]] for row in rows])

    return measure


def translated(bench: Bench) -> None:
    """Does a question find its paragraph oftener where the same paragraph lies beside it in another language?"""
    rows = {language: read("xquad", language) for language in ("en", "zh")}
    pages = list(dict.fromkeys(zip(*([row["context"] for row in own] for own in rows.values()), strict=True)))
    files = {f"{number}.{language}.txt": text for number, page in enumerate(pages)
             for language, text in zip(rows, page, strict=True)}  # fmt: skip
    with tempfile.TemporaryDirectory(prefix="zhumo-bench-") as work:
        search, encode = shelved(Path(work), files)
        for place, (language, own) in enumerate(rows.items()):
            number = {page[place]: number for number, page in enumerate(pages)}
            asked = [row["question"] for row in own]
            alone = search.only({one.key for one in search.passages if one.file.endswith(f".{language}.txt")})
            vectors, named = encode(asked), [f"{number[row['context']]}.{language}.txt" for row in own]
            both, single = (
                recall(ranks([one.find(*each, one.size) for each in zip(asked, vectors, strict=True)], named), 1)
                for one in (search, alone))  # fmt: skip
            low, high = both.interval()
            bench.row(f"xquad.{language}.translated", both.value, low=low, high=high, peer="its own language alone",
                      peer_value=single.value, note=f"recall@1; p of no better {both.beats(single):.4f}")  # fmt: skip


def shelved(work: Path, documents: Mapping[str, str]) -> tuple[Search, Callable[[Sequence[str]], np.ndarray]]:
    """A folder of documents to be searched, and what makes vectors of questions."""
    folder = work / "documents"
    folder.mkdir()
    for name, document in documents.items():
        (folder / name).write_text(document, encoding="utf-8")
    bundle = encoder(work)
    return opened(bundle, folder, work / "knowledge.sqlite")[0].search, encoder_of(bundle)


def searched(work: Path, documents: Sequence[str], asked: Sequence[str]) -> list[list[Hit]]:
    """All passages of a folder of documents for each question, the nearest first."""
    search, encode = shelved(work, {f"{number}.txt": document for number, document in enumerate(documents)})
    return [search.find(text, vector, search.size) for text, vector in zip(asked, encode(asked), strict=True)]


def quotes(bench: Bench, data: str, hits: Sequence[Sequence[Hit]], wanted: Sequence[Sequence[str]]) -> None:
    """What the desk's first quote has of the gold answers. It is of whole sentences, so hardly one equals an answer."""
    first = [cited(own[0]) for own in hits]
    said = [one.passage.text[one.start : one.end] for one in first]
    nearest = [text[: one.passage.spans[hit[0].sentence or 0][1] - one.start] if one.passage.spans else text
               for text, one, hit in zip(said, first, hits, strict=True)]  # fmt: skip
    holds = [any(answer in text for answer in own) for text, own in zip(said, wanted, strict=True)]
    bench.row(f"{data}.quoted", float(np.mean(holds)),
              note="share of first quotes, whole sentences up to 300 letters, that hold a gold answer")  # fmt: skip
    overlap, tight = (
        [max(f1(text, answer) for answer in own) for text, own in zip(texts, wanted, strict=True)]
        for texts in (said, nearest)
    )
    exact = np.mean([text.strip() in own for text, own in zip(nearest, wanted, strict=True)])
    bench.row(f"{data}.quoted_f1", float(np.mean(overlap)), note="token F1 of the quote (as SQuAD and CMRC count); of "
              f"its nearest sentence alone {np.mean(tight):.4f}, which equals an answer in {exact:.4f}")  # fmt: skip


def f1(said: str, answer: str) -> float:
    """Overlap of two texts in words, articles left out, or Chinese characters, as SQuAD and CMRC count it."""
    one, other = Counter(units(said)), Counter(units(answer))
    shared_ = sum((one & other).values())
    return 2 * shared_ / (one.total() + other.total()) if shared_ else 0.0


def units(text: str) -> list[str]:
    return [unit for unit in UNIT.findall(text.casefold()) if unit not in ("a", "an", "the")]


def ranks(hits: Sequence[Sequence[Hit]], right: Sequence[str]) -> list[int]:
    """The place of the right document among all of a folder, by its name."""
    orders = [list(dict.fromkeys(hit.passage.file for hit in own)) for own in hits]
    return [order.index(own) + 1 for order, own in zip(orders, right, strict=True)]


def in_words(documents: Sequence[str], asked: Sequence[str], right: Sequence[int]) -> list[int]:
    """The place BM25 gives the right document."""
    index = Bm25(documents)
    return [place_of(index.scores([text])[0], [own]) for text, own in zip(asked, right, strict=True)]


def redaction_rows(bench: Bench) -> None:
    """What masking finds of made-up numbers in real sentences, and in real text that holds none but the telephones of
    CrossWOZ's database."""
    talk = sorted({said["content"] for row in read("crosswoz", "test") for said in row["messages"]})
    prose = sorted({row["context"] for name, part in (("xquad", "en"), ("xquad", "zh"), ("cmrc2018", "dev"))
                    for row in read(name, part)})  # fmt: skip
    texts = [*talk, *prose, *(path.read_text(encoding="utf-8") for path in sorted(manual().rglob("*.md")))]
    asked = sorted({row["text"] for row in read("banking77", "test")})
    pieces = (piece.strip() for text in [*talk, *prose, *asked] for piece in re.split(r"(?<=[。.!?！？])\s*", text))
    rows = put(sorted({piece for piece in pieces if 10 < len(piece) < 200}), REDACTED, seed=2026)
    peer, shares = beside(rows, texts), shares_of(rows)
    theirs = peer["recall"]
    low = ", ".join(f"{kind} {share:.3f} ({theirs[kind]:.3f})" for kind, share in shares.items() if kind != "all")
    bench.row("redaction.recall", shares["all"], peer="Presidio's patterns", peer_value=theirs["all"],
              note=f"{len(rows)} numbers: {low}; of {peer['checked']} that python-stdnum and phonenumbers know "
              f"{len(peer['wrong'])} are none")  # fmt: skip
    marked = [Put(row["text"], span["start"], span["end"], span["type"], "") for row in read("presidio-pii", "data")
               for span in row["spans"] if span["type"] in FORMED]  # fmt: skip
    ours = shares_of(marked)
    bench.row("redaction.presidio_pii", ours["all"], peer="Presidio's patterns",
              peer_value=beside(marked, [])["recall"]["all"],
              note=f"{len(marked)} spans of Presidio's own test set that have a form: "
              + ", ".join(f"{kind.lower()} {share:.3f}" for kind, share in ours.items() if kind != "all")
              + "; what was missed was looked at twice while the patterns were written")  # fmt: skip
    databases = (shared() / "crosswoz" / "database").glob("*_db.json.gz")
    listed = "".join(gzip.decompress(path.read_bytes()).decode() for path in databases).replace("-", "")
    began = time.process_time()
    found_ = [text[one.start : one.end] for text in texts for one in find(text)]
    seconds = time.process_time() - began
    false, their = (
        [one for one in every if re.sub("[^0-9]", "", one) not in listed] for every in (found_, peer["found"])
    )
    letters, shapes = sum(map(len, texts)) / 1e6, [re.sub("[0-9]", "0", one) for one in false]
    bench.row("redaction.false_alarms", len(false) / letters, " a million letters", peer="Presidio's patterns",
              peer_value=len(their) / letters,
              note=f"{letters:.2f} million of xquad, cmrc2018, CrossWOZ and our manual; {len(found_) - len(false)} "
              f"real telephones found; {sum(len(text.encode()) for text in texts) / 1e6 / seconds:.1f} MB a CPU second "
              f"(Presidio {peer['rate']:.2f}); false, or telephones unknown to CrossWOZ: {shapes}")  # fmt: skip


def read_from(name: str, part: str) -> dict[str, Callable[[Bench], None]]:
    """The rows that paragraphs give."""
    return dict.fromkeys(
        (f"{name}.{part}.{row}" for row in ("recall@1", "quoted", "quoted_f1")), paragraphs(name, part)
    )


def wording_rows(bench: Bench) -> None:
    """Does what a generator may say pass where the paragraph supports it, and is it caught where it does not?"""
    texts = sorted({row["context"] for name, part in (("xquad", "en"), ("xquad", "zh"), ("cmrc2018", "dev"))
                    for row in read(name, part)})  # fmt: skip
    for row, kinds in (("wording.caught", FALSE), ("wording.passed", TRUE)):
        shares = right(texts, kinds, SAID, passes=kinds is TRUE)
        bench.row(row, shares.pop("all"), note=f"{len(kinds)} times {SAID} on xquad and cmrc2018: "
                  + ", ".join(f"{kind} {share:.3f}" for kind, share in shares.items()))  # fmt: skip


LEADING: Mapping[str, Callable[[Bench], None]] = {
    **dict.fromkeys(("redaction.recall", "redaction.presidio_pii", "redaction.false_alarms"), redaction_rows),
    **dict.fromkeys(("wording.caught", "wording.passed"), wording_rows),
    **dict.fromkeys(MANUAL, manual_rows),
    **dict.fromkeys(("flywheel.minutes", "flywheel.frozen", "flywheel.earlier", "flywheel.poison"), flywheel_rows),
    **read_from("xquad", "en"),
    **read_from("xquad", "zh"),
    **read_from("cmrc2018", "dev"),
    **dict.fromkeys(("xquad.en.translated", "xquad.zh.translated"), translated),
}


def main() -> None:
    bench = Bench("support", __doc__ or "")
    for measure in dict.fromkeys(measure for name, measure in LEADING.items() if bench.due(name)):
        measure(bench)
    bench.done()


if __name__ == "__main__":
    main()
