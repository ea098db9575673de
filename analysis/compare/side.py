"""One side of a comparison: a bundle's name, what it is, what was measured in it, where each Service's connections went."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from analysis.compare.fingerprint import Fingerprint
from analysis.compare.samples import Measured
from analysis.compare.spread import Spread


@dataclass(frozen=True, slots=True)
class Side:
    """`positions` are (rules walked, ns) of first packets through NAT, where kube-proxy's rules were recorded.

    `recordings` are what recording cost, where `hopline record` told it; `spreads` are each judged for itself.
    """

    name: str
    fingerprint: Fingerprint
    measured: Measured
    recordings: Measured
    spreads: Sequence[Spread] = ()
    positions: Sequence[tuple[int, int]] = ()
