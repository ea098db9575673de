"""Hops: one packet of each direction followed from observation point to observation point."""

from __future__ import annotations

import numpy as np

from probes.decode.numbers import SYN, TCP
from probes.jit import inlined, kernel, unsigned, wide
from probes.schema import Array, Table
from tracer.connections import Joined
from tracer.numbering import numbered
from tracer.orders import by_number
from tracer.schema import HOPS
from tracer.tuples import mix


@inlined
def _furthest(opening: Array, points: Array, first_ns: Array, names: Array, count: int) -> int:
    """Which of `count` packets to follow.

    Handshake before other packets, then the one that most points saw, then the first (of equal ones, that of the lowest identity): of a SYN
    sent three times, the one that got furthest.
    """
    best = 0
    for packet in range(1, count):
        lead = wide(opening[packet]) - wide(opening[best])
        lead = lead if lead != 0 else points[packet] - points[best]
        lead = lead if lead != 0 else first_ns[best] - first_ns[packet]
        if lead > 0 or (lead == 0 and names[packet] < names[best]):
            best = packet
    return best


@kernel
def _follow(  # noqa: PLR0913, PLR0917 - columns
    bounds: Array, forward: Array, way: bool, rows: Array, identity: Array, point: Array, time_ns: Array, proto: Array, tcp_flags: Array,
    chosen: Array,
) -> None:  # fmt: skip
    """Mark in `chosen` the sightings of the packet to follow in each connection, one of those that go this `way`."""
    slots, size = np.full(64, -1), 64
    names, points, first_ns, opening = np.empty(32, np.uint64), np.empty(32, np.int64), np.empty(32, np.int64), np.empty(32, np.uint8)
    latest = np.empty(32, np.int64)  # the last sighting of each packet; `before` has the one before each
    before = np.empty(len(identity), np.int64)
    for connection in range(len(bounds) - 1):
        first, end = bounds[connection], bounds[connection + 1]
        while size < 2 * (end - first):
            size *= 2
        if size > len(slots):
            slots, latest, points = np.empty(size, np.int64), np.empty(size // 2, np.int64), np.empty(size // 2, np.int64)
            names, first_ns, opening = np.empty(size // 2, np.uint64), np.empty(size // 2, np.int64), np.empty(size // 2, np.uint8)
        mask, count = 63, 0
        while mask + 1 < 2 * (end - first):
            mask = 2 * mask + 1
        slots[: mask + 1] = -1
        for at in range(first, end):
            if forward[at] != way or identity[at] == 0:
                continue
            slot = wide(identity[at] >> unsigned(20)) & mask
            while slots[slot] >= 0 and names[slots[slot]] != identity[at]:
                slot = (slot + 1) & mask
            packet = slots[slot]
            if packet < 0:
                packet = slots[slot] = count
                names[packet], points[packet], first_ns[packet] = identity[at], 0, time_ns[at]
                opening[packet] = proto[rows[at]] == TCP and tcp_flags[rows[at]] & SYN > 0
                latest[packet] = -1
                count += 1
            other = latest[packet]
            while other >= 0 and point[other] != point[at]:
                other = before[other]
            points[packet] += other < 0
            first_ns[packet] = min(first_ns[packet], time_ns[at])
            before[at] = latest[packet]
            latest[packet] = at
        at = latest[_furthest(opening, points, first_ns, names, count)] if count else -1
        while at >= 0:
            chosen[at] = True
            at = before[at]


def _followed(joined: Joined, observations: Table, *, forward: bool) -> Array:
    """The sightings of the packet to follow in each connection, in one direction."""
    sightings, chosen = joined.sightings, np.zeros(len(joined.forward), bool)
    _follow(
        joined.bounds, joined.forward, forward, sightings["row"], sightings["identity"], sightings["point"], sightings["time_ns"],
        observations["proto"], observations["tcp_flags"], chosen,
    )  # fmt: skip
    return np.flatnonzero(chosen)


def _nearness(joined: Joined, rows: Array, others: Array) -> Array:
    """For each sighting of one direction, when (int64 ns) its point saw the packet of the other direction; 0 where it did not.

    The kernel stamps a packet once on its way in: a bridge's port and the bridge show equal times, and the way back tells which is nearer.
    """
    sightings = joined.sightings
    key = joined.connection[others] << 24 | sightings["point"][others].astype("i8")
    order = np.lexsort((sightings["time_ns"][others], key))
    key, times = key[order], sightings["time_ns"][others][order]
    want = joined.connection[rows] << 24 | sightings["point"][rows].astype("i8")
    at = np.minimum(np.searchsorted(key, want), max(len(key) - 1, 0))
    return np.where(key[at] == want, times[at], 0) if len(key) else np.zeros(len(rows), "i8")


def _one_direction(joined: Joined, rows: Array, others: Array, position_of_node: Array, *, reply: bool) -> Table:
    """HOPS rows of the packets `rows`; `others` are those of the other direction."""
    sightings = joined.sightings
    position = position_of_node[rows] * (-1 if reply else 1)
    nearness = -_nearness(joined, rows, others)
    order = np.lexsort((sightings["row"][rows], nearness, sightings["time_ns"][rows], position, joined.connection[rows]))
    rows = rows[order]
    # the same tuple twice at one point is a copy (a bridge floods, a capture repeats): keep the first
    rows = rows[numbered(mix(joined.connection[rows], sightings["point"][rows], sightings["tuple"][rows]))[0]]
    connection, node, time_ns = joined.connection[rows], sightings["node"][rows], sightings["time_ns"][rows]
    begins = np.ones(len(rows), bool)
    begins[1:] = np.diff(connection) != 0
    start = np.maximum.accumulate(np.where(begins, np.arange(len(rows)), 0))
    latency = np.full(len(rows), -1, "i8")
    same_clock = ~begins[1:] & (np.diff(node) == 0)
    latency[1:][same_clock] = np.diff(time_ns)[same_clock]
    return {
        "connection": connection.astype("i4"), "position": (np.arange(len(rows)) - start).astype("i4"), "row": sightings["row"][rows],
        "node": node, "point": sightings["point"][rows], "tuple": sightings["tuple"][rows], "time_ns": time_ns,
        "latency_ns": latency, "reply": np.full(len(rows), reply, "u1"),
    }  # fmt: skip


def hops(joined: Joined, observations: Table, position_of_node: Array) -> Table:
    """The HOPS of all connections; `position_of_node` has, per sighting, where its node stands on the connection's path."""
    asked, answered = (_followed(joined, observations, forward=way) for way in (True, False))
    request = _one_direction(joined, asked, answered, position_of_node, reply=False)
    answer = _one_direction(joined, answered, asked, position_of_node, reply=True)
    both = HOPS.concat([request, answer])
    order = by_number(both["connection"], len(joined.bounds) - 1)
    return HOPS.check({name: column[order] for name, column in both.items()})


def handshake_times(hop_table: Table, observations: Table, count: int) -> Array:
    """SYN to SYN-ACK at the point that saw the client's SYN first (int64 ns per connection), -1 where that point did not see both."""
    flags = observations["tcp_flags"][hop_table["row"]]
    tcp = (observations["proto"][hop_table["row"]] == TCP) & (flags & SYN > 0)
    key = hop_table["connection"].astype("i8") << 24 | hop_table["point"]
    first = np.flatnonzero(tcp & (hop_table["reply"] == 0) & (hop_table["position"] == 0))
    answers = np.flatnonzero(tcp & (hop_table["reply"] == 1))
    _, asked, answered = np.intersect1d(key[first], key[answers], return_indices=True)
    times = np.full(count, -1, "i8")
    taken = hop_table["time_ns"][answers[answered]] - hop_table["time_ns"][first[asked]]
    times[hop_table["connection"][first[asked]]] = np.where(taken >= 0, taken, -1)
    return times
