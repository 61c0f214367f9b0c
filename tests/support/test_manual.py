"""The manual: the pages of the checkout here, and the same in a package that is built."""

import subprocess
import sys
from pathlib import Path

import pytest

import zhumo
from zhumo.errors import SourceError
from zhumo.support.documents import Document, read_documents
from zhumo.support.manual import manual
from zhumo.support.passages import cut

ROOT = Path(__file__).parent.parent.parent


def test_in_a_checkout_it_is_the_docs() -> None:
    assert manual() == ROOT / "docs"
    documents = [read for read in read_documents(manual()) if isinstance(read, Document)]
    assert {"decisions.md", "decisions.zh-CN.md"} <= {document.path for document in documents}
    passages = [passage for document in documents for passage in cut(document)]
    assert len(passages) > 300 and max(len(passage.text) for passage in passages) <= 900


def test_a_package_that_is_built_holds_all_pages(tmp_path: Path) -> None:
    command = [sys.executable, "setup.py", "-q", "build_py", "--build-lib", str(tmp_path)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    pages = {path.name: path.read_bytes() for path in (*(ROOT / "docs").glob("*.md"), *ROOT.glob("README*.md"))}
    assert {path.name: path.read_bytes() for path in (tmp_path / "zhumo" / "manual").iterdir()} == pages


def test_an_installed_package_finds_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(zhumo, "__file__", str(tmp_path / "zhumo" / "__init__.py"))
    with pytest.raises(SourceError):
        manual()
    (tmp_path / "docs").mkdir()
    (tmp_path / "zhumo" / "manual").mkdir(parents=True)
    assert manual() == tmp_path / "zhumo" / "manual"
