"""What every release left: bundles that go on saying the same, and trainings that go on to the same end, for ever.

`scripts/golden` makes a folder here at each release. A test that fails here is no reason to make it again: somebody's
bundle would have changed its mind.
"""

import shutil
from pathlib import Path

import pytest

from zhumo.bundle import load
from zhumo.deploy.parity import TOLERANCE, difference
from zhumo.deploy.sums import check_sums
from zhumo.prepare import read_rows
from zhumo.recipe import Recipe
from zhumo.run import read_json
from zhumo.tasks import TASKS
from zhumo.train import checkpoint
from zhumo.train.ready import ready
from zhumo.train.stop import Stop

GOLDEN = Path(__file__).parent / "golden"
BUNDLES = sorted(path.parent for path in GOLDEN.glob("*/*/task.json"))
TRAININGS = sorted(path.parent for path in GOLDEN.glob("*/*/expected.json"))
SMALL = 500_000  # bytes of one release


def name(path: Path) -> str:
    return path.relative_to(GOLDEN).as_posix()


def test_every_release_left_something_small() -> None:
    for release in GOLDEN.iterdir():
        assert sum(path.stat().st_size for path in release.rglob("*") if path.is_file()) < SMALL
        assert {path.parent for path in (*BUNDLES, *TRAININGS)} >= {release}
    newest = max(GOLDEN.iterdir(), key=lambda release: [int(part) for part in release.name.split(".")])
    ours = {task for task, where in TASKS.items() if where.startswith("zhumo.")}  # other tests name tasks of their own
    assert {path.name for path in BUNDLES if path.parent == newest} == ours and TRAININGS


@pytest.mark.parametrize("folder", BUNDLES, ids=name)
def test_a_released_bundle_says_what_it_said(folder: Path) -> None:
    check_sums(folder)
    rows, said = (read_rows(folder.with_name(f"{folder.name}.{kind}.jsonl")) for kind in ("rows", "answers"))
    answers = load(folder).answer(rows)
    assert len(answers) == len(said) > 3
    for now, then in zip(answers, said, strict=True):
        assert difference(then, now) <= TOLERANCE
    assert Recipe.read(folder / "recipe.yaml").task == folder.name


@pytest.mark.parametrize("folder", TRAININGS, ids=name)
def test_a_released_training_goes_on_to_the_same_end(folder: Path, tmp_path: Path) -> None:
    expected = read_json(folder / "expected.json")
    shutil.copytree(folder / "train", tmp_path / "train")
    stopped = checkpoint.newest(tmp_path / "train" / "checkpoints")
    assert stopped is not None and 0 < checkpoint.step_of(stopped) < expected["step"]
    going = ready(Recipe.read(folder / "recipe.yaml"), folder / "prepare", folder / "build", tmp_path / "train")
    going.begin(0.0)
    assert going.state.step == checkpoint.step_of(stopped)
    going.learn(Stop(), progress=False)
    assert going.state.step == expected["step"]
    assert going.learner.validate(going.valid) == pytest.approx(expected["loss"], abs=1e-5)
