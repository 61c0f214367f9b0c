"""The desk in a real browser: a talk in both languages, whose citations open, and nothing of a document is markup; and
what becomes of a question that nobody's document answers, from the ticket to the correction."""

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from test_console import Page, browser  # noqa: F401, a fixture

from tests.deploy.conftest import TEXTS
from zhumo.deploy.parity import Server
from zhumo.support import desk
from zhumo.support.search import foreign

HOSTILE = "<img src=x onerror=alert(1)> within thirty days shoes are sent back"
FOREIGN = foreign()["en"][0]
SURE = "退货: 鞋子可以在三十天内退回。"  # what stands there word for word
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
    sure = tmp_path_factory.mktemp("intents") / "intents"  # the small classifier, made to be sure of what it says
    shutil.copytree(bundles["classify"], sure)
    known = json.loads((sure / "task.json").read_text(encoding="utf-8"))
    known["state"] |= {"weight": 0.0, "temperature": 1e-4}  # by its words alone
    (sure / "task.json").write_text(json.dumps(known), encoding="utf-8")
    command = [sys.executable, "-m", "zhumo", "serve", str(bundles["embed"]), str(sure)]
    command += ["--documents", str(folder), "--knowledge", str(knowledge), "--port", "0"]
    command += ["--tickets", str(knowledge.with_name("tickets.sqlite"))]
    questions = knowledge.with_name("questions.jsonl")
    questions.write_text(json.dumps({"question": "What is kept?", "gold": [{"file": "returns.md", "quote": "Labels"}]}))
    command += ["--questions", str(questions)]
    keys = knowledge.with_name("keys")
    keys.write_text("visitor:k\nanna:a\n")
    command += ["--key-file", str(keys), "--agents", "anna"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        found = re.search(r"http://127\.0\.0\.1:(\d+)/", process.stdout.readline())
        assert found is not None
        yield Server(int(found[1]), "k")
        process.terminate()
        process.wait(60)


@pytest.fixture
def page(browser: object, house: Server) -> Page:  # noqa: F811
    page = Page(browser, house)
    enter(page, "k")
    page.js("sessionStorage.removeItem('zhumo.talk')")
    page.browser.set_window_size(1280, 900)
    return page


def enter(page: Page, key: str, place: str = "", wait: str = ".cards") -> None:
    """Open a page with somebody's key."""
    page.browser.get("about:blank")
    page.browser.get(f"{page.base}#key={key}")
    page.find(".cards")
    page.browser.get_log("browser")  # the small bundle has no report card, which the first page asked for
    if place:
        page.browser.get(f"{page.base}#/~desk/{place}")
        page.find(wait)


def click(page: Page, selector: str, text: str = "") -> None:
    """Click the first of these that says a text, once it is there."""
    page.until(lambda: any(text in one for one in page.texts(selector)), f"{selector} {text}")
    next(one for one in page.all(selector) if text in one.text).click()


def english(page: Page) -> None:
    if page.js("document.documentElement.lang") != "en":
        page.find("#language").click()
        page.until(lambda: page.js("document.documentElement.lang") == "en")


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
    page.browser.get_log("browser")  # the first page was drawn again in the other language
    assert page.all(".tabs") == []  # what is for agents is not shown to a visitor
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


def test_a_question_nobody_answers_becomes_a_ticket_an_answer_and_a_correction(page: Page) -> None:
    english(page)
    enter(page, "k", "talk", "#question")
    for text, _ in TEXTS:  # each is about something else
        body = json.dumps({"questions": [text], "sure": 100})
        assert page.server.request("POST", "/v1/desk/replies", body).status == 200
    ask(page, FOREIGN)
    page.until(lambda: "A person has been asked" in page.find(".waits").text)

    enter(page, "a", "tickets", ".waiting")
    click(page, ".waiting", FOREIGN)
    page.until(lambda: page.texts(".ticket .visitor") == [FOREIGN])
    told, intents = page.find(".ticket .soft").text, page.texts(".waiting .intent")
    [intent] = {one for one in intents if f"about {one} (" in told}
    assert intent in page.texts(".line-up option")
    labels = page.texts(".line-up option")[1:]
    assert sorted(set(intents)) == sorted(labels) and len(labels) > 1
    page.all(".line-up option")[-1].click()
    page.until(lambda: page.texts(".waiting .intent") == [one for one in intents if one == labels[-1]])
    page.all(".line-up option")[0].click()
    page.until(lambda: page.texts(".waiting .intent") == intents)
    click(page, ".reply-box .strong", "Take over")
    page.find("#answer")  # the ticket is drawn anew
    page.find("#look").clear()
    page.find("#look").send_keys("Labels are kept.")
    page.until(lambda: "returns.md" in "".join(page.texts(".suggested summary")[:1]))
    page.until(lambda: not page.all(".reply-box [disabled]") and bool(page.all(".suggested .cited[open] .line button")))
    click(page, ".suggested .cited[open] .line button", "Use it")
    page.until(lambda: page.js("document.querySelector('#answer').value") != "")
    assert page.texts(".chip span")[0].startswith("returns.md")
    page.find("#answer").clear()
    page.find("#answer").send_keys("We look after <b>labels</b>.")
    click(page, ".reply-box button", "Send and close")
    page.until(lambda: page.texts(".ticket .said") == ["We look after <b>labels</b>."])
    click(page, ".message .quiet", "Make it a correction")
    page.until(lambda: "Proposed" in page.find(".message .quiet").text)

    enter(page, "k", "talk", ".message .said")
    page.until(lambda: page.texts(".message .said") == ["We look after <b>labels</b>."])
    assert "A person has answered." in page.find(".waits").text and page.texts(".message .cited summary")
    ask(page, SURE)
    click(page, ".thumbs .down")
    page.until(lambda: page.find(".thumbs .down").get_attribute("aria-pressed") == "true")

    enter(page, "a", "quality", ".counts")
    page.until(lambda: page.texts(".gaps .who") == [SURE, FOREIGN], "the failure and the correction")
    page.until(lambda: len(page.all(".plot svg")) == 3)
    assert page.js("document.querySelector('.plot .here').textContent") == f"bound {desk.SURE:.2f}"
    assert int(page.texts(".counts dd")[0]) >= 2
    assert intent in page.texts(".bars .who") and "answered" in page.texts(".bars .number")[0]
    click(page, ".gaps .strong", "Accept")
    page.until(lambda: page.texts(".gaps .who") == [SURE])
    click(page, ".gaps .quiet", "Write the answer")
    page.find("#words").send_keys("Labels are kept for a year.")
    click(page, "dialog .strong", "Propose")
    page.until(lambda: not page.all("dialog"))
    assert page.texts(".wheel dd") == ["as it was made"]
    click(page, ".wheel button", "Improve")
    page.until(lambda: "corrections are frozen" in "".join(page.texts(".wheel .wrong")), "too few to learn from")
    assert page.browser.get_log("browser") == []


def test_an_upload_is_answered_from_until_it_is_deleted(page: Page, tmp_path: Path) -> None:
    english(page)
    good, bad = tmp_path / "gardens.md", tmp_path / "empty.md"
    good.write_text("# Gardens\n\n🎉🎉 Here is what is new. The zanzibar gardener waters the plants on Mondays.\n")
    bad.write_text("")
    enter(page, "a", "knowledge", ".documents .name")
    page.find("#files").send_keys(f"{good}\n{bad}")
    page.until(lambda: "gardens.md" in page.texts(".documents .name") and bool(page.all(".told .wrong")))
    assert "gardens.md was read; passages: 1." in page.texts(".told li")
    assert "empty.md" in page.find(".told .wrong").text
    assert page.browser.get_log("browser")[1:] == []  # the browser notes the one refusal
    enter(page, "k", "talk", "#question")
    ask(page, "The zanzibar gardener waters the plants on Mondays.")
    assert page.texts(".places summary")[0] == "gardens.md › Gardens"
    marked = page.js("document.querySelector('.places mark').textContent")
    assert marked == "The zanzibar gardener waters the plants on Mondays."
    enter(page, "a", "knowledge", ".documents .quiet")
    page.find(".documents .quiet").click()
    click(page, ".documents .quiet", "Delete for good")
    page.until(lambda: "gardens.md" not in page.texts(".documents .name") and bool(page.all(".documents .name")))
    enter(page, "k", "talk", "#question")
    ask(page, "The zanzibar gardener waters the plants.")
    assert all("gardens.md" not in place for place in page.texts(".reply:last-child .places summary"))
    enter(page, "k", "knowledge", ".place .panel")
    assert "for agents" in page.find(".place").text
    assert page.browser.get_log("browser") == []


@pytest.mark.parametrize("width", [390, 1280])
def test_no_page_is_wider_than_the_window(page: Page, width: int) -> None:
    size = {"width": width, "height": 844, "deviceScaleFactor": 1, "mobile": width < 500}
    page.browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    for place in ("talk", "tickets", "knowledge", "quality"):
        enter(page, "a", place, ".place .panel")
        assert int(str(page.js("document.documentElement.scrollWidth"))) <= width, place
        assert not any(word in page.find("main").text for word in ("undefined", "NaN", "[object", "page.desk"))
    page.browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
