"""What there is to do: everything about a bundle that stitching one of its partitions together needs, but its packets."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import IO, TYPE_CHECKING

import numpy as np

from analysis.engine.stitch import Stitched, stitch, sum_up
from analysis.filters import Filters
from probes.schema import Array, Table
from tracer.bundle import Bundle
from tracer.partitions import Deal, split_ledgers, split_sockets
from tracer.surroundings import Surroundings
from tracer.trace import Trace, trace_part

if TYPE_CHECKING:  # connections alone need none of it
    from tracer.requests.dissection import Content


@dataclass(frozen=True, slots=True)
class Work:
    """`dealt` says what belongs to which partition, None where there is one of all; `lines` says it of each ledger's.

    No more than `most` records of each are written.

    `parts` has the partition of each row of all packets, where those are what each is traced from; None where it gets its own alone.
    `held`: sums are made of all, and so many records kept; nothing is filtered then. `requests` are asked for as well, those inside
    connections if it `dissects`, else each connection as one; `content` is what reads a partition's payloads, None where they come from
    captures.
    """

    bundle: Bundle
    around: Surroundings
    dealt: Deal | None
    lines: Mapping[str, Array]
    filters: Filters
    most: int | None
    held: int | None = None
    requests: bool = False
    dissects: bool = False
    content: Callable[[int], Content] | None = None
    parts: Array | None = None

    @property
    def named(self) -> str:
        """What it is called where its progress is shown."""
        return "requests" if self.dissects else "connections"

    def trace(self, part: int, packets: Table) -> Trace:
        """Partition `part`, which has these `packets`, or those of its `parts`."""
        bundle, linked = self.bundle, None if self.parts is None else np.flatnonzero(self.parts == part)
        ledgers = bundle.ledgers if self.dealt is None else split_ledgers(bundle.ledgers, self.lines, part)
        sockets = bundle.sockets if self.dealt is None else split_sockets(bundle.sockets, self.dealt, part)
        return trace_part(replace(bundle, observations=packets, ledgers=ledgers, sockets=sockets), self.around, linked)

    def stitch(self, part: int, traced: Trace, out: IO[bytes]) -> Stitched:
        """Partition `part`, `traced`: its records go to `out`."""
        return stitch(traced, self.filters, self.most, out) if self.held is None else sum_up(traced, part, self.held, out)


def node_names(nodes: Sequence[str]) -> Array:
    """Numbers (uint64) that mean the same node wherever they are made."""
    return np.array([int.from_bytes(hashlib.blake2b(node.encode(), digest_size=8).digest()) for node in nodes], "u8")
