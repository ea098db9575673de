"""Which side of a connection is the client's."""

from __future__ import annotations

import numpy as np

from probes.decode.numbers import ACK, ICMP, ICMPV6, SCTP, SYN, TCP
from probes.jit import kernel, wide
from probes.schema import Array, Table
from tracer.sightings import SCTP_INIT, SCTP_INIT_ACK

WELL_KNOWN = 1024
EPHEMERAL = 32768  # the first port that sockets get by themselves: net.ipv4.ip_local_port_range


def client_side(
    sightings: Table, observations: Table, tuples: Table, leg: Array, connections: Array, turned: Array, count: int
) -> tuple[Array, Array, Array, Array]:  # fmt: skip
    """`(client side of each connection, whether a handshake told it, time of its first packet, its lowest tuple)`, of `count`.

    `leg` is each sighting's; of each leg there are its connection and whether its flow is `turned` there: a sighting's side (0 or 1) is
    whether it runs backward, if not turned. A SYN comes from the client, a SYN-ACK from the server (SCTP: INIT, INIT ACK; ICMP: echo
    request). Without one the lower port is the server's where it is well-known, or none that sockets get by themselves and the other is;
    else the first packet is the client's.
    """
    votes, guesses = np.zeros(count, "i8"), np.zeros(count, "i8")  # negative: side 0 is the client
    handshake = np.zeros(count, bool)
    first_ns, first_side = np.full(count, np.iinfo("i8").max), np.zeros(count, "i8")
    lowest = np.full(count, np.iinfo("i8").max)
    _vote(
        leg, connections, turned, sightings["backward"], sightings["time_ns"], sightings["row"], sightings["tuple"], tuples["sport"],
        tuples["dport"], observations["proto"], observations["tcp_flags"], observations["icmp_type"], votes, guesses, handshake, first_ns,
        first_side, lowest,
    )  # fmt: skip
    decided = np.where(votes != 0, votes, np.where(guesses != 0, guesses, 2 * first_side - 1))
    return (decided > 0).astype("i8"), handshake, first_ns, lowest


@kernel
def _vote(  # noqa: PLR0913, PLR0917 - columns
    leg: Array, connections: Array, turned: Array, backward: Array, time_ns: Array, rows: Array, codes: Array, sport: Array, dport: Array,
    proto: Array, tcp_flags: Array, icmp_type: Array, votes: Array, guesses: Array, handshake: Array, first_ns: Array, first_side: Array,
    lowest: Array,
) -> None:  # fmt: skip
    """Let each sighting vote: by its handshake, and by its ports for guessing where there was none."""
    for row in range(len(leg)):
        which, observed, side = connections[leg[row]], rows[row], wide(backward[row]) ^ turned[leg[row]]
        kind, flags, icmp = proto[observed], tcp_flags[observed], icmp_type[observed]
        opens = answers = False
        if kind == TCP:
            opens, answers = flags & (SYN | ACK) == SYN, flags & (SYN | ACK) == SYN | ACK
        elif kind == SCTP:
            opens, answers = flags == SCTP_INIT, flags == SCTP_INIT_ACK
        elif kind == ICMP:
            opens, answers = icmp == 8, icmp == 0
        elif kind == ICMPV6:
            opens, answers = icmp == 128, icmp == 129
        sent_by = 2 * side - 1
        if opens or answers:
            votes[which] += sent_by if opens else -sent_by
            handshake[which] = True
        source, destination = sport[codes[row]], dport[codes[row]]
        lower, higher = min(source, destination), max(source, destination)
        if lower < higher and (lower < WELL_KNOWN or lower < EPHEMERAL <= higher):
            guesses[which] += sent_by if lower == destination else -sent_by
        lowest[which] = min(lowest[which], wide(codes[row]))
        if time_ns[row] < first_ns[which]:
            first_ns[which], first_side[which] = time_ns[row], side
