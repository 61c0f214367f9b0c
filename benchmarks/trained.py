"""prepare, build and train in one process: `python -m benchmarks.trained RECIPE RUNS [SECTION.KEY=VALUE...]`.

Ends with a line of the most memory it held of a GPU, in bytes.
"""

import sys

import torch

from zhumo.build import build
from zhumo.prepare import prepare
from zhumo.recipe import Recipe
from zhumo.run import Run
from zhumo.train import train

if __name__ == "__main__":
    recipe = Recipe.read(sys.argv[1], sys.argv[3:])
    run = Run.of(recipe, sys.argv[2])
    prepare(recipe, run)
    build(recipe, run)
    train(recipe, run)
    print(torch.cuda.max_memory_reserved() if torch.cuda.is_available() else 0)
