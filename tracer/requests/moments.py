"""When a byte passed the client's door: the first observation point on its side."""

from __future__ import annotations

import numpy as np

from probes.schema import Array, Table
from tracer.clocks import Clocks
from tracer.pipeline import Reconstruction
from tracer.requests.dissection import Dissection
from tracer.requests.streams import ByteTimes


def at_client(traced: Reconstruction, segments: Table, clocks: Clocks, connection: Array, reply: Array, place: Array) -> Array:
    """When (aligned int64 ns, -1 not seen) the byte at each `place` of a side's stream passed the client's door.

    `connection` and `reply` (0 client to server, 1 back) say whose stream it is.
    """
    hops = traced.hops
    door = np.full((len(traced.connections["proto"]), 2), -1, "i8")
    for way, rows in ((0, np.flatnonzero(hops["reply"] == 0)[::-1]), (1, np.flatnonzero(hops["reply"] == 1))):
        door[hops["connection"][rows], way] = rows  # of the way there the first hop, of the way back the last
    row = door[connection, reply]
    point, code, node = (np.where(row >= 0, hops[name][row], -1) for name in ("point", "tuple", "node"))
    found = ByteTimes(segments).at(connection, reply, point, code, np.where(row >= 0, place, -1))
    seen = found >= 0
    times = np.full(len(place), -1, "i8")
    times[seen] = clocks.align(node[seen], segments["time_ns"][found[seen]])
    return times


def handshakes(traced: Reconstruction, found: Dissection, clocks: Clocks) -> dict[int, tuple[int, int]]:
    """`(start, end)` (aligned ns) of each connection's TLS handshake, as its client saw it; those not seen whole are left out."""
    known = [(row, each) for row, each in found.handshakes.items() if min(each.start, each.client_end, each.server_end) >= 0]
    connection = np.array([row for row, _ in known], "i8")
    asked = [
        (0, [each.start for _, each in known]),
        (0, [each.client_end - 1 for _, each in known]),
        (1, [each.server_end - 1 for _, each in known]),
    ]
    times = [
        at_client(traced, found.segments, clocks, connection, np.full(len(known), way), np.array(places, "i8")) for way, places in asked
    ]
    return {
        row: (start, max(one, other))
        for row, start, one, other in zip(connection.tolist(), *(each.tolist() for each in times), strict=True)
        if min(start, one, other) >= 0
    }


def logins(traced: Reconstruction, found: Dissection, clocks: Clocks) -> dict[int, int]:
    """When (aligned ns) the client of each connection began to log in, where its protocol has such a thing."""
    told = [(row, each[0].attributes["login_at"]) for row, each in found.exchanges.items() if each and "login_at" in each[0].attributes]
    connection = np.array([row for row, _ in told], "i8")
    places = np.array([int(place) for _, place in told], "i8")
    times = at_client(traced, found.segments, clocks, connection, np.zeros(len(told), "i8"), places)
    return {row: time for row, time in zip(connection.tolist(), times.tolist(), strict=True) if time >= 0}


def gave_up(traced: Reconstruction, segments: Table) -> Array:
    """Whether each connection's client ended it (FIN) before its server did, where its first packet was seen (bool)."""
    first = traced.connections["first_node"]
    ends = np.flatnonzero((segments["fin"] > 0) & (segments["node"] == first[segments["connection"]]))
    earliest = np.full((len(first), 2), np.iinfo("i8").max)
    np.minimum.at(earliest, (segments["connection"][ends], segments["reply"][ends]), segments["time_ns"][ends])
    return np.asarray(earliest[:, 0] < earliest[:, 1])
