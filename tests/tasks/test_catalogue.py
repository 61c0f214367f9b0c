"""The catalogue: its order, what is known of an item, and finding one by its title."""

from zhumo.tasks.catalogue import Catalogue

DESCRIBED = {
    "7": {"title": "Seven Samurai", "category": ["drama", "war"]},
    "1": {"title": "七武士"},
    "9": {"price": 3.5},
    "2": {"title": "The Seventh Seal", "price": 2.0},
}
SHOP = Catalogue.arranged(["2", "7", "5"], DESCRIBED)


def test_what_is_only_described_stands_behind_what_was_taken() -> None:
    assert SHOP.items == ["2", "7", "5", "1", "9"]
    assert SHOP.columns == {
        "title": ["The Seventh Seal", "Seven Samurai", None, "七武士", None],
        "category": [None, ["drama", "war"], None, None, None],
        "price": [2.0, None, None, None, 3.5],
    }
    assert SHOP.index["9"] == 4


def test_an_item_is_what_is_known_of_it() -> None:
    assert SHOP.about(1) == {"title": "Seven Samurai", "category": ["drama", "war"]}
    assert SHOP.about(2) == {}
    assert (SHOP.title(3), SHOP.title(4)) == ("七武士", None)
    assert Catalogue(["a"], {}).title(0) is None


def test_search_wants_every_word_or_the_id() -> None:
    assert SHOP.search("SEVEN", 10) == [0, 1]
    assert SHOP.search("seal seven", 10) == [0]
    assert SHOP.search("武士", 10) == [3]
    assert SHOP.search("9", 10) == [4] and SHOP.search("no such film", 10) == []
    assert SHOP.search("", 3) == [0, 1, 2]
