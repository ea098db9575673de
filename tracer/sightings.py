"""Which observations take part in joining, and what identifies a packet through every NAT.

NAT rewrites addresses, ports, checksums and TTL; sequence numbers, timestamps, payload and (in practice) the IP ID stay. GRO, GSO and TSO
merge and split segments but keep the first one's sequence number, acknowledgment and timestamps: those make a TCP packet's identity, its
length, PSH and FIN do not (net/ipv4/tcp_offload.c).
"""

from __future__ import annotations

import numpy as np

from probes.decode.numbers import ACK, ICMP, ICMPV6, PACKET, PORTS, RST, SCTP, SEQUENCE, SYN, TCP, TIMESTAMPS, UDP
from probes.schema import Array, Table
from tracer.schema import SIGHTINGS
from tracer.tuples import mix

SCTP_INIT, SCTP_INIT_ACK = 1, 2


def joinable(observations: Table) -> Array:
    """Rows (int64) of packets of connections: TCP, UDP, SCTP and ICMP echoes whose ports are known; no outer packets of tunnels."""
    proto = observations["proto"]
    transport = (proto == TCP) | (proto == UDP) | (proto == SCTP) | (proto == ICMP) | (proto == ICMPV6)
    return np.flatnonzero((observations["view"] == PACKET) & transport & (observations["known"] & PORTS > 0))


def _identities(part: Table) -> tuple[Array, Array]:
    """`(identity, strong)` per row; identity 0 where the capture holds nothing that would tell.

    An IPv6 packet has an identification in its fragments only, and whoever reassembles and cuts it again takes another (RFC 8200, 4.5).
    """
    proto, known = part["proto"], part["known"]
    tcp, sctp = proto == TCP, proto == SCTP
    ip_id = np.where(part["src_hi"] == 0, part["ip_id"], 0)
    whole = (known & SEQUENCE > 0) & (part["fragment_offset"] == 0)
    flags = part["tcp_flags"] & np.uint8(SYN | RST)
    stream = tcp & ((known & TIMESTAMPS > 0) | ((part["seq"] != 0) & (part["ack"] != 0))) | (sctp & (part["seq"] != 0))
    by_stream = mix(proto, part["seq"], part["ack"], part["tsval"], part["tsecr"], np.where(tcp, flags, part["tcp_flags"]))
    by_stream = np.where(sctp, mix(by_stream, part["payload_hash"]), by_stream)
    by_packet = mix(by_stream, part["payload_hash"], part["payload_bytes"], ip_id, part["window"], part["icmp_type"])
    told = np.where(tcp | sctp, whole, (part["fragment_offset"] == 0) & ((part["payload_hash"] != 0) | (ip_id != 0)))
    identity = np.where(told, np.where(stream, by_stream, by_packet) | np.uint64(1), np.uint64(0))
    return identity, (stream & told).astype("u1")


def _client_isn(part: Table) -> Array:
    """The client's initial sequence number where a packet of the handshake tells it (int64), else -1."""
    seq, ack, flags = part["seq"].astype("i8"), part["ack"].astype("i8"), part["tcp_flags"]
    known = part["known"] & SEQUENCE > 0
    syn = known & (part["proto"] == TCP) & (flags & SYN > 0)
    isn = np.where(syn & (flags & ACK == 0), seq, -1)
    isn = np.where(syn & (flags & ACK > 0), (ack - 1) & 0xFFFF_FFFF, isn)
    init = known & (part["proto"] == SCTP) & (flags == SCTP_INIT)  # INIT has tag 0, its chunk the client's tag, which INIT ACK is sent to
    isn = np.where(init, ack, isn)
    return np.where(known & (part["proto"] == SCTP) & (flags == SCTP_INIT_ACK), seq, isn)


def sightings(observations: Table, rows: Array, tuples: Table, codes: Array, node_of_point: Array, same_point: Array) -> Table:
    """The SIGHTINGS of `rows`, sorted by flow, observation point and time. `codes` has the tuple of each of `rows`."""
    used = (
        "proto",
        "known",
        "tcp_flags",
        "seq",
        "ack",
        "tsval",
        "tsecr",
        "payload_hash",
        "payload_bytes",
        "ip_id",
        "window",
        "icmp_type",
        "fragment_offset",
        "direction",
        "tunnel",
        "src_hi",
    )
    part = {name: observations[name][rows] for name in used}
    identity, strong = _identities(part)
    point = same_point[observations["point"][rows]]
    table: Table = {
        "row": rows, "time_ns": observations["time_ns"][rows], "tuple": codes, "flow": tuples["flow"][codes],
        "backward": tuples["backward"][codes], "node": node_of_point[point], "point": point, "identity": identity, "strong": strong,
        "numbered": ((part["ip_id"] != 0) & (part["src_hi"] == 0)).astype("u1"),
        "entrance": point.astype("i8") << 16 | part["direction"].astype("i8") << 8 | part["tunnel"],
        "direction": part["direction"], "isn": _client_isn(part),
    }  # fmt: skip
    order = np.lexsort((table["row"], table["time_ns"], table["point"], table["flow"]))
    return SIGHTINGS.check({name: column[order] for name, column in table.items()})
