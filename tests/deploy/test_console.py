"""The console in a real browser: every task is tried, in both languages, and nothing leaves the house or is markup."""

import base64
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from zhumo.bundle import load, save
from zhumo.deploy.parity import Server, served
from zhumo.recipe import Recipe
from zhumo.run import Run

webdriver = pytest.importorskip("selenium.webdriver")
waiting = pytest.importorskip("selenium.webdriver.support.wait")
Stale = pytest.importorskip("selenium.common.exceptions").StaleElementReferenceException

CHROMIUM, DRIVER = Path("/usr/bin/chromium"), Path("/usr/bin/chromedriver")
FLAGS = (
    "headless=new", "no-sandbox", "disable-gpu", "disable-quic", "no-first-run", "disable-background-networking",
    "disable-component-update", "disable-sync", "window-size=1280,900", "lang=en",
)  # fmt: skip


@pytest.fixture(scope="module")
def house(bundles: dict[str, Path], made: tuple[Recipe, Run]) -> Iterator[Server]:
    with served([*bundles.values(), made[1].step("deploy")]) as server:
        yield server


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[webdriver.Chrome]:
    if not (CHROMIUM.is_file() and DRIVER.is_file()):
        pytest.skip("Debian's chromium and chromium-driver are not installed")
    options = webdriver.ChromeOptions()
    options.binary_location = str(CHROMIUM)
    for flag in (*FLAGS, f"user-data-dir={tmp_path_factory.mktemp('chromium')}"):
        options.add_argument(f"--{flag}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(str(DRIVER)))
    yield driver
    driver.quit()


class Page:
    """A tab of the console, and what a person does in it."""

    def __init__(self, browser: webdriver.Chrome, server: Server) -> None:
        self.browser, self.server, self.base = browser, server, f"http://127.0.0.1:{server.port}/"

    def open(self, place: str = "", wait: str = "main h1") -> None:
        self.browser.get("about:blank")
        self.browser.get(f"{self.base}#{place}")
        self.find(wait)

    def all(self, selector: str) -> list[webdriver.remote.webelement.WebElement]:
        found: list[webdriver.remote.webelement.WebElement] = self.browser.find_elements("css selector", selector)
        return found

    def find(self, selector: str) -> webdriver.remote.webelement.WebElement:
        self.until(lambda: bool(self.all(selector)), selector)
        return self.all(selector)[0]

    def until(self, condition: Callable[[], bool], what: str = "") -> None:
        waiting.WebDriverWait(self.browser, 20, ignored_exceptions=[Stale]).until(lambda _: condition(), what)

    def texts(self, selector: str) -> list[str]:
        """All at one moment: elements are drawn anew while a person looks."""
        code = "return [...document.querySelectorAll(arguments[0])].map((element) => element.innerText.trim())"
        found: list[str] = self.browser.execute_script(code, selector)
        return found

    def still(self) -> None:
        """Wait until nothing moves, so that a click meets what it was meant for."""
        self.until(lambda: self.js("document.getAnimations().every((one) => one.playState === 'finished')") is True)

    def js(self, code: str) -> object:
        return self.browser.execute_script(f"return {code}")


@pytest.fixture
def page(browser: webdriver.Chrome, house: Server) -> Iterator[Page]:
    browser.get(f"http://127.0.0.1:{house.port}/#key={house.key}")
    page = Page(browser, house)
    page.find(".cards")
    if page.js("document.documentElement.lang") != "en":
        page.find("#language").click()
        page.until(lambda: page.js("document.documentElement.lang") == "en")
    browser.get_log("browser")
    browser.get_log("performance")
    yield page
    assert browser.get_log("browser") == []
    assert page.js("document.querySelectorAll('main img, main script, main iframe').length") == 0
    for entry in browser.get_log("performance"):
        message = json.loads(entry["message"])["message"]
        if message["method"] == "Network.requestWillBeSent":
            address = urlsplit(message["params"]["request"]["url"])
            assert address.netloc == urlsplit(page.base).netloc or address.scheme in ("about", "blob", "data"), address


def test_the_key_leaves_the_address(page: Page) -> None:
    assert page.server.key not in page.browser.current_url
    assert page.server.key not in str(page.js("JSON.stringify(localStorage) + document.cookie"))
    assert page.js("sessionStorage.getItem('zhumo.key')") == page.server.key


def test_who_has_no_key_is_asked_for_it(page: Page) -> None:
    page.js("sessionStorage.clear()")
    page.open(wait="#key")
    page.find("#key").send_keys("not the key")
    page.find("form button").click()
    assert page.find(".wrong").text == "That is not the key."
    page.find("#key").send_keys(page.server.key)
    page.find("form button").click()
    page.find(".cards")
    page.browser.get_log("browser")  # the browser itself notes the 401 that was asked for


def test_every_bundle_is_shown_with_its_card(page: Page) -> None:
    small = [f"{task}-small" for task in ("recommend", "classify", "tag", "embed", "rerank", "write", "translate")]
    assert page.texts(".card h2") == [*small, "评论"]
    assert "This bundle brings no report card." in page.find(".card").text
    page.browser.get_log("browser")  # the 404s of bundles without a card


def test_the_language_changes_and_stays(page: Page) -> None:
    page.find("#language").click()
    page.until(lambda: page.texts("main h1") == ["在此服务的模型"])
    assert page.js("document.documentElement.lang") == "zh-CN"
    page.browser.refresh()
    page.until(lambda: page.texts("main h1") == ["在此服务的模型"])
    page.find("#language").click()
    page.until(lambda: page.texts("main h1") == ["What is served here"])
    page.browser.get_log("browser")


def test_a_history_is_built_and_the_shelf_turns(page: Page, hostile: str) -> None:
    page.open("/recommend-small/try", ".item")
    bestsellers = page.texts(".item > .who")
    assert len(bestsellers) == 10 and hostile in bestsellers
    assert page.texts(".stand h2") == ["Bestsellers"] and page.all(".mark") == []
    page.find("#search").send_keys("script")
    page.until(lambda: page.texts(".found .who") == [hostile], "the search")
    page.find(".found button").click()
    page.until(lambda: page.texts(".stand h2") == ["What to show next"], "the new shelf")
    assert page.texts(".taken .who") == [hostile]
    assert len(page.all(".item")) == 9 and hostile not in page.texts(".item > .who")  # it has been taken
    assert page.find(".moved").text.startswith(f"With {hostile}: ")
    assert page.texts(".rank") == [str(rank) for rank in range(1, 10)] and page.all(".rose")
    page.find(".filters .check input").click()
    page.until(lambda: hostile in page.texts(".item > .who"), "what was taken")
    page.find("#search").clear()
    page.find("#search").send_keys("no such film")
    page.until(lambda: "matches “no such film”" in page.find(".found").text, "the empty state")
    page.find("#language").click()
    page.until(lambda: page.texts(".stand h2") == ["接下来展示什么"], "the other language")
    assert page.texts(".taken .who") == [hostile]
    page.find("#language").click()
    page.until(lambda: page.texts(".stand h2") == ["What to show next"], "and back")


def test_what_is_taken_away_moves_others_and_can_be_put_back(page: Page) -> None:
    page.open("/recommend-small/try", ".item")
    for taken in (1, 2):
        page.still()
        page.all(".item .take")[3].click()
        page.until(lambda taken=taken: len(page.texts(".taken .who")) == taken and len(page.all(".item")) == 10 - taken)  # type: ignore[misc]
    before, history = page.texts(".item > .who"), page.texts(".taken .who")
    page.all(".taken button")[0].click()
    page.until(lambda: page.find(".moved").text.startswith(f"Without {history[0]}: "), "what moved")
    assert page.texts(".taken .who") == history[1:] and history[0] in page.texts(".item > .who")
    assert page.texts(".mark.fresh") == ["new"]
    page.still()
    page.find(".moved button").click()
    page.until(lambda: page.texts(".item > .who") == before and page.texts(".taken .who") == history, "all as it was")
    page.find(".side .quiet").click()
    page.until(lambda: page.texts(".stand h2") == ["Bestsellers"], "the bestsellers again")


def test_the_shop_is_filtered_and_varied(page: Page, bundles: dict[str, Path]) -> None:
    page.open("/recommend-small/try", ".item")
    assert page.texts(".pick") == ["drama", "silent", "动作"]
    page.all(".pick")[2].click()
    page.until(lambda: set(page.texts(".item > .who")) == {"七武士", "大路"}, "one category")
    page.all(".filters input[type=number]")[0].send_keys("9")
    page.until(lambda: page.texts(".item > .who") == ["大路"], "the dearer one")
    page.all(".filters input[type=number]")[0].send_keys("99")
    page.until(lambda: "Nothing fits" in page.find(".shelf").text, "an empty shelf")
    page.find(".whole button").click()
    page.until(lambda: len(page.all(".item")) == 10, "everything again")
    lead = {"name": "ndcg@10", "value": 0.5}
    settings = [
        {"value": value, "lead": {**lead, "value": 0.5 - loss}} for value, loss in ((0, 0), (0.5, 0.01), (1, 0.06))
    ]
    report = bundles["recommend"] / "report.json"
    report.write_text(json.dumps({"dials": [{"name": "diversity", "settings": settings}]}), encoding="utf-8")
    code = "arguments[0].value = 0.6; arguments[0].dispatchEvent(new Event('input'))"
    page.browser.execute_script(code, page.find("#variety"))
    code = "document.querySelector('.code pre').textContent"
    page.until(lambda: '"diversity": 0.6' in str(page.js(code)), "the question")
    page.until(lambda: "0.0200 of NDCG@10, now 0.500" in page.find(".cost").text, "what it costs")
    report.unlink()


def test_a_shop_of_habit_shows_what_was_taken_until_told_not_to(
    browser: webdriver.Chrome, bundles: dict[str, Path], tmp_path: Path
) -> None:
    shop = load(bundles["recommend"])
    assert shop.task is not None
    shop.task.state |= {"protocol": "again", "again": 0.9}
    save(tmp_path / "habit", shop.model, "gpt2", None, shop.task)
    with served([tmp_path / "habit"]) as server:
        browser.get(f"http://127.0.0.1:{server.port}/#key={server.key}")
        page = Page(browser, server)
        page.open("/habit/try", ".item")
        assert page.find(".check input").is_selected()
        page.find("#search").send_keys("Casa")
        page.until(lambda: page.texts(".found .who") == ["Casablanca"], "it is found")
        page.all(".found .who")[0].click()
        page.until(lambda: page.texts(".taken .who") == ["Casablanca"], "it is taken")
        page.until(lambda: page.texts(".item > .who")[:1] == ["Casablanca"], "it stands there again, first")
        page.find(".check input").click()
        page.until(lambda: "Casablanca" not in page.texts(".item > .who"), "only others")
        assert '"seen": false' in str(page.js("document.querySelector('.code pre').textContent"))
    browser.get_log("browser")
    browser.get_log("performance")


def test_an_item_is_looked_at_and_so_is_what_is_like_it(page: Page) -> None:
    page.open("/recommend-small/try", ".item")
    page.still()
    place = page.texts(".item > .who").index("Metropolis")
    page.all(".face")[place].click()
    page.until(lambda: page.texts("dialog h2") == ["Metropolis"], "the item")
    assert "silent · drama · 12.00" in page.find("dialog").text
    page.until(lambda: len(page.all("dialog .beside")) == 2 and len(page.all("dialog .beside button")) >= 6, "others")
    other = page.texts("dialog .beside .who")[0]
    page.all("dialog .beside button")[0].click()
    page.until(lambda: page.texts("dialog h2") == [other], "the other item")
    page.find("dialog .strong").click()
    page.until(lambda: page.texts(".taken .who") == [other] and not page.all("dialog"), "it is taken")
    page.until(lambda: page.texts(".because") != [] and any(page.texts(".because")), "the reasons")
    assert f"Because you took {other}" in page.texts(".because")


def test_a_shop_is_walked_by_keyboard(page: Page) -> None:
    keys = pytest.importorskip("selenium.webdriver.common.keys").Keys
    page.open("/recommend-small/try", ".item")
    search = page.find("#search")
    search.send_keys("o")
    page.until(lambda: len(page.texts(".found .who")) > 2 and all("o" in who for who in page.texts(".found .who")))
    second = page.texts(".found .who")[1]
    active = page.browser.switch_to
    search.send_keys(keys.ARROW_DOWN)
    active.active_element.send_keys(keys.ARROW_DOWN)
    active.active_element.send_keys(keys.ENTER)
    page.until(lambda: page.texts(".taken .who") == [second], "it is taken")
    search.click()
    active.active_element.send_keys(keys.ESCAPE)
    page.still()
    assert search.get_attribute("value") == "o"  # emptied, it would open again
    page.until(lambda: not page.find(".found").is_displayed(), "the search is closed")
    page.until(lambda: page.texts(".stand h2") == ["What to show next"], "the shelf")
    page.js("document.querySelector('.face').focus()")
    active.active_element.send_keys(keys.ENTER)
    page.until(lambda: len(page.all("dialog[open]")) == 1, "the item")
    active.active_element.send_keys(keys.ESCAPE)
    page.until(lambda: not page.all("dialog"), "closed again")


def test_pictures_are_painted_where_there_are_some(
    browser: webdriver.Chrome, bundles: dict[str, Path], tmp_path: Path
) -> None:
    pixel = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNkYPhfDwAChwGA60e6kgAAAABJRU5ErkJggg=="
    (tmp_path / "casablanca.png").write_bytes(base64.b64decode(pixel))
    command = [
        sys.executable,
        "-m",
        "zhumo",
        "serve",
        str(bundles["recommend"]),
        "--port",
        "0",
        "--pictures",
        str(tmp_path),
    ]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={**os.environ, "ZHUMO_KEY": "k"}) as process:
        assert process.stdout is not None
        try:
            found = re.search(r":(\d+)/", process.stdout.readline())
            assert found is not None
            browser.get(f"http://127.0.0.1:{found[1]}/#key=k")
            page = Page(browser, Server(int(found[1]), "k"))
            page.open("/recommend-small/try", ".item")
            place = page.texts(".item > .who").index("Casablanca")
            page.until(lambda: len(page.all(".item canvas")) == 1, "the picture")
            assert page.all(".item")[place].find_elements("css selector", "canvas")
            assert len(page.all(".item .glyph")) == 9
        finally:
            process.terminate()
    browser.get_log("browser")  # the pictures that are not there
    browser.get_log("performance")


def test_translate(page: Page) -> None:
    page.open("/translate-small/try")
    page.find("#text").send_keys("warm and soft")
    page.find("button.strong").click()
    page.find(".said")
    page.find(".code summary").click()
    assert "/v1/translations" in page.find(".code pre").text


def test_tag(page: Page) -> None:
    page.open("/tag-small/try")
    page.find("#text").send_keys("warm 大衣 from Oslo")
    page.find("form .strong").click()
    page.until(lambda: "from Oslo" in page.find(".said").text.replace(" CITY", ""), "the text")
    page.find(".code summary").click()
    assert "/v1/tag" in page.find(".code pre").text


def test_classify(page: Page, hostile: str) -> None:
    page.open("/classify-small/try")
    page.find("#text").send_keys("the zip broke")
    page.find("form .strong").click()
    page.until(lambda: len(page.all(".bars li")) == 3, "the bars")
    assert hostile in page.texts(".bars .who")
    assert page.texts(".bars .chosen .who") == page.texts(".bars .who")[:1]
    page.find(".code summary").click()
    assert "/v1/classify" in page.find(".code pre").text and page.server.key not in page.find(".code pre").text


def test_embed(page: Page, hostile: str) -> None:
    page.open("/embed-small/try")
    for field, text in zip(page.all(".texts textarea"), ["soft", hostile, "soft"], strict=True):
        field.send_keys(text)
    page.find("form .strong").click()
    page.until(lambda: len(page.all(".matrix tbody td")) == 9, "the matrix")
    cells = page.texts(".matrix tbody td")
    assert cells[2] == "1.00" and cells[1] == cells[3]
    assert hostile in page.texts(".matrix tbody th")[1]


def test_rerank(page: Page, hostile: str) -> None:
    page.open("/rerank-small/try")
    page.find("#text").send_keys("soft?")
    page.find("#documents").send_keys(f"the zip broke\n\n{hostile}\nsoft")
    page.find("form .strong").click()
    page.until(lambda: len(page.all(".bars li")) == 3, "the order")
    assert sorted(page.texts(".bars .who")) == sorted(["the zip broke", hostile, "soft"])
    shares = [float(text.rstrip("%")) for text in page.texts(".bars .number")]
    assert shares == sorted(shares, reverse=True)
    assert page.texts(".bars .chosen .who") == page.texts(".bars .who")[:1]


def test_write_streams_and_stops(page: Page, hostile: str) -> None:
    page.open("/write-small/try")
    page.all(".mode")[0].click()
    page.js("document.querySelector('#length').value = 2000")
    page.js("document.querySelector('#temperature').value = 0")  # newlines to the end: by chance it might say nothing
    page.find("#message").send_keys(hostile)
    page.find(".compose .strong").click()
    first = "document.querySelectorAll('.said')[1]?.textContent.length > 5"
    page.until(lambda: bool(page.js(first)), "the first words")
    assert page.texts(".said")[0] == hostile
    page.js("document.querySelectorAll('.compose button')[1].click()")  # it may have said all it had by now
    page.until(lambda: page.texts(".note")[-1] != "", "the end")
    page.until(lambda: page.all(".compose .strong")[0].is_displayed(), "the next turn")


def test_a_text_is_continued(page: Page) -> None:
    page.open("/write-small/try")
    page.all(".mode")[1].click()
    page.js("document.querySelector('#length').value = 6")
    page.find("#message").send_keys("the dress")
    page.find(".compose .strong").click()
    page.until(lambda: "written" in "".join(page.texts(".note")), "the end")
    assert page.find(".said").text.startswith("the dress")


def test_the_report_card(page: Page, made: tuple[Recipe, Run]) -> None:
    report = json.loads((made[1].step("deploy") / "report.json").read_text(encoding="utf-8"))
    page.open("/评论/report", ".report")
    assert page.find(".verdict").text == report["sentence"]["en"]
    assert len(page.all(".answer .forest li")) == 1 + len(report["rivals"])
    assert len(page.all(".report tbody tr")) == len(report["measures"])
    assert all(word not in page.find("main").text for word in ("undefined", "NaN", "[object", "report.", "page."))


def test_an_unknown_model_is_told(page: Page) -> None:
    page.open("/nobody/try", ".problem")
    assert "There is no model “nobody” here." in page.find(".problem").text


@pytest.mark.parametrize("width", [390, 1280])
def test_nothing_is_wider_than_the_window(page: Page, width: int) -> None:
    size = {"width": width, "height": 844, "deviceScaleFactor": 1, "mobile": width < 500}
    page.browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    for place in (
        "",
        "/评论/report",
        "/recommend-small/try",
        "/classify-small/try",
        "/embed-small/try",
        "/rerank-small/try",
        "/write-small/try",
    ):
        page.open(place, "main .panel")
        # A real shop's categories are longer than those here.
        page.js("document.querySelectorAll('.facts .small').forEach((one) => { one.textContent = 'Drama '.repeat(9) })")
        assert int(str(page.js("document.documentElement.scrollWidth"))) <= width, place
        assert page.js("[...document.querySelectorAll('.item')].every((one) => one.scrollWidth <= one.clientWidth)")
    page.browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    page.browser.get_log("browser")
