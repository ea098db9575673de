"""Flows that may be one connection, put together and dealt out to partitions."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from probes.schema import Array
from tracer.components import Components
from tracer.numbering import HashNumbers
from tracer.pairing import paired
from tracer.partitions.links import Links
from tracer.tuples import mix

LINKS_AT_ONCE = 1 << 22  # that are paired, beside all flows


@dataclass(frozen=True, slots=True)
class Deal:
    """Which of the groups (uint64) that are linked each flow (uint64, `flow_hashes`, in order) is in, and which of `count` partitions."""

    flows: Array
    groups: Array
    count: int

    @property
    def parts(self) -> Array:
        """The partition (int32) of each flow."""
        return self.part_of(self.groups)

    def of(self, flows: Array) -> Array:
        """The partition (int32) of each of `flows`, -1 where it was not dealt out."""
        groups, known = self.groups_of(flows)
        return np.where(known, self.part_of(groups), np.int32(-1))

    def groups_of(self, flows: Array) -> tuple[Array, Array]:
        """`(groups, known)` of each of `flows`; one that was not dealt out (not `known`) is a group by itself."""
        if not len(self.flows):
            return flows, np.zeros(len(flows), bool)
        at = np.minimum(np.searchsorted(self.flows, flows), len(self.flows) - 1)
        known = self.flows[at] == flows
        return np.where(known, self.groups[at], flows), known

    def part_of(self, groups: Array) -> Array:
        """The partition (int32) that each of `groups` is in."""
        return (mix(groups) % np.uint64(self.count)).astype("i4")


def deal(links: Sequence[Links], count: int) -> Deal:
    """Deal the flows of all `links` out to `count` partitions: whatever is linked goes together, and where to depends on nothing else."""
    known = HashNumbers()
    numbers = [known.of(each.numbers.hashes) for each in links]
    groups = Components(len(known.hashes))
    for tables in _ranges(links, numbers):
        one, other = paired(*tables)
        groups.join(one, other, np.zeros(len(one), "i8"))
    root, _ = groups.roots()
    lowest = known.hashes.copy()
    np.minimum.at(lowest, root, known.hashes)
    order = np.argsort(known.hashes)
    return Deal(known.hashes[order], lowest[root][order], count)


def _ranges(links: Sequence[Links], numbers: Sequence[Array]) -> Iterator[list[tuple[Array, Array]]]:
    """All links, with flows (uint64) counted through all of `links`, as tables; some LINKS_AT_ONCE at a time, equal keys together."""
    total = sum(len(keys) for each in links for keys in each.keys)
    ranges = np.uint64(total // LINKS_AT_ONCE + 1)
    for number in range(int(ranges)):
        tables = []
        for each, of in zip(links, numbers, strict=True):
            for keys, linked in zip(each.keys, each.linked, strict=True):
                # not by the highest bits, which pairing divides by
                here = slice(None) if ranges == 1 else np.flatnonzero((keys >> np.uint64(16)) % ranges == number)
                tables.append((keys[here], of[linked[here]].view("u8")))
        yield tables
