"""Legs: everything one observation point saw of one flow during one lifetime of its tuple."""

from __future__ import annotations

import numpy as np

from probes.decode.numbers import ACK, FIN, RST, SCTP, SEQUENCE, SYN, TCP
from probes.jit import inlined, kernel, wide
from probes.schema import Array, Table
from tracer.schema import LEGS

# A datagram flow that was silent for longer is a new one: nf_conntrack_udp_timeout and nf_conntrack_udp_timeout_stream, which holds for
# flows older than two seconds (net/netfilter/nf_conntrack_proto_udp.c).
DATAGRAM_SILENCE_NS, STREAM_SILENCE_NS, STREAM_AGE_NS = 30_000_000_000, 120_000_000_000, 2_000_000_000


# A sequence number this far from the one before belongs to another connection: no window is as large (RFC 7323, 2.2 allows 2^30).
ANOTHER_STREAM = 1 << 30


@inlined
def _apart(one: int, other: int) -> int:
    """How far two sequence numbers are from one another, whichever is later."""
    ahead = (one - other) & 0xFFFF_FFFF
    return min(ahead, 0x1_0000_0000 - ahead)


@inlined
def _beyond(number: int, end: int) -> bool:
    """Whether a sequence number is past the `end` of its stream, where that is known (not -1)."""
    return end >= 0 and 0 < (number - end) & 0xFFFF_FFFF < 0x8000_0000


@kernel
def _number_legs(  # noqa: PLR0913, PLR0917 - columns
    flow: Array, point: Array, backward: Array, time_ns: Array, isn: Array, rows: Array, proto: Array, known: Array, tcp_flags: Array,
    seq: Array, ack: Array, payload_bytes: Array, leg: Array, first: Array, leg_isn: Array,
) -> int:  # fmt: skip
    """Number the legs of sightings sorted by flow, point and time; of each, `first` becomes its first sighting, `leg_isn` its ISN.

    A handshake with another ISN, silence, or, where the handshake was missed, a sequence number, its own or what it acknowledges, beyond
    the FIN before it or out of any window's reach starts a new one. The numbers of an RST do not count.
    """
    current, start = -1, 0
    last = np.full(2, -1)
    ended = np.full(2, -1)
    for at in range(len(flow)):
        row, way = rows[at], 1 if backward[at] else 0
        kind, flags = proto[row], tcp_flags[row]
        number = wide(seq[row]) if kind == TCP and known[row] & SEQUENCE and not flags & RST else -1
        new = at == 0 or flow[at] != flow[at - 1] or point[at] != point[at - 1]
        if not new and kind != TCP and kind != SCTP:  # noqa: PLR1714 - no set in a kernel
            silence = time_ns[at] - time_ns[at - 1]
            new = silence > (STREAM_SILENCE_NS if time_ns[at - 1] - start > STREAM_AGE_NS else DATAGRAM_SILENCE_NS)
        if not new and isn[at] >= 0:
            new = isn[at] != leg_isn[current]
        elif not new and number >= 0 and last[way] >= 0:
            new = _apart(number, last[way]) >= ANOTHER_STREAM or _beyond(number, ended[way])
        if not new and number >= 0 and flags & (SYN | ACK) == ACK and last[1 - way] >= 0:
            acknowledged = wide(ack[row])
            new = _apart(acknowledged, last[1 - way]) >= ANOTHER_STREAM or _beyond(acknowledged, ended[1 - way])
        if new:
            current, start = current + 1, time_ns[at]
            first[current], leg_isn[current] = at, -1
            last[:] = -1
            ended[:] = -1
        if isn[at] >= 0:
            leg_isn[current] = isn[at]
        if number >= 0:
            last[way] = number
            if flags & FIN:
                ended[way] = (number + wide(payload_bytes[row]) + 1) & 0xFFFF_FFFF
        leg[at] = current
    return current + 1


def legs(sightings: Table, observations: Table) -> tuple[Table, Array]:
    """`(LEGS table, leg of each sighting as int32)`."""
    rows = len(sightings["row"])
    leg, first, isn = np.empty(rows, "i4"), np.empty(rows, "i8"), np.empty(rows, "i8")
    count = _number_legs(
        sightings["flow"], sightings["point"], sightings["backward"], sightings["time_ns"], sightings["isn"], sightings["row"],
        observations["proto"], observations["known"], observations["tcp_flags"], observations["seq"], observations["ack"],
        observations["payload_bytes"], leg, first, isn,
    )  # fmt: skip
    first, isn = first[:count].copy(), isn[:count].copy()
    end = np.append(first[1:], rows)
    table: Table = {name: sightings[name][first] for name in ("flow", "node", "point")}
    table |= {"start_ns": sightings["time_ns"][first], "end_ns": sightings["time_ns"][end - 1], "isn": isn, "sightings": end - first}
    return LEGS.check(table), leg
