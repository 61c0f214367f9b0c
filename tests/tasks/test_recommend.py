"""recommend: from rows to answers, on real shop histories and on a pattern that can be learned by heart."""

import gzip
import json
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.numpy import load, save

from zhumo.errors import DataError
from zhumo.metrics import rank
from zhumo.tasks import Answer, Row, softmax, traits
from zhumo.tasks.examples import IGNORE, collate
from zhumo.tasks.mix import WEIGHTS
from zhumo.tasks.recommend import Recommend
from zhumo.tasks.softmax import SHARP
from zhumo.transformer import Config, Transformer, initialise

LENGTH = 16


def model_for(task: Recommend, width: int = 32, depth: int = 2) -> Transformer:
    config = Config(vocabulary=task.vocabulary, width=width, depth=depth, heads=2, length=task.length)
    return initialise(Transformer(config), 0)


def fit(task: Recommend, model: Transformer, rows: list[Row], steps: int) -> list[float]:
    examples = [example for row in rows for example in task.encode(row)]
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    generator = np.random.default_rng(0)
    losses = []
    for _ in range(steps):
        batch = collate([examples[index] for index in generator.integers(0, len(examples), 32)])
        loss = task.loss(model, batch)
        (loss.total / loss.count).backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.total.item() / loss.count)
    model.eval()
    return losses


def names(answer: Answer) -> list[str]:
    return [item["id"] for item in answer["items"]]


@pytest.fixture(scope="module")
def users(shared: Path) -> list[list[str]]:
    with gzip.open(shared / "amazon-beauty" / "sequences.txt.gz", "rt") as file:
        return [line.split()[1:] for line in islice(file, 400)]


@pytest.fixture(scope="module")
def task(users: list[list[str]]) -> Recommend:
    task = Recommend(None, LENGTH, {"catalogue": {users[0][0]: {"title": "护手霜"}}})
    task.learn([{"items": items[:-2]} for items in users])
    return task


@pytest.fixture(scope="module")
def model(task: Recommend, users: list[list[str]]) -> Transformer:
    model = model_for(task)
    losses = fit(task, model, [{"items": items[:-2]} for items in users], 60)
    assert np.mean(losses[-5:]) < 0.9 * losses[0]
    return model


@pytest.fixture(scope="module")
def rows(users: list[list[str]]) -> list[Row]:
    return [{"items": items[:-2], "next": items[-2:-1]} for items in users]


def test_the_catalogue_begins_with_the_bestseller(task: Recommend, users: list[list[str]]) -> None:
    known = [item for items in users for item in set(items[:-2])]
    assert set(task.state["items"]) == set(known)
    assert known.count(task.state["items"][0]) == max(known.count(item) for item in set(known))
    assert task.vocabulary == len(set(known)) + 1


def test_every_item_but_the_first_is_a_target_once(task: Recommend) -> None:
    items = task.state["items"][:50]
    examples = task.encode({"items": items})
    targets = [target for example in reversed(examples) for target in example["targets"]]
    assert targets == list(range(2, 51))
    assert all(len(example["ids"]) == len(example["targets"]) <= LENGTH for example in examples)
    assert [target - 1 for example in examples for target in example["targets"]] == [
        place for example in examples for place in example["ids"]
    ]  # each follows its own input in this catalogue order


def test_what_cannot_be_learned_from_makes_no_example(task: Recommend) -> None:
    first, second = task.state["items"][:2]
    assert task.encode({"items": []}) == task.encode({"items": [first]}) == []
    assert task.encode({"items": [first, "never sold"]}) == []
    assert task.encode({"items": [first], "next": ["never sold"]}) == []
    assert task.encode({"items": ["never sold"], "next": [first]}) == []
    assert task.encode({"items": [first, "never sold", second]}) == [{"ids": [1], "targets": [2]}]


def test_a_row_with_next_asks_only_for_it(task: Recommend) -> None:
    items = task.state["items"]
    (example,) = task.encode({"items": items[:30], "next": [items[40]]})
    assert example["ids"] == list(range(30 - LENGTH + 1, 31))
    assert example["targets"] == [IGNORE] * (LENGTH - 1) + [41]


def test_loss_is_cross_entropy_among_new_items_whatever_the_padding(task: Recommend, model: Transformer) -> None:
    items = task.state["items"]
    examples = [*task.encode({"items": items[:9]}), *task.encode({"items": [*items[20:23], items[20]]})]
    with torch.no_grad():
        together = task.loss(model, collate(examples))
        apart = 0.0
        for example in examples:
            hidden = F.normalize(model.hidden(torch.tensor([example["ids"]]))[0], dim=-1)
            logits = SHARP * hidden @ F.normalize(model.stem.tokens.weight, dim=-1).T
            for place, target in enumerate(example["targets"]):
                seen = set(example["ids"][: place + 1])
                asked = seen if target in seen else set(range(1, task.vocabulary)) - seen
                apart += torch.logsumexp(logits[place, list(asked)], 0).item() - logits[place, target].item()
    assert together.count == 8 + 3
    assert together.total.item() == pytest.approx(apart, rel=1e-5)


def test_a_sampled_softmax_stands_for_the_whole(
    task: Recommend, model: Transformer, users: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    batch = collate([example for items in users[:80] for example in task.encode({"items": items[:-2]})])
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]

    def learned() -> tuple[float, torch.Tensor]:
        loss = task.loss(model, batch)
        gradients = torch.autograd.grad(loss.total, parameters, allow_unused=True)
        return loss.total.item() / loss.count, torch.cat([g.flatten() for g in gradients if g is not None])

    whole, direction = learned()
    monkeypatch.setattr(softmax, "LARGE", 0)
    for drawn, near, same in ((300, 0.05, 0.8), (100_000, 1e-4, 0.9999)):  # so many draws leave no item out
        monkeypatch.setattr(softmax, "DRAWN", drawn)
        sampled, turned = learned()
        assert sampled == pytest.approx(whole, rel=near)
        assert F.cosine_similarity(direction, turned, dim=0) > same
        assert learned()[0] == sampled  # the same batch draws the same items


def test_of_a_large_catalogue_only_what_a_batch_speaks_of_is_read() -> None:
    generator = torch.Generator().manual_seed(0)
    targets, seen = (torch.randint(1, 5_000, shape, generator=generator) for shape in ((30,), (30, 6)))
    seen[:, 0] = 0
    drawn = torch.randint(1, 5_000, (40,), generator=generator).unique()
    ids, *asked, (places, chance) = softmax.narrowed(targets, seen, (drawn, torch.zeros(len(drawn))))
    assert ids[0] == 0 and (ids.diff() > 0).all() and len(ids) < 30 * 7 + 41
    for before, after in zip((targets, seen, drawn), (*asked, places), strict=True):
        assert (ids[after] == before).all()
    assert len(chance) == len(drawn)


def test_a_large_catalogue_is_asked_in_whole_numbers_and_says_nearly_the_same(
    task: Recommend, model: Transformer, rows: list[Row], monkeypatch: pytest.MonkeyPatch
) -> None:
    exact = task.variants(model, rows)["transformer"]
    monkeypatch.setattr(softmax, "LARGE", 0)
    task = Recommend(None, LENGTH, task.state, task.arrays)  # what was compared before is forgotten
    rough = task.variants(model, rows)["transformer"]
    assert rough != exact
    before, after = (
        [{item["id"]: np.log(item["score"]) for item in answer["items"]} for answer in answers]
        for answers in (exact, rough)
    )
    both = [(one[item], two[item]) for one, two in zip(before, after, strict=True) for item in one if item in two]
    assert len(both) > 0.95 * sum(map(len, before))
    assert max(abs(one - two) for one, two in both) < 0.1
    monkeypatch.setattr(softmax, "library", lambda: None)  # where nothing was compiled
    assert Recommend(None, LENGTH, task.state, task.arrays).variants(model, rows)["transformer"] == exact


def test_answers_leave_out_what_was_seen_unless_asked(task: Recommend, model: Transformer, rows: list[Row]) -> None:
    for row, answer in zip(rows, task.answer(model, rows), strict=True):
        assert len(names(answer)) == 10 == len(set(names(answer)))
        assert not set(names(answer)) & set(row["items"])
        scores = [item["score"] for item in answer["items"]]
        assert scores == sorted(scores, reverse=True)
        assert 0 <= sum(scores) <= 1


def test_seen_items_share_their_rate_in_training(task: Recommend, model: Transformer, rows: list[Row]) -> None:
    again = Recommend(None, LENGTH, task.state | {"again": 0.3}, task.arrays)
    asked = [
        {**row, "seen": True, "k": 10**6} for row in rows[:50] if len(set(row["items"]) & set(task.state["items"])) > 0
    ]
    for row, answer, without in zip(
        asked, again.answer(model, asked), task.answer(model, [{**row, "seen": False} for row in asked]), strict=True
    ):
        scores = {item["id"]: item["score"] for item in answer["items"]}
        own = set(row["items"]) & set(scores)
        assert sum(scores[item] for item in own) == pytest.approx(0.3)
        assert sum(scores.values()) == pytest.approx(1)
        assert [name for name in names(answer) if name not in own][:20] == names(without)[:20]


def test_of_what_was_taken_before_the_oftenest_comes_first() -> None:
    favourites = [["a", "b", "a", "c", "a", "b"], ["d", "e", "d", "f", "d"], ["g", "a", "g", "d", "g"]] * 4
    task = Recommend(None, LENGTH)
    task.learn([{"user": str(user), "items": items} for user, items in enumerate(favourites)])
    assert task.state["protocol"] == "again"
    model = model_for(task).eval()
    rows: list[Row] = [{"items": items, "next": [items[0]], "seen": True} for items in favourites]
    task.calibrate(model, rows)
    assert [names(answer)[0] for answer in task.answer(model, rows)] == [items[0] for items in favourites]
    unsaid = task.answer(model, [{"items": items} for items in favourites])
    assert unsaid == task.answer(model, rows)  # as most do in this shop
    for items, answer in zip(favourites, task.answer(model, [{**row, "seen": False} for row in rows]), strict=True):
        assert not set(names(answer)) & set(items)
    same = {tuple(names(answer)) for answer in task.baselines["popularity"](task, [], rows)}
    assert len(same) == 1  # bestsellers are the same for everybody


def test_what_is_taken_again_rests_on_having_been_taken(task: Recommend, model: Transformer, rows: list[Row]) -> None:
    """Every reason is what the odds lose when the item is taken out of the history and the model asked again."""
    habit = Recommend(None, LENGTH, task.state | {"again": 0.6}, task.arrays)
    row = next(row for row in rows if len(set(row["items"])) >= 4)
    asked = {**row, "seen": True}
    [answer] = habit.answer(model, [{**asked, "k": 6, "reasons": True}])
    before = chances(habit, model, asked)
    for item in answer["items"]:
        fallen = {}
        for own in dict.fromkeys(row["items"]):
            left = chances(habit, model, {**asked, "items": [one for one in row["items"] if one != own]})
            fallen[own] = max(0.0, odds(before[item["id"]]) - odds(left[item["id"]]))
        total = sum(fallen.values())
        told = {reason["id"]: reason["share"] for reason in item["because"]}
        assert bool(told) == (total > 0)
        assert all(share == pytest.approx(fallen[own] / total, abs=1e-3) for own, share in told.items())
    assert sum(bool(item["because"]) for item in answer["items"]) >= 4


def chances(task: Recommend, model: Transformer, row: Row) -> dict[str, float]:
    [answer] = task.answer(model, [{**row, "k": 10**6}])
    return {item["id"]: item["score"] for item in answer["items"]}


def odds(chance: float) -> float:
    return float(np.log(chance) - np.log1p(-chance))


def test_answers_of_new_items_have_a_weight_of_their_own(task: Recommend, model: Transformer, rows: list[Row]) -> None:
    """In a shop where things are taken again the leading numbers are learned with them, and others without them."""
    habit = Recommend(None, LENGTH, task.state | {"protocol": "again", "again": 0.6}, task.arrays)
    habit.calibrate(model, rows)
    assert habit.state["new"].keys() == {"weight", "trend"} <= habit.state.keys()
    asked = [{**row, "seen": False} for row in rows[:20]]
    habit.state["new"] = {"weight": 0.0, "trend": 0.0}
    assert habit.answer(model, asked) == task.baselines["neighbours"](task, [], asked)
    again = habit.answer(model, [{**row, "seen": True} for row in asked])
    habit.state["new"] = {"weight": 1.0, "trend": 0.0}
    assert habit.answer(model, asked) == task.variants(model, asked)["transformer"]
    assert habit.answer(model, [{**row, "seen": True} for row in asked]) == again


def test_what_was_validated_is_as_old_as_it_is() -> None:
    """Leave-one-out holds out somebody's newest item, however long ago that was taken."""
    task = Recommend(None, LENGTH)
    train: list[Row] = [{"user": str(user), "items": ["a", "b"], "times": [1.0, 2.0]} for user in range(20)]
    train += [{"user": "now", "items": ["c"] * 8, "times": [100.0] * 8}, {"user": "x", "items": ["d"], "times": [0.0]}]
    task.learn(train)
    valid: list[Row] = [{"user": str(user), "items": ["a", "b"], "next": ["d"], "at": 3.0} for user in range(3)]
    for rows, gains in ((valid, False), ([{**row, "at": 200.0} for row in valid], True)):
        task.refresh(train, rows)
        trend = dict(zip(task.state["items"], task.arrays["trend"].tolist(), strict=True))
        assert (trend["d"] > 0) == gains and trend["c"] > 0 > trend["b"]


def test_the_rate_of_taking_again_is_counted() -> None:
    task = Recommend(None, LENGTH)
    task.learn([{"items": ["a", "b", "a", "a"]}, {"items": ["b"]}, {"items": []}])
    assert task.state["again"] == (2 + 1) / (3 + 2)


def test_k_is_obeyed_up_to_the_whole_catalogue(task: Recommend, model: Transformer) -> None:
    first, catalogue = task.state["items"][0], len(task.state["items"])
    few, many = {"items": [first], "k": 3}, {"items": [first], "k": 10**6}
    short, long, whole = task.answer(model, [few, many, many | {"seen": True}])
    assert names(long)[:3] == names(short)
    assert len(names(long)) == catalogue - 1
    assert len(names(whole)) == catalogue
    with pytest.raises(DataError, match="k must be at least 1"):
        task.answer(model, [{"items": [first], "k": 0}])


def test_unknown_items_say_nothing_and_a_stranger_gets_bestsellers(task: Recommend, model: Transformer) -> None:
    first = task.state["items"][5]
    known, mixed = task.answer(model, [{"items": [first]}, {"items": ["never sold", first, "nor this"]}])
    assert names(known) == names(mixed)
    for stranger in task.answer(model, [{"items": []}, {"items": ["never sold"]}]):
        assert names(stranger) == task.state["items"][:10]


def test_answers_do_not_depend_on_their_batch(task: Recommend, model: Transformer, rows: list[Row]) -> None:
    together = task.answer(model, rows[:60])
    for row, answer in zip(rows[:60:7], together[::7], strict=True):
        (alone,) = task.answer(model, [row])
        assert [item["score"] for item in alone["items"]] == pytest.approx(
            [item["score"] for item in answer["items"]], abs=1e-6
        )


def test_titles_are_said_where_they_are_known(task: Recommend, model: Transformer) -> None:
    (answer,) = task.answer(model, [{"items": task.state["items"][:1], "k": 10**6, "seen": True}])
    titles = {item["id"]: item["title"] for item in answer["items"] if "title" in item}
    assert list(titles.values()) == ["护手霜"]


def test_the_weight_is_as_good_as_the_best_for_the_rows_it_is_learned_on(
    task: Recommend, model: Transformer, rows: list[Row]
) -> None:
    task.calibrate(model, rows)
    asked = [row for row in rows if row["next"][0] in task.state["items"]]
    found = {}
    for weight in WEIGHTS.tolist():
        answers = task.ranked(asked, [(weight, task.voices.transformer(model)), (1 - weight, task.voices.neighbours)])
        found[weight] = rank.ndcg(
            rank.places([names(answer) for answer in answers], [row["next"] for row in asked]), 10
        )
    best = max(found.values(), key=lambda measure: measure.value)
    for weight, measure in found.items():
        short = best.values - measure.values
        if abs(weight - 0.5) < abs(task.state["weight"] - 0.5):
            assert short.mean() > short.std() / np.sqrt(len(asked))
        if weight == task.state["weight"]:
            assert short.mean() <= short.std() / np.sqrt(len(asked))
            served = {measure.name: measure for measure in task.score(task.answer(model, rows), rows)}["ndcg@10"]
            assert served.value == pytest.approx(measure.value * len(asked) / len(rows))


def test_what_is_taken_lately_gains_where_that_finds_more(
    model: Transformer, users: list[list[str]], task: Recommend
) -> None:
    """Everybody's newest item becomes one of two that were rare before: a fashion."""
    fashion = task.state["items"][-2:]
    train: list[Row] = [
        {"user": str(user), "items": [*items[:-2], fashion[user % 2]], "times": [*range(len(items) - 2), 10_000.0]}
        for user, items in enumerate(users)
    ]
    lively = Recommend(None, LENGTH)
    lively.learn(train)
    trend = dict(zip(lively.state["items"], lively.arrays["trend"].tolist(), strict=True))
    assert sorted(trend, key=lambda item: -trend[item])[:2] == sorted(fashion, key=lambda item: -trend[item])
    old = initialise(Transformer(Config(**{**vars(model.config), "vocabulary": lively.vocabulary})), 0).eval()
    asked: list[Row] = [{"user": row["user"], "items": row["items"][:-1], "next": row["items"][-1:]} for row in train]
    lively.calibrate(old, asked)
    assert lively.state["trend"] > 0
    level = Recommend(None, LENGTH, lively.state | {"trend": 0.0}, lively.arrays)
    lists = [[names(answer) for answer in one.answer(old, asked)] for one in (lively, level)]
    found, missed = (rank.ndcg(rank.places(list_, [row["next"] for row in asked]), 10) for list_ in lists)
    assert found.beats(missed) < 0.01
    lively.refresh(train, asked)
    assert lively.arrays["trend"].shape == (lively.warm,)
    assert not task.arrays["trend"].any()  # without times nothing is known of fashions
    assert task.state.get("trend", 0.0) == 0.0


def test_traits_are_words_that_enough_people_share() -> None:
    people: list[Row] = [{"age": "47", "member": True}] * 3 + [{"age": 48.0, "town": ["苏州", "杭州"]}] * 3
    assert list(traits.words(people[0])) == ["age=47", "age~22", "member=True"]
    assert traits.common(people) == ["age~22"]  # 47 and 48 meet
    assert traits.common(people * 2) == ["age=47", "age=48", "age~22", "member=True", "town=杭州", "town=苏州"]
    assert list(traits.words({"age": None, "zip": "00501", "debt": -3})) == ["zip=00501", "debt=-3"]


def test_traits_stand_before_the_history_and_answer_a_stranger() -> None:
    """Twenty people from the north take what the south does not, and the other way round."""
    halves = {"north": [f"n{place}" for place in range(8)], "south": [f"s{place}" for place in range(8)]}
    chance = np.random.default_rng(0)
    people: list[Row] = [
        {"user": str(user), "items": chance.permutation(halves[home])[:5].tolist(), "traits": {"home": home}}
        for user, home in enumerate(["north", "south"] * 20)
    ]
    task = Recommend(None, LENGTH)
    task.learn(people)
    assert task.vocabulary == 1 + 16 + 2 == len(task.legend["stem.tokens.weight"])
    (example,) = task.encode(people[0])
    assert len(example["ids"]) == len(example["targets"]) == 5
    assert example["ids"][0] == task.vocabulary - 2  # north comes first in the alphabet
    assert list(example["targets"]) == [*example["ids"][1:], task.catalogue.index[people[0]["items"][-1]] + 1]
    long = [*halves["north"], *halves["south"]] * 4
    parts = task.encode({"items": long, "traits": {"home": "south"}})
    assert all(part["ids"][0] == task.vocabulary - 1 and len(part["ids"]) <= LENGTH for part in parts)
    assert sum(target != IGNORE for part in parts for target in part["targets"]) == len(long)  # the first one too
    model = model_for(task)
    losses = fit(task, model, people, 150)
    assert losses[-1] < losses[0]
    task.state["weight"] = 1.0
    asked = [{"items": [], "k": 8, "traits": {"home": home}} for home in halves]
    for home, answer in zip(halves, task.answer(model, asked), strict=True):
        assert set(names(answer)) == set(halves[home])
    nobody, unknown = task.answer(model, [{"items": []}, {"items": [], "traits": {"home": "moon", "age": 3}}])
    assert nobody == unknown  # what nobody knows says nothing


def test_validation_items_are_counted_in_the_end(task: Recommend, users: list[list[str]]) -> None:
    later = Recommend(None, LENGTH, task.state, task.arrays)
    train: list[Row] = [{"user": str(user), "items": items[:-2]} for user, items in enumerate(users)]
    later.refresh(train, [{**row, "next": users[int(row["user"])][-2:-1]} for row in train[::2]])
    first = users[0][-2]
    place = task.catalogue.index[first]
    assert later.arrays["popularity"][place] > task.arrays["popularity"][place]
    assert later.arrays["popularity"].shape == task.arrays["popularity"].shape
    assert later.arrays["popularity"].sum() > task.arrays["popularity"].sum()
    assert task.voices.near.sum() != later.voices.near.sum()


@pytest.mark.parametrize("items", [[], ["nobody knows it"]])
def test_where_nothing_is_known_there_are_no_reasons(task: Recommend, model: Transformer, items: list[str]) -> None:
    [answer] = task.answer(model, [{"items": items, "k": 3, "reasons": True}])
    assert len(answer["items"]) == 3 and all(item["because"] == [] for item in answer["items"])


def test_reasons_are_what_an_answer_falls_without(task: Recommend, model: Transformer, rows: list[Row]) -> None:
    """Without its first reason an item stands lower than without an item that is no reason for it."""
    plain = [row for row in rows if len(set(row["items"]) & set(task.state["items"])) > 4][:20]
    answers = task.answer(model, [{**row, "reasons": True, "k": 3} for row in plain])
    assert [names(answer) for answer in answers] == [names(task.answer(model, [{**row, "k": 3}])[0]) for row in plain]
    fallen = []
    for row, answer in zip(plain, answers, strict=True):
        for item in answer["items"]:
            assert 0 < sum(reason["share"] for reason in item["because"]) <= 1 + 1e-6
            because = [reason["id"] for reason in item["because"]]
            other = next(name for name in row["items"] if name not in because and name in task.state["items"])
            less = [[name for name in row["items"] if name != gone] for gone in (because[0], other)]
            whole: Row = {"k": 10**6, "exclude": row["items"]}
            scores = [
                {one["id"]: one["score"] for one in task.answer(model, [{**whole, "items": items}])[0]["items"]}
                for items in less
            ]
            fallen.append(scores[1][item["id"]] - scores[0][item["id"]])
    assert np.mean(np.array(fallen) > 0) > 0.9


def test_a_shop_may_say_what_is_shown(users: list[list[str]]) -> None:
    about = {
        item: {"title": f"品 {item}", "category": [f"c{int(item) % 3}"], "price": float(item)}
        for items in users
        for item in items[:-2]
    }
    shop = Recommend(None, LENGTH, {"catalogue": about})
    shop.learn([{"items": items[:-2]} for items in users])
    model = model_for(shop).eval()
    history = users[0][:-2]

    def asked(**options: object) -> list[str]:
        return names(shop.answer(model, [{"items": history, "k": 20, **options}])[0])

    plain = asked()
    assert all(int(item) % 3 == 1 for item in asked(only={"category": ["c1"]}))
    assert all(100 <= float(item) <= 900 for item in asked(only={"price": [100, 900]}))
    assert not set(asked(exclude=plain[:5])) & set(plain[:5])
    assert asked(exclude=plain[:5])[:15] == plain[5:]
    boosted = asked(boost={"category": {"c2": 1e6}})
    assert [int(item) % 3 for item in boosted] == [2] * 20
    mixed = asked(diversity=0.7)
    assert mixed[0] == plain[0] and set(mixed) != set(plain)
    with pytest.raises(DataError, match="categry"):
        asked(only={"categry": ["c1"]})


def test_a_new_item_stands_beside_those_it_is_like() -> None:
    kinds = [["red tea", "black tea", "green tea", "white tea"], ["steel pan", "iron pan", "copper pan", "clay pan"]]
    about = {name: {"title": f"{name} {kind}"} for kind, titles in enumerate(kinds) for name in titles}
    about["jasmine tea"] = {"title": "jasmine tea 0"}
    rows: list[Row] = [
        {"items": [titles[(start + step) % 4] for step in range(3)]} for titles in kinds for start in range(4)
    ]
    shop = Recommend(None, LENGTH, {"catalogue": about})
    shop.learn(rows * 5)
    model = model_for(shop)
    fit(shop, model, rows * 5, 30)
    assert shop.warm == 8 and shop.state["items"][8:] == ["jasmine tea"]
    new = [{"item": "tin pan", "title": "tin pan 1"}, {"item": "novel", "title": "长篇小说"}]
    for history, first in ((["red tea", "black tea"], "jasmine tea"), (["steel pan", "iron pan"], "tin pan")):
        (answer,) = shop.answer(model, [{"items": history, "k": 11, "new": new}])
        found = names(answer)
        assert found.index(first) < found.index({"jasmine tea": "tin pan", "tin pan": "jasmine tea"}[first])
        assert found.index(first) < found.index("novel")
    (answer,) = shop.answer(
        model, [{"items": ["jasmine tea"], "k": 3}]
    )  # a new item in a history is read as one like it
    assert all("tea" in name for name in names(answer)[:2])


def test_parts_and_baselines_answer_in_the_same_form(task: Recommend, model: Transformer, rows: list[Row]) -> None:
    answers = {name: baseline(task, [], rows) for name, baseline in task.baselines.items()}
    answers |= task.variants(model, rows)
    assert set(answers) == {"popularity", "lately", "neighbours", "transformer"}
    for part in answers.values():
        assert task.score(part, rows)[0].name == task.metric
        assert not any(set(names(answer)) & set(row["items"]) for row, answer in zip(rows, part, strict=True))
    task.state["weight"] = 0.0
    assert task.answer(model, rows) == answers["neighbours"]
    task.state["weight"] = 1.0
    assert task.answer(model, rows) == answers["transformer"]


def test_scores_are_those_of_the_lists(task: Recommend) -> None:
    catalogue = task.state["items"]
    answers: list[Answer] = [{"items": [{"id": item} for item in catalogue[:10]]}] * 2
    rows: list[Row] = [{"items": [], "next": [catalogue[1]]}, {"items": [], "next": ["never sold"]}]
    values = {measure.name: measure.value for measure in task.score(answers, rows)}
    assert values["hit@10"] == 0.5
    assert values["mrr@10"] == 0.25
    assert values["ndcg@10"] == pytest.approx(0.5 / np.log2(3))
    assert values["coverage@10"] == pytest.approx(10 / len(catalogue))


def test_a_task_told_in_json_and_tensors_answers_the_same(task: Recommend, model: Transformer, rows: list[Row]) -> None:
    again = Recommend(None, LENGTH, json.loads(json.dumps(task.state)), load(save(task.arrays)))
    assert again.answer(model, rows[:20]) == task.answer(model, rows[:20])


def test_rows_without_items_are_refused() -> None:
    with pytest.raises(DataError, match="no item"):
        Recommend(None, LENGTH).learn([{"items": []}])


def test_a_fresh_model_begins_with_what_the_neighbours_say(task: Recommend) -> None:
    """As far as its width allows: the closest neighbour of an item moves up in its list."""
    rows: list[Row] = [{"items": [item], "k": 10**6} for item in task.state["items"][:60]]
    closest = [names(answer)[:1] for answer in task.ranked(rows, [(1.0, task.voices.neighbours)])]

    def place(model: Transformer) -> float:
        lists = [names(answer) for answer in task.variants(model, rows)["transformer"]]
        return float(np.mean(rank.places(lists, closest))) / len(lists[0])

    model = model_for(task, width=64).eval()
    before = place(model)
    task.begin(model)
    assert place(model) < before / 2


def test_a_fresh_model_puts_what_is_described_alike_together_unless_many_took_it() -> None:
    about: dict[str, Row] = {f"{kind}{place}": {"category": [kind]} for kind in ("tea", "tool") for place in range(20)}

    def of_a_kind(people: int, catalogue: dict[str, Row]) -> float:
        """How often what is nearest to an item is of its kind, where everybody takes four at random."""
        chance = np.random.default_rng(0)
        task = Recommend(None, LENGTH, {"catalogue": catalogue})
        task.learn([{"items": chance.permutation(list(about))[:4].tolist()} for _ in range(people)])
        model = model_for(task, width=16).eval()
        task.begin(model)
        closest = [task.similar(model, item, 5, "similar")["items"] for item in about]
        same = [near["id"][:2] == item[:2] for item, found in zip(about, closest, strict=True) for near in found]
        return float(np.mean(same))

    assert of_a_kind(30, about) > 0.58 > 0.52 > of_a_kind(60, {})
    assert of_a_kind(1_000, about) < 0.52


def test_a_pattern_is_learned_by_heart() -> None:
    catalogue = [f"第{number}件" for number in range(30)]
    rows = [{"items": [catalogue[(start + step * 7) % 30] for step in range(12)]} for start in range(30)]
    task = Recommend(None, LENGTH)
    task.learn(rows)
    model = model_for(task)
    fit(task, model, rows, 120)
    asked = [{"items": row["items"][:-1], "next": row["items"][-1:]} for row in rows]
    transformer = task.score(task.variants(model, asked)["transformer"], asked)
    bestsellers = task.score(task.baselines["popularity"](task, rows, asked), asked)
    assert transformer[0].value > 0.95
    assert transformer[0].beats(bestsellers[0]) < 0.01
