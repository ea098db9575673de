"""Legs: everything one observation point saw of one flow during one lifetime of its tuple."""

from __future__ import annotations

import numpy as np

from probes.jit import kernel
from probes.schema import Array, Table
from tracer.schema import LEGS

# A datagram flow that was silent for longer is a new one: nf_conntrack_udp_timeout and nf_conntrack_udp_timeout_stream, which holds for
# flows older than two seconds (net/netfilter/nf_conntrack_proto_udp.c).
DATAGRAM_SILENCE_NS, STREAM_SILENCE_NS, STREAM_AGE_NS = 30_000_000_000, 120_000_000_000, 2_000_000_000


@kernel
def _number_legs(flow: Array, point: Array, time_ns: Array, isn: Array, datagrams: Array, leg: Array) -> int:
    """Number the legs of sightings sorted by flow, point and time; a handshake with another ISN, or silence, starts a new one."""
    current, leg_isn, start = -1, -1, 0
    for row in range(len(flow)):
        new = row == 0 or flow[row] != flow[row - 1] or point[row] != point[row - 1]
        if not new and datagrams[row]:
            silence = time_ns[row] - time_ns[row - 1]
            new = silence > (STREAM_SILENCE_NS if time_ns[row - 1] - start > STREAM_AGE_NS else DATAGRAM_SILENCE_NS)
        if not new and isn[row] >= 0:
            new = isn[row] != leg_isn
        if new:
            current, leg_isn, start = current + 1, -1, time_ns[row]
        if isn[row] >= 0:
            leg_isn = isn[row]
        leg[row] = current
    return current + 1


def legs(sightings: Table, datagrams: Array) -> tuple[Table, Array]:
    """`(LEGS table, leg of each sighting as int32)`; `datagrams` says for each sighting whether its protocol has no handshake."""
    leg = np.empty(len(sightings["flow"]), "i4")
    count = _number_legs(sightings["flow"], sightings["point"], sightings["time_ns"], sightings["isn"], datagrams, leg)
    first = np.searchsorted(leg, np.arange(count))
    last = np.searchsorted(leg, np.arange(count), side="right") - 1
    isn = np.full(count, -1, "i8")
    np.maximum.at(isn, leg, sightings["isn"])
    table: Table = {name: sightings[name][first] for name in ("flow", "node", "point")}
    table |= {"start_ns": sightings["time_ns"][first], "end_ns": sightings["time_ns"][last], "isn": isn, "sightings": last - first + 1}
    return LEGS.check(table), leg
