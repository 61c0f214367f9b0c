"""The catalogue: the items of a shop in their order, and what is known of each beyond who took it."""

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any

from zhumo.tasks import Field

FIELDS: Mapping[str, Field] = {
    "title": Field(str, needed=False, guess=("title", "item_name", "product_name", "description",
                                             "商品名称", "产品名称", "名称", "标题")),
    "category": Field(list, needed=False, guess=("category", "categories", "genre", "department",
                                                 "类别", "分类", "品类", "类目")),
    "price": Field(float, needed=False, guess=("price", "unit_price", "价格", "单价", "售价")),
    "text": Field(str, needed=False, guess=("text", "details", "summary", "描述", "简介", "详情", "description")),
    "picture": Field(str, needed=False, guess=("picture", "image", "photo", "图片", "主图")),
}  # fmt: skip
"""What an item may have by our names; every other column of a catalogue keeps its own."""


class Catalogue:
    """Items by their place, and columns with a value or None for each of them.

    `title` and `text` are texts, `category` a list of texts, `price` a number, `picture` the name of a file; the
    others are what the shop keeps there.
    """

    def __init__(self, items: Sequence[str], columns: Mapping[str, Sequence[Any]]) -> None:
        self.items = items
        self.columns = columns

    @classmethod
    def arranged(cls, warm: Sequence[str], described: Mapping[str, Mapping[str, Any]]) -> "Catalogue":
        """The warm items in their order, then those that are only described, by id. described: item -> its values."""
        items = [*warm, *sorted(described.keys() - set(warm))]
        names = dict.fromkeys(name for about in described.values() for name in about)
        return cls(items, {name: [described.get(item, {}).get(name) for item in items] for name in names})

    @cached_property
    def index(self) -> dict[str, int]:
        """The place of each item."""
        return {item: place for place, item in enumerate(self.items)}

    def title(self, place: int) -> str | None:
        """The title of the item at a place, where it has one."""
        titles = self.columns.get("title")
        return titles[place] if titles else None

    def name(self, item: str) -> str:
        """What a person calls an item: its title, else its id."""
        place = self.index.get(item)
        return (None if place is None else self.title(place)) or item

    def about(self, place: int) -> dict[str, Any]:
        """All that is known of the item at a place."""
        return {name: cells[place] for name, cells in self.columns.items() if cells[place] is not None}

    def search(self, query: str, limit: int) -> list[int]:
        """Places of the first items whose title holds every word of the query, or whose id is the query."""
        return [place for place, _ in zip(self._matching(query.casefold()), range(limit), strict=False)]

    def _matching(self, query: str) -> Iterator[int]:
        words = query.split()
        for place, (item, title) in enumerate(self._folded):
            if query == item or all(word in title for word in words):
                yield place

    @cached_property
    def _folded(self) -> list[tuple[str, str]]:
        """Ids and titles (the id where there is none) without regard to case."""
        named = (self.title(place) or item for place, item in enumerate(self.items))
        return [(item.casefold(), title.casefold()) for item, title in zip(self.items, named, strict=True)]
