"""Zhumo's own manual, in both languages: the first knowledge of a desk, which needs no download."""

from pathlib import Path

import zhumo
from zhumo.errors import SourceError


def manual() -> Path:
    """The folder of its pages: `zhumo/manual` of an installed package, `docs` of a checkout.

    Raises:
        SourceError: neither is there.
    """
    package = Path(zhumo.__file__).parent
    for folder in (package / "manual", package.parent / "docs"):
        if folder.is_dir():
            return folder
    raise SourceError("support.no_manual", folder=package / "manual")
