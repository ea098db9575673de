"""The ends of tuples as people write them."""

from __future__ import annotations

import numpy as np

from probes.addresses import endpoint
from probes.schema import Array, Table


class Ends:
    """`address:port` of tuples, each made once: `src[code]` and `dst[code]` of every code that was learnt."""

    def __init__(self, tuples: Table) -> None:
        self.src: dict[int, str] = {}
        self.dst: dict[int, str] = {}
        self._tuples = tuples

    def learn(self, codes: Array) -> None:
        """Make those of `codes` (tuple codes; negative ones are none)."""
        there = np.unique(codes)
        new = [code for code in there[there >= 0].tolist() if code not in self.src]
        for side, known in (("src", self.src), ("dst", self.dst)):
            columns = (self._tuples[name][new].tolist() for name in (f"{side}_hi", f"{side}_lo", f"{side[0]}port"))
            known.update(zip(new, map(endpoint, *columns), strict=True))


def same_end(tuples: Table, codes: Array, side: str, others: Array, other_side: str) -> Array:
    """Whether the "src" or "dst" of each of `codes` is that of `others`: address and port."""
    same = tuples[f"{side[0]}port"][codes] == tuples[f"{other_side[0]}port"][others]
    for half in ("hi", "lo"):
        same &= tuples[f"{side}_{half}"][codes] == tuples[f"{other_side}_{half}"][others]
    return np.asarray(same)
