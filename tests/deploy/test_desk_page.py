"""The desk in a real browser: a talk in both languages, whose citations open, and nothing of a document is markup."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from test_console import Page, browser  # noqa: F401, a fixture

from zhumo.deploy.parity import Server

HOSTILE = "<img src=x onerror=alert(1)> within thirty days shoes are sent back"
PAGES = {
    "returns.md": f"# Returns\n\n{HOSTILE}.\n\nLabels are kept.\n",
    "退货.md": "# 退货\n\n鞋子可以在三十天内退回。\n",
}


@pytest.fixture(scope="module")
def house(bundles: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("desk")
    for name, text in PAGES.items():
        (folder / name).write_text(text, encoding="utf-8")
    knowledge = tmp_path_factory.mktemp("knowledge") / "knowledge.sqlite"
    command = [sys.executable, "-m", "zhumo", "serve", str(bundles["embed"]), "--documents", str(folder)]
    command += ["--knowledge", str(knowledge), "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={**os.environ, "ZHUMO_KEY": "k"}) as process:
        assert process.stdout is not None
        found = re.search(r"http://127\.0\.0\.1:(\d+)/", process.stdout.readline())
        assert found is not None
        yield Server(int(found[1]), "k")
        process.terminate()
        process.wait(60)


@pytest.fixture
def page(browser: object, house: Server) -> Page:  # noqa: F811
    page = Page(browser, house)
    page.browser.get(f"{page.base}#key=k")
    page.find(".cards")
    return page


def ask(page: Page, question: str) -> None:
    replies = len(page.all(".reply"))
    page.find("#question").send_keys(question + "\n")
    page.until(lambda: len(page.all(".reply:not(.soft)")) > replies)


@pytest.mark.parametrize("language", ["en", "zh-CN"])
@pytest.mark.parametrize("width", [390, 1280])
def test_a_talk(page: Page, language: str, width: int) -> None:
    page.browser.set_window_size(width, 900)
    if page.js("document.documentElement.lang") != language:
        page.find("#language").click()
        page.until(lambda: page.js("document.documentElement.lang") == language)
    page.find("a[href='#/~desk']").click()
    page.find("#question")
    page.browser.get_log("browser")  # the small bundle has no report card, which the first page asked for
    ask(page, "within how many days are shoes sent back")
    ask(page, "鞋子多少天内可以退回")
    assert page.texts(".visitor") == ["within how many days are shoes sent back", "鞋子多少天内可以退回"]
    places = page.texts(".places summary")
    assert any(place.startswith("returns.md › Returns") for place in places)
    assert any(place.startswith("退货.md › 退货") for place in places)
    for details in page.all(".places details"):
        if details.get_attribute("open") is None:
            details.find_element("css selector", "summary").click()
    assert any(HOSTILE in text for text in page.texts(".passage"))
    assert page.js("document.querySelectorAll('main img').length") == 0
    assert page.js("document.documentElement.scrollWidth <= innerWidth")
    assert page.browser.get_log("browser") == []
