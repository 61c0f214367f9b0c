"""What stands under `zhumo/` in the repository stands in the package too."""

import subprocess
import sys
from pathlib import Path

import zhumo

ROOT = Path(zhumo.__file__).parent.parent


def test_nothing_is_left_out_of_the_package(tmp_path: Path) -> None:
    command = [sys.executable, "setup.py", "-q", "build_py", "--build-lib", str(tmp_path)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    listed = subprocess.run(["git", "ls-files", "zhumo"], cwd=ROOT, check=True, capture_output=True, text=True)
    built = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file()}
    assert {name for name in listed.stdout.split() if Path(name).suffix not in (".c", ".h")} <= built
