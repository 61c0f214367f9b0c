"""The README and the pages: both languages say the same, and every command, recipe and block of code on them runs.

The pages are told as one story in a folder of real files, in their order: a command may stand on what an earlier one
made. Where a recipe would learn for long, the story adds overrides that make it small, and nothing else is changed.
"""

import contextlib
import csv
import gzip
import json
import os
import re
import shlex
import subprocess
import sys
import tomllib
import typing
import urllib.request
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.version import Version
from pydantic.fields import FieldInfo
from typer.testing import CliRunner

from zhumo.cli import app
from zhumo.evaluate.gate import parse
from zhumo.recipe import STEPS, Build, Deploy, Evaluate, Prepare, Recipe, Section, Train
from zhumo.sources import CATALOGUE
from zhumo.sources.catalogue import GROUPS
from zhumo.words import words

ROOT = Path(__file__).parent.parent
PAGES = ["README.md", *(f"docs/{step}.md" for step in STEPS), "docs/recommend.md", "docs/support.md"]
TWINS = [
    *PAGES, "docs/architecture.md", "docs/article.md", "docs/decisions.md", "docs/errors.md", "docs/performance.md",
]  # fmt: skip
SECTIONS = {"prepare": Prepare, "build": Build, "train": Train, "evaluate": Evaluate, "deploy": Deploy}
LANGUAGES = {"en": ".md", "zh": ".zh-CN.md"}
SHIPPED = {path.stem for path in (ROOT / "zhumo" / "recipes").glob("*.yaml")}
QUICK = ["build.size=tiny", "train.threads=1"]
SMALL = {
    "orders.yaml": [*QUICK, "train.epochs=1", "deploy.parity=10"],
    "shop.yaml": [*QUICK, "train.epochs=1", "deploy.parity=10"],
    "faq.yaml": [*QUICK, "train.epochs=1", "evaluate.rows=10", "deploy.parity=5"],
    "replies.yaml": [*QUICK, "train.epochs=2", "evaluate.rows=10", "deploy.parity=5"],
    "classify": ["prepare.limit=300", "train.epochs=null", "train.steps=2", "train.threads=1", "deploy.parity=5"],
}
Block = tuple[str, str]


def text_of(page: str) -> str:
    return (ROOT / page).read_text(encoding="utf-8")


def twin(page: str) -> str:
    return page.replace(".md", ".zh-CN.md")


def blocks(page: str) -> list[Block]:
    """Language and content of every fenced block, in order."""
    return re.findall(r"^```(\w+)\n(.*?)^```", text_of(page), re.S | re.M)


def prose(page: str) -> str:
    return re.sub(r"^```.*?^```", "", text_of(page), flags=re.S | re.M)


def commands(block: str) -> list[str]:
    lines = block.replace("\\\n", " ").splitlines()
    return [command.strip() for line in lines for command in line.split(" && ") if command.strip()]


def tables(page: str) -> list[list[str]]:
    """The cells of every line of every table."""
    lines = [line for line in prose(page).splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


# -- both languages, and the code


@pytest.mark.parametrize("page", TWINS)
def test_both_languages_have_the_same_shape(page: str) -> None:
    def levels(name: str) -> list[int]:
        return [len(marks) for marks in re.findall(r"^(#+) ", prose(name), re.M)]

    def code(name: str) -> list[Block]:
        return [(language, re.sub(r"(?:^|[ \t]+)#.*", "", content, flags=re.M)) for language, content in blocks(name)]

    def lists(name: str) -> int:
        return len(re.findall(r"^(?:-|\d+\.) ", prose(name), re.M))

    assert levels(page) == levels(twin(page))
    assert code(page) == code(twin(page))
    assert lists(page) == lists(twin(page))
    assert [len(row) for row in tables(page)] == [len(row) for row in tables(twin(page))]


@pytest.mark.parametrize("page", sorted(path.relative_to(ROOT).as_posix() for path in [
    *ROOT.glob("README*.md"), *ROOT.glob("docs/*.md")]))  # fmt: skip
def test_links_lead_somewhere(page: str) -> None:
    links = re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", prose(page))
    missing = [link for link in links if "://" not in link and not ((ROOT / page).parent / link).exists()]
    assert not missing


@pytest.mark.parametrize("page", [*PAGES, *map(twin, PAGES), "docs/map.md"])
def test_commands_named_in_the_text_exist(page: str) -> None:
    known = {command.name or command.callback.__name__ for command in app.registered_commands if command.callback}
    named = set(re.findall(r"`(?:\w+=\S+ )?zhumo ([a-z]+)", prose(page)))
    assert named <= known


def rendered(field: FieldInfo) -> str:
    """A default as the pages write it."""
    if field.is_required():
        return "needed"
    value = field.get_default(call_default_factory=True)
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list) and value:
        return ", ".join(value)
    return f"{value:g}" if isinstance(value, float) else str(value) if value or value == 0 else "–"


def keys(section: type[Section], before: str = "") -> Iterator[tuple[str, FieldInfo]]:
    """Every key of a section, those of sections inside it with a dot."""
    for name, field in section.model_fields.items():
        kinds = (field.annotation, *typing.get_args(field.annotation))
        inner = next((kind for kind in kinds if isinstance(kind, type) and issubclass(kind, Section)), None)
        if inner is None or field.default is None:
            yield before + name, field
        if inner is not None:
            yield from keys(inner, f"{name}.")


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("step", STEPS)
def test_every_key_of_a_section_is_on_its_page_with_its_default(step: str, language: str) -> None:
    expected = {name: rendered(field) for name, field in keys(SECTIONS[step])}
    if step == "prepare":
        expected |= {name: rendered(field) for name, field in Recipe.model_fields.items() if name not in STEPS}
    rows = tables(f"docs/{step}{LANGUAGES[language]}")
    starts = [index for index, row in enumerate(rows) if row[0] in ("key", "键")]
    found = {}
    for start in starts:
        for row in rows[start + 2 :]:
            if len(row) != 3 or not row[0].startswith("`"):
                break
            found[row[0].strip("`")] = row[1].replace("必填", "needed")
    assert found == expected


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("step", STEPS)
def test_errors_are_quoted_as_they_are_said(step: str, language: str) -> None:
    quoted = re.findall(r"^- \*\*[\"“](.+?)[\"”]\*\*", prose(f"docs/{step}{LANGUAGES[language]}"), re.M)
    said = words(language).values()
    assert quoted
    assert [phrase for phrase in quoted if not any(phrase in sentence for sentence in said)] == []


@pytest.mark.parametrize("page", PAGES)
def test_recipes_are_recipes(page: str, tmp_path: Path) -> None:
    for number, content in enumerate(content for language, content in blocks(page) if language == "yaml"):
        if content.startswith("# access.yaml\n"):
            continue  # the one YAML that is no recipe; the story serves with it
        path = tmp_path / f"{number}.yaml"
        path.write_text(content, encoding="utf-8")
        for rule in Recipe.read(path).evaluate.gate.values():
            parse(rule)


def test_installations_are_those_of_the_package() -> None:
    project = tomllib.loads(text_of("pyproject.toml"))["project"]
    torch = next(need for need in map(Requirement, project["dependencies"]) if need.name == "torch")
    for page in [*PAGES, *map(twin, PAGES)]:
        for asked in re.findall(r"pip install ([^&`\n]+)", text_of(page)):
            *_, what = shlex.split(asked)
            if what.startswith("."):
                extras = set(filter(None, what.removeprefix(".").strip("[]").split(",")))
                assert extras <= set(project["optional-dependencies"])
            else:
                name, _, version = what.partition("==")
                assert name == torch.name and torch.specifier.contains(Version(version))


@pytest.mark.parametrize("page", ["README.md", "README.zh-CN.md"])
def test_the_two_commands_stand_on_the_readme(page: str) -> None:
    found = [content.strip() for language, content in blocks(page) if language == "bash"]
    assert "pip install -e . && zhumo demo" in found
    assert "pip install -e '.[dev]' && pytest" in found


def test_the_map_names_rows_that_are_measured() -> None:
    bars = tomllib.loads(text_of("benchmarks/bars.toml"))
    rows = [row for row in tables("docs/map.md") if len(row) == 6]
    named = {name for row in rows for name in re.findall(r"`([^`]+)`", row[5])} - {"benchmarks/RESULTS.md"}
    assert len(rows) > 20
    assert named - {"parity.json"} <= {name for script in bars.values() for name in script}


# -- the story


def lines_of(path: Path) -> Iterator[str]:
    with gzip.open(path, "rt", encoding="utf-8") as file:
        yield from file


def lay_out(folder: Path, shared: Path) -> None:
    """The reader's own files, from real data, and the recipes that pages name in their first line."""
    sold = csv.DictReader(lines_of(shared / "online-retail" / "transactions.csv.gz"))
    bought = list(islice((row for row in sold if row["CustomerID"] and int(row["Quantity"]) > 0), 3_200))
    with (folder / "orders.csv").open("w", encoding="utf-8", newline="") as file:
        orders = csv.writer(file)
        orders.writerow(["会员号", "商品", "商品名称", "下单时间"])
        for row in bought[:3_000]:
            orders.writerow([row[name] for name in ("CustomerID", "StockCode", "Description", "InvoiceDate")])
    goods = {row["StockCode"]: row for row in bought}
    with (folder / "goods.csv").open("w", encoding="utf-8", newline="") as file:
        shelf = csv.writer(file)
        shelf.writerow(["商品", "商品名称", "类目", "单价"])
        for item, row in goods.items():
            shelf.writerow([item, row["Description"], row["Description"].split()[-1], row["UnitPrice"]])
    visits = [{"items": [row["StockCode"] for row in bought[start : start + 4]]} for start in range(3_000, 3_200, 4)]
    tickets = (json.loads(line) for line in islice(lines_of(shared / "banking77" / "train.jsonl.gz"), 0, 10_000, 40))
    talk = (json.loads(line)["turns"] for line in islice(lines_of(shared / "chatterbot" / "english.jsonl.gz"), 400))
    replies = [{"question": turns[0], "answer": turns[1]} for turns in talk if len(turns) > 1]
    for name, rows in (("visitors", visits), ("tickets", tickets), ("replies", replies)):
        text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        (folder / f"{name}.jsonl").write_text(text, encoding="utf-8")
    for page in PAGES:
        for content in (content for language, content in blocks(page) if language == "json"):
            if content.startswith('{"question": '):
                (folder / "earlier.jsonl").write_text(content, encoding="utf-8")
    handbook = folder / "handbook"
    (handbook / "hr").mkdir(parents=True)
    for name in ("train.md", "train.zh-CN.md"):
        (handbook / name).write_text(text_of(f"docs/{name}"), encoding="utf-8")
    (handbook / "hr" / "build.md").write_text(text_of("docs/build.md"), encoding="utf-8")
    for page in PAGES:
        for content in (content for language, content in blocks(page) if language == "yaml"):
            if name := re.match(r"# (\S+\.yaml)\n", content):
                (folder / name[1]).write_text(content, encoding="utf-8")


class Story:
    """One reader at one desk, who does what the pages say, one after the other."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.told: list[str] = []

    def tell(self, page: str, *, net: bool = False) -> None:
        """Do what the pages up to this one say, as far as not done. net: only what needs the package index."""
        for earlier in PAGES[: PAGES.index(page) + 1]:
            if earlier not in self.told:
                self.told.append(earlier)
                with contextlib.chdir(self.folder), contextlib.ExitStack() as until:
                    self._read(earlier, net, until)

    def _read(self, page: str, net: bool, until: contextlib.ExitStack) -> None:
        port = "8010"
        for language, content in blocks(page):
            if language == "python" and not net:
                exec(compile(content.replace(":8010", f":{port}"), page, "exec"), {})
            for command in commands(content) if language == "bash" else ():
                if needs_index(command) != net or command.startswith(("pip ", "pytest")):
                    continue
                if command.startswith("zhumo serve"):
                    port = until.enter_context(serving(command))
                else:
                    self._do(command.replace(":8010", f":{port}"), page)

    def _do(self, command: str, page: str) -> None:
        if "zhumo" not in command:
            path = os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"]))
            subprocess.run(["bash", "-c", command], env={**os.environ, "PATH": path}, check=True)
            return
        settings, arguments = understood(command)
        if arguments[0] == "new":
            (self.folder / Path(arguments[2]).with_suffix(".yaml")).unlink(missing_ok=True)
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("ZHUMO_LANG", "en")  # and back, whatever --lang sets
            for name, value in settings.items():
                patch.setenv(name, value)
            result = CliRunner().invoke(app, arguments)
        assert result.exit_code == 0, f"{page}: {command}\n{result.output}\n{result.exception!r}"


def understood(command: str) -> tuple[dict[str, str], list[str]]:
    """Variables set before a zhumo command, and its arguments; small where a recipe is made."""
    before, _, after = command.partition("zhumo ")
    settings = dict(setting.split("=", 1) for setting in before.split())
    arguments = shlex.split(after, comments=True)
    if arguments[0] == "demo":
        arguments.append("--check")
    if arguments[0] != "new":
        arguments += [change for name in arguments for change in SMALL.get(name, ())]
    return settings, arguments


def needs_index(command: str) -> bool:
    """Whether a command fetches something of the catalogue."""
    if "zhumo " not in command:
        return False
    _, (verb, *others) = understood(command)
    values = {value.rpartition("=")[2] for value in others}
    return verb == "demo" or bool(values & {*CATALOGUE, *GROUPS}) or (verb != "new" and bool(values & SHIPPED))


@contextlib.contextmanager
def serving(command: str) -> Iterator[str]:
    """The port of a server that the command starts, lives, and ends well on SIGTERM."""
    _, arguments = understood(command)
    whole = [sys.executable, "-m", "zhumo", *arguments, "--port", "0"]
    with subprocess.Popen(whole, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        port = re.search(r"http://127\.0\.0\.1:(\d+)/", process.stdout.readline())
        assert port, f"{command} did not start"
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port[1]}/health/live") as response:
                assert json.load(response) == {"status": "live"}
            yield port[1]
        finally:
            process.terminate()
        assert process.wait(60) == 0


@pytest.fixture(scope="module")
def story(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Story:
    folder = tmp_path_factory.mktemp("reader")
    lay_out(folder, shared)
    return Story(folder)


@pytest.mark.parametrize("page", PAGES)
def test_everything_on_a_page_runs(page: str, story: Story) -> None:
    story.tell(page)


def test_the_story_answers_what_was_asked(story: Story) -> None:
    story.tell(PAGES[-1])
    answers = [json.loads(line) for line in (story.folder / "answers.jsonl").read_text(encoding="utf-8").splitlines()]
    asked = (story.folder / "visitors.jsonl").read_text(encoding="utf-8").splitlines()
    assert len(answers) == len(asked) and all(len(answer["items"]) == 10 for answer in answers)
    for name in ("orders", "replies"):
        assert (story.folder / "runs" / name / "deploy" / "parity.json").is_file()


def tell_with_index(pages: list[str], made: list[str], shared: Path, folder: Path) -> None:
    """Do of some pages what needs the package index; runs of these names come to an end."""
    lay_out(folder, shared)
    story = Story(folder)
    story.told = [page for page in PAGES if page not in pages]
    story.tell(pages[-1], net=True)
    for name in made:
        assert (folder / "runs" / name / "deploy" / "parity.json").is_file()


# The two long ones stand apart, so that two workers take one each.
@pytest.mark.net
@pytest.mark.timeout(3_000)
def test_what_needs_the_package_index_runs_too(shared: Path, tmp_path: Path) -> None:
    tell_with_index(PAGES[:-1], ["movielens", "reviews"], shared, tmp_path)


@pytest.mark.net
@pytest.mark.timeout(600)
@pytest.mark.parametrize("recipe", sorted(SHIPPED))
def test_recipes_that_come_with_zhumo_find_their_data_usable(recipe: str, tmp_path: Path) -> None:
    yours = {"support": [f"prepare.source=documents:{ROOT / 'docs'}"]}  # all others bring their data
    arguments = ["prepare", recipe, *yours.get(recipe, []), "prepare.limit=1000", "--runs", str(tmp_path)]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, f"{result.output}\n{result.exception!r}"


@pytest.mark.net
@pytest.mark.timeout(3_000)
def test_what_a_desk_needs_of_the_package_index_runs_too(shared: Path, tmp_path: Path) -> None:
    tell_with_index(PAGES[-1:], ["support"], shared, tmp_path)
