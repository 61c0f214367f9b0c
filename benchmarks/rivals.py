"""Who a recommender is measured against: the textbook's methods, and libraries that live in environments of their own.

A library's answers are kept as what they hit: a number of ten bits a row, bit p set where the item at place p was
right. That is enough to repeat every measure and every paired test, and fits into the repository.
"""

import hashlib
import json
import os
import subprocess
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice, pairwise
from pathlib import Path
from typing import Any, Literal

import numpy as np
import scipy.sparse as sparse

from benchmarks.harness import HERE, KEPT_MEMORY, RESULTS, peer_python, record_peer
from zhumo.metrics import rank
from zhumo.metrics.measure import Measure
from zhumo.tasks import Row

K = 10
AT_ONCE = 256

Protocol = Literal["new", "again"]
"""Whether seen items are removed from an answer, or may be recommended again."""

LEADS: Mapping[str, Protocol] = {"retail": "again"}  # a shop of goods that are used up; elsewhere `new`

RECTOOLS = ("torch==2.13.0", "rectools[torch]==0.19.0")
# By hand, since its own requirements bring a Ray that is gone, and a pandas and a numpy it does not run on.
RECBOLE = (
    "--no-deps", "torch==2.13.0", "recbole==1.2.1", "numpy==1.26.4", "pandas==2.3.3", "scipy==1.17.1",
    "scikit-learn==1.9.1", "joblib==1.5.1", "threadpoolctl==3.8.0", "narwhals==2.29.0", "tqdm==4.70.1",
    "colorlog==4.7.2", "colorama==0.4.4", "pyyaml==6.0.3", "thop==0.1.1.post2209072238", "tabulate==0.10.0",
    "texttable==1.7.2", "psutil==7.2.2", "python-dateutil==2.9.0.post0", "six==1.17.0", "pytz==2026.6",
    "tzdata==2026.6", "filelock==4.2.12", "typing_extensions==4.16.0", "sympy==1.14.0", "mpmath==1.3.0",
    "networkx==3.6.1", "jinja2==3.1.6", "MarkupSafe==3.0.4", "fsspec==2026.9.0",
)  # fmt: skip

# What the authors of eSASRec publish with it (blondered/transformer_benchmark, README, "Hyperparameters for all
# datasets"): Beauty's for both Amazon files and the shop, those of MovieLens-1M for MovieLens-100K.
AMAZON: dict[str, Any] = {"n_factors": 64, "n_blocks": 1, "n_heads": 1, "dropout_rate": 0.2, "session_max_len": 50,
          "loss": "sampled_softmax", "n_negatives": 256, "lr": 0.001, "batch_size": 128}  # fmt: skip
MOVIES = {**AMAZON, "n_blocks": 2, "dropout_rate": 0.1, "session_max_len": 200}
# As RecTools' own tutorial for transformers has it, with all items in the loss: slower, and its best on MovieLens-100K.
SOFTMAX = {"n_factors": 128, "n_blocks": 2, "n_heads": 4, "dropout_rate": 0.2, "session_max_len": 100,
           "loss": "softmax", "lr": 0.001, "batch_size": 128}  # fmt: skip
LIGR = {"transformer_layers_type": "rectools.models.nn.transformers.ligr.LiGRLayers",
        "transformer_layers_kwargs": {"ff_factors_multiplier": 4}, "use_key_padding_mask": True}  # fmt: skip
DROPOUT = {"hidden_dropout_prob": 0.2, "attn_dropout_prob": 0.2}


@dataclass(frozen=True)
class Peer:
    """A library's model with its authors' settings. epochs, patience: when it ends by itself."""

    python: str
    packages: tuple[str, ...]
    settings: Mapping[str, Any]
    epochs: int
    patience: int


def peers(shop: str) -> dict[str, Peer]:
    """The libraries asked about a shop."""
    base, epochs = (MOVIES, 100) if shop == "movielens" else (AMAZON, 200)
    found = {
        "rectools-esasrec": Peer("rectools", RECTOOLS, {**base, **LIGR}, epochs, 50),
        "rectools-sasrec": Peer("rectools", RECTOOLS, base, epochs, 50),
    }
    if shop == "movielens":
        found["rectools-sasrec-softmax"] = Peer("rectools", RECTOOLS, SOFTMAX, 30, 30)
    # RecBole holds out one item a user, so it is not asked for baskets.
    return found if shop == "retail" else {**found, "recbole-sasrec": Peer("recbole", RECBOLE, DROPOUT, 300, 10)}


@dataclass(frozen=True)
class Found:
    """Where the wanted items stand in somebody's answers, (rows, most wanted), under both protocols.

    lead: the protocol it is judged by; seconds: wall and CPU until the weights that answered, where known; facts: what
    else is known of the run.
    """

    new: np.ndarray
    again: np.ndarray
    lead: Protocol = "new"
    seconds: tuple[float, float] | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)

    @property
    def ndcg(self) -> Measure:
        """NDCG@10 under the leading protocol."""
        return rank.ndcg(self.new if self.lead == "new" else self.again, K)

    def note(self) -> str:
        """Hit rate, the other protocol, and how long it learned."""
        parts = []
        for name, where, told in (("new", self.new, "removed"), ("again", self.again, "kept")):
            ndcg = "" if name == self.lead else f"NDCG@10 {rank.ndcg(where, K).value:.4f}, "
            parts.append(f"seen items {told}: {ndcg}HR@10 {rank.hit(where, K).value:.4f}")
        if self.seconds:
            parts.append(f"learned {self.seconds[0] / 60:.1f} min of wall, {self.seconds[1] / 60:.1f} min of CPU time")
        return "; ".join([*parts, *(f"{name} {value}" for name, value in self.facts.items())])


def places(lists: Sequence[Sequence[str]], rows: Sequence[Row]) -> np.ndarray:
    """Where each row's next items stand in its list."""
    return rank.places(lists, [row["next"] for row in rows])


def textbook(train: Sequence[Row], rows: Sequence[Row], *, markov: float = 1, neighbours: float = 1) -> Found:
    """The last item's followers (Markov) and cosine item-kNN of the whole history, each scaled to one, added up."""
    items = sorted({item for row in train for item in row["items"]})
    index = {item: place for place, item in enumerate(items)}
    taken = [[index[item] for item in row["items"]] for row in train]
    follows, cosine = followed(taken, len(items)), similar(taken, len(items))
    asked = [[index[item] for item in row["items"] if item in index] for row in rows]
    lists: dict[Protocol, list[list[str]]] = {"new": [], "again": []}
    for start in range(0, len(rows), AT_ONCE):
        some = asked[start : start + AT_ONCE]
        last = scaled(matrix([history[-1:] for history in some], len(items)) @ follows)
        near = scaled(matrix([list(set(history)) for history in some], len(items)) @ cosine)
        scores = (markov * last + neighbours * near).tocsr()
        for line, history in enumerate(some):
            inside = slice(scores.indptr[line], scores.indptr[line + 1])
            for protocol, out in (("new", set(history)), ("again", set[int]())):
                best = highest(scores.indices[inside], scores.data[inside], out, len(items)) if history else []
                lists[protocol].append([items[place] for place in best])  # type: ignore[index]
    return Found(places(lists["new"], rows), places(lists["again"], rows))


def highest(column: np.ndarray, score: np.ndarray, out: set[int], items: int) -> list[int]:
    """The ten highest of those not out; of equals the earlier, and where too few have a score the earliest others."""
    order = np.lexsort((column, -score))[: K + len(out)]
    best = [place for place in column[order][score[order] > 0].tolist() if place not in out][:K]
    rest = (place for place in range(items) if place not in out and place not in best)
    return best + list(islice(rest, K - len(best)))


def favourites(rows: Sequence[Row]) -> Found:
    """What each user took most often; nothing where that is not to be recommended."""
    counted = (Counter[str](row["items"]).most_common(K) for row in rows)
    again = places([[item for item, _ in best] for best in counted], rows)
    return Found(np.where(np.isnan(again), np.nan, rank.NOWHERE), again)


def followed(histories: Sequence[Sequence[int]], items: int) -> sparse.csr_array:
    """How often the column's item came right after the row's."""
    steps = np.array([pair for history in histories for pair in pairwise(history)]).reshape(-1, 2)
    return sparse.csr_array((np.ones(len(steps)), (steps[:, 0], steps[:, 1])), shape=(items, items))


def similar(histories: Sequence[Sequence[int]], items: int) -> sparse.csr_array:
    """Cosine of two items' users, 0 with itself."""
    owns = matrix([list(set(history)) for history in histories], items)
    together = (owns.T @ owns).tocoo()
    norms = np.sqrt(np.maximum(together.diagonal(), 1))
    value = np.where(together.row != together.col, together.data / (norms[together.row] * norms[together.col]), 0)
    return sparse.csr_array((value, (together.row, together.col)), shape=(items, items))


def matrix(histories: Sequence[Sequence[int]], items: int) -> sparse.csr_array:
    """One line a history, 1 at its items."""
    row = np.repeat(np.arange(len(histories)), [len(history) for history in histories])
    column = np.array([item for history in histories for item in history], dtype=np.int64)
    return sparse.csr_array((np.ones(len(column)), (row, column)), shape=(len(histories), items))


def scaled(scores: sparse.csr_array) -> sparse.csr_array:
    """Each line divided by its largest."""
    largest = np.maximum(scores.max(axis=1).toarray().ravel(), 1e-9)
    found: sparse.csr_array = (sparse.diags_array(1 / largest) @ scores).tocsr()
    return found


def ask(shop: str, name: str, parts: Mapping[str, Sequence[Row]], minutes: float, threads: int, folder: Path) -> None:
    """Let a library learn and answer, and keep what it hit. It may be ended (SIGTERM) and then answers at once."""
    peer = peers(shop)[name]
    task = {
        "train": [row["items"] for row in parts["train"]],
        "valid": [{"items": row["items"], "next": row["next"]} for row in parts["valid"]],
        "test": [row["items"] for row in parts["test"]],
        "settings": peer.settings, "epochs": peer.epochs, "patience": peer.patience,
        "minutes": minutes, "threads": threads, "seed": 0, "k": K, "lead": LEADS.get(shop, "new"),
    }  # fmt: skip
    asked, answered = folder / f"{shop}-{name}.json", folder / f"{shop}-{name}.out"
    asked.write_text(json.dumps(task), encoding="utf-8")
    script = str(HERE / "peers" / f"{peer.python}_sequential.py")
    command = [str(peer_python(peer.python, *peer.packages)), script, str(asked), str(answered)]
    kind = {"OMP_NUM_THREADS": str(threads), **KEPT_MEMORY}
    subprocess.run(command, cwd=HERE.parent, env={**os.environ, **kind, "PYTHONWARNINGS": "ignore"}, check=True)
    keep(shop, name, json.loads(answered.read_text(encoding="utf-8")), parts["test"], command)


def keep(shop: str, name: str, found: Mapping[str, Any], rows: Sequence[Row], command: list[str]) -> None:
    """Record a library's run: what it hit, its curve over time, its settings."""
    hits = {protocol: to_hits(places(lists, rows)) for protocol, lists in found["answers"].items()}
    facts = {key: value for key, value in found.items() if key != "answers"}
    record_peer(f"{shop}-{name}.json", command, {**facts, "rows": digest(rows), "hits": hits},
                *peers(shop)[name].packages)  # fmt: skip


def recorded(shop: str, name: str, rows: Sequence[Row]) -> Found | None:
    """A library's recorded run; None where there is none.

    Raises:
        ValueError: it was asked about other rows.
    """
    path = RESULTS / "peers" / f"{shop}-{name}.json"
    if not path.is_file():
        return None
    kept = json.loads(path.read_text(encoding="utf-8"))
    if kept["rows"] != digest(rows):
        raise ValueError(f"{path.name} answers other rows than those of today's split; run it again with --peers")
    new, again = (from_hits(kept["hits"][protocol], rows) for protocol in ("new", "again"))
    best = best_epoch(kept["curve"])
    facts = {"epochs": f"{best['epoch']} of {kept['curve'][-1]['epoch']}", "ended by": kept["ended"],
             "validation": best["ndcg@10"], "threads": kept["threads"], "load": kept["load"]}  # fmt: skip
    return Found(new, again, LEADS.get(shop, "new"), (best["wall"], best["cpu"]), facts)


def given(shop: str, name: str) -> float:
    """Minutes of CPU time a thread of a library's recorded run; 0 where there is none, or it was ended by hand."""
    path = RESULTS / "peers" / f"{shop}-{name}.json"
    kept = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {"ended": "hand"}
    return 0.0 if kept["ended"] == "hand" else float(kept["minutes"])


def best_epoch(curve: Sequence[dict[str, float]]) -> dict[str, float]:
    """The entry with the best validation; of equals the earliest."""
    return max(curve, key=lambda entry: (entry["ndcg@10"], -entry["epoch"]))


def digest(rows: Sequence[Row]) -> str:
    """What tells one split from another."""
    text = json.dumps([[row["items"], row["next"]] for row in rows], separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def to_hits(where: np.ndarray) -> str:
    """Places as three hexadecimal digits a row."""
    bits = np.where(where < K, 2.0 ** np.where(where < K, where, 0), 0).sum(axis=1).astype(int)
    return "".join(f"{number:03x}" for number in bits)


def from_hits(text: str, rows: Sequence[Row]) -> np.ndarray:
    """The places again; what was not hit stands nowhere."""
    found = []
    for number, row in enumerate(rows):
        bits = int(text[3 * number : 3 * number + 3], 16)
        hit = [float(place) for place in range(K) if bits >> place & 1]
        found.append(hit + [rank.NOWHERE] * (len(dict.fromkeys(row["next"])) - len(hit)))
    return rank.padded(found)
