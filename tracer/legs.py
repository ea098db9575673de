"""Legs: everything one observation point saw of one flow during one lifetime of its tuple."""

from __future__ import annotations

import numpy as np

from probes.decode.numbers import RST, SCTP, SEQUENCE, TCP, TIMESTAMPS
from probes.jit import kernel
from probes.schema import Array, Table
from tracer.schema import LEGS

# A datagram flow that was silent for longer is a new one: nf_conntrack_udp_timeout and nf_conntrack_udp_timeout_stream, which holds for
# flows older than two seconds (net/netfilter/nf_conntrack_proto_udp.c).
DATAGRAM_SILENCE_NS, STREAM_SILENCE_NS, STREAM_AGE_NS = 30_000_000_000, 120_000_000_000, 2_000_000_000


# A sequence number this far from the one before belongs to another connection: no window is as large (RFC 7323, 2.2 allows 2^30).
ANOTHER_STREAM = 1 << 30
# Timestamps tick at 1 Hz to 1 kHz (RFC 7323, 5.4; some systems at 10 kHz) from a random start per connection (net/core/secure_seq.c): a
# step that fits no such clock within a minute is another connection's.
TICKS_PER_MS, TICKS_SLACK = 10, 60_000


@kernel
def _number_legs(
    flow: Array, point: Array, backward: Array, time_ns: Array, isn: Array, datagrams: Array, seq: Array, tsval: Array, leg: Array
) -> int:  # fmt: skip
    """Number the legs of sightings sorted by flow, point and time.

    A handshake with another ISN, a sequence number or timestamp of another stream (its handshake was missed), or silence starts a new one.
    `seq` and `tsval` are -1 where the packet's do not count (RST, no timestamps).
    """
    current, leg_isn, start = -1, -1, 0
    last = np.full(2, -1)
    stamp, stamped_ns = np.full(2, -1), np.zeros(2, np.int64)
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
            if not new and tsval[row] >= 0 and stamp[way] >= 0:
                ticks = (tsval[row] - stamp[way]) & 0xFFFF_FFFF
                allowed = abs(time_ns[row] - stamped_ns[way]) // 1_000_000 * TICKS_PER_MS + TICKS_SLACK
                new = min(ticks, 0x1_0000_0000 - ticks) > allowed
        if new:
            current, leg_isn, start = current + 1, -1, time_ns[row]
            last[:] = -1
            stamp[:] = -1
        if isn[row] >= 0:
            leg_isn = isn[row]
        if seq[row] >= 0:
            last[way] = seq[row]
        if tsval[row] >= 0:
            stamp[way], stamped_ns[way] = tsval[row], time_ns[row]
        leg[row] = current
    return current + 1


def legs(sightings: Table, observations: Table) -> tuple[Table, Array]:
    """`(LEGS table, leg of each sighting as int32)`."""
    rows = sightings["row"]
    proto = observations["proto"][rows]
    tcp = (proto == TCP) & (observations["known"][rows] & SEQUENCE > 0) & (observations["tcp_flags"][rows] & RST == 0)
    seq = np.where(tcp, observations["seq"][rows].astype("i8"), -1)
    stamped = tcp & (observations["known"][rows] & TIMESTAMPS > 0)
    tsval = np.where(stamped, observations["tsval"][rows].astype("i8"), -1)
    leg = np.empty(len(rows), "i4")
    count = _number_legs(
        sightings["flow"], sightings["point"], sightings["backward"], sightings["time_ns"], sightings["isn"],
        (proto != TCP) & (proto != SCTP), seq, tsval, leg,
    )  # fmt: skip
    first = np.searchsorted(leg, np.arange(count))
    last = np.searchsorted(leg, np.arange(count), side="right") - 1
    isn = np.full(count, -1, "i8")
    np.maximum.at(isn, leg, sightings["isn"])
    table: Table = {name: sightings[name][first] for name in ("flow", "node", "point")}
    table |= {"start_ns": sightings["time_ns"][first], "end_ns": sightings["time_ns"][last], "isn": isn, "sightings": last - first + 1}
    return LEGS.check(table), leg
