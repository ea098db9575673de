"""Flows that may be one connection, put together and dealt out to partitions."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from probes.jit import bare, unsigned, wide
from probes.processors import PROCESSORS
from probes.schema import Array
from tracer.components import Components
from tracer.numbering import HashNumbers
from tracer.pairing import paired
from tracer.partitions.links import Links
from tracer.tuples import mix

LINKS_AT_ONCE = 1 << 21  # that one thread pairs, beside all flows
_RANGE_SHIFT = 16  # not by the highest bits, which pairing divides by


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


@bare
def _choose(keys: Array, linked: Array, flows: Array, which: int, mask: int, chosen: Array, its: Array, count: int) -> int:
    """Add the links whose keys are of range `which` to `count` that were chosen, with their flows' numbers; returns how many there are."""
    for row in range(len(keys)):
        chosen[count], its[count] = keys[row], unsigned(flows[linked[row]])
        count += wide(keys[row] >> unsigned(_RANGE_SHIFT)) & mask == which
    return count


def deal(links: Sequence[Links], count: int) -> Deal:
    """Deal the flows of all `links` out to `count` partitions: whatever is linked goes together, and where to depends on nothing else."""
    known = HashNumbers()
    numbers = [known.of(each.numbers.hashes) for each in links]
    groups = Components(len(known.hashes))
    total = sum(len(keys) for each in links for keys in each.keys)
    ranges = 1 << (total // LINKS_AT_ONCE).bit_length()
    with ThreadPoolExecutor(PROCESSORS) as pool:
        for one, other in pool.map(lambda which: paired(_range(links, numbers, which, ranges)), range(ranges)):
            groups.join(one, other, np.zeros(len(one), "i8"))
    root, _ = groups.roots()
    lowest = known.hashes.copy()
    np.minimum.at(lowest, root, known.hashes)
    order = np.argsort(known.hashes)
    return Deal(known.hashes[order], lowest[root][order], count)


def _range(links: Sequence[Links], numbers: Sequence[Array], which: int, ranges: int) -> tuple[Array, Array]:
    """All links whose keys are of one of so many `ranges`, with flows (uint64) counted through all of `links`: equal keys are together."""
    room = 1 + sum(len(keys) for each in links for keys in each.keys)
    keys, flows, count = np.empty(room, "u8"), np.empty(room, "u8"), 0  # of which only as much takes memory as is used
    for each, of in zip(links, numbers, strict=True):
        for some, linked in zip(each.keys, each.linked, strict=True):
            count = _choose(some, linked, of, which, ranges - 1, keys, flows, count)
    return keys[:count], flows[:count]
