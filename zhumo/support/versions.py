"""The versions of a bundle that a desk improves, and which of them serves.

Beside the bundle lies `improved/`: a folder a trial, numbered, each a run like any other with its gate's words in
`trial.json`; and `serving`, a link to the bundle that serves, which is changed by one rename. The bundle itself is 0.
"""

import os
import shutil
from pathlib import Path
from typing import Any

from zhumo.errors import GateError, RunError
from zhumo.run import Run, read_json

Json = dict[str, Any]


class Versions:
    """The versions of a bundle. serving: the folder to be served, whichever version that is; home: where they lie."""

    def __init__(self, bundle: Path) -> None:
        self.bundle, self.home = bundle, bundle.parent / "improved"
        self.serving = self.home / "serving"
        if not self.serving.is_symlink():
            self.home.mkdir(exist_ok=True, parents=True)
            self.point(0)

    def folder(self, version: int) -> Path:
        """The bundle of a version."""
        return self.home / str(version) / "deploy" if version else self.bundle

    @property
    def now(self) -> int:
        """The version that serves."""
        return next((one for one in self.trials() if self.serving.samefile(self.folder(one))), 0)

    @property
    def before(self) -> int | None:
        """The version that stood before it: the one it was held against."""
        return int(self.trial(self.now)["against"]) if self.now else None

    def trials(self) -> list[int]:
        """Trials that came to their end, by number."""
        found = (path.parent.name for path in self.home.glob("*/trial.json"))
        return sorted(int(name) for name in found if name.isdigit())

    def trial(self, number: int) -> Json:
        """What became of one."""
        trial: Json = read_json(self.home / str(number) / "trial.json")
        return trial

    def begin(self) -> Run:
        """A new trial. Those that neither serve nor may nor can come back go: of a refused one its words were read."""
        stay = {self.now, self.passed or self.now}
        while (before := min(stay)) and (one := self.trial(before)["against"]):
            stay.add(one)
        numbers = [int(path.name) for path in self.home.iterdir() if path.name.isdigit()]
        for number in set(numbers) - stay:
            shutil.rmtree(self.home / str(number))
        run = Run(self.home / str(max(numbers, default=0) + 1))
        run.folder.mkdir()
        return run

    @property
    def passed(self) -> int | None:
        """The last trial, if its gate held against the version that serves now."""
        last = next(reversed(self.trials()), 0)
        return last if last and self.trial(last)["passes"] and self.trial(last)["against"] == self.now else None

    def promote(self) -> int:
        """Let the last trial serve; its number.

        Raises:
            GateError: there is none whose gate held against what serves.
        """
        if (passed := self.passed) is None:
            raise GateError("support.promote", folder=self.home)
        self.point(passed)
        return passed

    def back(self) -> int:
        """Let the version before serve again; its number.

        Raises:
            RunError: there is none.
        """
        if (before := self.before) is None:
            raise RunError("support.back", folder=self.home)
        self.point(before)
        return before

    def point(self, version: int) -> None:
        """Let a version serve."""
        part = self.home / ".serving.part"
        part.unlink(missing_ok=True)
        part.symlink_to(os.path.relpath(self.folder(version), self.home))
        part.replace(self.serving)
