"""Packets that crossed from one node to another: what each says about the two nodes' clocks.

A packet leaves before it arrives: `arrived - left = delay + (receiver's clock - sender's)`, and the delay is not negative. Which node was
first is never read off clocks that may be wrong. It is told by the TTL, which falls along a packet's path and never rises; or, where both
nodes saw one TTL, by the replies: they pass the two nodes the other way round, so of a packet and a reply close in time, the difference of
stamps is larger for the one that went from the first node to the second.
"""

from __future__ import annotations

import numpy as np

from probes.decode.numbers import PORTS, SCTP, TCP, TIMESTAMPS
from probes.schema import Array, Column, Schema, Table, take
from tracer.pipeline import Reconstruction, same_points
from tracer.tuples import mix

MAX_DRIFT = 500e-6  # of one clock against another; ntpd's own limit, and ten times what cheap oscillators do (RFC 5905, appendix A)
_IN = 1  # OBSERVATIONS.direction
_NEVER = np.iinfo("i8").min

CROSSINGS = Schema(
    "crossings",
    (
        Column("sender", "i4", "", "row of the node the packet was at first"),
        Column("receiver", "i4", "", "row of the node it was at later"),
        Column("left_ns", "i8", "ns since the epoch", "last stamp before it left, on the sender's clock"),
        Column("arrived_ns", "i8", "ns since the epoch", "first stamp after it arrived, on the receiver's clock"),
        Column("resolution_ns", "i8", "ns", "unit of the receiver's stamps: it may have arrived that much later"),
    ),
)


def crossings(traced: Reconstruction) -> Table:
    """The CROSSINGS of every packet that several nodes saw; those whose order or identity is in doubt are left out."""
    stays = _stays(_views(traced))
    first, second, certain = _pairs_of_stays(stays)
    order = _order_by_replies(stays, first, second, certain)
    forth, back = (order > 0), (order < 0)
    sender = np.concatenate([first[forth], second[back]])
    receiver = np.concatenate([second[forth], first[back]])
    return CROSSINGS.check({
        "sender": stays["node"][sender], "receiver": stays["node"][receiver], "left_ns": stays["left_ns"][sender],
        "arrived_ns": stays["first_ns"][receiver], "resolution_ns": stays["resolution_ns"][receiver],
    })  # fmt: skip


def _views(traced: Reconstruction) -> Table:
    """Sightings of packets that several nodes saw, in the order of `stay`: packet, TTL falling, node."""
    seen, observations = traced.sighting_rows, traced.observations
    node_of_point = np.array([traced.nodes.index(point.node) for point in traced.points] or [0], "i4")
    resolution = np.array([point.resolution_ns for point in traced.points] or [1], "i8")
    proto, known, tcp_flags = (observations[name][seen] for name in ("proto", "known", "tcp_flags"))
    numbered = (observations["ip_id"][seen] != 0) & (observations["src_hi"][seen] == 0)
    tcp = proto == TCP
    exact = (known & TIMESTAMPS > 0) | (observations["seq"][seen] != 0) & (observations["ack"][seen] != 0)
    told = (traced.sighting_identities != 0) & (known & PORTS > 0) & (numbered | (tcp & exact) | (proto == SCTP))
    rows = np.flatnonzero(told)
    seen, numbered = seen[rows], numbered[rows]
    # GRO and GSO merge packets of one identity, a pure acknowledgment may share that of the data after it: here only equal packets count
    packet = mix(
        traced.sighting_connections[rows], traced.sighting_forward[rows], traced.sighting_identities[rows], tcp_flags[rows],
        observations["payload_bytes"][seen], np.where(numbered, observations["ip_id"][seen], 0), observations["window"][seen],
    )  # fmt: skip
    node = node_of_point[observations["point"][seen]]
    order = np.argsort(packet)
    begins = _changes(packet[order])
    start = np.flatnonzero(begins)
    lowest, highest = (function.reduceat(node[order], start) if len(start) else start for function in (np.minimum, np.maximum))
    several = (lowest != highest)[np.cumsum(begins) - 1] if len(start) else begins
    rows, seen, numbered, node = (column[order[several]] for column in (rows, seen, numbered, node))
    number = np.cumsum(begins)[several].astype("i8")
    view = {name: observations[name][seen] for name in ("point", "direction", "tunnel", "ttl")}
    entrance = mix(
        number, same_points(traced.points)[view["point"]], view["direction"], view["tunnel"], view["ttl"],
        *(observations[name][seen] for name in ("src_hi", "src_lo", "dst_hi", "dst_lo", "sport", "dport")),
    )  # fmt: skip
    _, which, times = np.unique(entrance, return_inverse=True, return_counts=True)
    table: Table = {
        "packet": number, "node": node, "ttl": view["ttl"], "time_ns": observations["time_ns"][seen], "direction": view["direction"],
        "numbered": numbered, "repeated": times[which] > 1, "forward": traced.sighting_forward[rows],
        "connection": traced.sighting_connections[rows], "resolution_ns": resolution[view["point"]],
        "stay": number << 24 | (255 - view["ttl"].astype("i8")) << 16 | node,
    }  # fmt: skip
    return take(table, np.argsort(table["stay"], kind="stable"))


def _stays(views: Table) -> Table:
    """What one node saw of one packet under one TTL: first stamp, and the last one that is surely before the packet left.

    A copy that comes in may be stamped late (a bridge shows it again), so only what goes out, or has no direction, says when it left; of a
    packet that one place showed twice, only the first stamp is safe, and where no IP ID says that both were the same packet, none is.
    """
    start = np.flatnonzero(_changes(views["stay"]))
    if not len(start):
        return {name: views[name][:0] for name in views} | {"first_ns": start, "left_ns": start, "higher": start > 0, "lower": start > 0}
    first = np.minimum.reduceat(views["time_ns"], start)
    last = np.maximum.reduceat(np.where(views["direction"] == _IN, _NEVER, views["time_ns"]), start)
    repeated = np.logical_or.reduceat(views["repeated"], start)
    table = take(views, start) | {
        "first_ns": first, "left_ns": np.where(repeated | (last == _NEVER), first, last), "repeated": repeated,
        "resolution_ns": np.maximum.reduceat(views["resolution_ns"], start),
    }  # fmt: skip
    group = np.cumsum(_changes(table["packet"])) - 1
    doubtful = np.bincount(group, table["repeated"] & ~table["numbered"]) > 0
    table = take(table, ~doubtful[group])
    # by packet and node: did the node see it also with a higher TTL, or a lower one
    order = np.lexsort((table["stay"], table["node"], table["packet"]))
    same = ~_changes(table["packet"][order] << 16 | table["node"][order])
    for name, flags in (("higher", same), ("lower", np.append(same[1:], False)[: len(same)])):
        table[name] = np.zeros(len(order), bool)
        table[name][order] = flags
    return table


def _pairs_of_stays(stays: Table) -> tuple[Array, Array, Array]:
    """`(first, second, certain)`: every pair of one packet's stays at different nodes; whether its TTL says that they are in this order."""
    packet, node, ttl = stays["packet"], stays["node"], stays["ttl"]
    found = [(np.empty(0, "i8"),) * 2]
    shift = 1
    while len(ahead := np.flatnonzero(packet[:-shift] == packet[shift:])):
        other = ahead + shift
        apart = node[ahead] != node[other]
        found.append((ahead[apart], other[apart]))
        shift += 1
    first, second = (np.concatenate(column) for column in zip(*found, strict=True))
    # Equal TTL: they are the two ends of one link. The router before it also saw a higher TTL, the one after it also a lower.
    higher, lower = stays["higher"], stays["lower"]
    forth = higher[first] & ~higher[second] | lower[second] & ~lower[first]
    back = higher[second] & ~higher[first] | lower[first] & ~lower[second]
    falls = ttl[first] > ttl[second]
    turned = ~falls & back & ~forth
    first, second = np.where(turned, second, first), np.where(turned, first, second)
    return first, second, falls | (forth != back)


def _order_by_replies(stays: Table, first: Array, second: Array, certain: Array) -> Array:
    """1 where the packet went from `first` to `second`, -1 the other way, 0 unknown (int64): for all that the TTL left open."""
    order = certain.astype("i8")
    rows = np.flatnonzero(~certain)
    if not len(rows):
        return order
    one, other = first[rows], second[rows]  # in order of nodes, since stays of equal TTL are
    connection, forward = stays["connection"][one].astype("i8"), stays["forward"][one]
    pair = stays["node"][one].astype("i8") << 32 | stays["node"][other].astype("i8")
    time_ns = stays["first_ns"][one]
    difference = stays["first_ns"][other] - time_ns
    unit = stays["resolution_ns"][one] + stays["resolution_ns"][other]
    by_time = np.lexsort((unit, forward, difference, time_ns, pair, connection))  # of one time, by what is looked at
    _, group = np.unique(mix(connection, pair), return_inverse=True)
    now, after = by_time[:-1], by_time[1:]
    apart = (difference[after] - difference[now]) * np.where(forward[after], 1, -1)
    margin = 2 * unit[now] + np.ceil(2 * MAX_DRIFT * (time_ns[after] - time_ns[now])).astype("i8")
    tells = (group[now] == group[after]) & (forward[now] != forward[after]) & (np.abs(apart) > margin)
    votes = np.bincount(group[now][tells], np.sign(apart[tells]), minlength=group.max() + 1)
    voters = np.bincount(group[now][tells], minlength=group.max() + 1)
    told = np.where(np.abs(votes) == voters, np.sign(votes), 0).astype("i8")[group]  # one voice against is too much
    order[rows] = np.where(forward, told, -told)
    return order


def _changes(column: Array) -> Array:
    """Where a sorted column begins a new value (bool)."""
    begins = np.ones(len(column), bool)
    begins[1:] = column[1:] != column[:-1]
    return begins
