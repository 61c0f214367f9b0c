"""Zhumo's own manual, in both languages: the first knowledge of a desk, which needs no download."""

import shutil
from pathlib import Path

import zhumo
from zhumo.errors import SourceError
from zhumo.sources import cache_folder


def manual() -> Path:
    """The folder of its pages: that of an installed package; of a checkout, where they lie in two places, a copy.

    Raises:
        SourceError: they are not there.
    """
    package = Path(zhumo.__file__).parent
    if (package / "manual").is_dir():
        return package / "manual"
    pages = [*(package.parent / "docs").glob("*.md"), *package.parent.glob("README*.md")]
    if not pages:
        raise SourceError("support.no_manual", folder=package / "manual")
    folder = cache_folder() / "manual"
    shutil.rmtree(folder, ignore_errors=True)  # pages that are no more
    folder.mkdir(parents=True)
    for page in pages:
        shutil.copyfile(page, folder / page.name)
    return folder
