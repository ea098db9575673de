"""Legs: everything one observation point saw of one flow during one lifetime of its tuple."""

from __future__ import annotations

import numpy as np

from probes.decode.numbers import FIN, RST, SCTP, SEQUENCE, TCP
from probes.jit import kernel, wide
from probes.schema import Array, Table
from tracer.schema import LEGS

# A datagram flow that was silent for longer is a new one: nf_conntrack_udp_timeout and nf_conntrack_udp_timeout_stream, which holds for
# flows older than two seconds (net/netfilter/nf_conntrack_proto_udp.c).
DATAGRAM_SILENCE_NS, STREAM_SILENCE_NS, STREAM_AGE_NS = 30_000_000_000, 120_000_000_000, 2_000_000_000


# A sequence number this far from the one before belongs to another connection: no window is as large (RFC 7323, 2.2 allows 2^30).
ANOTHER_STREAM = 1 << 30


@kernel
def _number_legs(  # noqa: PLR0913, PLR0917 - columns
    flow: Array, point: Array, backward: Array, time_ns: Array, isn: Array, rows: Array, proto: Array, known: Array, tcp_flags: Array,
    seq: Array, payload_bytes: Array, leg: Array, first: Array, leg_isn: Array,
) -> int:  # fmt: skip
    """Number the legs of sightings sorted by flow, point and time; of each, `first` becomes its first sighting, `leg_isn` its ISN.

    A handshake with another ISN, silence, or, where the handshake was missed, a sequence number beyond the FIN before it or out of any
    window's reach starts a new one. The sequence number of an RST does not count.
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
            distance = (number - last[way]) & 0xFFFF_FFFF
            new = min(distance, 0x1_0000_0000 - distance) >= ANOTHER_STREAM
            beyond = (number - ended[way]) & 0xFFFF_FFFF
            new |= ended[way] >= 0 and 0 < beyond < 0x8000_0000
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
        observations["proto"], observations["known"], observations["tcp_flags"], observations["seq"], observations["payload_bytes"], leg,
        first, isn,
    )  # fmt: skip
    first, isn = first[:count].copy(), isn[:count].copy()
    end = np.append(first[1:], rows)
    table: Table = {name: sightings[name][first] for name in ("flow", "node", "point")}
    table |= {"start_ns": sightings["time_ns"][first], "end_ns": sightings["time_ns"][end - 1], "isn": isn, "sightings": end - first}
    return LEGS.check(table), leg
