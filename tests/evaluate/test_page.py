"""The page and the model card: whole in both languages, nothing fetched, nothing from the data alive in them."""

import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
import yaml
from banking import CHANNELS, HOSTILE, trained
from hypothesis import given
from hypothesis import strategies as st

from zhumo.evaluate import Report, evaluate, read_report
from zhumo.evaluate.card import card
from zhumo.evaluate.markup import Markup, joined, tag
from zhumo.evaluate.page import page
from zhumo.words import LANGUAGES

FETCHING = {"src", "href", "srcset", "action", "data", "poster", "background"}


class Reader(HTMLParser):
    """The elements, attributes and text of a page."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[str] = []
        self.open: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.text = ""
        self.feed(html)
        self.close()

    def handle_starttag(self, element: str, attributes: list[tuple[str, str | None]]) -> None:
        self.elements.append(element)
        self.attributes += attributes
        if element != "meta":
            self.open.append(element)

    def handle_endtag(self, element: str) -> None:
        assert self.open.pop() == element

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.fixture(scope="module")
def report(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Report:
    """A real report whose data is full of markup."""
    recipe, run = trained(tmp_path_factory.mktemp("page"), shared)
    evaluate(recipe, run)
    found = read_report(run)
    hostile = {
        **found["data"],
        "quarantined": {HOSTILE: 3},
        "sources": {HOSTILE: {"sha256": {HOSTILE: HOSTILE}, "licence": HOSTILE}},
    }
    return {**found, "name": f"intents {HOSTILE}", "data": hostile}


@given(st.text(), st.text())
def test_text_stays_text_and_attributes_stay_attributes(text: str, value: str) -> None:
    clean = re.sub(r"\r\n?|\x00", "", text)  # a parser may change these by the standard
    read = Reader(tag("p", clean, class_=value))
    assert read.elements == ["p"] and read.text == clean
    assert [name for name, _ in read.attributes] == ["class"]


def test_what_is_markup_stays_markup_and_nothing_is_left_out_silently() -> None:
    assert joined(tag("b", 0), "<", None, False) == "<b>0</b>&lt;False"
    assert isinstance(joined("x"), Markup)


@pytest.mark.parametrize("language", LANGUAGES)
def test_nothing_from_the_data_is_alive_in_the_page(report: Report, language: str) -> None:
    read = Reader(page(report, language))
    assert read.open == []
    assert not {"script", "img", "iframe", "object", "link", "form"} & set(read.elements)
    assert not [name for name, _ in read.attributes if name.startswith("on") or name in FETCHING]
    assert HOSTILE in read.text and all(channel in read.text for channel in CHANNELS)


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_page_fetches_nothing(report: Report, language: str) -> None:
    html = page(report, language)
    assert not re.search(r"https?://|url\(|@import", html)
    assert ("content", "default-src 'none'; style-src 'unsafe-inline'") in Reader(html).attributes


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_contender_measure_and_sentence_is_on_the_page(report: Report, language: str) -> None:
    text = Reader(page(report, language)).text
    assert report["sentence"][language] in text and report["protocol"][language] in text
    assert all(limit[language] in text for limit in report["limits"])
    assert text.count("TF-IDF") >= 2 and report["reproduce"]["weights"] in text
    assert not re.search(r"\{\w+\}|report\.\w+\.", text)  # no sentence left unfilled, no key shown


def test_the_two_pages_differ_only_in_words(report: Report) -> None:
    english, chinese = (page(report, language) for language in LANGUAGES)
    assert Reader(english).elements == Reader(chinese).elements
    cells = re.findall(r'<td class="number">.*?</td>', english)
    assert len(cells) > 20 and cells == re.findall(r'<td class="number">.*?</td>', chinese)


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_card_has_front_matter_a_hub_can_read_and_no_live_markup(report: Report, language: str) -> None:
    _, front, body = card(report, language).split("---\n", 2)
    read = yaml.safe_load(front)
    assert read["datasets"] == [HOSTILE] and read["pipeline_tag"] == "text-classification"
    result = read["model-index"][0]["results"][0]
    assert result["metrics"][0]["value"] == report["measures"][0]["value"]
    assert "base_model" not in read and read["license"] == "other"
    assert not re.search(r"(?<!\\)<", body)
    widths = {line.replace("\\|", "").count("|") for line in body.splitlines() if line.startswith("|")}
    # One table with a column a contender, one of four columns, and no cell broken by what is in it.
    assert widths == {len(report["rivals"]) + 3, 5}


@pytest.mark.parametrize("language", LANGUAGES)
def test_what_a_search_tried_is_shown_the_furthest_first(report: Report, language: str) -> None:
    tried = [
        {"values": {"train.lr": 0.003, "build.dropout": 0.4}, "looks": [0.5], "steps": 3, "seconds": 1.0},
        {"values": {"train.lr": 0.001, "build.dropout": 0.2}, "looks": [0.6, 0.75], "steps": 6, "seconds": 2.0},
    ]
    model = {**report["model"], "start": "runs/before/deploy", "chosen": tried[1]["values"], "search": tried}
    searched: Report = {**report, "model": model}
    html = page(searched, language)
    read = Reader(html)
    first, second = "train.lr 0.001, build.dropout 0.2", "train.lr 0.003, build.dropout 0.4"
    assert f"<b>{first}</b>" in html and f"<b>{second}</b>" not in html
    assert read.text.rindex(first) < read.text.index(second)
    assert "0.600 → 0.750" in read.text
    told = card(searched, language)
    assert first in told.replace("\\", "") and "runs/before/deploy" in told
    assert "train.lr" not in card(report, language).replace("\\", "")
