"""Which side of a connection is the client's."""

from __future__ import annotations

import numpy as np

from probes.decode.numbers import ACK, ICMP, ICMPV6, SCTP, SYN, TCP
from probes.schema import Array, Table
from tracer.sightings import SCTP_INIT, SCTP_INIT_ACK

WELL_KNOWN = 1024


def client_side(sightings: Table, observations: Table, tuples: Table, connection: Array, side: Array, count: int) -> tuple[Array, Array]:
    """`(client side of each connection, whether a handshake told it)`; `side` is each sighting's, 0 or 1, within its `connection`.

    A SYN comes from the client, a SYN-ACK from the server (SCTP: INIT, INIT ACK; ICMP: echo request). Without one the lower well-known port
    is the server's; without that the first packet is the client's.
    """
    rows = sightings["row"]
    proto, flags, icmp = observations["proto"][rows], observations["tcp_flags"][rows], observations["icmp_type"][rows]
    opens = (proto == TCP) & (flags & (SYN | ACK) == SYN) | (proto == SCTP) & (flags == SCTP_INIT)
    opens |= (proto == ICMP) & (icmp == 8) | (proto == ICMPV6) & (icmp == 128)
    answers = (proto == TCP) & (flags & (SYN | ACK) == SYN | ACK) | (proto == SCTP) & (flags == SCTP_INIT_ACK)
    answers |= (proto == ICMP) & (icmp == 0) | (proto == ICMPV6) & (icmp == 129)
    told = opens | answers
    votes = np.zeros(count, "i8")  # negative: side 0 is the client
    client = np.where(opens, side, 1 - side)
    np.add.at(votes, connection[told], 2 * client[told].astype("i8") - 1)
    handshake = np.zeros(count, bool)
    handshake[connection[told]] = True

    sport, dport = tuples["sport"][sightings["tuple"]].astype("i8"), tuples["dport"][sightings["tuple"]].astype("i8")
    to_server = (dport < sport) & (dport < WELL_KNOWN)
    to_client = (sport < dport) & (sport < WELL_KNOWN)
    guess = np.zeros(count, "i8")
    np.add.at(guess, connection, (to_server.astype("i8") - to_client) * (2 * side.astype("i8") - 1))
    first_ns, first = np.full(count, np.iinfo("i8").max), np.full(count, len(connection))
    np.minimum.at(first_ns, connection, sightings["time_ns"])
    earliest = np.flatnonzero(sightings["time_ns"] == first_ns[connection])
    np.minimum.at(first, connection[earliest], earliest)
    by_time = 2 * side[first].astype("i8") - 1
    decided = np.where(votes != 0, votes, np.where(guess != 0, guess, by_time))
    return (decided > 0).astype("i8"), handshake
