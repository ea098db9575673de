"""Every layer that is decoded, one packet each: what it is built from is what its observations say."""

from __future__ import annotations

from typing import Any

import pytest
from packets import (
    ETHERNET,
    LOOP,
    NOP,
    NULL,
    RAW,
    RAW_IPV4,
    RAW_IPV6,
    SACK_PERMITTED,
    SLL,
    SLL2,
    Layer,
    Record,
    arp,
    authentication,
    chunk,
    destination,
    echo,
    echo6,
    ethernet,
    fragment,
    geneve,
    gre,
    hop_by_hop,
    icmp,
    icmp6,
    ip4,
    ip6,
    layer,
    mss,
    null,
    observe,
    pcap,
    read,
    routing,
    rows,
    sack,
    scale,
    sctp,
    sctp_data,
    sctp_init,
    sll,
    sll2,
    tcp,
    timestamps,
    udp,
    vxlan,
)

from probes.decode.numbers import (
    EMBEDDED,
    GENEVE,
    GRE_TUNNEL,
    IN,
    IP_IN_IP,
    MORE_FRAGMENTS,
    OUT,
    OUTER,
    PORTS,
    SEQUENCE,
    TIMESTAMPS,
    UNKNOWN,
    VXLAN,
)

A, B, C, D = "10.244.0.5", "10.244.1.7", "172.30.0.2", "172.30.0.3"
A6, B6 = "fd00:10:244::5", "fd00:10:244:1::7"
Row = dict[str, Any]

SYN = tcp(40_000, 80, "S", seq=7, window=64_240, options=mss(1460) + SACK_PERMITTED + timestamps(100) + NOP + scale(7))
SYN_ROW: Row = {
    "src": A, "dst": B, "proto": 6, "sport": 40_000, "dport": 80, "seq": 7, "ack": 0, "tcp_flags": 2, "window": 64_240, "mss": 1460,
    "tsval": 100, "tsecr": 0, "payload_bytes": 0, "payload_hash": 0, "known": PORTS | SEQUENCE | TIMESTAMPS,
}  # fmt: skip
SYN4, SYN6 = ip4(A, B, SYN), ip6(A6, B6, SYN)
SYN6_ROW = SYN_ROW | {"src": A6, "dst": B6}

LINKS: dict[str, tuple[int, bytes, Row]] = {
    "ethernet": (ETHERNET, ethernet(SYN4), SYN_ROW | {"direction": UNKNOWN}),
    "ethernet, IPv6": (ETHERNET, ethernet(SYN6), SYN6_ROW),
    "802.1Q": (ETHERNET, ethernet(SYN4, [(0x8100, 5)]), SYN_ROW),
    "QinQ": (ETHERNET, ethernet(SYN6, [(0x88A8, 10), (0x8100, 20)]), SYN6_ROW),
    "old QinQ": (ETHERNET, ethernet(SYN4, [(0x9100, 10), (0x8100, 20)]), SYN_ROW),
    "SLL to us": (SLL, sll(SYN4, 0), SYN_ROW | {"direction": IN}),
    "SLL from us": (SLL, sll(SYN6, 4), SYN6_ROW | {"direction": OUT}),
    "SLL2 to another": (SLL2, sll2(SYN4, 9, 3), SYN_ROW | {"direction": IN}),
    "SLL2 from us": (SLL2, sll2(SYN6, 9, 4), SYN6_ROW | {"direction": OUT}),
    "RAW": (RAW, SYN4, SYN_ROW),
    "RAW, IPv6": (RAW, SYN6, SYN6_ROW),
    "RAW, as BSD numbers it": (12, SYN4, SYN_ROW),
    "IPV4": (RAW_IPV4, SYN4, SYN_ROW),
    "IPV6": (RAW_IPV6, SYN6, SYN6_ROW),
    "NULL, little-endian": (NULL, null(SYN4), SYN_ROW),
    "NULL, big-endian": (NULL, null(SYN6, big=True), SYN6_ROW),
    "LOOP": (LOOP, null(SYN4, big=True), SYN_ROW),
}


def has(row: Row, expected: Row) -> None:
    assert {name: row[name] for name in expected} == expected


@pytest.mark.parametrize("name", LINKS)
def test_link_layers(name: str) -> None:
    link_type, frame, expected = LINKS[name]
    [row] = observe(frame, link_type=link_type)
    has(row, expected | {"outer": -1, "view": 0, "tunnel": 0, "captured_bytes": len(frame), "wire_bytes": len(frame), "frame": 1})


def test_the_interface_of_an_sll2_header_is_the_observation_point() -> None:
    capture = read(pcap([sll2(SYN4, 9), sll2(SYN4, 3), sll2(SYN4, 9)], SLL2))
    assert [(point.interface, point.ifindex) for point in capture.points] == [("if9", 9), ("if3", 3)]
    assert capture.observations["point"].tolist() == [0, 1, 0]


def test_an_impossible_interface_index_is_unknown() -> None:
    capture = read(pcap([sll2(SYN4, ifindex) for ifindex in (2**31 - 1, 2**31, 2**32 - 1)], SLL2))
    assert [(point.interface, point.ifindex) for point in capture.points] == [("if2147483647", 2**31 - 1), ("any", -1)]


def plain(expected: Row) -> Row:
    return {"src": A, "dst": B} | expected


def plain6(expected: Row) -> Row:
    return {"src": A6, "dst": B6} | expected


PACKETS: dict[str, tuple[Layer, Row]] = {  # in one Ethernet frame, giving one row
    "IPv4 fields": (ip4(A, B, udp(1, 2, b"x" * 30), ttl=3, ip_id=0xBEEF), plain({"ttl": 3, "ip_id": 0xBEEF, "payload_bytes": 30})),
    "IPv4 options": (ip4(A, B, udp(1, 2, b"x"), options=b"\x94\x04\0\0"), plain({"sport": 1, "dport": 2, "payload_bytes": 1})),
    "IPv4 without a length (BIG TCP)": (ip4(A, B, udp(1, 2, b"x" * 9), total=0), plain({"payload_bytes": 9})),
    "padding behind a short packet": (
        layer(ip4(A, B, tcp(1, 2)) + bytes(6), ethertype=0x0800), plain({"payload_bytes": 0, "payload_hash": 0})
    ),
    "first fragment": (
        ip4(A, B, udp(1, 2, b"x" * 24), ip_id=9, more=True), plain({"fragment_offset": 0, "known": PORTS | MORE_FRAGMENTS, "sport": 1})
    ),
    "fragment from the midst": (
        ip4(A, B, bytes(24), ip_id=9, offset=4, more=True, protocol=17),
        plain({"fragment_offset": 4, "known": MORE_FRAGMENTS, "proto": 17, "sport": 0, "payload_bytes": 24}),
    ),
    "last fragment": (ip4(A, B, bytes(8), offset=7, protocol=17), plain({"fragment_offset": 7, "known": 0})),
    "unknown protocol": (ip4(A, B, bytes(11), protocol=99), plain({"proto": 99, "known": 0, "payload_bytes": 11})),
    "ESP": (ip4(A, B, bytes(40), protocol=50), plain({"proto": 50, "payload_bytes": 40})),
    "IPv6 fields": (ip6(A6, B6, udp(1, 2, b"abc"), hops=9), plain6({"ttl": 9, "ip_id": 0, "payload_bytes": 3, "proto": 17})),
    "IPv6 without a length": (ip6(A6, B6, udp(1, 2, b"abc"), length=0), plain6({"payload_bytes": 3})),
    "hop-by-hop": (ip6(A6, B6, udp(1, 2, b"abc"), hop_by_hop()), plain6({"proto": 17, "dport": 2, "payload_bytes": 3})),
    "every IPv6 extension": (
        ip6(A6, B6, tcp(1, 2, "A", b"hello"), hop_by_hop(16), destination(), routing(), fragment(0xCAFE_BABE), authentication()),
        plain6({"proto": 6, "sport": 1, "payload_bytes": 5, "ip_id": 0xCAFE_BABE, "fragment_offset": 0, "known": PORTS | SEQUENCE}),
    ),
    "first IPv6 fragment": (
        ip6(A6, B6, udp(1, 2, b"x" * 16), fragment(77, 0, more=True)), plain6({"ip_id": 77, "known": PORTS | MORE_FRAGMENTS, "sport": 1})
    ),
    "later IPv6 fragment": (
        ip6(A6, B6, bytes(16), fragment(77, 3), protocol=60),  # what follows looks like an extension header, and is the datagram's midst
        plain6({"ip_id": 77, "known": 0, "fragment_offset": 3, "proto": 60, "payload_bytes": 16}),
    ),
    "no next header": (ip6(A6, B6, b"", protocol=59), plain6({"proto": 59, "payload_bytes": 0})),
    "TCP data": (
        ip4(A, B, tcp(5, 6, "AP", b"GET / HTTP/1.1\r\n", seq=2**32 - 1, ack=2**31, options=NOP + NOP + timestamps(2**32 - 1, 5))),
        plain({"seq": 2**32 - 1, "ack": 2**31, "tcp_flags": 24, "payload_bytes": 16, "tsval": 2**32 - 1, "tsecr": 5, "mss": 0}),
    ),
    "TCP with selective acknowledgments": (
        ip4(A, B, tcp(5, 6, options=NOP + NOP + sack((1, 2), (3, 4)) + NOP + NOP + timestamps(8, 9))), plain({"tsval": 8, "tsecr": 9})
    ),
    "TCP with an option of no length": (ip4(A, B, tcp(5, 6, options=b"\x1e\0" + timestamps(8, 9))), plain({"tsval": 0, "known": 3})),
    "TCP with every flag": (ip4(A, B, tcp(5, 6, "FSRPAUEC")), plain({"tcp_flags": 255})),
    "TCP whose header claims too much": (
        ip4(A, B, layer(tcp(5, 6)[:12] + b"\xf0" + tcp(5, 6)[13:], protocol=6)), plain({"sport": 5, "known": 3, "payload_bytes": 0})
    ),
    "UDP without payload": (ip4(A, B, udp(5, 6)), plain({"payload_bytes": 0, "payload_hash": 0, "known": PORTS})),
    "SCTP INIT": (
        ip4(A, B, sctp(7, 8, 0, sctp_init(0xABCD))), plain({"proto": 132, "sport": 7, "dport": 8, "seq": 0, "ack": 0xABCD, "tcp_flags": 1})
    ),
    "SCTP INIT ACK": (ip4(A, B, sctp(8, 7, 0xABCD, sctp_init(0x1234, answer=True))), plain({"seq": 0xABCD, "ack": 0x1234, "tcp_flags": 2})),
    "SCTP DATA": (
        ip6(A6, B6, sctp(7, 8, 99, sctp_data(1000, b"hello"))),
        plain6({"seq": 99, "ack": 1000, "tcp_flags": 0, "known": PORTS | SEQUENCE, "payload_bytes": 24}),
    ),
    "SCTP COOKIE ACK": (ip4(A, B, sctp(7, 8, 99, chunk(11))), plain({"tcp_flags": 11, "ack": 0})),
    "ping": (
        ip4(A, B, echo(321, 4, b"payload")),
        plain({"proto": 1, "icmp_type": 8, "sport": 321, "dport": 321, "seq": 4, "known": PORTS | SEQUENCE, "payload_bytes": 7}),
    ),
    "pong": (ip4(A, B, echo(321, 4, answer=True)), plain({"icmp_type": 0, "sport": 321, "seq": 4})),
    "ping, IPv6": (ip6(A6, B6, echo6(321, 4)), plain6({"proto": 58, "icmp_type": 128, "sport": 321, "seq": 4, "known": PORTS | SEQUENCE})),
    "pong, IPv6": (ip6(A6, B6, echo6(321, 4, answer=True)), plain6({"icmp_type": 129, "seq": 4})),
    "router advertisement": (ip6(A6, B6, layer(b"\x86" + bytes(15), protocol=58)), plain6({"icmp_type": 134, "known": 0})),
    "UDP that only begins like VXLAN": (ip4(A, B, udp(5, 6, vxlan(1, b"not a frame at all"))), plain({"dport": 6, "payload_bytes": 26})),
    "VXLAN by shape, inner packet too long": (
        ip4(A, B, udp(5, 6, vxlan(1, ethernet(ip4(C, D, udp(1, 2), total=90))))), plain({"dport": 6, "view": 0, "tunnel": 0})
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", PACKETS)
def test_packets(name: str) -> None:
    packet, expected = PACKETS[name]
    [row] = observe(ethernet(packet))
    has(row, expected | {"outer": -1})


OUTSIDE: Row = {"src": C, "dst": D, "view": OUTER, "tunnel": 0, "outer": -1}
INSIDE = SYN_ROW | {"view": 0, "outer": 0}
INSIDE6 = SYN6_ROW | {"view": 0, "outer": 0}

TUNNELLED: dict[str, tuple[Layer, list[Row]]] = {  # in one Ethernet frame, giving a row per layer
    "VXLAN": (
        ip4(C, D, udp(50_000, 4789, vxlan(0xABCDEF, ethernet(SYN4)))),
        [OUTSIDE | {"sport": 50_000, "dport": 4789, "payload_bytes": 8 + len(ethernet(SYN4))}, INSIDE | {"tunnel": VXLAN, "vni": 0xABCDEF}],
    ),
    "VXLAN on Linux's old port": (ip4(C, D, udp(5, 8472, vxlan(1, ethernet(SYN6)))), [OUTSIDE, INSIDE6 | {"tunnel": VXLAN, "vni": 1}]),
    "VXLAN with a group policy": (ip4(C, D, udp(5, 4789, b"\x88\0\0\7" + vxlan(1, ethernet(SYN4))[4:])), [OUTSIDE, INSIDE | {"vni": 1}]),
    "VXLAN on any port, by shape": (
        ip4(C, D, udp(5, 51_820, vxlan(1, ethernet(SYN4, [(0x8100, 3)])))), [OUTSIDE | {"dport": 51_820}, INSIDE | {"tunnel": VXLAN}]
    ),
    "VXLAN on any port, IPv6": (ip4(C, D, udp(5, 6, vxlan(1, ethernet(SYN6)))), [OUTSIDE, INSIDE6 | {"tunnel": VXLAN}]),
    "VXLAN with ARP inside": (ip4(C, D, udp(5, 8472, vxlan(1, ethernet(arp())))), [OUTSIDE]),
    "VXLAN over IPv6": (ip6(A6, B6, udp(5, 4789, vxlan(1, ethernet(SYN4)))), [{"src": A6, "view": OUTER}, INSIDE | {"tunnel": VXLAN}]),
    "Geneve with options": (
        ip4(C, D, udp(5, 6081, geneve(77, ethernet(SYN4), options=bytes(12)))), [OUTSIDE, INSIDE | {"tunnel": GENEVE, "vni": 77}]
    ),
    "Geneve with an IP packet": (ip4(C, D, udp(5, 6081, geneve(77, SYN6))), [OUTSIDE, INSIDE6 | {"tunnel": GENEVE, "vni": 77}]),
    "IPIP": (ip4(C, D, SYN4), [OUTSIDE | {"proto": 4, "payload_bytes": len(SYN4)}, INSIDE | {"tunnel": IP_IN_IP, "vni": 0}]),
    "6in4": (ip4(C, D, SYN6), [OUTSIDE | {"proto": 41}, INSIDE6 | {"tunnel": IP_IN_IP}]),
    "4in6": (ip6(A6, B6, SYN4), [{"src": A6, "view": OUTER, "proto": 4}, INSIDE | {"tunnel": IP_IN_IP}]),
    "GRE": (ip4(C, D, gre(SYN4)), [OUTSIDE | {"proto": 47}, INSIDE | {"tunnel": GRE_TUNNEL, "vni": 0}]),
    "GRE with everything": (ip4(C, D, gre(SYN6, key=5, checksum=True, sequence=9)), [OUTSIDE, INSIDE6 | {"tunnel": GRE_TUNNEL, "vni": 5}]),
    "GRE with Ethernet": (ip4(C, D, gre(ethernet(SYN4, [(0x8100, 1)]), key=6)), [OUTSIDE, INSIDE | {"tunnel": GRE_TUNNEL, "vni": 6}]),
    "VXLAN in VXLAN": (
        ip4(C, D, udp(5, 4789, vxlan(1, ethernet(ip4(D, C, udp(6, 8472, vxlan(2, ethernet(SYN4)))))))),
        [
            OUTSIDE,
            {"src": D, "dst": C, "view": OUTER, "tunnel": VXLAN, "vni": 1, "outer": 0},
            SYN_ROW | {"view": 0, "tunnel": VXLAN, "vni": 2, "outer": 1},
        ],
    ),
    "port unreachable": (
        ip4(B, A, icmp(3, 3, ip4(A, B, udp(7, 9, b"abc")))),
        [
            {"src": B, "dst": A, "proto": 1, "icmp_type": 3, "icmp_code": 3, "view": 0, "outer": -1, "known": 0},
            {"src": A, "dst": B, "proto": 17, "sport": 7, "dport": 9, "view": EMBEDDED, "outer": 0, "payload_bytes": 3, "tunnel": 0},
        ],
    ),
    "time exceeded, eight bytes embedded": (
        ip4(C, A, icmp(11, 0, ip4(A, B, tcp(7, 9, "A", b"abc"))[:28])),
        [{"icmp_type": 11}, {"src": A, "sport": 7, "dport": 9, "view": EMBEDDED, "known": PORTS}],
    ),
    "fragmentation needed": (ip4(C, A, icmp(3, 4, SYN4)), [{"icmp_code": 4}, SYN_ROW | {"view": EMBEDDED, "outer": 0}]),
    "packet too big": (ip6(B6, A6, icmp6(2, 0, SYN6)), [{"proto": 58, "icmp_type": 2}, SYN6_ROW | {"view": EMBEDDED, "outer": 0}]),
    "error about a fragment": (
        ip4(C, A, icmp(3, 1, ip4(A, B, bytes(8), offset=5, protocol=17))),
        [{"icmp_type": 3}, {"fragment_offset": 5, "known": 0, "view": EMBEDDED}],
    ),
    "error with nothing embedded": (ip4(C, A, icmp(3, 1, b"")), [{"icmp_type": 3, "view": 0}]),
    "error inside VXLAN": (
        ip4(C, D, udp(5, 8472, vxlan(1, ethernet(ip4(B, A, icmp(3, 3, SYN4)))))),
        [OUTSIDE, {"icmp_type": 3, "view": 0, "outer": 0, "tunnel": VXLAN}, SYN_ROW | {"view": EMBEDDED, "outer": 1, "tunnel": 0}],
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", TUNNELLED)
def test_tunnels_and_errors_give_a_row_per_layer(name: str) -> None:
    packet, expected = TUNNELLED[name]
    found = observe(ethernet(packet))
    assert len(found) == len(expected)
    for row, values in zip(found, expected, strict=True):
        has(row, values)


def test_outer_references_count_through_the_file() -> None:
    frame = ethernet(ip4(C, D, udp(5, 8472, vxlan(1, ethernet(ip4(B, A, icmp(3, 3, SYN4)))))))
    assert [row["outer"] for row in observe(frame, ethernet(SYN4), frame)] == [-1, 0, 1, -1, -1, 4, 5]


@pytest.mark.parametrize(
    "frame", [b"", b"\0", bytes(14), ethernet(arp()), ethernet(b"", ethertype=0x0800), ethernet(SYN4, ethertype=0x88CC)]
)
def test_what_is_not_ip_gives_no_row(frame: bytes) -> None:
    capture = read(pcap([frame, ethernet(SYN4)]))
    assert capture.observations["frame"].tolist() == [2]
    assert (capture.statistics.frames, capture.statistics.other) == (2, 1)


def test_a_header_of_the_other_ip_version_gives_no_row() -> None:
    assert observe(ethernet(SYN4, ethertype=0x86DD), ethernet(SYN6, ethertype=0x0800)) == []


def test_later_fragments_get_the_ports_of_the_first() -> None:
    pieces = [
        ip4(A, B, bytes(8), ip_id=7, offset=5, protocol=17), ip4(A, B, udp(3, 4, bytes(32)), ip_id=7, more=True),
        ip4(A, B, bytes(8), ip_id=8, offset=5, protocol=17), ip4(A, B, bytes(8), ip_id=7, offset=5, protocol=6),
    ]  # fmt: skip
    found = observe(*(ethernet(piece) for piece in pieces))
    assert [(row["sport"], row["dport"], row["known"] & PORTS) for row in found] == [(3, 4, 1), (3, 4, 1), (0, 0, 0), (0, 0, 0)]


def test_later_ipv6_fragments_get_the_protocol_of_the_first_too() -> None:
    first = ip6(A6, B6, udp(3, 4, bytes(40)), fragment(7, 0, more=True), destination())
    later = ip6(A6, B6, bytes(16), fragment(7, 7), protocol=60)
    assert [(row["proto"], row["sport"], row["dport"]) for row in observe(ethernet(later), ethernet(first))] == [(17, 3, 4)] * 2


SNAPPED = ethernet(
    ip4(C, D, udp(5, 8472, vxlan(1, ethernet(ip4(A, B, tcp(7, 8, "AP", b"0123456789" * 9, seq=5, options=timestamps(3, 4)))))))
)


@pytest.mark.parametrize("length", range(len(SNAPPED)))
def test_a_cut_frame_tells_what_is_left_of_it(length: int) -> None:
    """All that fits is as in the whole frame, lengths are those on the wire, and `known` says what is there."""
    whole = observe(SNAPPED)
    cut = rows(read(pcap([Record(SNAPPED[:length], wire=len(SNAPPED))])).observations)
    for row, complete in zip(cut, whole, strict=False):
        assert {name: row[name] for name in ("src", "dst", "proto", "ip_id", "ttl", "wire_bytes")} == {
            name: complete[name] for name in ("src", "dst", "proto", "ip_id", "ttl", "wire_bytes")
        }
        for bit, names in (
            (PORTS, ("sport", "dport")),
            (SEQUENCE, ("seq", "ack", "tcp_flags")),
            (TIMESTAMPS, ("tsval", "tsecr", "payload_bytes")),
        ):
            assert not row["known"] & bit or all(row[name] == complete[name] for name in names)
        assert row["payload_hash"] in {0, complete["payload_hash"]}
    assert len(cut) == (length >= 34) + (length >= 34 + 8 + 8 + 14 + 20)


def test_the_hash_covers_the_first_bytes_of_the_payload_and_nothing_else() -> None:
    def of(payload: bytes, sport: int = 1) -> int:
        [row] = observe(ethernet(ip4(A, B, udp(sport, 2, payload))))
        return int(row["payload_hash"])

    words = [bytes(length) for length in range(1, 26)] + [b"a" * 24, b"a" * 23 + b"b", b"b" + b"a" * 23, b"a" * 8 + b"b" + b"a" * 15]
    assert len({of(word) for word in words}) == len(words) - 1  # of 24 and of 25 zeros: only 24 bytes count
    assert of(b"query", 1) == of(b"query", 7)
