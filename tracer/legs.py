"""Legs: everything one observation point saw of one flow during one lifetime of its tuple."""

from __future__ import annotations

import numpy as np

from probes.decode.numbers import FIN, RST, SCTP, SEQUENCE, TCP
from probes.jit import kernel
from probes.schema import Array, Table
from tracer.schema import LEGS

# A datagram flow that was silent for longer is a new one: nf_conntrack_udp_timeout and nf_conntrack_udp_timeout_stream, which holds for
# flows older than two seconds (net/netfilter/nf_conntrack_proto_udp.c).
DATAGRAM_SILENCE_NS, STREAM_SILENCE_NS, STREAM_AGE_NS = 30_000_000_000, 120_000_000_000, 2_000_000_000


# A sequence number this far from the one before belongs to another connection: no window is as large (RFC 7323, 2.2 allows 2^30).
ANOTHER_STREAM = 1 << 30


@kernel
def _number_legs(  # noqa: PLR0913, PLR0917 - columns
    flow: Array, point: Array, backward: Array, time_ns: Array, isn: Array, datagrams: Array, seq: Array, fin: Array, leg: Array
) -> int:  # fmt: skip
    """Number the legs of sightings sorted by flow, point and time.

    A handshake with another ISN, silence, or, where the handshake was missed, a sequence number beyond the FIN before it or out of any
    window's reach starts a new one. `seq` is -1 where the packet's does not count (RST), `fin` is the number after a FIN, -1 elsewhere.
    """
    current, leg_isn, start = -1, -1, 0
    last = np.full(2, -1)
    ended = np.full(2, -1)
    for row in range(len(flow)):
        new = row == 0 or flow[row] != flow[row - 1] or point[row] != point[row - 1]
        way = 1 if backward[row] else 0
        if not new and datagrams[row]:
            silence = time_ns[row] - time_ns[row - 1]
            new = silence > (STREAM_SILENCE_NS if time_ns[row - 1] - start > STREAM_AGE_NS else DATAGRAM_SILENCE_NS)
        if not new and isn[row] >= 0:
            new = isn[row] != leg_isn
        elif not new and seq[row] >= 0 and last[way] >= 0:
            distance = (seq[row] - last[way]) & 0xFFFF_FFFF
            new = min(distance, 0x1_0000_0000 - distance) >= ANOTHER_STREAM
            beyond = (seq[row] - ended[way]) & 0xFFFF_FFFF
            new |= ended[way] >= 0 and 0 < beyond < 0x8000_0000
        if new:
            current, leg_isn, start = current + 1, -1, time_ns[row]
            last[:] = -1
            ended[:] = -1
        if isn[row] >= 0:
            leg_isn = isn[row]
        if seq[row] >= 0:
            last[way] = seq[row]
        if fin[row] >= 0:
            ended[way] = fin[row]
        leg[row] = current
    return current + 1


def legs(sightings: Table, observations: Table) -> tuple[Table, Array]:
    """`(LEGS table, leg of each sighting as int32)`."""
    rows = sightings["row"]
    proto = observations["proto"][rows]
    tcp = (proto == TCP) & (observations["known"][rows] & SEQUENCE > 0) & (observations["tcp_flags"][rows] & RST == 0)
    seq = np.where(tcp, observations["seq"][rows].astype("i8"), -1)
    after = (seq + observations["payload_bytes"][rows] + 1) & 0xFFFF_FFFF
    fin = np.where(tcp & (observations["tcp_flags"][rows] & FIN > 0), after, -1)
    leg = np.empty(len(rows), "i4")
    count = _number_legs(
        sightings["flow"], sightings["point"], sightings["backward"], sightings["time_ns"], sightings["isn"],
        (proto != TCP) & (proto != SCTP), seq, fin, leg,
    )  # fmt: skip
    first = np.searchsorted(leg, np.arange(count))
    last = np.searchsorted(leg, np.arange(count), side="right") - 1
    isn = np.full(count, -1, "i8")
    np.maximum.at(isn, leg, sightings["isn"])
    table: Table = {name: sightings[name][first] for name in ("flow", "node", "point")}
    table |= {"start_ns": sightings["time_ns"][first], "end_ns": sightings["time_ns"][last], "isn": isn, "sightings": last - first + 1}
    return LEGS.check(table), leg
