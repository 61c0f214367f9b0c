"""recommend: what a user will want next, from what they took so far.

- A causal Transformer over items (SASRec, Kang & McAuley 2018). A hidden state is compared with every item by their
  cosine: neither a bestseller nor a rare item is loud by its length, which on sparse shops is worth more than any other
  choice here (`docs/decisions.md`).
- Beside it the neighbours of the newest items, which are hard to beat on small data. The answer is the product of the
  two (Hinton 2002), `transformer ** weight * neighbours ** (1 - weight)`; the weight is learned on validation rows.
- "Something new, or something again?" is answered by its rate in training; "which?" is learned and asked among new
  items or among seen ones, never across: that spares the Transformer from learning again and again that a film is not
  watched twice.
- What is taken more often lately than it used to be gains by it, to a learned power; where nothing changes that is 0.
- An item nobody took yet stands between those most like it in what is known of them (`likeness`).
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
import scipy.sparse as sparse
import torch
import torch.nn.functional as F
from torch.utils.checkpoint import checkpoint

from zhumo.baselines import rank as shop
from zhumo.errors import DataError
from zhumo.metrics import rank
from zhumo.metrics.measure import Measure
from zhumo.tasks import Answer, Baseline, Field, Loss, Row, Task, likeness, softmax, traits
from zhumo.tasks.catalogue import FIELDS, Catalogue
from zhumo.tasks.chances import apart, blended, odds, standing
from zhumo.tasks.examples import IGNORE, Batch, Example, batches
from zhumo.tasks.mix import Mix, best_mix
from zhumo.tasks.shelf import WIDER, Shelf, best, diverse
from zhumo.tasks.voices import Ask, Visitor, Voices, keep
from zhumo.transformer import Transformer

BEGIN = 5.0  # the score an ordinary item begins with where it stands right beside what was asked
LIKE = 0.5  # what all likeness together counts beside all company where items begin that nobody took
RARE = 5  # takers of an item at which its company is believed half
SHOWN = 10  # items of an answer whose row does not say k
REASONS = 3  # items of the history an answer is put down to, at most
EARLIEST = 50  # items from the end of a history that are looked at for reasons
ROWS_AT_ONCE = 128
SCORES_AT_ONCE = 2**24  # numbers in one table of rows by items, to bound the memory of large catalogues
LEARNED_AT_ONCE = 2**21  # the same while learning, where such a table is passed over ten times: it stays in the cache
CALIBRATED_ON = 5_000  # rows are plenty for one weight
SCORES_IN_ALL = 2**29  # rows times items, to bound the time that it takes for a large catalogue
OFTEN = 0.1  # rate of taking again from which a shop is judged with seen items kept
AGAIN = (0.5, 0.6, 0.7, 0.8, 0.9)  # rates that are tried beside the one of training


def bestsellers(task: Task, _train: Sequence[Row], test: Sequence[Row]) -> list[Answer]:
    """The same list for everyone, less what they have seen. The task has counted the training rows already."""
    assert isinstance(task, Recommend)
    return task.ranked(test, [(1.0, task.voices.popularity)], personal=False)


def lately(task: Task, _train: Sequence[Row], test: Sequence[Row]) -> list[Answer]:
    """The bestsellers of the newest tenth of all interactions, less what somebody has seen."""
    assert isinstance(task, Recommend)
    return task.ranked(test, [(1.0, task.voices.popularity), (1.0, task.voices.trend)], personal=False)


def neighbours(task: Task, _train: Sequence[Row], test: Sequence[Row]) -> list[Answer]:
    """The neighbours alone, which need no training."""
    assert isinstance(task, Recommend)
    return task.ranked(test, [(1.0, task.voices.neighbours)])


class Recommend(Task):
    """Items out of a catalogue. Item i of the catalogue is id i + 1 of the model; 0 is padding.

    state: `items`, first the `warm` ones, bestsellers first, then those that are only described; `catalogue`, what is
    known of them by column; `traits`, words of what is known of users; `again`, how often in training an item was
    taken again, later how much of such is shown; `protocol`, which leads and is what a row asks that does not say;
    `neighbours`, how they are asked; `weight`, the part of the Transformer in the answer; `trend`, the power of the
    trend in it; `new`, where `again` leads, those two of an answer of new items.
    arrays: `popularity`, share of users by item; `trend`, how much more of it lately; `neighbours.*`, one sparse matrix
    of the warm items; `alike.*`, where the others stand between them.
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
    protocols: ClassVar[Mapping[str, Row]] = {"new": {"seen": False}, "again": {"seen": True}}
    dials: ClassVar[Mapping[str, Sequence[Row]]] = {
        "diversity": [{"k": SHOWN, "diversity": share} for share in (0.0, 0.25, 0.5, 0.75, 1.0)]
    }
    baselines: ClassVar[Mapping[str, Baseline]] = {
        "popularity": bestsellers,
        "lately": lately,
        "neighbours": neighbours,
    }
    histories: ClassVar[bool] = True
    reads: ClassVar[bool] = True

    def learn(self, rows: Iterable[Row]) -> None:
        """Collect the catalogue; count who has what and what follows what.

        Raises:
            DataError: no row holds an item.
        """
        first: dict[str, int] = {}
        taken, times, people = list[np.ndarray](), list[np.ndarray](), list[Mapping[str, Any]]()
        for row in rows:
            people.append(row.get("traits", {}))
            taken.append(np.array([first.setdefault(item, len(first)) for item in row["items"]], dtype=np.int64))
            times.append(_times(row))
        if not first:
            raise DataError("recommend.no_items")
        users = shop.popularity(taken, len(first)).tolist()
        warm = sorted(first, key=lambda item: (-users[first[item]], item))
        catalogue = Catalogue.arranged(warm, self.state.pop("catalogue", {}))
        self.state |= {"items": catalogue.items, "warm": len(warm), "catalogue": dict(catalogue.columns)}
        self.state["traits"] = traits.common(people)
        place = np.array([self.catalogue.index[item] for item in first])
        known = [place[history] for history in taken]
        steps = sum(max(len(history) - 1, 0) for history in known)
        again = sum(len(history) - len(set(history.tolist())) for history in known)
        self.state["again"] = (again + 1) / (steps + 2)  # rule of succession: never 0, never 1
        self.state["protocol"] = "again" if self.state["again"] > OFTEN else "new"
        self.state["neighbours"] = asdict(shop.learned(known, len(warm)))
        self._count(known, times)
        if len(warm) < len(catalogue.items):
            described = likeness.counted(map(catalogue.about, range(len(catalogue.items))))
            old, new = described[: len(warm)], described[len(warm) :]
            keep(self.arrays, "alike", likeness.Known(old).alike(new))

    def encode(self, row: Row) -> list[Example]:
        """A training row: every item is the target of the one before it, in as many examples as its length needs.

        A row with `next`: only its first item is a target, so that the validation loss is about the question asked
        later.
        """
        known = self._traits(row).tolist()
        ids, room = (self._history(row["items"]) + 1).tolist(), self.length - len(known)
        if "next" not in row:
            return [
                _example(known, part, first=first) for part, first in _windows(ids, room) if len(known) + len(part) > 1
            ]
        wanted = [place for place in self._history(row["next"]) if place < self.warm]
        ids = [*known, *ids[-room:]]
        if not wanted or not ids:
            return []
        return [{"ids": ids, "targets": [IGNORE] * (len(ids) - 1) + [int(wanted[0]) + 1]}]

    @property
    def vocabulary(self) -> int:
        """Padding, the warm items, the traits."""
        return 1 + self.warm + len(self.state["traits"])

    @property
    def warm(self) -> int:
        """How many items of the catalogue somebody has taken in training."""
        return int(self.state["warm"])

    @property
    def legend(self) -> Mapping[str, Sequence[str | None]]:
        """Each warm item and each trait has a row of the embeddings, after that of padding."""
        words = [f"trait {word}" for word in self.state["traits"]]
        return {"stem.tokens.weight": [None, *self.state["items"][: self.warm], *words]}

    def head(self, width: int) -> None:
        """The embeddings of the items are the head."""

    def begin(self, model: Transformer) -> None:
        """Items begin where their neighbours are, so the first thing a fresh model says is what the neighbours say; and
        beside those they are like in what is known of them, as far as few people took them: the company of an item
        that many took says more than its words.

        It then learns from there. A tenth of the noise stays, to tell apart what has no neighbours.
        """
        width = model.config.width
        near = self.voices.near / max(float(self.voices.near.sum()), shop.LEAST)
        if self.catalogue.columns and self.warm <= softmax.LARGE:  # each is compared with every other
            like = likeness.among(likeness.counted(map(self.catalogue.about, range(self.warm))))
            takers = self.state["people"] * self.arrays["popularity"]
            unknown = sparse.diags_array(np.sqrt(RARE / (RARE + takers)))
            near = near + LIKE / max(float(like.sum()), shop.LEAST) * (unknown @ like @ unknown)
        stand = torch.from_numpy(shop.places(near.tocsr(), width)).float()
        with torch.no_grad():
            # The last norm gives a hidden state the length sqrt(width), and an item of variance v has sqrt(v * width).
            model.stem.tokens.weight[1 : self.warm + 1].mul_(0.1).add_(stand, alpha=BEGIN / width)

    def loss(self, model: Transformer, batch: Batch) -> Loss:
        """Cross-entropy at every position that has a target: over all new items, or over all seen where it is one."""
        asked = batch["targets"] != IGNORE
        targets = batch["targets"][asked]
        # No mask: what pads a row on the right is never in sight of a causal model.
        hidden = F.normalize(model.hidden(batch["ids"])[asked].float(), dim=-1)
        row, place = asked.nonzero(as_tuple=True)
        ahead = torch.arange(batch["ids"].size(1), device=row.device) > place[:, None]
        items = batch["ids"].masked_fill(batch["ids"] > self.warm, 0)  # traits are no items
        seen = F.pad(items[row].masked_fill(ahead, 0), (1, 0))  # padding is always among them
        weight, drawn = model.stem.tokens.weight, None
        if self.warm > softmax.LARGE:
            seed = np.abs(batch["ids"].cpu().numpy()).ravel()[:64]
            drawn = softmax.drawn(self.arrays["popularity"], seed, hidden.device)
            ids, targets, seen, drawn = softmax.narrowed(targets, seen, drawn)
            weight = F.embedding(ids, weight)
        else:
            weight = weight[: self.warm + 1]
        table = F.normalize(weight.float(), dim=-1)
        again = (seen == targets[:, None]).any(1)
        total = hidden.new_zeros(())
        wide = seen.size(1) * max(seen.size(1), hidden.size(1))
        for part in torch.split(again.nonzero()[:, 0], max(1, SCORES_AT_ONCE // wide)):
            total = total + checkpoint(
                softmax.among_seen, hidden[part], table, targets[part], seen[part], use_reentrant=False
            )
        columns = self.warm if drawn is None else len(drawn[0])
        for part in torch.split((~again).nonzero()[:, 0], max(1, LEARNED_AT_ONCE // columns)):
            # A part is computed again for its gradient: one table of scores is in memory, however many are asked.
            total = total + checkpoint(
                softmax.among_new, hidden[part], table, targets[part], seen[part], drawn, use_reentrant=False
            )
        return Loss(total, len(targets))

    def calibrate(self, model: Transformer, rows: Sequence[Row]) -> None:
        """Learn the mix by NDCG@10 of rows with `next`; where things are often taken again also how much those are to
        be shown, and weight and trend once more for answers of new items alone."""
        rows = [row for row in rows if any(place < self.warm for place in self._history(row["next"]))]
        rows = rows[:: 1 + len(rows) // min(CALIBRATED_ON, max(1, SCORES_IN_ALL // len(self.state["items"])))]
        if not rows:
            return

        def gains(tried: Sequence[Mix]) -> np.ndarray:
            return self._gains(model, rows, tried)

        rate = self.state["again"]
        mix = best_mix(gains, [0.0])
        if self.repeats:
            self.state["new"] = {"weight": mix.weight, "trend": mix.trend}
            mix = best_mix(gains, [rate, *(one for one in AGAIN if one > rate)])
            self.state["again"] = mix.again
        self.state |= {"weight": mix.weight, "trend": mix.trend}

    def _gains(self, model: Transformer, rows: Sequence[Row], tried: Sequence[Mix]) -> np.ndarray:
        """NDCG@10 of rows by some mixes, (mixes, rows)."""
        parts = []
        for indices, visitors in self._parts(rows):
            wanted = rank.padded([self._history(rows[index]["next"]).tolist() for index in indices])
            asks = (self.voices.transformer(model), self.voices.neighbours, self.voices.trend)
            tables = [ask(visitors) for ask in asks]
            stands = np.empty((len(tried), *wanted.shape))
            # All mixes of one row, then the next: its lines stay in the cache.
            for place, visitor in enumerate(visitors):
                lines = [table[place] for table in tables]
                for number, mix in enumerate(tried):
                    blend = blended(lines, [mix.weight, 1 - mix.weight, mix.trend])
                    stands[number, place] = standing(apart(blend, visitor.items, mix.again), wanted[place])
            parts.append(np.stack([rank.ndcg(table, 10).values for table in stands]))
        return np.concatenate(parts, axis=1)

    def refresh(self, train: Iterable[Row], valid: Sequence[Row]) -> None:
        """Count again with the validation items, which are history by the time of an answer."""
        later = {row["user"]: (row["next"], row.get("at")) for row in valid}
        index = self.catalogue.index
        histories, times = list[shop.History](), list[np.ndarray]()
        for row in train:
            newer, at = later.get(row["user"], ((), None))
            places = np.array([index.get(item, self.warm) for item in (*row["items"], *newer)], dtype=np.int64)
            histories.append(places[places < self.warm])
            times.append(_times(row, len(newer), at)[places < self.warm])
        self._count(histories, times)

    def variants(self, model: Transformer, rows: Sequence[Row]) -> dict[str, list[Answer]]:
        """The Transformer alone; the neighbours alone stand among the baselines."""
        return {"transformer": self.ranked(rows, [(1.0, self.voices.transformer(model))])}

    def answer(self, model: Transformer, rows: Sequence[Row]) -> list[Answer]:
        """The `k` (10) most likely items of each row. seen: whether those in its history may be among them; where a row
        does not say, as most do in this shop.

        only, exclude, boost, diversity: see `shelf`. traits: what is known of the user. new: items the catalogue does
        not have. reasons: with each item the items of the history it rests on most. Items and traits nobody knows say
        nothing; of whom nothing is known gets the bestsellers.

        Raises:
            DataError: a row asks for fewer than one item, or speaks of a column or a value that is not there.
        """
        answers: list[Answer] = [{} for _ in rows]
        plain = [index for index, row in enumerate(rows) if not row.get("new")]
        for index, row in enumerate(rows):
            if row.get("new"):
                (answers[index],) = self._with(row["new"])._answered(model, [row])
        for index, answer in zip(plain, self._answered(model, [rows[index] for index in plain]), strict=True):
            answers[index] = answer
        return answers

    def _answered(self, model: Transformer, rows: Sequence[Row]) -> list[Answer]:
        answers: list[Answer] = [{} for _ in rows]
        for seen in (False, True):
            indices = [index for index, row in enumerate(rows) if self._seen(row) == seen]
            found = self.ranked([rows[index] for index in indices], self._blend(model, seen))
            for index, answer in zip(indices, found, strict=True):
                answers[index] = answer
        return answers

    @property
    def repeats(self) -> bool:
        """Whether what was taken is taken again so often that it is shown where a row does not say."""
        return self.state.get("protocol") == "again"

    def _seen(self, row: Row) -> bool:
        """Whether what a row has seen may be shown."""
        asked = row.get("seen")
        return self.repeats if asked is None else bool(asked)

    def _blend(self, model: Transformer, seen: bool) -> list[tuple[float, Ask]]:
        """The parts of an answer, each with its weight. seen: whether what somebody has seen may be in it."""
        mix = self.state if seen else self.state.get("new", self.state)
        weight, trend, voices = mix.get("weight", 0.5), mix.get("trend", 0.0), self.voices
        return [(weight, voices.transformer(model)), (1 - weight, voices.neighbours), (trend, voices.trend)]

    def _with(self, new: Sequence[Row]) -> "Recommend":
        """This task with further items in its catalogue; those it has already stay as they are."""
        described = {str(row["item"]): {name: row[name] for name in row if name != "item"} for row in new}
        fresh = [item for item in described if item not in self.catalogue.index]
        names = dict.fromkeys([*self.catalogue.columns, *(name for item in fresh for name in described[item])])
        blank = [None] * len(self.catalogue.items)
        columns = {
            name: [*self.catalogue.columns.get(name, blank), *(described[item].get(name) for item in fresh)]
            for name in names
        }
        alike = self._described.alike(likeness.counted(described[item] for item in fresh))
        state = self.state | {"items": [*self.state["items"], *fresh], "catalogue": columns}
        grown = Recommend(None, self.length, state, self.arrays)
        earlier = self.voices.alike
        keep(grown.arrays, "alike", alike if earlier is None else sparse.vstack([earlier, alike], format="csr"))
        return grown

    def similar(self, model: Transformer, item: str, k: int, kind: str) -> Answer:
        """The `k` items that are like one; or, where kind is `complement`, those people take with or soon after it.

        score: the cosine of where the model puts the two; of a complement its share among what is taken then.

        Raises:
            DataError: the catalogue does not have the item.
        """
        place = self.catalogue.index.get(item)
        if place is None:
            raise DataError("recommend.unknown_item", item=item)
        line = self.voices.taken_with(place) if kind == "complement" else self.voices.like(model, place)
        line[place] = -np.inf
        return {"items": [self._item(one) | {"score": float(line[one])} for one in best(line, k).tolist()]}

    def score(self, answers: Sequence[Answer], rows: Sequence[Row]) -> list[Measure]:
        """What was found and how high; how much of the catalogue is shown, how far from bestsellers, how unlike."""
        lists = [[item["id"] for item in answer["items"]] for answer in answers]
        popularity = dict(zip(self.state["items"], self.arrays["popularity"].tolist(), strict=False))  # cold: none
        categories = self.catalogue.columns.get("category")
        by, known = ("category", rank.marked(categories)) if categories else ("company", self.voices.near)
        return [
            *rank.found(lists, [row["next"] for row in rows], min(row.get("k", SHOWN) for row in rows)),
            rank.coverage(lists, len(self.state["items"]), 10),
            rank.novelty(lists, popularity, 10),
            rank.bias(lists, [row["items"] for row in rows], popularity, 10),
            rank.diversity(lists, self.catalogue.index, known, 10, by),
        ]

    def ranked(self, rows: Sequence[Row], parts: Sequence[tuple[float, Ask]], *, personal: bool = True) -> list[Answer]:
        """The best items of each row by the blend of what the parts say; what weighs nothing is not asked.

        personal: whether what somebody has taken before is more likely to be taken again than as much by others.
        """
        parts = [(weight, ask) for weight, ask in parts if weight > 0]

        def said(visitors: Sequence[Visitor]) -> np.ndarray:
            return blended([ask(visitors) for _, ask in parts], [weight for weight, _ in parts])

        answers: list[Answer] = [{} for _ in rows]
        for indices, visitors in self._parts(rows):
            for index, visitor, line in zip(indices, visitors, said(visitors), strict=True):
                again = 0.0 if not self._seen(rows[index]) else self.state["again"] if personal else None
                answers[index] = self._say(rows[index], visitor, line, again, said)
        return answers

    def _parts(self, rows: Sequence[Row]) -> Iterator[tuple[list[int], list[Visitor]]]:
        """Some rows at a time, of like length: their indices and who asks."""
        visitors = [self._visitor(row) for row in rows]
        size = max(1, min(ROWS_AT_ONCE, SCORES_AT_ONCE // self.vocabulary))
        for indices, _ in batches([{"ids": visitor.items} for visitor in visitors], size):
            yield indices, [visitors[index] for index in indices]

    def _visitor(self, row: Row) -> Visitor:
        return Visitor(self._history(row["items"]), self._traits(row))

    def _traits(self, row: Row) -> np.ndarray:
        """Ids of what is known of a row's user, in one order; at most half of `length`, which is for the history."""
        known = (self._trait_ids[word] for word in traits.words(row.get("traits") or {}) if word in self._trait_ids)
        return np.array(sorted(set(known))[: self.length // 2], dtype=np.int64)

    @cached_property
    def _trait_ids(self) -> dict[str, int]:
        return {word: self.warm + 1 + place for place, word in enumerate(self.state["traits"])}

    def _say(self, row: Row, visitor: Visitor, line: np.ndarray, again: float | None, said: Ask) -> Answer:
        k = row.get("k", SHOWN)
        if k < 1:
            raise DataError("recommend.bad_k", k=k)
        shown = chances = apart(line, visitor.items, again)
        only, boost, exclude = row.get("only") or {}, row.get("boost") or {}, self._history(row.get("exclude") or [])
        if only or boost or len(exclude):
            self.shelf.check(only, boost)
            shown = np.where(self.shelf.allowed(only, exclude), self.shelf.boosted(chances, boost), -np.inf)
        diversity = row.get("diversity") or 0.0
        places = best(shown, k * WIDER if diversity else k)
        if diversity:
            places = places[diverse(shown[places], self.voices.likeness(places), diversity, k)]
        items = [self._item(place) | {"score": float(np.exp(chances[place]))} for place in places.tolist()]
        if row.get("reasons") and len(places):
            for item, because in zip(items, self._reasons(visitor, chances, again, places, said), strict=True):
                item["because"] = because
        return {"items": items}

    def _item(self, place: int) -> dict[str, Any]:
        title = self.catalogue.title(place)
        return {"id": self.state["items"][place]} | ({} if title is None else {"title": title})

    def _reasons(
        self, visitor: Visitor, chances: np.ndarray, again: float | None, places: np.ndarray, said: Ask
    ) -> list[list[dict[str, Any]]]:
        """Of each item at some places, which items of the history it rests on: without one, its odds fall.

        Asked of what answers, not read from attention, which need not be what an answer rests on (Jain & Wallace 2019).
        An item that is taken away is new again, and may not be shown where none of the history may.
        share: the part of one item in all that fell.
        """
        items = visitor.items
        own = list(dict.fromkeys(items[-EARLIEST:].tolist()))
        left_over = [items[items != place] for place in own]
        without = said([visitor._replace(items=rest) for rest in left_over])
        lines = (apart(line, rest if again else items, again)[places]
                 for line, rest in zip(without, left_over, strict=True))  # fmt: skip
        left = np.array([odds(line) for line in lines]).reshape(-1, len(places))
        fallen = np.maximum(odds(chances[places]) - left, 0)
        shares = fallen / np.maximum(fallen.sum(axis=0), shop.LEAST)
        order = np.argsort(-shares, axis=0, kind="stable")[:REASONS]
        return [
            [self._item(own[cause]) | {"share": float(shares[cause, at])} for cause in causes if shares[cause, at] > 0]
            for at, causes in enumerate(order.T)
        ]

    def _count(self, histories: Sequence[shop.History], times: Sequence[np.ndarray]) -> None:
        self.state["people"] = len(histories)
        self.arrays["popularity"] = shop.popularity(histories, self.warm)
        self.arrays["trend"] = shop.trend(histories, times, self.warm)
        settings = shop.Settings(**self.state["neighbours"])
        keep(self.arrays, "neighbours", shop.neighbours(histories, self.warm, settings))
        self._voices = None

    @property
    def voices(self) -> Voices:
        """What is said of every item, by what has been counted."""
        if self._voices is None:
            self._voices = Voices(self.state, self.arrays, self.length)
        return self._voices

    _voices: Voices | None = None

    @cached_property
    def catalogue(self) -> Catalogue:
        """The items and what is known of them."""
        return Catalogue(self.state["items"], self.state["catalogue"])

    @cached_property
    def _described(self) -> likeness.Known:
        """What is known of the warm items, for a new one to be placed between them."""
        return likeness.Known(likeness.counted(map(self.catalogue.about, range(self.warm))))

    @cached_property
    def shelf(self) -> Shelf:
        """The columns of the catalogue, to be filtered by."""
        return Shelf(self.catalogue.columns, len(self.catalogue.items))

    def _history(self, items: Sequence[str]) -> shop.History:
        """Places of the known items in the catalogue."""
        index = self.catalogue.index
        return np.array([place for item in items if (place := index.get(item)) is not None], dtype=np.int64)


def _times(row: Row, newer: int = 0, at: float | None = None) -> np.ndarray:
    """When the items of a row were taken, and some that came after them, all `at` one moment, or where nobody knows
    that with the last of the row; all 0 where nobody knows anything."""
    if "times" not in row:
        return np.zeros(len(row["items"]) + newer)
    times = np.array(row["times"], dtype=np.float64)
    return np.concatenate([times, np.repeat(times[-1:] if at is None else at, newer)])


def _windows(ids: list[int], room: int) -> Iterator[tuple[list[int], bool]]:
    """Parts of up to room + 1 ids, newest first, that overlap by one, and whether a part begins the history: each id
    but the first is a target once."""
    end = len(ids)
    while end > 0:
        start = max(0, end - room - 1)
        yield ids[start:end], start == 0
        end = start + 1 if start else 0


def _example(traits: list[int], part: list[int], *, first: bool) -> Example:
    """Traits, then a part of a history. first: whether the traits are what the part's first item follows."""
    ids = [*traits, *part]
    silent = len(traits) - 1 if first and traits else len(traits)
    return {"ids": ids[:-1], "targets": [IGNORE] * silent + ids[silent + 1 :]}
