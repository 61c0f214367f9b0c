"""A compiler makes the package faster and is never needed to install it."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.net
@pytest.mark.parametrize(("compiler", "built"), [("cc", True), ("/nowhere/cc", False), ("false", False)])
def test_the_package_installs_with_and_without_a_compiler(compiler: str, built: bool, tmp_path: Path) -> None:
    source = tmp_path / "source"
    files = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split("\n")
    for name in filter(None, files):
        if name.startswith(("zhumo/", "setup.py", "pyproject.toml", "MANIFEST.in", "README.md", "LICENSE")):
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            (source / name).write_bytes((ROOT / name).read_bytes())
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(tmp_path), str(source)]
    subprocess.run(command, env={**os.environ, "CC": compiler}, check=True)
    (wheel,) = tmp_path.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    assert any(name.startswith("zhumo/engine/_core") for name in names) == built
    assert "zhumo/engine/native.py" in names
