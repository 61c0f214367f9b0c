"""A compiler makes the package faster and is never needed to install it."""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from zhumo.engine import library

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


def test_a_core_of_another_version_is_as_good_as_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A checkout that was brought up to date and not installed again."""
    gcc = shutil.which("gcc")
    if gcc is None:
        pytest.skip("no compiler")
    (tmp_path / "old.c").write_text("int zhumo_path(void) { return 0; }", encoding="utf-8")
    subprocess.run([gcc, "-shared", "-o", str(tmp_path / "_core.so"), str(tmp_path / "old.c")], check=True)
    monkeypatch.setattr(sys.modules[library.__module__], "__file__", str(tmp_path / "library.py"))
    assert library.__wrapped__() is None
