"""Which observations take part in joining, and what identifies a packet through every NAT.

NAT rewrites addresses, ports, checksums and TTL; sequence numbers, timestamps, payload and (in practice) the IP ID stay. GRO, GSO and TSO
merge and split segments but keep the first one's sequence number, acknowledgment and timestamps: those make a TCP packet's identity, its
length, PSH and FIN do not (net/ipv4/tcp_offload.c). What has no payload is never merged: an acknowledgment, a FIN by itself and
the segment sent behind them have all these numbers alike.
"""

from __future__ import annotations

import numpy as np

from probes.decode.numbers import ACK, EMBEDDED, FIN, ICMP, ICMPV6, PACKET, PORTS, PSH, RST, SCTP, SEQUENCE, SYN, TCP, TIMESTAMPS, UDP
from probes.jit import inlined, kernel, unsigned, wide
from probes.schema import Array, Table
from tracer.orders import by_numbers_and_time
from tracer.schema import SIGHTINGS
from tracer.tuples import stir

SCTP_INIT, SCTP_INIT_ACK = 1, 2


def linked_rows(observations: Table) -> Array:
    """Rows (int64) that go with a flow of their own: those that are joinable, and headers embedded in ICMP errors about them."""
    rows = np.empty(len(observations["view"]), "i8")
    return rows[: _find_ports(observations["view"], observations["proto"], observations["known"], rows)].copy()


@inlined
def is_joinable(view: int, proto: int, known: int) -> bool:
    """Whether it is a packet of a connection: TCP, UDP, SCTP or an ICMP echo whose ports are known; no outer packet of a tunnel."""
    transport = proto == TCP or proto == UDP or proto == SCTP or proto == ICMP or proto == ICMPV6  # noqa: PLR1714 - no set in a kernel
    return known & PORTS > 0 and view == PACKET and transport


@kernel
def _find_ports(view: Array, proto: Array, known: Array, rows: Array) -> int:
    count = 0
    for row in range(len(view)):
        if is_joinable(view[row], proto[row], known[row]) or (view[row] == EMBEDDED and known[row] & PORTS > 0):
            rows[count] = row
            count += 1
    return count


@kernel
def _identify(  # noqa: PLR0913, PLR0917 - columns
    rows: Array, proto: Array, known: Array, tcp_flags: Array, seq: Array, ack: Array, tsval: Array, tsecr: Array, payload_hash: Array,
    payload_bytes: Array, ip_id: Array, window: Array, icmp_type: Array, fragment_offset: Array, src_hi: Array, identity: Array,
    strong: Array, numbered: Array, isn: Array,
) -> None:  # fmt: skip
    """Fill in what identifies the packets at `rows` of observations: SIGHTINGS' identity, strong, numbered and isn.

    Identity is 0 where the capture holds nothing that would tell. An IPv6 packet has an identification in its fragments only, and whoever
    reassembles and cuts it again takes another (RFC 8200, 4.5). The client's initial sequence number is told by its SYN, and by the
    SYN-ACK.
    """
    for number in range(len(rows)):
        row = rows[number]
        tcp, sctp, flags = proto[row] == TCP, proto[row] == SCTP, tcp_flags[row]
        mark = wide(ip_id[row]) if src_hi[row] == 0 else 0
        sequenced = known[row] & SEQUENCE > 0
        stream = sctp and seq[row] != 0
        if tcp:
            stream = known[row] & TIMESTAMPS > 0 or (seq[row] != 0 and ack[row] != 0)
        told = fragment_offset[row] == 0 and (sequenced if tcp or sctp else payload_hash[row] != 0 or mark != 0)
        state = stir(unsigned(0), unsigned(proto[row]))
        for value in (seq[row], ack[row], tsval[row], tsecr[row]):
            state = stir(state, unsigned(value))
        telling = flags
        if tcp:  # with PSH: of no payload
            telling = flags & np.uint8(SYN | RST) if payload_bytes[row] else flags & np.uint8(FIN | SYN | RST) | np.uint8(PSH)
        state = stir(state, unsigned(telling))
        if sctp:
            state = stir(stir(unsigned(0), state), payload_hash[row])
        if not stream:
            state = stir(stir(unsigned(0), state), payload_hash[row])
            state = stir(stir(state, unsigned(payload_bytes[row])), unsigned(mark))
            state = stir(stir(state, unsigned(window[row])), unsigned(icmp_type[row]))
        identity[number] = state | unsigned(1) if told else unsigned(0)
        strong[number], numbered[number] = stream and told, mark != 0
        isn[number] = -1
        if sequenced and tcp and flags & SYN:
            isn[number] = (wide(ack[row]) - 1) & 0xFFFF_FFFF if flags & ACK else wide(seq[row])
        elif sequenced and sctp and flags == SCTP_INIT:  # INIT has tag 0, its chunk the client's tag, which INIT ACK is sent to
            isn[number] = wide(ack[row])
        elif sequenced and sctp and flags == SCTP_INIT_ACK:
            isn[number] = wide(seq[row])


IDENTIFYING = (
    "proto", "known", "tcp_flags", "seq", "ack", "tsval", "tsecr", "payload_hash", "payload_bytes", "ip_id", "window", "icmp_type",
    "fragment_offset", "src_hi",
)  # fmt: skip


def identify(observations: Table, rows: Array) -> tuple[Array, Array, Array, Array]:
    """What identifies the packets at `rows`: SIGHTINGS' identity (uint64), strong, numbered (uint8) and isn (int64)."""
    count = len(rows)
    identity, strong, numbered, isn = np.empty(count, "u8"), np.empty(count, "u1"), np.empty(count, "u1"), np.empty(count, "i8")
    _identify(rows, *(*(observations[name] for name in IDENTIFYING), identity, strong, numbered, isn))
    return identity, strong, numbered, isn


def sightings(observations: Table, rows: Array, tuples: Table, codes: Array, node_of_point: Array, same_point: Array) -> Table:
    """The SIGHTINGS of `rows`, sorted by flow, observation point and time. `codes` has the tuple of each of `rows`."""
    flow, point = tuples["flow"][codes], same_point[observations["point"][rows]]
    flows, points = int(flow.max(initial=-1)) + 1, int(same_point.max()) + 1
    order = by_numbers_and_time((flow, flows), (point, points), observations["time_ns"][rows])  # then by row, which is their order
    identity, strong, numbered, isn = (column[order] for column in identify(observations, rows))
    rows, codes, flow, point = rows[order], codes[order], flow[order], point[order]
    direction = observations["direction"][rows]
    return SIGHTINGS.check({
        "row": rows, "time_ns": observations["time_ns"][rows], "tuple": codes, "flow": flow, "backward": tuples["backward"][codes],
        "node": node_of_point[point], "point": point, "identity": identity, "strong": strong, "numbered": numbered,
        "entrance": point.astype("i8") << 16 | direction.astype("i8") << 8 | observations["tunnel"][rows],
        "direction": direction, "isn": isn,
    })  # fmt: skip
