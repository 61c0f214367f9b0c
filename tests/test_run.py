"""A run: steps that stand are skipped, what changed moves aside, nothing is overwritten."""

import subprocess
import sys
from pathlib import Path

import pytest

from zhumo.errors import RunError
from zhumo.recipe import Recipe
from zhumo.run import Run, link, write_text


def recipe(**sections: object) -> Recipe:
    return Recipe.check({"task": "classify", "name": "x", "prepare": {"source": "a.csv"}, **sections}, "test")


def finish(run: Run, name: str, recipe_: Recipe, sources: dict[str, str] | None = None) -> None:
    step = run.begin(name, recipe_, sources)
    assert not step.done
    (step.folder / "made").write_text(name)
    step.finish(fact=1)


def test_a_step_that_stands_is_skipped(tmp_path: Path) -> None:
    run = Run(tmp_path)
    finish(run, "prepare", recipe(), {"a.csv": "00"})
    assert run.begin("prepare", recipe(), {"a.csv": "00"}).done
    assert run.facts("prepare")["fact"] == 1


@pytest.mark.parametrize("change", ["data", "section", "seed"])
def test_a_change_reruns_what_depends_on_it_and_keeps_the_old(tmp_path: Path, change: str) -> None:
    run = Run(tmp_path)
    finish(run, "prepare", recipe(), {"a.csv": "00"})
    finish(run, "build", recipe())
    finish(run, "train", recipe())
    if change == "data":
        assert not run.begin("prepare", recipe(), {"a.csv": "11"}).done
        gone = ["prepare", "build", "train"]
    elif change == "seed":
        assert run.begin("prepare", recipe(seed=2), {"a.csv": "00"}).done
        assert not run.begin("build", recipe(seed=2)).done
        gone = ["build", "train"]
    else:
        assert run.begin("build", recipe(train={"lr": 0.5})).done
        assert not run.begin("train", recipe(train={"lr": 0.5})).done
        gone = ["train"]
    moved = sorted(path.parent.name for path in (tmp_path / "before").glob("*/*/made"))
    assert moved == sorted(gone)


def test_an_unfinished_step_is_begun_anew_or_gone_on_with(tmp_path: Path) -> None:
    run = Run(tmp_path)
    finish(run, "prepare", recipe())
    step = run.begin("build", recipe())
    (step.folder / "half").write_text("x")
    assert not (run.begin("build", recipe()).folder / "half").exists()
    (step.folder / "half").write_text("x")
    assert (run.begin("build", recipe(), resume=True).folder / "half").exists()
    assert not (run.begin("build", recipe(seed=1), resume=True).folder / "half").exists()


def test_a_step_needs_the_one_before(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="prepare"):
        Run(tmp_path).begin("build", recipe())


def test_one_process_at_a_time(tmp_path: Path) -> None:
    code = "import sys; from zhumo.run import Run\nwith Run(sys.argv[1]).lock(): pass"
    with Run(tmp_path).lock():
        other = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=False)
    assert other.returncode == 1 and "RunError" in other.stderr
    assert subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=False).returncode == 0


def test_a_file_is_whole_or_the_old_one(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    write_text(path, "old")
    with pytest.raises(UnicodeEncodeError):
        write_text(path, "new \ud800")
    assert path.read_text() == "old"


def test_link_gives_the_same_bytes(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"weights")
    link(tmp_path / "a", tmp_path / "inner" / "b")
    assert (tmp_path / "inner" / "b").read_bytes() == b"weights"
