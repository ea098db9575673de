"""What all packets of a bundle tell of its nodes together, and naming a connection asks for: found a part at a time, then put together."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from probes.decode.link import ALL_INTERFACES
from probes.decode.numbers import OUT, SYN, TCP
from probes.jit import kernel, unsigned, wide
from probes.links import Link
from probes.schema import Array, Column, ObservationPoint, Schema, Table, take
from tracer.cluster import Owner, Timeline
from tracer.numbering import distinct
from tracer.origin import INITIAL_TTLS
from tracer.sightings import is_joinable
from tracer.tuples import mix, stir

RECENT = 1 << 10  # senders: a power of two

SENDERS = Schema(
    "senders",
    (
        Column("src_hi", "u8", "", "source address of packets that nobody had routed yet and that do not go out there, bytes 0-7"),
        Column("src_lo", "u8", "", "source address, bytes 8-15"),
        Column("point", "u4", "", "where they were seen"),
        Column("time_ns", "i8", "ns since the epoch", "the first of them"),
    ),
)


@dataclass(frozen=True, slots=True)
class Glimpse:
    """What a part of the packets tells: `mss` (u2, shape (points, 2): of IPv4, of IPv6) is the largest of any SYN there, 0 without one."""

    mss: Array
    senders: Table


@dataclass(frozen=True, slots=True)
class Surroundings:
    """A node's largest MSS, by (node, whether IPv6), and the nodes that were captured where their pods' packets come in.

    `shared` are the devices without a name (node, interface) where packets of several pods come in: bridges.
    """

    largest_mss: Mapping[tuple[str, bool], int]
    pod_sides: frozenset[str]
    shared: frozenset[tuple[str, str]] = frozenset()


def glimpse(observations: Table, points: int) -> Glimpse:
    """The `Glimpse` of `observations`, whose `point` is below `points`."""
    mss, rows = np.zeros((points, 2), "u2"), np.empty(len(observations["view"]), "i8")
    fresh = np.zeros(256, bool)
    fresh[list(INITIAL_TTLS)] = True
    count = _look(*(*(observations[name] for name in _LOOKED_AT), fresh, mss, rows))
    return Glimpse(mss, _earliest({column.name: observations[column.name][rows[:count]] for column in SENDERS.columns}))


_LOOKED_AT = ("view", "proto", "known", "tcp_flags", "mss", "ttl", "tunnel", "direction", "src_hi", "src_lo", "point", "time_ns")
_UNNAMED = re.compile(r"if\d+")


@kernel
def _look(  # noqa: PLR0913, PLR0917 - columns
    view: Array, proto: Array, known: Array, tcp_flags: Array, mss: Array, ttl: Array, tunnel: Array, direction: Array, src_hi: Array,
    src_lo: Array, point: Array, time_ns: Array, fresh: Array, largest: Array, rows: Array,
) -> int:  # fmt: skip
    """Find the largest MSS, and the `rows` of packets that nobody had routed yet (of `fresh` TTLs) and that do not go out.

    Returns how many those are.

    A sender that was there at that point just before, and not later, is left out.
    """
    count, recent = 0, np.full(RECENT, -1)
    for row in range(len(view)):
        if proto[row] == TCP and tcp_flags[row] & SYN and mss[row]:
            six = 1 if src_hi[row] else 0
            largest[point[row], six] = max(largest[point[row], six], mss[row])
        if not fresh[ttl[row]] or tunnel[row] or direction[row] == OUT or not is_joinable(view[row], proto[row], known[row]):
            continue
        slot = wide(stir(src_lo[row], unsigned(point[row]))) & (RECENT - 1)
        other = recent[slot]
        known_already = other >= 0 and src_lo[other] == src_lo[row] and src_hi[other] == src_hi[row] and point[other] == point[row]
        if known_already and time_ns[other] <= time_ns[row]:
            continue
        recent[slot] = row
        rows[count] = row
        count += 1
    return count


def together(glimpses: Sequence[Glimpse], points: Sequence[int]) -> Glimpse:
    """Several of them as one; `points[i]` is the number that point 0 of `glimpses[i]` has there."""
    mss = np.zeros((max((base + len(each.mss) for each, base in zip(glimpses, points, strict=True)), default=0), 2), "u2")
    for each, base in zip(glimpses, points, strict=True):
        np.maximum(mss[base : base + len(each.mss)], each.mss, out=mss[base : base + len(each.mss)])
    moved = [each.senders | {"point": each.senders["point"] + np.uint32(base)} for each, base in zip(glimpses, points, strict=True)]
    return Glimpse(mss, _earliest(SENDERS.concat(moved)))


def _earliest(senders: Table) -> Table:
    """Each sender at each point once, with its earliest time."""
    _, first, number = distinct(mix(senders["src_hi"], senders["src_lo"], senders["point"]))
    found = take(senders, first)
    np.minimum.at(found["time_ns"], number, senders["time_ns"])
    return SENDERS.check(found)


def surroundings(
    seen: Glimpse, points: Sequence[ObservationPoint], links: Mapping[str, Mapping[int, Link]], timeline: Timeline
) -> Surroundings:
    """What `seen` says about the nodes of `points`, with what their links are known to be."""
    largest: dict[tuple[str, bool], int] = {}
    for node, known in links.items():
        for link in known.values():
            if link.mtu and not link.loopback and link.kind != "dummy":
                for six in (False, True):
                    largest[node, six] = max(largest.get((node, six), 0), link.mtu - (60 if six else 40))
    for point, both in zip(points, seen.mss.tolist(), strict=True):
        for six in (False, True):
            if both[six]:
                largest[point.node, six] = max(largest.get((point.node, six), 0), both[six])
    sides = {point.node for point in points if point.link_type in ALL_INTERFACES}
    pods: dict[tuple[str, str], set[Owner]] = {(each.node, each.interface): set() for each in points if _UNNAMED.fullmatch(each.interface)}
    for src_hi, src_lo, place, time_ns in zip(*(seen.senders[column.name].tolist() for column in SENDERS.columns), strict=True):
        node, device = points[place].node, (points[place].node, points[place].interface)
        owner = timeline.owner((src_hi, src_lo), time_ns) if node not in sides or device in pods else None
        if owner is not None and owner.kind == "pod" and owner.node == node:
            sides.add(node)
            if device in pods:
                pods[device].add(owner)
    return Surroundings(largest, frozenset(sides), frozenset(device for device, owners in pods.items() if len(owners) > 1))
