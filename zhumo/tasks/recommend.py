"""recommend: what a user will want next, from what they took so far.

- A causal Transformer over items (SASRec, Kang & McAuley 2018) with the full softmax at every position.
- Beside it the neighbours of the newest items, which are hard to beat on small data. The answer is the product of the
  two (Hinton 2002), `transformer ** weight * neighbours ** (1 - weight)`; the weight is learned on validation rows.
- "Something new, or something again?" and "which?" are two questions. The first is answered by its rate in training, so
  the second is learned and asked among new items or among seen ones, never across: that spares the Transformer from
  learning again and again that a film is not watched twice.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import ClassVar

import numpy as np
import scipy.sparse as sparse
import torch
import torch.nn.functional as F
from torch import Tensor

from zhumo.baselines import rank as shop
from zhumo.errors import DataError
from zhumo.metrics import rank
from zhumo.metrics.measure import Measure
from zhumo.tasks import Answer, Baseline, Field, Loss, Row, Task
from zhumo.tasks.catalogue import FIELDS
from zhumo.tasks.examples import IGNORE, Batch, Example, batches, collate
from zhumo.transformer import Transformer

BEGIN = 5.0  # the score an ordinary item begins with where it stands right beside what was asked
SHOWN = 10  # items of an answer whose row does not say k
ROWS_AT_ONCE = 128
SCORES_AT_ONCE = 2**24  # numbers in one table of rows by items, to bound the memory of large catalogues
LEAST = 1e-12  # below this a probability is noise
CALIBRATED_ON = 5_000  # rows are plenty for one weight
WEIGHTS = np.arange(21) / 20

Ask = Callable[[Sequence[shop.History]], np.ndarray]
"""Histories -> the logarithm of how likely each item comes next, (histories, items), up to a constant a line."""


def bestsellers(task: Task, _train: Sequence[Row], test: Sequence[Row]) -> list[Answer]:
    """The same list for everyone, less what they have seen. The task has counted the training rows already."""
    assert isinstance(task, Recommend)
    return task.ranked(test, [(1.0, task.popularity)])


def neighbours(task: Task, _train: Sequence[Row], test: Sequence[Row]) -> list[Answer]:
    """The neighbours alone, which need no training."""
    assert isinstance(task, Recommend)
    return task.ranked(test, [(1.0, task.neighbours)])


class Recommend(Task):
    """Items out of a catalogue. Item i of the catalogue is id i + 1 of the model; 0 is padding.

    state: `items`, the catalogue, bestsellers first; `titles` by item where `prepare` found some; `again`, how often in
    training an item was taken again; `weight`, the part of the Transformer in the answer. arrays: `popularity`, share
    of users by item; `neighbours.*`, one sparse matrix.
    """

    name: ClassVar[str] = "recommend"
    fields: ClassVar[Mapping[str, Field]] = {
        "user": Field(str, guess=("user", "customer", "member", "client", "buyer", "session", "visitor",
                                  "用户", "会员", "客户", "顾客", "买家", "访客")),
        "item": Field(str, guess=("item", "product", "sku", "article", "movie", "goods", "stockcode", "asin", "isbn",
                                  "商品", "产品", "物品", "货号", "电影", "课程")),
        "time": Field(float, needed=False, guess=("time", "date", "timestamp", "ordered", "created",
                                                  "时间", "日期", "下单")),
        **FIELDS,
    }  # fmt: skip
    metric: ClassVar[str] = "ndcg@10"
    protocol: ClassVar[str] = "report.protocol.recommend"
    baselines: ClassVar[Mapping[str, Baseline]] = {"popularity": bestsellers, "neighbours": neighbours}
    histories: ClassVar[bool] = True

    def learn(self, rows: Iterable[Row]) -> None:
        """Collect the catalogue; count who has what and what follows what.

        Raises:
            DataError: no row holds an item.
        """
        described = self.state.pop("catalogue", {})
        if titles := {item: about["title"] for item, about in described.items() if "title" in about}:
            self.state["titles"] = titles
        taken = [row["items"] for row in rows]
        users = Counter(item for items in taken for item in set(items))
        if not users:
            raise DataError("recommend.no_items")
        self.state["items"] = sorted(users, key=lambda item: (-users[item], item))
        self._index = _places_of(self.state["items"])
        known = [self._history(items) for items in taken]
        steps = sum(max(len(history) - 1, 0) for history in known)
        again = sum(len(history) - len(set(history.tolist())) for history in known)
        self.state["again"] = (again + 1) / (steps + 2)  # rule of succession: never 0, never 1
        matrix = shop.neighbours(known, len(users))
        self.arrays |= {
            "popularity": shop.popularity(known, len(users)),
            "neighbours.data": matrix.data,
            "neighbours.indices": matrix.indices,
            "neighbours.indptr": matrix.indptr,
        }

    def encode(self, row: Row) -> list[Example]:
        """A training row: every item is the target of the one before it, in as many examples as its length needs.

        A row with `next`: only its first item is a target, so that the validation loss is about the question asked
        later.
        """
        ids = (self._history(row["items"]) + 1).tolist()
        if "next" not in row:
            return [{"ids": part[:-1], "targets": part[1:]} for part in _windows(ids, self.length)]
        wanted = self._history(row["next"])
        if not len(wanted) or not ids:
            return []
        ids = ids[-self.length :]
        return [{"ids": ids, "targets": [IGNORE] * (len(ids) - 1) + [int(wanted[0]) + 1]}]

    @property
    def vocabulary(self) -> int:
        """The catalogue and padding."""
        return len(self.state["items"]) + 1

    @property
    def legend(self) -> Mapping[str, Sequence[str | None]]:
        """Each item has a row of the embeddings, after that of padding."""
        return {"stem.tokens.weight": [None, *self.state["items"]]}

    def head(self, width: int) -> None:
        """The embeddings of the items are the head."""

    def begin(self, model: Transformer) -> None:
        """Items begin where their neighbours are, so the first thing a fresh model says is what the neighbours say.

        It then learns from there: better in five epochs than from noise in twenty (MovieLens-100K). A tenth of the
        noise stays, to tell apart what has no neighbours.
        """
        width = model.config.width
        stand = torch.from_numpy(shop.places(self._matrix(), width)).float()
        with torch.no_grad():
            # The last norm gives a hidden state the length sqrt(width), and an item of variance v has sqrt(v * width).
            model.stem.tokens.weight[1:].mul_(0.1).add_(stand, alpha=BEGIN / width)

    def loss(self, model: Transformer, batch: Batch) -> Loss:
        """Cross-entropy at every position that has a target: over all new items, or over all seen where it is one."""
        assert model.head is not None
        asked = batch["targets"] != IGNORE
        targets = batch["targets"][asked]
        # No mask: what pads a row on the right is never in sight of a causal model.
        logits = model.head(model.hidden(batch["ids"])[asked]).float()
        seen = _seen(batch["ids"], asked, logits.size(1))
        other = seen != seen.gather(1, targets[:, None])
        other[:, 0] = True  # padding is no item
        return Loss(F.cross_entropy(logits.masked_fill(other, -torch.inf), targets, reduction="sum"), len(targets))

    def calibrate(self, model: Transformer, rows: Sequence[Row]) -> None:
        """The weight of the Transformer with the best NDCG@10; of equals the one that asks both most evenly."""
        rows = [row for row in rows if len(self._history(row["next"]))]
        rows = rows[:: 1 + len(rows) // CALIBRATED_ON]
        if not rows:
            return
        asks: list[Ask] = [self.transformer(model), self.neighbours]
        gains = []
        for indices, seen, tables in self._tables(rows, asks):
            wanted = rank.padded([self._history(rows[index]["next"]).tolist() for index in indices])
            scores = (np.where(seen, -np.inf, _blend(tables, [w, 1 - w])) for w in WEIGHTS)
            gains.append(np.stack([rank.ndcg(_places(table, wanted), 10).values for table in scores]))
        means = np.array([line.mean() for line in np.concatenate(gains, axis=1)])
        best = np.flatnonzero(means == means.max())
        self.state["weight"] = float(WEIGHTS[best[np.abs(WEIGHTS[best] - 0.5).argmin()]])

    def variants(self, model: Transformer, rows: Sequence[Row]) -> dict[str, list[Answer]]:
        """The Transformer alone; the neighbours alone stand among the baselines."""
        return {"transformer": self.ranked(rows, [(1.0, self.transformer(model))])}

    def answer(self, model: Transformer, rows: Sequence[Row]) -> list[Answer]:
        """The `k` (10) most likely items of each row, those in its history left out unless `seen`.

        Items nobody had in training say nothing; a history without any known item gets the bestsellers.

        Raises:
            DataError: a row asks for fewer than one item.
        """
        weight = self.state.get("weight", 0.5)
        return self.ranked(rows, [(weight, self.transformer(model)), (1 - weight, self.neighbours)])

    def score(self, answers: Sequence[Answer], rows: Sequence[Row]) -> list[Measure]:
        """Was the next item found, and how high; how much of the catalogue is shown, and how far from bestsellers."""
        lists = [[item["id"] for item in answer["items"]] for answer in answers]
        where = rank.places(lists, [row["next"] for row in rows])
        popularity = dict(zip(self.state["items"], self.arrays["popularity"].tolist(), strict=True))
        return [
            rank.ndcg(where, 10),
            rank.hit(where, 10),
            rank.mrr(where, 10),
            rank.coverage(lists, len(popularity), 10),
            rank.novelty(lists, popularity, 10),
        ]

    def ranked(self, rows: Sequence[Row], parts: Sequence[tuple[float, Ask]]) -> list[Answer]:
        """The best items of each row by the blend of what the parts say; what weighs nothing is not asked."""
        parts = [(weight, ask) for weight, ask in parts if weight > 0]
        answers: list[Answer] = [{} for _ in rows]
        for indices, seen, tables in self._tables(rows, [ask for _, ask in parts]):
            again = np.array([self.state["again"] if rows[index].get("seen", False) else 0.0 for index in indices])
            scores = _likely(_blend(tables, [weight for weight, _ in parts]), seen, again[:, None])
            for index, line in zip(indices, scores, strict=True):
                answers[index] = self._say(line, rows[index].get("k", SHOWN))
        return answers

    def popularity(self, histories: Sequence[shop.History]) -> np.ndarray:
        """What an Ask says that looks at no history."""
        return np.tile(np.log(self.arrays["popularity"]), (len(histories), 1))

    def neighbours(self, histories: Sequence[shop.History]) -> np.ndarray:
        """What the neighbours of each history say."""
        scores: np.ndarray = np.log(np.maximum(shop.ask(self._matrix(), self.arrays["popularity"], histories), LEAST))
        return scores

    def _matrix(self) -> sparse.csr_array:
        names = ("neighbours.data", "neighbours.indices", "neighbours.indptr")
        size = len(self.arrays["popularity"])
        return sparse.csr_array(tuple(self.arrays[name] for name in names), shape=(size, size))

    def transformer(self, model: Transformer) -> Ask:
        """An Ask of the Transformer; it cannot be asked with an empty history, so that gets the bestsellers."""

        def ask(histories: Sequence[shop.History]) -> np.ndarray:
            scores = self.popularity(histories)
            known = [index for index, history in enumerate(histories) if len(history)]
            if known:
                scores[known] = self._logits(model, [histories[index] for index in known])
            return scores

        return ask

    def _logits(self, model: Transformer, histories: Sequence[shop.History]) -> np.ndarray:
        assert model.head is not None
        recent = [(history[-self.length :] + 1).tolist() for history in histories]
        device = next(model.parameters()).device
        with torch.inference_mode():
            hidden = model.hidden(collate([{"ids": ids} for ids in recent], device)["ids"])
            ends = torch.tensor([len(ids) - 1 for ids in recent], device=device)
            logits = model.head(hidden[torch.arange(len(recent), device=device), ends])[:, 1:]
            scores: np.ndarray = logits.float().cpu().numpy()
        return scores

    def _tables(
        self, rows: Sequence[Row], asks: Sequence[Ask]
    ) -> Iterator[tuple[list[int], np.ndarray, list[np.ndarray]]]:
        """Some rows at a time: their indices, which items each has seen, and what each part says of them."""
        histories = [self._history(row["items"]) for row in rows]
        size = max(1, min(ROWS_AT_ONCE, SCORES_AT_ONCE // self.vocabulary))
        for indices, _ in batches([{"ids": history.tolist()} for history in histories], size):
            some = [histories[index] for index in indices]
            seen = np.zeros((len(some), self.vocabulary - 1), dtype=bool)
            seen[np.repeat(np.arange(len(some)), [len(history) for history in some]), np.concatenate(some)] = True
            yield indices, seen, [ask(some) for ask in asks]

    def _say(self, scores: np.ndarray, k: int) -> Answer:
        if k < 1:
            raise DataError("recommend.bad_k", k=k)
        items, titles = self.state["items"], self.state.get("titles", {})
        least = np.partition(scores, -k)[-k] if k < len(scores) else 0.0
        able = np.flatnonzero((scores >= least) & (scores > 0))  # more than k where several are equal to the last
        best = able[np.argsort(-scores[able], kind="stable")][:k]
        said: list[Row] = [{"id": items[place], "score": float(scores[place])} for place in best]
        return {"items": [item | {"title": titles[item["id"]]} if item["id"] in titles else item for item in said]}

    @cached_property
    def _index(self) -> dict[str, int]:
        return _places_of(self.state["items"])

    def _history(self, items: Sequence[str]) -> shop.History:
        """Places of the known items in the catalogue."""
        return np.array([self._index[item] for item in items if item in self._index], dtype=np.int64)


def _places_of(items: Sequence[str]) -> dict[str, int]:
    return {item: place for place, item in enumerate(items)}


def _windows(ids: list[int], length: int) -> Iterator[list[int]]:
    """Parts of up to length + 1 ids, newest first, that overlap by one: each id but the first is a target once."""
    for end in range(len(ids), 1, -length):
        yield ids[max(0, end - length - 1) : end]


def _seen(ids: Tensor, asked: Tensor, vocabulary: int) -> Tensor:
    """Which items stand at or before each asked position, (asked, vocabulary)."""
    row, place = asked.nonzero(as_tuple=True)
    ahead = torch.arange(ids.size(1), device=ids.device) > place[:, None]
    seen = torch.zeros(len(row), vocabulary, dtype=torch.bool, device=ids.device)
    return seen.scatter_(1, ids[row].masked_fill(ahead, 0), True)


def _blend(tables: Sequence[np.ndarray], weights: Sequence[float]) -> np.ndarray:
    blended = [weight * table for table, weight in zip(tables, weights, strict=True) if weight > 0]
    total: np.ndarray = np.add.reduce(blended)
    return total


def _likely(scores: np.ndarray, seen: np.ndarray, again: np.ndarray) -> np.ndarray:
    """Logarithms as probabilities; of each line the seen items share `again` and the new ones the rest."""
    total = np.zeros(scores.shape)
    for inside, part in ((seen, again), (~seen, 1 - again)):
        best = np.max(scores, axis=1, keepdims=True, initial=-1e30, where=inside)
        powers = np.where(inside, np.exp(np.clip(scores - best, -500, 0)), 0)
        total += part * powers / np.maximum(powers.sum(axis=1, keepdims=True), LEAST)
    return total


def _places(scores: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Where the wanted items of each line stand among all, (lines, wanted); NaN where a line wants fewer."""
    columns = [np.where(np.isnan(one), np.nan, _place(scores, np.nan_to_num(one).astype(int))) for one in wanted.T]
    return np.stack(columns, axis=1)


def _place(scores: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Where the wanted item of each line stands, counted from 0; of equals the earlier item comes first."""
    own = scores[np.arange(len(wanted)), wanted][:, None]
    before = np.arange(scores.shape[1]) < wanted[:, None]
    place: np.ndarray = ((scores > own) | ((scores == own) & before)).sum(axis=1)
    return place
