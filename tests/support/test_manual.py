"""The manual: the pages of the checkout here, those of the package where it is installed."""

from pathlib import Path

import pytest

import zhumo
from zhumo.errors import SourceError
from zhumo.sources.documents import Document, read_documents
from zhumo.support.manual import manual
from zhumo.support.passages import cut

ROOT = Path(__file__).parent.parent.parent


def test_in_a_checkout_it_is_a_copy_of_all_pages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZHUMO_CACHE", str(tmp_path))
    (tmp_path / "manual").mkdir()
    (tmp_path / "manual" / "old.md").write_text("A page that is no more.", encoding="utf-8")
    pages = {path.name: path.read_bytes() for path in (*(ROOT / "docs").glob("*.md"), *ROOT.glob("README*.md"))}
    assert {path.name: path.read_bytes() for path in manual().iterdir()} == pages
    documents = [read for read in read_documents(manual()) if isinstance(read, Document)]
    assert {document.path for document in documents} == set(pages)
    passages = [passage for document in documents for passage in cut(document)]
    assert len(passages) > 150 and max(len(passage.text) for passage in passages) <= 3_750


def test_an_installed_package_finds_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(zhumo, "__file__", str(tmp_path / "zhumo" / "__init__.py"))
    with pytest.raises(SourceError):
        manual()
    (tmp_path / "docs").mkdir()
    (tmp_path / "zhumo" / "manual").mkdir(parents=True)
    assert manual() == tmp_path / "zhumo" / "manual"
