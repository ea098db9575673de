"""Hops: one packet of each direction followed from observation point to observation point."""

from __future__ import annotations

import numpy as np

from probes.decode.numbers import SYN, TCP
from probes.schema import Array, Table
from tracer.connections import Joined
from tracer.schema import HOPS


def _followed(joined: Joined, observations: Table, rows: Array) -> Array:
    """Of the sightings `rows` (one direction), those of the packet to follow in each connection.

    Handshake before other packets, then the one that most points saw, then the first: of a SYN sent three times, the one that got furthest.
    """
    sightings = joined.sightings
    rows = rows[sightings["identity"][rows] != 0]
    connection, identity = joined.connection[rows], sightings["identity"][rows]
    order = np.lexsort((sightings["point"][rows], identity, connection))
    rows, connection, identity = rows[order], connection[order], identity[order]
    new = np.ones(len(rows), bool)
    new[1:] = (np.diff(connection) != 0) | (identity[1:] != identity[:-1])
    group = np.cumsum(new) - 1
    start = np.flatnonzero(new)
    fresh_point = new.copy()
    fresh_point[1:] |= np.diff(sightings["point"][rows]) != 0
    points = np.add.reduceat(fresh_point.astype("i8"), start) if len(start) else start
    first_ns = np.minimum.reduceat(sightings["time_ns"][rows], start) if len(start) else start
    observed = sightings["row"][rows[start]]
    handshake = (observations["proto"][observed] == TCP) & (observations["tcp_flags"][observed] & SYN > 0)
    rank = np.lexsort((first_ns, -points, ~handshake, connection[start]))
    leading = np.ones(len(rank), bool)
    leading[1:] = np.diff(connection[start][rank]) != 0
    chosen = np.zeros(len(start), bool)
    chosen[rank[leading]] = True
    return np.asarray(rows[chosen[group]])


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
    place = np.stack([joined.connection[rows], sightings["point"][rows].astype("i8"), sightings["tuple"][rows].astype("i8")])
    _, first = np.unique(place, axis=1, return_index=True)
    rows = rows[np.sort(first)]
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
    asked, answered = (_followed(joined, observations, np.flatnonzero(joined.forward == way)) for way in (True, False))
    request = _one_direction(joined, asked, answered, position_of_node, reply=False)
    answer = _one_direction(joined, answered, asked, position_of_node, reply=True)
    both = HOPS.concat([request, answer])
    order = np.lexsort((both["position"], both["reply"], both["connection"]))
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
