"""铸模 Zhumo: a private model workshop.

    from zhumo import Recipe, load, make

    run = make(Recipe.read("recipe.yaml"))            # prepare, build, train, evaluate, deploy
    load(run.step("deploy")).answer([{"text": "..."}])  # what `zhumo serve` would say

Importing this package does not import torch; the first use of `load` or `make` does.
"""

from importlib import import_module
from importlib.metadata import version

from zhumo.errors import ZhumoError
from zhumo.recipe import Recipe

__version__ = version("zhumo")
__all__ = ["Recipe", "ZhumoError", "__version__", "load", "make"]

_LAZY = {"load": "zhumo.bundle", "make": "zhumo.make"}


def __getattr__(name: str) -> object:
    if name not in _LAZY:
        raise AttributeError(f"module 'zhumo' has no attribute {name!r}")
    return getattr(import_module(_LAZY[name]), name)
