"""Flows that may be one connection, put together and dealt out to partitions."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from probes.jit import inlined, kernel, wide
from probes.schema import Array
from tracer.partitions.links import FlowNumbers, Links
from tracer.tuples import mix, unsigned

LINKS_AT_ONCE = 1 << 22  # in a hash table, beside all flows


@dataclass(frozen=True, slots=True)
class Deal:
    """Which partition (int32) each flow (uint64, `flow_hashes`) is in, and how many packets each partition has."""

    flows: Array
    parts: Array
    packets: Array

    def of(self, flows: Array) -> Array:
        """The partition (int32) of each of `flows`, -1 where it was not dealt out."""
        if not len(self.flows):
            return np.full(len(flows), -1, "i4")
        at = np.minimum(np.searchsorted(self.flows, flows), len(self.flows) - 1)
        return np.where(self.flows[at] == flows, self.parts[at], -1)


@inlined
def _root(parent: Array, number: int) -> int:
    while parent[number] != number:
        parent[number] = parent[parent[number]]
        number = parent[number]
    return number


@kernel
def _join(keys: Array, numbers: Array, slot_keys: Array, slot_numbers: Array, parent: Array) -> None:
    """Put flows with equal keys together; the slots are a hash table of keys, -1 where free."""
    mask = len(slot_keys) - 1
    for row in range(len(keys)):
        slot = wide(keys[row] >> unsigned(20)) & mask
        while slot_numbers[slot] >= 0 and slot_keys[slot] != keys[row]:
            slot = (slot + 1) & mask
        if slot_numbers[slot] < 0:
            slot_keys[slot], slot_numbers[slot] = keys[row], numbers[row]
            continue
        one, other = _root(parent, wide(numbers[row])), _root(parent, wide(slot_numbers[slot]))
        parent[max(one, other)] = min(one, other)


@kernel
def _flatten(parent: Array) -> None:
    for number in range(len(parent)):
        parent[number] = _root(parent, number)


def deal(links: Sequence[Links], count: int) -> Deal:
    """Deal the flows of all `links` out to `count` partitions: whatever is linked goes together, and where to depends on nothing else."""
    known = FlowNumbers()
    numbers = [known.of(each.numbers.flows) for each in links]
    parent = np.arange(len(known.flows))
    weight = np.zeros(len(parent), "i8")
    for each, of in zip(links, numbers, strict=True):
        weight[of[: len(each.weights)]] += each.weights
    for keys, linked in _ranges(links, numbers):
        slots = 1 << max(2 * len(keys), 1).bit_length()
        _join(keys, linked, np.empty(slots, "u8"), np.full(slots, -1, "i4"), parent)
    _flatten(parent)
    lowest = known.flows.copy()
    np.minimum.at(lowest, parent, known.flows)
    part = (mix(lowest[parent]) % np.uint64(count)).astype("i4")
    packets = np.bincount(part, weight, minlength=count).astype("i8")
    order = np.argsort(known.flows)
    return Deal(known.flows[order], part[order], packets)


def _ranges(links: Sequence[Links], numbers: Sequence[Array]) -> Iterator[tuple[Array, Array]]:
    """All links, with flows counted through all of `links`; some LINKS_AT_ONCE of them at a time, equal keys together."""
    total = sum(len(keys) for each in links for keys in each.keys)
    bits = max(total // LINKS_AT_ONCE, 1).bit_length() - 1
    for first in range(1 << bits):
        found = [(np.empty(0, "u8"), np.empty(0, "i4"))]
        for each, of in zip(links, numbers, strict=True):
            for keys, linked in zip(each.keys, each.linked, strict=True):
                here = slice(None) if not bits else np.flatnonzero(keys >> np.uint64(64 - bits) == first)
                found.append((keys[here], of[linked[here]].astype("i4")))
        keys, flows = (np.concatenate(column) for column in zip(*found, strict=True))
        yield keys, flows
