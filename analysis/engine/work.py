"""What there is to do: everything about a bundle that stitching one of its partitions together needs, but its packets."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import BinaryIO

import numpy as np

from analysis.engine.stitch import Stitched, stitch, sum_up
from analysis.filters import Filters
from probes.schema import Array, Table
from tracer.bundle import Bundle
from tracer.partitions import Deal, split_ledgers, split_sockets
from tracer.surroundings import Surroundings
from tracer.trace import trace_part


@dataclass(frozen=True, slots=True)
class Work:
    """`dealt` says what belongs to which partition, None where there is one of all. No more than `most` records of each are written.

    `held`: sums are made of all, and so many records kept; nothing is filtered then.
    """

    bundle: Bundle
    around: Surroundings
    dealt: Deal | None
    filters: Filters
    most: int | None
    held: int | None = None

    def stitch(self, part: int, packets: Table, out: BinaryIO) -> Stitched:
        """Partition `part`, which has these `packets`: its records go to `out`."""
        bundle = self.bundle
        ledgers = bundle.ledgers if self.dealt is None else split_ledgers(bundle.ledgers, self.dealt, part)
        sockets = bundle.sockets if self.dealt is None else split_sockets(bundle.sockets, self.dealt, part)
        mine = replace(bundle, observations=packets, ledgers=ledgers, sockets=sockets)
        traced = trace_part(mine, self.around)
        return stitch(traced, self.filters, self.most, out) if self.held is None else sum_up(traced, part, self.held, out)


def node_names(nodes: Sequence[str]) -> Array:
    """Numbers (uint64) that mean the same node wherever they are made."""
    return np.array([int.from_bytes(hashlib.blake2b(node.encode(), digest_size=8).digest()) for node in nodes], "u8")
