"""What stands under `zhumo/` in the repository stands in the package too, and the manual beside it."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import zhumo

ROOT = Path(zhumo.__file__).parent.parent
NEEDED = ("zhumo", "docs", "README.md", "README.zh-CN.md", "LICENSE", "pyproject.toml", "setup.py")
SOURCES = (".c", ".h")  # compiled, not shipped
MANUAL = re.compile(r"(?:docs/[^/]+|README[^/]*)\.md")


def test_nothing_is_left_out_of_the_package(tmp_path: Path) -> None:
    listed = subprocess.run(["git", "ls-files", *NEEDED], cwd=ROOT, check=True, capture_output=True, text=True)
    for name in listed.stdout.split():
        copy = tmp_path / "copy" / name
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, copy)
    command = [sys.executable, "setup.py", "-q", "build_py", "--build-lib", str(tmp_path / "built")]
    subprocess.run(command, cwd=tmp_path / "copy", check=True, capture_output=True)
    built = {path.relative_to(tmp_path / "built").as_posix() for path in (tmp_path / "built").rglob("*")}
    ours = {name for name in listed.stdout.split() if name.startswith("zhumo/")}
    assert {name for name in ours if Path(name).suffix not in SOURCES} <= built
    pages = {Path(name).name: (ROOT / name).read_bytes() for name in listed.stdout.split() if MANUAL.fullmatch(name)}
    manual = tmp_path / "built" / "zhumo" / "manual"
    assert {path.name: path.read_bytes() for path in manual.iterdir()} == pages and len(pages) > 20
