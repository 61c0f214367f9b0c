"""The command line: one function a verb, each a thin call of the room that does the work.

Rooms are imported inside the functions, the one place where that is right: `zhumo --help` must not wait for torch.
"""

import errno
import json
import os
import signal
import sys
import time
import webbrowser
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import Progress
from rich.table import Table

from zhumo.deploy.places import SLOTS
from zhumo.errors import GateError, Interrupted, ZhumoError
from zhumo.recipe import Recipe
from zhumo.run import Run
from zhumo.words import LANGUAGES, language, say

if TYPE_CHECKING:
    from zhumo.support.serving import Desk

INTERRUPTED = 130
# What the machine refuses.
SYSTEM = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOENT, errno.ENOTDIR, errno.EISDIR)
app = typer.Typer(
    name="zhumo",
    help="铸模 Zhumo: a private model workshop. Business data in, a measured Transformer behind an API out.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
out = Console(soft_wrap=True)
err = Console(stderr=True, soft_wrap=True)

RecipePath = Annotated[str, typer.Argument(help="A recipe file, or the name of one that comes with Zhumo.")]
Overrides = Annotated[list[str] | None, typer.Argument(help="SECTION.KEY=VALUE, e.g. train.lr=3e-4.")]
Runs = Annotated[Path, typer.Option("--runs", help="Folder in which runs are made.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print machine-readable JSON.")]
Questions = Annotated[
    Path | None, typer.Option(help="Earlier questions with their gold, which an improved encoder must not be worse on.")
]
Port = Annotated[int, typer.Option("--port", min=0, max=65535, help="0: any free port.")]


class Demo(StrEnum):
    """The apps that can be shown."""

    recommend = "recommend"
    support = "support"


@app.callback()
def _options(
    lang: Annotated[str | None, typer.Option("--lang", help="en or zh; default: the system's.")] = None,
    version: Annotated[bool, typer.Option("--version", help="Print the version and stop.", is_eager=True)] = False,
) -> None:
    if version:
        from zhumo import __version__

        out.print(__version__)
        raise typer.Exit
    if lang is not None:
        if lang not in LANGUAGES:
            raise typer.BadParameter(f"{lang}: one of {', '.join(LANGUAGES)}")
        os.environ["ZHUMO_LANG"] = lang


def _recipe(path: str, overrides: list[str] | None) -> Recipe:
    """A recipe from a file, or one of those that come with Zhumo by its bare name."""
    own = Path(__file__).parent / "recipes" / f"{path}.yaml"
    return Recipe.read(own if own.is_file() and not Path(path).exists() else path, overrides or ())


def _show_step(name: str, facts: dict[str, Any], seconds: float) -> None:
    title = say(f"cli.step.{name}")
    if seconds == 0:
        out.print(f"[dim]{title:<10} {say('cli.step.stands')}[/dim]")
        return
    out.print(f"[bold]{title:<10}[/bold] {_facts(name, facts)}  [dim]{seconds:.1f} s[/dim]")


def _facts(name: str, facts: dict[str, Any]) -> str:
    if name == "prepare":
        rows = facts["rows"]
        parts = ", ".join(f"{part} {count:,}" for part, count in facts["parts"].items())
        told = say(
            "cli.step.rows",
            **{key: f"{value:,}" for key, value in rows.items() if key != "in"},
            all=f"{rows['in']:,}",
            parts=parts,
        )
        read = [say("cli.step.encoding", file=file, encoding=kind) for file, kind in facts["encodings"].items()]
        near = [say("cli.step.near", **facts["near"])] if facts["near"] else []
        return escape("; ".join([told, *near, *read]))
    if name == "build":
        return say("cli.step.built", family=facts["family"], parameters=f"{facts['parameters']:,}")
    if name == "train":
        return say("cli.step.trained", steps=f"{facts['steps']:,}", threads=facts["threads"])
    return str(facts.get("said", ""))


def _make(
    recipe: Recipe,
    runs: Path,
    as_json: bool,
    only: str | None = None,
    after: Callable[[str, Run], None] = lambda *_: None,
) -> Run:
    from zhumo.make import make

    run = Run.of(recipe, runs)
    log: list[dict[str, Any]] = []

    def listen(name: str, facts: dict[str, Any], seconds: float) -> None:
        log.append({**facts, "wall_seconds": seconds})
        if not as_json:
            _show_step(name, facts, seconds)
            if name == "evaluate":
                _show_report(run)
        after(name, run)

    try:
        make(recipe, run, only=only, listener=listen)
    except GateError:
        if not as_json:
            _show_report(run)  # what did not hold is what the user wants to see
        raise
    if as_json:
        print(json.dumps({"run": str(run.folder), "steps": log}, ensure_ascii=False))
    elif only in (None, "deploy"):
        out.print(say("cli.run.done", bundle=run.step("deploy")))
    return run


def _show_report(run: Run) -> None:
    from zhumo.evaluate import read_report, summary

    out.print(summary(read_report(run)))


@app.command()
def run(recipe: RecipePath, overrides: Overrides = None, runs: Runs = Path("runs"), as_json: AsJson = False) -> None:
    """Make a bundle: prepare, build, train, evaluate, deploy. Steps that stand are skipped."""
    _make(_recipe(recipe, overrides), runs, as_json)


def _verb(name: str, text: str) -> Callable[..., None]:
    def verb(
        recipe: RecipePath, overrides: Overrides = None, runs: Runs = Path("runs"), as_json: AsJson = False
    ) -> None:
        _make(_recipe(recipe, overrides), runs, as_json, only=name)

    verb.__doc__ = text
    app.command(name)(verb)
    return verb


_verb("prepare", "Step 1: read, clean, split and encode the data.")
_verb("build", "Step 2: make the model, fresh or from published weights.")
_verb("train", "Step 3: learn; goes on where it was interrupted.")
_verb("evaluate", "Step 4: measure on the test rows, beside an honest baseline.")
_verb("deploy", "Step 5: make the bundle and prove that it serves what was measured.")


@app.command()
def plan(recipe: RecipePath, overrides: Overrides = None, runs: Runs = Path("runs"), as_json: AsJson = False) -> None:
    """Show what a recipe will make: every default filled in, parameters, steps."""
    from zhumo.plan import plan as make_plan

    resolved = _recipe(recipe, overrides)
    result = make_plan(resolved, Run.of(resolved, runs))
    if as_json:
        print(json.dumps(result, ensure_ascii=False))
        return
    out.print(escape(resolved.dump()))
    unknown = say("cli.plan.unknown")
    for name in ("parameters", "examples", "steps"):
        value = result[name]
        if name == "examples" and value is not None:
            value = value["train"]
        out.print(f"{say(f'cli.plan.{name}')}: {unknown if value is None else f'{value:,}'}")
    for entry in result["search"]:
        looks = " → ".join("-" if look is None else f"{look:.4f}" for look in entry["looks"])
        out.print(escape(say("cli.plan.candidate", values=json.dumps(entry["values"]), looks=looks)))


@app.command()
def new(
    task: Annotated[str, typer.Argument(help="recommend, classify, tag, write, embed, rerank or translate.")],
    data: Annotated[str, typer.Argument(help="Your file, or any other source.")],
    output: Annotated[Path | None, typer.Option("-o", "--output", help="Default: NAME-OF-DATA.yaml here.")] = None,
) -> None:
    """Look at your data and write a recipe for it, saying what was guessed and why."""
    from zhumo.errors import RecipeError, nearest
    from zhumo.prepare.guess import guess
    from zhumo.tasks import TASKS

    if task not in TASKS:
        raise RecipeError("recipe.unknown_task", task=task, near=nearest(task, TASKS) or "-", known=", ".join(TASKS))
    target = output or Path(Path(data).name.split(".")[0] + ".yaml")
    if target.exists():
        raise RecipeError("recipe.exists", path=target)
    found = guess(task, data)
    target.write_text(found.recipe, encoding="utf-8")
    for reason in found.reasons:
        out.print(f"- {escape(reason)}")
    out.print(escape(say("cli.new.done", path=target)))


@app.command()
def serve(
    bundles: Annotated[list[Path], typer.Argument(help="One or several bundles (runs/NAME/deploy).")],
    host: Annotated[str, typer.Option(help="Loopback unless you say otherwise.")] = "127.0.0.1",
    port: Port = 8010,
    key_file: Annotated[
        Path | None, typer.Option(help="File holding the API key, or NAME:KEY lines. Default: a fresh one, printed.")
    ] = None,
    pictures: Annotated[Path | None, typer.Option(help="Folder of the pictures a catalogue names.")] = None,
    feedback: Annotated[Path | None, typer.Option(help="SQLite file that keeps what visitors did.")] = None,
    split: Annotated[list[str] | None, typer.Option(help="A/B: NAME=BUNDLE:SHARE,BUNDLE:SHARE.")] = None,
    rate: Annotated[float, typer.Option(min=0, help="Requests a second a key is good for. 0: all.")] = 0,
    slots: Annotated[int, typer.Option(min=1, max=256, help="Texts that one bundle writes at once.")] = SLOTS,
    documents: Annotated[
        Path | None, typer.Option(help="Folder of documents a support desk answers from; needs an embed bundle.")
    ] = None,
    knowledge: Annotated[
        Path | None, typer.Option(help="What was read of the documents. Default: knowledge.sqlite beside the bundle.")
    ] = None,
    tickets: Annotated[
        str | None, typer.Option(help="Keeps what the desk says: an SQLite file, or postgresql://USER@HOST/DATABASE.")
    ] = None,
    access: Annotated[
        Path | None, typer.Option(help="YAML file of labels: which documents they open, and whose keys have them.")
    ] = None,
    wording: Annotated[
        str | None,
        typer.Option(help="Shortens the desk's answers in their own words: a served bundle, or ADDRESS#MODEL."),
    ] = None,
    agents: Annotated[
        str | None, typer.Option(help="NAME,NAME: owners of keys who are agents of the desk. Default: the only one.")
    ] = None,
    questions: Questions = None,
) -> None:
    """Serve bundles over HTTP with a console page, until Ctrl-C."""
    from zhumo.deploy.server import serve as serve_bundles

    if (documents is None and (tickets or agents or access or wording)) or (questions and not tickets):
        raise typer.BadParameter(
            "--tickets, --agents, --access and --wording need --documents, and --questions needs --tickets"
        )
    with ExitStack() as held:
        further: dict[str, Any] = {}
        if documents is not None:
            from zhumo.deploy.server import find_keys
            from zhumo.support.access import read_access
            from zhumo.support.serving import agents_among

            owners = list(find_keys(key_file)) or [""]
            desk = held.enter_context(_desk(
                bundles, documents, knowledge, place=tickets, agents=agents_among(owners, agents),
                access=read_access(access, owners) if access else None, questions=questions, wording=wording,
            ))  # fmt: skip
            bundles, further = desk.bundles, {"desk": desk.app}
        serve_bundles(
            bundles, host=host, port=port, key_file=key_file, splits=split or (), pictures=pictures, feedback=feedback,
            rate=rate, slots=slots, further=further,
        )  # fmt: skip


@contextmanager
def _desk(bundles: list[Path], documents: Path, knowledge: Path | None = None, **options: Any) -> Iterator["Desk"]:
    """The support desk, and what is told while it is opened."""
    from zhumo.support.serving import desk

    began = time.perf_counter()
    with ExitStack() as held:
        with Progress(console=err, transient=True) as bar:
            line = bar.add_task(say("cli.support.reading"), total=None)
            opened = held.enter_context(desk(
                bundles, documents, knowledge, **options,
                progress=lambda done, files: bar.update(line, completed=done, total=files),
            ))  # fmt: skip
        for problem in opened.synced.problems:
            err.print(escape(str(problem.error)))
        library, seconds = opened.library, f"{time.perf_counter() - began:.0f}"
        err.print(escape(say("cli.support.ready", files=len(library.files), passages=library.search.size,
                             bad=opened.synced.bad, seconds=seconds)))  # fmt: skip
        yield opened


@app.command()
def improve(
    bundle: Annotated[Path, typer.Argument(help="The bundle a desk encodes with (runs/NAME/deploy).")],
    documents: Annotated[Path | None, typer.Option(help="The folder the desk answers from.")] = None,
    tickets: Annotated[str | None, typer.Option(help="Where the desk keeps what it says.")] = None,
    questions: Questions = None,
    knowledge: Annotated[Path | None, typer.Option(help="Default: knowledge.sqlite beside the bundle.")] = None,
    promote: Annotated[bool, typer.Option("--promote", help="Let it serve at once if its gate holds.")] = False,
    back: Annotated[bool, typer.Option("--back", help="Only let the version before serve again.")] = False,
    as_json: AsJson = False,
) -> None:
    """Let a desk's bundle learn from the accepted corrections; exit code 1 where the gate does not hold."""
    from zhumo.support.exam import questions as read_questions
    from zhumo.support.improve import improve as learn
    from zhumo.support.serving import encoder_among, knowledge_beside
    from zhumo.support.tickets import Tickets
    from zhumo.support.versions import Versions

    bundle = encoder_among([bundle])
    if back:
        out.print(say("cli.improve.back", version=Versions(bundle).back()))
        return
    if documents is None or tickets is None or questions is None:
        raise typer.BadParameter("--documents, --tickets and --questions are needed")
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that no copy of the knowledge is left behind
    earlier = read_questions(questions)
    with closing(Tickets(tickets)) as store:
        versions = Versions(bundle)
        trial = learn(
            versions, documents, knowledge or knowledge_beside(bundle), store, earlier,
            listener=_show_step if not as_json else lambda *_: None,
        )  # fmt: skip
    if as_json:
        print(json.dumps(trial, ensure_ascii=False))
    else:
        out.print(escape(trial["said"][language()]))
    if not trial["passes"]:
        raise GateError("support.refused", version=trial["trial"])
    if promote:
        out.print(say("cli.improve.promoted", version=versions.promote()))


@app.command()
def answer(
    bundle: Annotated[Path, typer.Argument(help="A bundle (runs/NAME/deploy).")],
    rows: Annotated[str, typer.Argument(help="A file of rows, or any other source.")],
    output: Annotated[
        Path, typer.Option("-o", "--output", "--out", help="Where the answers go: .jsonl, or lists as .parquet.")
    ] = Path("answers.jsonl"),
) -> None:
    """Answer a file of rows with a bundle, by the same path that serves."""
    from zhumo.deploy.answer import answer_file

    counts = answer_file(bundle, rows, output)
    out.print(escape(say("cli.answer.done", **counts, output=output)))


@app.command()
def compare(
    old: Annotated[Path, typer.Argument(help="A run (runs/NAME) or a bundle (runs/NAME/deploy).")],
    new: Annotated[Path, typer.Argument(help="Another one, that may replace it.")],
    rows: Annotated[
        Path | None, typer.Option("--rows", help="Test rows, as evaluate leaves them (rows.jsonl). Default: OLD's.")
    ] = None,
    gate: Annotated[
        list[str] | None, typer.Option("--gate", help="'MEASURE RULE', e.g. 'accuracy >= old - 0.01'; may be repeated.")
    ] = None,
    output: Annotated[Path | None, typer.Option("-o", "--output", help="A page: .html, .md or .json.")] = None,
    as_json: AsJson = False,
) -> None:
    """Hold a new model against an old one on the same test rows; exit code 1 where it should not replace it."""
    from zhumo.compare import compare as hold
    from zhumo.compare.shown import page, summary, text
    from zhumo.run import write_json, write_text

    found = hold(old, new, rows, gate or ())
    if output is not None and output.suffix == ".json":
        write_json(output, found)
    elif output is not None:
        write_text(output, (page if output.suffix == ".html" else text)(found, language()))
    if as_json:
        print(json.dumps(found, ensure_ascii=False))
    else:
        out.print(summary(found, language()))
    if not found["passes"]:
        raise GateError("compare.fails", old=old, new=new)


@app.command()
def pull(
    name: Annotated[
        str | None, typer.Argument(help="A name of the catalogue; without one the catalogue is listed.")
    ] = None,
    to: Annotated[
        Path | None, typer.Option("--to", help="Fill this folder, to be carried to a machine without network.")
    ] = None,
) -> None:
    """Fetch weights or data of the catalogue into the cache, or into a folder to carry away."""
    from zhumo.sources import CATALOGUE
    from zhumo.sources import pull as fetch_entry

    if name is None:
        table = Table(box=None, header_style="bold")
        for heading in ("name", "about", "licence"):
            table.add_column(say(f"cli.pull.{heading}"))
        for entry in CATALOGUE.values():
            table.add_row(entry.name, entry.about(language()), entry.licence)
        out.print(table)
        return
    for path in fetch_entry(name, to):
        out.print(escape(str(path)))


def _show_one(name: str, run: Run) -> None:
    """Once there is a model: what it recommends to one real person."""
    if name != "train":
        return
    from zhumo.bundle import load
    from zhumo.prepare import read_rows
    from zhumo.tasks.recommend import Recommend

    bundle = load(run.step("train"))
    assert isinstance(bundle.task, Recommend)
    row = read_rows(run.step("prepare") / "test.jsonl")[0]
    seen = ", ".join(map(bundle.task.catalogue.name, row["items"][-3:]))
    [answer] = bundle.answer([{**row, "k": 3}])
    shown = ", ".join(item.get("title", item["id"]) for item in answer["items"])
    out.print(escape(say("cli.demo.first", user=row["user"], seen=seen, shown=shown)))


def _demo_support(runs: Path, port: int, check: bool, browser: Callable[[str], object] | None) -> None:
    """Our own manual, and a desk that answers from it."""
    from zhumo.bundle import load
    from zhumo.deploy.server import serve as serve_bundles
    from zhumo.support.demo import recipe, sit
    from zhumo.support.exam import SIXTY
    from zhumo.support.manual import manual

    started = time.perf_counter()
    result = _make(recipe(), runs, as_json=False)
    bundle = result.step("deploy")
    with _desk([bundle], manual(), place=str(result.folder / "tickets.sqlite"), questions=SIXTY) as desk:
        if check:
            out.print(sit(load(desk.bundles[0]), desk.library.search))
            return
        out.print(say("cli.demo.ready", seconds=f"{time.perf_counter() - started:.0f}"))
        further = {"desk": desk.app}
        serve_bundles(desk.bundles, host="127.0.0.1", port=port, key_file=None, further=further, opened=browser)


@app.command()
def demo(
    which: Annotated[Demo, typer.Argument(help="recommend: films for people. support: a desk on our own manual.")] = (
        Demo.recommend
    ),
    check: Annotated[bool, typer.Option("--check", help="Start, ask, compare, stop; for machines.")] = False,
    runs: Runs = Path("runs"),
    port: Port = 8010,
) -> None:
    """An app from nothing to a page in your browser: MovieLens through all five steps, or a desk on our own manual."""
    from zhumo.deploy.server import serve as serve_bundles
    from zhumo.deploy.step import ask_again
    from zhumo.prepare import read_rows

    browser = webbrowser.open if sys.stdout.isatty() and os.environ.get("DISPLAY") else None
    if which is Demo.support:
        return _demo_support(runs, port, check, browser)
    started = time.perf_counter()
    result = _make(_recipe("recommend", None), runs, as_json=False, after=_show_one)
    seconds = time.perf_counter() - started
    if check:
        found = ask_again(result, len(read_rows(result.step("evaluate") / "rows.jsonl")))
        out.print(say("cli.demo.parity", rows=found["rows"], difference=f"{found['largest_difference']:.1e}"))
        return
    out.print(say("cli.demo.ready", seconds=f"{seconds:.0f}"))
    serve_bundles([result.step("deploy")], host="127.0.0.1", port=port, key_file=None, opened=browser)


@app.command()
def doctor(runs: Runs = Path("runs"), port: Port = 8010, as_json: AsJson = False) -> None:
    """Look at this machine: what is missing or broken, and how to mend it. Exit code 1 where something is broken."""
    from zhumo.doctor import examine
    from zhumo.errors import RunError

    signs = {"fine": "[green]✓[/green]", "note": "[yellow]![/yellow]", "broken": "[bold red]✗[/bold red]"}
    found = []
    for one in examine(runs, port):
        found.append(one)
        if not as_json:
            out.print(f"{signs[one.state]} {escape(one.say())}")
    if as_json:
        print(
            json.dumps([{"name": one.name, "state": one.state, "said": one.say()} for one in found], ensure_ascii=False)
        )
    if broken := sum(one.state == "broken" for one in found):
        raise RunError("doctor.broken", count=broken)
    if not as_json:
        out.print(say("cli.doctor.fine"))


def main() -> None:
    """Run a command; an error a user can act on is one sentence. Exit codes: 0, 1, 2 (usage), 130 (interrupted)."""
    try:
        app()
    except Interrupted as error:
        err.print(escape(str(error)))
        raise SystemExit(INTERRUPTED) from error
    except ZhumoError as error:
        err.print(f"[bold red]{say('cli.error')}[/bold red] {escape(str(error))}")
        raise SystemExit(1) from error
    except OSError as error:
        if error.errno not in SYSTEM:
            raise
        told = say("error.system", path=error.filename or Path.cwd(), problem=os.strerror(error.errno))
        err.print(f"[bold red]{say('cli.error')}[/bold red] {escape(told)}")
        raise SystemExit(1) from error
    except KeyboardInterrupt:
        raise SystemExit(INTERRUPTED) from None
