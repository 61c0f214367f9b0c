"""The recommender beside its rivals: quality, time to learn, latency, scale, new items, reasons.

Quality is NDCG@10 with all items ranked and seen items removed, on the same split and by the same code for everybody;
the other protocol, which keeps seen items, stands in the notes (Online Retail is the other way round: there people buy
again). Transformers, ours and theirs, learn from the training part alone; counts may take in the validation items once
everything is chosen, ours and the textbook's, so the textbook stands there twice.

Where a library has to be asked, its recorded run is compared (`benchmarks/results/peers/`), or made again with
`--peers` where it was given fewer minutes or was ended by hand; how its environment is made, with every version,
stands in `rivals.py` (`peer_python` does it on first use).
A library ends by its own patience, after its own number of epochs, or after `--minutes` of CPU time a thread; what it
had learned at its best validation answers. One that is running may be ended with SIGTERM, and answers all the same.
Seconds on a busy machine are a rehearsal: each row says how busy it was.
"""

import csv
import json
import math
import os
import random
import shutil
import time
import urllib.request
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from benchmarks.harness import HERE, Bench
from benchmarks.load import engine_of, latencies, peak_memory, serving
from benchmarks.measured import Cost, step
from benchmarks.rivals import LEADS, Found, Protocol, ask, favourites, given, peers, places, recorded, textbook
from benchmarks.shops import INTERACTIONS, ITEMS, beauty, games, held_out, lines, retail, synthetic, write_items
from zhumo.bundle import Bundle, load
from zhumo.metrics import rank
from zhumo.metrics.measure import Measure
from zhumo.prepare import read_rows
from zhumo.recipe import Recipe
from zhumo.run import Run
from zhumo.sources import Bad, cache_folder, open_rows
from zhumo.tasks import Answer, Row
from zhumo.tasks.recommend import Recommend

RECIPES = {
    "movielens": HERE.parent / "zhumo" / "recipes" / "recommend.yaml",
    "beauty": HERE / "recipes" / "amazon-beauty.yaml",
    "games": HERE / "recipes" / "amazon-video-games.yaml",
    "retail": HERE / "recipes" / "online-retail.yaml",
}
MAKERS: Mapping[str, Callable[[Path], None]] = {"beauty": beauty, "games": games, "retail": retail}
VALIDATED = 5_000  # as many validation rows as the libraries are asked
SHORTER = (1, 2, 3)  # epochs of our shorter runs, each with its whole schedule
REQUESTS, RATE = 1_000, 50.0  # over HTTP, and how many a second
COLD_ROWS = 1_000
REASONED = 300
LEAST = 1e-12
TRAITS = ("age", "gender", "occupation")
RENEWED = {"its neighbours": "count the validation items too, once all is chosen, as textbook-and-validation does"}


@dataclass(frozen=True)
class Shop:
    """A shop whose model has been made: its rows, and what the steps cost."""

    name: str
    run: Run
    learned: Cost  # build and train together
    prepared: Cost

    def rows(self, part: str) -> list[Row]:
        """The rows of one part of the split."""
        return read_rows(self.run.step("prepare") / f"{part}.jsonl")


def made(name: str, recipe: Path, work: Path, *overrides: str) -> Shop:
    """prepare, build, train, evaluate through the command line; a run that stands in the work folder is taken again."""
    read = Recipe.read(recipe, [f"name={name}", *overrides])
    run = Run.of(read, work)
    told = work / f"{name}.cost.json"
    if not told.is_file() and run.folder.is_dir():
        shutil.rmtree(run.folder)  # what it cost is not known
    costs = {one: step(one, recipe, work, f"name={name}", *overrides)
             for one in ("prepare", "build", "train", "evaluate")}  # fmt: skip
    if not costs["train"].wall > run.facts("train")["seconds"]:
        known = json.loads(told.read_text(encoding="utf-8"))  # it stood already; this is what it cost then
        costs = {one: Cost(**cost) for one, cost in known.items()}
    told.write_text(json.dumps({one: vars(cost) for one, cost in costs.items()}), encoding="utf-8")
    return Shop(name, run, costs["build"] + costs["train"], costs["prepare"])


def sources(name: str, work: Path) -> list[str]:
    """A shop's files, made in the work folder, as overrides of its recipe."""
    if name not in MAKERS:
        return []
    folder = work / f"{name}.data"
    if not (folder / INTERACTIONS).is_file():
        folder.mkdir(parents=True, exist_ok=True)
        MAKERS[name](folder)
    items = [f"prepare.items={folder / ITEMS}"] if (folder / ITEMS).is_file() else []
    return [f"prepare.source={folder / INTERACTIONS}", *items]


def found(answers: Sequence[Answer], rows: Sequence[Row]) -> np.ndarray:
    """Where the wanted items stand in answers."""
    return places([[item["id"] for item in answer["items"]] for answer in answers], rows)


def asked(call: Callable[[Sequence[Row]], Sequence[Answer]], rows: Sequence[Row]) -> Found:
    """Both protocols of something that answers rows."""
    kept = [{**row, "seen": True} for row in rows]
    return Found(found(call([{**row, "seen": False} for row in rows]), rows), found(call(kept), kept))


def ours(shop: Shop, rows: Sequence[Row]) -> dict[str, Found]:
    """The served answer, the Transformer alone, and what needs no training."""
    bundle = load(shop.run.step("train"))
    task, model, train = bundle.task, bundle.model, shop.rows("train")
    assert task is not None
    seconds = (shop.learned.wall, shop.learned.cpu)
    with torch.inference_mode():
        found_ = {
            "served": replace(asked(bundle.answer, rows), seconds=seconds, facts=RENEWED),
            "transformer": asked(lambda some: task.variants(model, some)["transformer"], rows),
        }
        for name, baseline in task.baselines.items():
            found_[name] = asked(lambda some, ask_=baseline: ask_(task, train, some), rows)  # type: ignore[misc]
    return found_


def rivals(bench: Bench, shop: Shop, rows: Sequence[Row]) -> dict[str, Found]:
    """The textbook's methods, and the libraries' recorded runs."""
    train = shop.rows("train")
    told = {
        "textbook": textbook(train, rows),
        # It needs no validation, so it may count those interactions too, as our own neighbours do in the end. No
        # Transformer, ours or a library's, has learned from them.
        "textbook-and-validation": textbook(rows, rows),
    }
    if shop.name == "retail":
        told["markov"] = textbook(train, rows, neighbours=0)
        told["item-knn"] = textbook(train, rows, markov=0)
        told["own-favourites"] = favourites(rows)
    parts = {"train": train, "valid": shop.rows("valid"), "test": rows}
    for name in peers(shop.name):
        due = bench.options.peers and bench.due(f"{shop.name}.{name}.ndcg@10")
        if due and given(shop.name, name) < bench.options.minutes:
            ask(shop.name, name, parts, bench.options.minutes, bench.options.threads, work(bench))
        if (theirs := recorded(shop.name, name, rows)) is not None:
            told[name] = theirs
    return told


def table(name: str) -> Callable[[Bench], None]:
    """The acceptance rows of one shop."""

    def measure(bench: Bench) -> None:
        shop = made(name, RECIPES[name], work(bench), *sources(name, work(bench)))
        rows = shop.rows("test")
        everybody = {**ours(shop, rows), **rivals(bench, shop, rows)}
        judge(bench, name, name, led(everybody, LEADS.get(name, "new")))
        if name in LEADS:
            judge(bench, f"{name}-new", name, led(everybody, "new"))
        if name == "movielens":
            speed(bench, shop, everybody)

    return measure


def led(everybody: Mapping[str, Found], protocol: Protocol) -> dict[str, Found]:
    """Everybody judged by one protocol."""
    return {who: replace(one, lead=protocol) for who, one in everybody.items()}


def judge(bench: Bench, prefix: str, name: str, everybody: Mapping[str, Found]) -> None:
    """What each reaches, and what is asked of the served answer and of the Transformer alone."""
    ndcg = {who: one.ndcg for who, one in everybody.items()}
    served, alone = ndcg["served"], ndcg["transformer"]
    for who, one in everybody.items():
        low, high = ndcg[who].interval()
        above = (
            f"; the served answer is better: p {served.beats(ndcg[who]):.4f}" if one is not everybody["served"] else ""
        )
        bench.row(f"{prefix}.{who}.ndcg@10", ndcg[who].value, low=low, high=high, note=one.note() + above)
    del ndcg["served"], ndcg["transformer"]
    bench.row(f"{prefix}.served.p_over_neighbours", served.beats(ndcg["neighbours"]), peer="our own neighbours",
              peer_value=ndcg["neighbours"].value, note="what the Transformer adds to the answer")  # fmt: skip
    del ndcg["neighbours"]  # a part of the served answer, not a rival of it
    best = max(("textbook", "textbook-and-validation"), key=lambda who: ndcg[who].value)
    bench.row(f"{prefix}.served.over_textbook", served.value, peer=best, peer_value=ndcg[best].value,
              ratio=served.value / ndcg[best].value, note=f"p {served.beats(ndcg[best]):.4f}")  # fmt: skip
    libraries = {who: ndcg[who] for who in peers(name) if who in ndcg}
    if len(libraries) < len(peers(name)):
        return  # nothing is said of all before all have been measured
    best = max(libraries, key=lambda who: libraries[who].value)
    bench.row(f"{prefix}.transformer.over_best_library", alone.value, peer=best, peer_value=libraries[best].value,
              ratio=alone.value / libraries[best].value, note=f"p {alone.beats(libraries[best]):.4f}")  # fmt: skip
    for row, chances in (("p_over_all", {who: served.beats(one) for who, one in ndcg.items()}),
                         ("p_below_any", {who: one.beats(served) for who, one in ndcg.items()})):  # fmt: skip
        worst = max(chances.values()) if row == "p_over_all" else min(chances.values())
        bench.row(f"{prefix}.served.{row}", worst, note=", ".join(f"{who} {p:.4f}" for who, p in chances.items()))


def speed(bench: Bench, shop: Shop, theirs: Mapping[str, Found]) -> None:
    """Our shortest run that knows validation rows as well as a library's best epoch, beside its time until then."""
    runs = [*(made(f"{shop.name}-in-{epochs}", RECIPES[shop.name], work(bench), f"train.epochs={epochs}")
              for epochs in SHORTER), shop]  # fmt: skip
    reached = [known(one) for one in runs]
    for who, one in theirs.items():
        if one.seconds is None or who not in peers(shop.name):
            continue
        wall, cpu = one.seconds
        enough = [place for place, ndcg in enumerate(reached) if ndcg >= one.facts["validation"]]
        place = enough[0] if enough else -1
        ours_ = runs[place]
        bench.row(f"{shop.name}.time.{who}", ours_.learned.cpu, " s of CPU time", peer=who, peer_value=cpu,
                  ratio=ours_.learned.cpu / cpu if enough else math.inf,
                  note=f"wall {ours_.learned.wall:.0f} s against {wall:.0f} s; "
                  f"validation NDCG@10 {reached[place]:.4f} after {ours_.run.facts('train')['epochs']:g} epochs "
                  f"against {one.facts['validation']:.4f}; theirs with {one.facts['threads']} threads")  # fmt: skip


def known(shop: Shop) -> float:
    """NDCG@10 of the Transformer alone on as many validation rows as the libraries are asked."""
    bundle = load(shop.run.step("train"))
    assert bundle.task is not None
    rows = shop.rows("valid")
    rows = rows[:: 1 + len(rows) // VALIDATED]
    with torch.inference_mode():
        return rank.ndcg(found(bundle.task.variants(bundle.model, rows)["transformer"], rows), 10).value


def latency(bench: Bench) -> None:
    """One request with a catalogue of 100,000 items: the model's time, and over HTTP at 50 requests a second."""
    shop = large(bench, "latency", 1_000_000, 100_000)
    rows = [{"items": row["items"], "k": 10} for row in shop.rows("test")[:REQUESTS]]
    bundle = load(shop.run.step("deploy"))
    for row in rows[:50]:
        bundle.answer([row])
    took = [timed(bundle, row) for row in rows]
    note = f"median of {len(took)}, to the 95th percentile; {bundle.bits} bits, {torch.get_num_threads()} threads"
    bench.row("latency.model_ms", float(np.median(took)), " ms", low=min(took), high=float(np.quantile(took, 0.95)),
              note=note)  # fmt: skip
    with serving(shop.run.step("deploy")) as target:
        model = model_of(target.port, target.key)
        bodies = [json.dumps({"model": model, **row}).encode() for row in rows]
        latencies(target, "/v1/recommendations", bodies[:100], RATE)
        apart = 1_000 * np.array(latencies(target, "/v1/recommendations", bodies, RATE))
    bench.row("latency.http_p95_ms", float(np.quantile(apart, 0.95)), " ms", low=float(apart.min()),
              high=float(apart.max()), note=f"median {np.median(apart):.1f}, {len(bodies)} at {RATE:g}/s")  # fmt: skip


def timed(bundle: Bundle, row: Row) -> float:
    began = time.perf_counter()
    bundle.answer([row])
    return 1_000 * (time.perf_counter() - began)


def model_of(port: int, key: str) -> str:
    """The name of the one model that is served."""
    request = urllib.request.Request(f"http://127.0.0.1:{port}/v1/models", headers={"Authorization": f"Bearer {key}"})
    with urllib.request.urlopen(request, timeout=60) as response:
        name: str = json.loads(response.read())["data"][0]["id"]
    return name


def large(bench: Bench, name: str, interactions: int, items: int) -> Shop:
    """A synthetic shop, made and deployed."""
    path = work(bench) / f"{name}.parquet"
    if not path.is_file():
        synthetic(path, interactions, items)
    recipe = HERE / "recipes" / "synthetic.yaml"
    shop = made(name, recipe, work(bench), f"prepare.source={path}")
    deployed = step("deploy", recipe, work(bench), f"name={name}", f"prepare.source={path}")
    return replace(shop, learned=shop.learned + replace(deployed, wall=0.0, cpu=0.0))


def scale(bench: Bench) -> None:
    """A million items, from one million interactions to ten: memory of every step and of serving, time for each."""
    each, memory = {}, {}
    for name, interactions in (("scale-1m", 1_000_000), ("scale-10m", 10_000_000)):
        shop = large(bench, name, interactions, 1_000_000)
        each[name] = 1e6 * (shop.prepared.cpu + shop.learned.cpu) / interactions
        with serving(shop.run.step("deploy")) as target:
            model = model_of(target.port, target.key)
            some = [{"model": model, "items": row["items"], "k": 10} for row in shop.rows("test")[:100]]
            latencies(target, "/v1/recommendations", [json.dumps(row).encode() for row in some], 10.0)
            served = peak_memory(target.pid) + peak_memory(engine_of(target.pid))
        memory[name] = max(shop.prepared.memory, shop.learned.memory, served)
        note = f"prepare {shop.prepared.memory:.2f}, learn {shop.learned.memory:.2f}, serve {served:.2f} GB"
        bench.row(f"scale.{name}.memory", memory[name], " GB", note=note)
    further = (10 * each["scale-10m"] - each["scale-1m"]) / 9
    bench.row("scale.flat", each["scale-10m"], " us of CPU time an interaction", peer="at 1 M",
              peer_value=each["scale-1m"], ratio=each["scale-10m"] / each["scale-1m"],
              note=f"each of the nine million further ones {further:.1f} us")  # fmt: skip


def prepared(bench: Bench) -> None:
    """Twenty-five million interactions with 60,000 items, as many as MovieLens-25M has, become histories."""
    path = work(bench) / "prepare-25m.parquet"
    if not path.is_file():
        synthetic(path, 25_000_000, 60_000)
    settings = ["name=prepare-25m", f"prepare.source={path}"]
    cost = step("prepare", HERE / "recipes" / "synthetic.yaml", work(bench), *settings)
    bench.row(
        "prepare.memory", cost.memory, " GB", note=f"25 million interactions, {cost.cpu / 60:.1f} min of CPU time"
    )


def cold(name: str) -> Callable[[Bench], None]:
    """A fifth of the items is taken by nobody; each user's last such item is asked for, known by the catalogue alone:
    by its title, of films by year and genres as well."""

    def measure(bench: Bench) -> None:
        folder = work(bench) / f"cold-{name}.data"
        folder.mkdir(parents=True, exist_ok=True)
        rows = cold_rows(name, work(bench), folder)
        settings = [f"prepare.source={folder / INTERACTIONS}", f"prepare.items={folder / ITEMS}",
                    "prepare.columns={user: user, item: item, time: time, title: title}",
                    "prepare.split={by: last}"]  # fmt: skip
        shop = made(f"cold-{name}", RECIPES[name], work(bench), *settings)
        bundle = load(shop.run.step("train"))
        assert isinstance(bundle.task, Recommend)
        items = [item for item in read_items(folder / ITEMS) if held_out(item)]
        new = set(items)
        everything = bundle.answer([{**row, "k": 10} for row in rows])
        all_of_them = bundle.answer([{**row, "k": 1_000_000} for row in rows])
        among = [[item["id"] for item in answer["items"] if item["id"] in new][:10] for answer in all_of_them]
        hit_all = rank.hit(found(everything, rows), 10)
        hit_new = rank.hit(places(among, rows), 10)
        by_kind = rank.hit(places([popular_kind(bundle.task, new)] * len(rows), rows), 10)
        popular = Measure(
            "popularity", np.zeros(len(rows))
        )  # what nobody has taken stands behind all that somebody has
        bench.row(f"cold.{name}.hit@10", hit_all.value, peer="popularity", peer_value=popular.value,
                  note=f"among all items; {len(rows)} users, {len(items)} new items")  # fmt: skip
        bench.row(f"cold.{name}.p_over_popularity", hit_all.beats(popular))
        bench.row(f"cold.{name}.new.hit@10", hit_new.value, peer="popularity of what each is like",
                  peer_value=by_kind.value, note=f"among the new items; by chance {10 / len(items):.4f}")  # fmt: skip
        bench.row(f"cold.{name}.new.p_over_popularity", hit_new.beats(by_kind))

    return measure


def popular_kind(task: Recommend, new: Collection[str]) -> list[str]:
    """The new items that are most like bestsellers, ten: what popularity can say of what nobody has taken."""
    assert task.voices.alike is not None
    worth = task.voices.alike @ task.arrays["popularity"]
    ranked = [task.state["items"][task.warm + place] for place in np.argsort(-worth, kind="stable").tolist()]
    return [item for item in ranked if item in new][:10]


def cold_rows(name: str, work_: Path, folder: Path) -> list[Row]:
    """Write what is left without the held-out items, and all items with their texts; the rows that are asked."""
    histories: dict[str, list[tuple[float, str]]] = {}
    for row in purchases(name, work_):
        histories.setdefault(row["user"], []).append((float(row["time"]), row["item"]))
    rows = []
    with (folder / INTERACTIONS).open("w", encoding="utf-8") as file:
        file.write("user,item,time\n")
        for user, taken in histories.items():
            taken.sort(key=lambda one: one[0])
            file.writelines(f"{user},{item},{when}\n" for when, item in taken if not held_out(item))
            last = max((place for place, (_, item) in enumerate(taken) if held_out(item)), default=0)
            before = [item for _, item in taken[:last] if not held_out(item)]
            if before:
                rows.append({"user": user, "items": before, "next": [taken[last][1]]})
    chosen = sorted(random.Random(0).sample(range(len(rows)), min(COLD_ROWS, len(rows))))
    return [rows[index] for index in chosen]


def purchases(name: str, work_: Path) -> list[dict[str, str]]:
    """A shop's interactions with its items beside them, copied into the folder of the cold run."""
    folder = work_ / f"cold-{name}.data"
    if name == "movielens":
        described = opened("movielens-100k-items")
        write_items(folder, ({"item": str(row["item_id"]), "title": row["movie_title"],
                              "year": str(row["release_year"]), "category": str(row["class"]).split()}
                             for row in described))  # fmt: skip
        return [{"user": str(row["user_id"]), "item": str(row["item_id"]), "time": row["timestamp"]}
                for row in opened("movielens-100k")]  # fmt: skip
    sources(name, work_)
    (folder / ITEMS).write_bytes((work_ / f"{name}.data" / ITEMS).read_bytes())
    stamps = lines(work_ / f"{name}.data" / INTERACTIONS)
    return [{**row, "time": str(np.datetime64(row["time"]).astype("datetime64[s]").astype(int))} for row in stamps]


def read_items(path: Path) -> list[str]:
    """The ids of a catalogue."""
    with path.open(encoding="utf-8") as file:
        return [str(json.loads(line)["item"]) for line in file]


def traits(bench: Bench) -> None:
    """What age, gender and occupation add: to a history, and for a stranger of whom nothing else is known."""
    path = work(bench) / "traits.csv"
    if not path.is_file():
        people = {row["user_id"]: row for row in opened("movielens-100k-users")}
        with path.open("w", encoding="utf-8", newline="") as file:
            out = csv.writer(file)
            out.writerow(["user_id", "item_id", "timestamp", *TRAITS])
            out.writerows(
                [row["user_id"], row["item_id"], row["timestamp"], *(people[row["user_id"]][name] for name in TRAITS)]
                for row in opened("movielens-100k")
            )
    settings = [f"prepare.source={path}", f"prepare.traits=[{', '.join(TRAITS)}]"]
    known = made("movielens-traits", RECIPES["movielens"], work(bench), *settings)
    plain = made("movielens", RECIPES["movielens"], work(bench))
    rows = known.rows("test")
    assert [row["items"] for row in rows] == [row["items"] for row in plain.rows("test")]
    for name, told in (("history", {}), ("stranger", {"items": []})):
        asked_ = [{**row, **told} for row in rows]
        ours_, theirs = (rank.ndcg(found(load(one.run.step("train")).answer(asked_), rows), 10)
                         for one in (known, plain))  # fmt: skip
        low, high = ours_.interval()
        bench.row(f"traits.{name}.ndcg@10", ours_.value, low=low, high=high, peer="the same without traits",
                  peer_value=theirs.value, note=f"p {ours_.beats(theirs):.4f}; {', '.join(TRAITS)}")  # fmt: skip


def auto(bench: Bench) -> None:
    """What the machine chooses by itself in five minutes, width, dropout and learning rate, beside the recipe's own."""
    settings = ["build={}", "train={minutes: 5, search: auto}"]
    left = made("movielens-auto", RECIPES["movielens"], work(bench), *settings)
    chosen = made("movielens", RECIPES["movielens"], work(bench))
    rows = chosen.rows("test")
    answers = [ours(one, rows) for one in (left, chosen)]
    for part in ("served", "transformer"):
        ours_, theirs = (rank.ndcg(found_[part].new, 10) for found_ in answers)
        low, high = ours_.interval()
        bench.row(f"auto.{part}.ndcg@10", ours_.value, low=low, high=high, peer="the recipe's settings",
                  peer_value=theirs.value, ratio=ours_.value / theirs.value, note=f"p below {theirs.beats(ours_):.4f}; "
                  f"{left.learned.cpu / 60:.1f} min of CPU time")  # fmt: skip


def opened(name: str) -> Iterator[Row]:
    """The rows of a source that are rows."""
    return (row.row for row in open_rows(name) if not isinstance(row, Bad))


def reasons(bench: Bench) -> None:
    """What the best item's chance loses without the items named as its reasons, and without as many others."""
    shop = made("movielens", RECIPES["movielens"], work(bench))
    bundle = load(shop.run.step("train"))
    rows = [row for row in shop.rows("test") if len(row["items"]) >= 10][:REASONED]
    named, anyhow, chance = list[float](), list[float](), random.Random(0)
    for row in rows:
        [answer] = bundle.answer([{"items": row["items"], "k": 1, "reasons": True}])
        item = answer["items"][0]
        told = [reason["id"] for reason in item["because"]][:3]
        others = [other for other in dict.fromkeys(row["items"]) if other not in told]
        left = [without(row["items"], told), without(row["items"], chance.sample(others, min(len(told), len(others))))]
        before, *after = (score(bundle, items, item["id"]) for items in (row["items"], *left))
        for drops, now in zip((named, anyhow), after, strict=True):
            drops.append(math.log(max(before, LEAST)) - math.log(max(now, LEAST)))
    drop, other = Measure("drop", np.array(named)), Measure("drop", np.array(anyhow))
    low, high = drop.interval()
    bench.row("reasons.drop", drop.value, " nats", low=low, high=high, peer="as many others",
              peer_value=other.value, note=f"{len(rows)} users, up to 3 reasons each")  # fmt: skip
    bench.row("reasons.p_over_random", drop.beats(other))


def without(items: Sequence[str], gone: Sequence[str]) -> list[str]:
    return [item for item in items if item not in gone]


def score(bundle: Bundle, items: Sequence[str], wanted: str) -> float:
    """How likely an item is said to come next."""
    [answer] = bundle.answer([{"items": items, "k": 1_000_000, "seen": True}])
    return next((float(item["score"]) for item in answer["items"] if item["id"] == wanted), 0.0)


def work(bench: Bench) -> Path:
    """Where data and runs lie; they are kept, so that rows can be measured one after the other."""
    folder = Path(bench.options.work)
    folder.mkdir(parents=True, exist_ok=True)
    return folder.resolve()


SCRIPTS: Mapping[str, Callable[[Bench], None]] = {
    "movielens": table("movielens"), "beauty": table("beauty"), "games": table("games"), "retail": table("retail"),
    "latency": latency, "scale": scale, "prepare": prepared, "cold.movielens": cold("movielens"),
    "cold.retail": cold("retail"), "traits": traits, "auto": auto, "reasons": reasons,
}  # fmt: skip


if __name__ == "__main__":
    bench = Bench("recommend", __doc__ or "", {
        "work": (str(cache_folder() / "benchmarks"), "where data and runs are made and kept"),
        "minutes": (60.0, "CPU time a thread that a library may learn"),
        "threads": (os.cpu_count() or 1, "threads of a library"),
    })  # fmt: skip
    for prefix, measure_ in SCRIPTS.items():
        if any(name.startswith((f"{prefix}.", f"{prefix}-")) and bench.due(name) for name in bench.bars):
            measure_(bench)
    bench.done()
