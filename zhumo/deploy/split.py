"""A/B: one name that stands for several bundles, each asked by its share of the users, always by the same ones."""

import hashlib
import re
from collections.abc import Collection, Mapping
from typing import NamedTuple

from zhumo.errors import ModelError

ARM = re.compile(r"([^:,=]+):(\d+(?:\.\d+)?)")


class Split(NamedTuple):
    """name: what clients ask; shares: bundle -> its part of the users, together 1."""

    name: str
    shares: Mapping[str, float]

    def bundle(self, user: str) -> str:
        """The bundle that answers a user: by a hash of both names, so two splits are drawn apart from each other."""
        digest = hashlib.blake2b(user.encode("utf-8", "surrogatepass"), key=self.name.encode()[:64], digest_size=8)
        place = int.from_bytes(digest.digest(), "big") / 2**64
        for name, share in self.shares.items():
            place -= share
            if place < 0:
                return name
        return name  # what rounding left over


def parse_split(text: str, known: Collection[str]) -> Split:
    """`shop=A:50,B:50` as a split of two of the known bundles.

    Raises:
        ModelError: it is written otherwise, names an unknown bundle or one twice, or its own name is a bundle's.
    """
    name, _, rest = text.partition("=")
    arms = [ARM.fullmatch(part.strip()) for part in rest.split(",")]
    parts = {arm[1]: float(arm[2]) for arm in arms if arm}
    if (
        not name
        or name in known
        or len(parts) != len(arms)
        or not parts.keys() <= set(known)
        or not sum(parts.values())
    ):
        raise ModelError("serve.bad_split", text=text, known=", ".join(known))
    total = sum(parts.values())
    return Split(name, {arm: part / total for arm, part in parts.items()})
