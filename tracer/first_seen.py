"""What packets and sockets say of the first packet seen of each connection, and of the tuple that it had."""

from __future__ import annotations

import numpy as np

from probes.schema import Array, Table
from tracer.pipeline import Reconstruction
from tracer.tuples import reverse_codes


def first_packets(hops: Table, *, reply: bool) -> dict[int, int]:
    """Per connection the observation of the first hop of the client's packet, or of the answer."""
    first = np.flatnonzero((hops["position"] == 0) & (hops["reply"] == reply))
    return dict(zip(hops["connection"][first].tolist(), hops["row"][first].tolist(), strict=True))


def asked_for(traced: Reconstruction) -> Array:
    """Whether a socket says that the first tuple seen is what its application asked for, per connection."""
    socket, sockets = traced.client_socket, traced.sockets
    found = np.zeros(len(socket), bool)
    at = np.flatnonzero(socket >= 0)
    found[at] = sockets.sure[socket[at]] & (sockets.asked[socket[at]] == traced.connections["first_seen"][at])
    return found


def unmasked(traced: Reconstruction) -> dict[int, tuple[int, int]]:
    """Per connection the node and the tuple of an answer seen behind the answer to the first tuple seen, for the same server, turned round.

    Its source is what the first tuple's was before a translation that no packet of the client's was seen in front of: br_netfilter
    shows an answer on the bridge when SNAT is undone and DNAT is not.
    """
    hops, tuples = traced.hops, traced.tuples
    connection, seen = hops["connection"], hops["tuple"]
    first = traced.connections["first_seen"][connection]
    same = tuples["flow"][seen] == tuples["flow"][first]
    back = np.flatnonzero(hops["reply"][1:] & ~same[1:] & same[:-1] & (hops["node"][1:] == hops["node"][:-1])) + 1
    back = back[connection[back] == connection[back - 1]]
    answering = (("src_hi", "dst_hi"), ("src_lo", "dst_lo"), ("sport", "dport"))
    rows = back[np.logical_and.reduce([tuples[one][seen[back]] == tuples[other][first[back]] for one, other in answering])]
    if not len(rows):
        return {}
    columns = (hops["node"][rows], reverse_codes(tuples)[seen[rows]])
    return dict(zip(connection[rows].tolist(), zip(*(each.tolist() for each in columns), strict=True), strict=True))
