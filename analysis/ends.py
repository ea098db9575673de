"""The ends of tuples as people write them."""

from __future__ import annotations

import numpy as np

from analysis.text_columns import alike
from probes.addresses import endpoint
from probes.schema import Array, Table
from probes.text_rows import Rows, Texts, text_rows
from tracer.numbering import distinct
from tracer.tuples import mix


class Ends:
    """`address:port` of tuples, as columns of text, and each made once: `src[code]` and `dst[code]` of every code that was learnt."""

    def __init__(self, tuples: Table) -> None:
        self.src: dict[int, str] = {}
        self.dst: dict[int, str] = {}
        self._tuples = tuples
        hi, lo = (np.concatenate([tuples[f"{side}_{half}"] for side in ("src", "dst")]) for half in ("hi", "lo"))
        _, first, number = distinct(mix(hi, lo))
        self._addresses = [endpoint(*both, 0)[:-1] for both in zip(hi[first].tolist(), lo[first].tolist(), strict=True)]
        self._address = dict(zip(("src", "dst"), np.split(number, 2), strict=True))
        self._end = {side: numbers << 16 | tuples[f"{side[0]}port"] for side, numbers in self._address.items()}

    def learn(self, codes: Array) -> None:
        """Make those of `codes` (tuple codes; negative ones are none)."""
        there = np.unique(codes)
        new = [code for code in there[there >= 0].tolist() if code not in self.src]
        for side, known in (("src", self.src), ("dst", self.dst)):
            columns = (self._tuples[name][new].tolist() for name in (f"{side}_hi", f"{side}_lo", f"{side[0]}port"))
            known.update(zip(new, map(endpoint, *columns), strict=True))

    def columns(self, side: str, codes: Array) -> tuple[Texts, Array]:
        """The "src" or "dst" of tuples, as two columns of `probes.text_rows`."""
        number = self._address[side][codes]
        addresses: Texts = self._addresses, number
        if len(self._addresses) > len(codes):  # most are of others
            addresses = alike([number], lambda row: self._addresses[number[row]])
        return addresses, self._tuples[f"{side[0]}port"][codes]

    def column(self, side: str, codes: Array) -> Texts:
        """The same as one, with nothing for negative codes."""
        there = np.flatnonzero(codes >= 0)
        which = np.full(len(codes), len(there))
        which[there] = np.arange(len(there))
        text, bounds = text_rows(len(there), self.columns(side, codes[there]))
        return Rows(text, np.append(bounds, bounds[-1])), which

    def same(self, codes: Array, side: str, others: Array, other_side: str) -> Array:
        """Whether the "src" or "dst" of each of `codes` is that of `others`: address and port."""
        return np.asarray(self._end[side][codes] == self._end[other_side][others])
