"""One side of a comparison: a bundle's name, what it is, what was measured in it, where each Service's connections went."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from analysis.compare.fingerprint import Fingerprint
from analysis.compare.samples import Measured
from analysis.compare.spread import Spread


@dataclass(frozen=True, slots=True)
class Side:
    """`positions` are (rules walked, ns) of first packets through NAT, where kube-proxy's rules were recorded."""

    name: str
    fingerprint: Fingerprint
    measured: Measured
    spreads: Sequence[Spread] = ()
    positions: Sequence[tuple[int, int]] = ()
