"""The tables that reconstruction makes. The mechanism and the tables of captures and kernels are in `probes.schema`."""

from __future__ import annotations

from probes.schema import Column, Schema

TUPLES = Schema(
    "tuples",
    (
        Column("src_hi", "u8", "", "source address, bytes 0-7"),
        Column("src_lo", "u8", "", "source address, bytes 8-15"),
        Column("dst_hi", "u8", "", "destination address, bytes 0-7"),
        Column("dst_lo", "u8", "", "destination address, bytes 8-15"),
        Column("sport", "u2", "", "source port; ICMP echo identifier"),
        Column("dport", "u2", "", "destination port; ICMP echo identifier"),
        Column("proto", "u1", "", "IANA protocol number"),
        Column("flow", "i4", "", "the same for a tuple and its reverse"),
        Column("backward", "u1", "", "1 for one of the two directions of a flow, 0 for the other"),
    ),
)

SIGHTINGS = Schema(
    "sightings",
    (
        Column("row", "i8", "", "row of the observation"),
        Column("time_ns", "i8", "ns since the epoch", "capture time"),
        Column("tuple", "i4", "", "row of the 5-tuple as seen here"),
        Column("flow", "i4", "", "TUPLES.flow"),
        Column("backward", "u1", "", "TUPLES.backward"),
        Column("node", "i4", "", "which node's clock and NAT"),
        Column("point", "i4", "", "row of the observation point; of one that several files show, the first"),
        Column("identity", "u8", "", "equal for all sightings of one packet, through every NAT; 0 where it cannot be told"),
        Column("strong", "u1", "", "1 where equal identities cannot be chance (64 bits or more of sequence, acknowledgment, timestamps)"),
        Column("numbered", "u1", "", "1 where the packet has an IP ID, so that no other packet of its sender has its identity"),
        Column("entrance", "i8", "", "observation point, direction and tunnel: where and how a packet passes"),
        Column("direction", "u1", "", "OBSERVATIONS.direction"),
        Column("isn", "i8", "", "client's initial sequence number told by a SYN or SYN-ACK (SCTP: initiate tag); -1 elsewhere"),
    ),
)

LEGS = Schema(
    "legs",
    (
        Column("flow", "i4", "", "TUPLES.flow"),
        Column("node", "i4", "", "row of the node"),
        Column("point", "i4", "", "row of the observation point; of one that several files show, the first"),
        Column("start_ns", "i8", "ns since the epoch", "first packet"),
        Column("end_ns", "i8", "ns since the epoch", "last packet"),
        Column("isn", "i8", "", "client's initial sequence number, -1 where the handshake was not seen here"),
        Column("sightings", "i8", "", "number of packets seen"),
    ),
)

ENTRIES = Schema(
    "entries",
    (
        Column("node", "i4", "", "whose conntrack table"),
        Column("before", "i4", "", "tuple of the original direction"),
        Column("after", "i4", "", "the reply tuple reversed: what the packet was rewritten to"),
        Column("first_ns", "i8", "ns since the epoch", "first line about this entry, printed late; -1 where it was there before"),
        Column("last_ns", "i8", "ns since the epoch", "DESTROY, or a later entry of the same tuple; max where it stayed"),
        Column("id", "i8", "", "conntrack's id, -1 unknown"),
    ),
)

CONNECTIONS = Schema(
    "connections",
    (
        Column("proto", "u1", "", "IANA protocol number"),
        Column("start_ns", "i8", "ns since the epoch", "first packet, on the clock of the node that saw it first in path order"),
        Column("end_ns", "i8", "ns since the epoch", "last packet, on the same clock"),
        Column("answer_ns", "i8", "ns since the epoch", "last answer to the attempt (SYN-ACK, RST, ICMP error, first reply); -1 none"),
        Column("original", "i4", "", "tuple the client's socket has; -1 unknown"),
        Column("translated", "i4", "", "tuple the server's socket has; -1 unknown"),
        Column("first_seen", "i4", "", "tuple of the first sighting in path order"),
        Column("first_node", "i4", "", "node of the first sighting in path order"),
        Column("origin_node", "i4", "", "node whose own socket is the client, as its ledger tells; -1 not so or unknown"),
        Column("status", "i1", "", "index into tracer.status.STATUSES"),
        Column("confidence", "f4", "", "that original and translated belong together"),
        Column("evidence", "u2", "", "bits, tracer.evidence.EVIDENCE"),
        Column("packets_original", "i8", "", "packets client to server, at the point that saw most"),
        Column("packets_reply", "i8", "", "packets server to client, at the point that saw most"),
        Column("retransmissions", "i4", "", "TCP segments sent again"),
        Column("handshake_ns", "i8", "ns", "first SYN to SYN-ACK at the first point, -1 unknown"),
    ),
)

TRANSLATIONS = Schema(
    "translations",
    (
        Column("connection", "i4", "", "row of the connection"),
        Column("position", "i4", "", "0 for the first NAT a packet of the client meets"),
        Column("node", "i4", "", "row of the node that translated"),
        Column("before", "i4", "", "tuple"),
        Column("after", "i4", "", "tuple"),
        Column("evidence", "u2", "", "bits, tracer.evidence.EVIDENCE"),
    ),
)

HOPS = Schema(
    "hops",
    (
        Column("connection", "i4", "", "row of the connection"),
        Column("position", "i4", "", "from 0, in path order"),
        Column("row", "i8", "", "row of the observation"),
        Column("node", "i4", "", "row of the node"),
        Column("point", "i4", "", "row of the observation point; of one that several files show, the first"),
        Column("tuple", "i4", "", "tuple as seen here"),
        Column("time_ns", "i8", "ns since the epoch", "on that node's clock"),
        Column("latency_ns", "i8", "ns", "since the hop before on the same node; -1 where the clocks differ or there is none"),
        Column("reply", "u1", "", "0 the client's first packet, 1 the server's first answer"),
    ),
)

LOSSES = Schema(
    "losses",
    (
        Column("connection", "i4", "", "row of the connection"),
        Column("reply", "u1", "", "0 client to server, 1 server to client"),
        Column("time_ns", "i8", "ns since the epoch", "when the packet was first sent, at the first point that saw it"),
        Column("again_ns", "i8", "ns", "how much later it was sent again"),
        Column("seq", "u4", "", "TCP sequence number"),
        Column("last_point", "i4", "", "last point in path order that saw it"),
        Column("missed_point", "i4", "", "first point in path order that did not, though it saw it sent again; -1 where all saw it"),
    ),
)
