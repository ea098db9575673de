"""What is decoded is what Wireshark decodes: every layer's fields, on generated files and on recorded captures."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from packets import SLL2, START_NS, PcapNg, pcap, rows
from packets_random import FRAMES

from probes.capture import Capture, read_capture
from probes.decode.numbers import (
    EMBEDDED,
    GENEVE,
    GRE_TUNNEL,
    ICMP,
    ICMPV6,
    MORE_FRAGMENTS,
    PORTS,
    SCTP,
    SEQUENCE,
    TCP,
    TIMESTAMPS,
    UDP,
    VXLAN,
)

CAPTURES = Path(os.environ.get("HOPLINE_CAPTURES") or Path(__file__).parents[2] / "shared" / "captures")
GENERATED = settings(max_examples=3, deadline=None, phases=(Phase.generate,), suppress_health_check=list(HealthCheck))  # a process each
RECORDED = (  # every link type, both address families, cut frames, GSO, tunnels, ICMP errors
    "nftables/dual-stack/node-[bc].pcap", "nftables/seed-demo-ifaces/node-[ab].pcapng", "nftables/seed-demo-snap128/node-[ac].pcap",
    "iptables/failures/node-?.pcap", "iptables/seed-demo-skew/node-b.pcap", "ipvs/short/node-?.pcap", "iptables-vm/short/node-a.pcap",
)  # fmt: skip

pytestmark = pytest.mark.skipif(shutil.which("tshark") is None, reason="tshark is not installed (apt-get install tshark)")

REDIRECT = "137"  # may quote the packet it is about (RFC 4861, 4.6.3), which Wireshark shows; it is no error, and nobody's answer

QUOTED = ("ip.", "ipv6.", "tcp.srcport", "tcp.dstport", "udp.")  # what Wireshark says of a packet quoted in an ICMP error, whole or not

Row = dict[str, Any]
Wanted = Callable[[Row], bool]


def of(*protocols: int, known: int = 0) -> Wanted:
    return lambda row: row["proto"] in protocols and row["known"] & known == known and row["fragment_offset"] == 0


def ipv4(row: Row) -> bool:
    return ":" not in row["src"]


def ipv6(row: Row) -> bool:
    return ":" in row["src"]


def carried_by(tunnel: int) -> Wanted:
    return lambda row: row["tunnel"] == tunnel


def ping(kinds: tuple[int, ...], proto: int) -> Wanted:
    return lambda row: row["proto"] == proto and row["icmp_type"] in kinds and bool(row["known"] & SEQUENCE)


def number(words: str) -> int:
    return int(words, 0)


def address(words: str) -> str:
    return str(ip_address(words))


def options(row: Row) -> bool:
    return row["proto"] == TCP and bool(row["mss"])


# (tshark's field, our column, of which rows, what tshark's words mean)
FIELDS: tuple[tuple[str, str, Wanted, Callable[[str], Any]], ...] = (
    ("ip.src", "src", ipv4, address),
    ("ip.dst", "dst", ipv4, address),
    ("ip.id", "ip_id", ipv4, number),
    ("ip.ttl", "ttl", ipv4, number),
    ("ip.proto", "proto", ipv4, number),
    ("ip.frag_offset", "fragment_offset", ipv4, number),
    ("ipv6.src", "src", ipv6, address),
    ("ipv6.dst", "dst", ipv6, address),
    ("ipv6.hlim", "ttl", ipv6, number),
    ("ipv6.fraghdr.ident", "ip_id", lambda row: ipv6(row) and bool(row["ip_id"]), number),
    ("tcp.srcport", "sport", of(TCP, known=PORTS), number),
    ("tcp.dstport", "dport", of(TCP, known=PORTS), number),
    ("tcp.seq_raw", "seq", of(TCP, known=SEQUENCE), number),
    ("tcp.ack_raw", "ack", of(TCP, known=SEQUENCE), number),
    ("tcp.flags", "tcp_flags", of(TCP, known=SEQUENCE), number),
    ("tcp.window_size_value", "window", of(TCP, known=SEQUENCE), number),
    ("tcp.len", "payload_bytes", of(TCP, known=SEQUENCE), number),
    ("tcp.options.timestamp.tsval", "tsval", of(TCP, known=TIMESTAMPS), number),
    ("tcp.options.timestamp.tsecr", "tsecr", of(TCP, known=TIMESTAMPS), number),
    ("tcp.options.mss_val", "mss", options, number),
    ("udp.srcport", "sport", of(UDP, known=PORTS), number),
    ("udp.dstport", "dport", of(UDP, known=PORTS), number),
    (
        "udp.length",
        "payload_bytes",
        lambda row: of(UDP, known=PORTS)(row) and not row["known"] & MORE_FRAGMENTS,
        lambda words: int(words) - 8,
    ),
    ("sctp.srcport", "sport", of(SCTP, known=PORTS), number),
    ("sctp.dstport", "dport", of(SCTP, known=PORTS), number),
    ("sctp.verification_tag", "seq", of(SCTP, known=SEQUENCE), number),
    ("icmp.type", "icmp_type", of(ICMP), number),
    ("icmp.code", "icmp_code", of(ICMP), number),
    ("icmp.ident", "sport", ping((0, 8), ICMP), number),
    ("icmp.seq", "seq", ping((0, 8), ICMP), number),
    ("icmpv6.type", "icmp_type", of(ICMPV6), number),
    ("icmpv6.code", "icmp_code", of(ICMPV6), number),
    ("icmpv6.echo.identifier", "sport", ping((128, 129), ICMPV6), number),
    ("icmpv6.echo.sequence_number", "seq", ping((128, 129), ICMPV6), number),
    ("vxlan.vni", "vni", carried_by(VXLAN), number),
    ("geneve.vni", "vni", carried_by(GENEVE), number),
    ("gre.key", "vni", lambda row: row["tunnel"] == GRE_TUNNEL and bool(row["vni"]), number),
)
FRAME_FIELDS = ("frame.number", "frame.time_epoch", "frame.cap_len", "frame.len", "frame.interface_name", "sll.ifindex", "sll.pkttype")
SETTINGS = ("tcp.analyze_sequence_numbers:FALSE", "tcp.desegment_tcp_streams:FALSE", "ip.defragment:FALSE", "ipv6.defragment:FALSE")
UNWANTED = ("http", "dns", "mysql", "mdns", "data-text-lines", "json")  # nothing of theirs is compared


def tshark(path: Path) -> list[dict[str, list[str]]]:
    """Every frame's fields, each with all its occurrences, from the outermost layer on."""
    names = (*FRAME_FIELDS, *(field for field, *_ in FIELDS))
    command = ["tshark", "-n", "-r", str(path), "-T", "fields", "-E", "separator=/t", "-E", "occurrence=a", "-E", "aggregator=,"]
    command += ["-d", "udp.port==8472,vxlan"]
    command += [word for setting in SETTINGS for word in ("-o", setting)]
    command += [word for protocol in UNWANTED for word in ("--disable-protocol", protocol)]
    command += [word for name in names for word in ("-e", name)]
    output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return [
        {name: cell.split(",") if cell else [] for name, cell in zip(names, line.split("\t"), strict=True)} for line in output.splitlines()
    ]


def compare(path: Path) -> int:
    """Check every frame of the file; how many values were compared."""
    with path.open("rb") as stream:
        capture = read_capture(stream, path.name, "node")
    assert capture.problems == []
    by_frame: dict[int, list[Row]] = {}
    for row in rows(capture.observations):
        by_frame.setdefault(row["frame"], []).append(row)
    expected = tshark(path)
    assert capture.statistics.frames == len(expected)
    compared = 0
    for fields in expected:
        frame = by_frame.get(int(fields["frame.number"][0]), [])
        if frame:
            compare_frame(capture, frame[0], fields)
        if REDIRECT in fields["icmpv6.type"]:
            continue
        quoting = any(row["view"] == EMBEDDED for row in frame)
        for field, column, wanted, meaning in FIELDS:
            if quoting and not field.startswith(QUOTED):
                continue
            ours = [row[column] for row in frame if wanted(row)]
            theirs = [meaning(words) for words in fields[field]]
            if field == "tcp.flags":
                theirs = [flags & 0xFF for flags in theirs]
            if field in {"ipv6.fraghdr.ident", "gre.key", "tcp.options.mss_val"}:
                theirs = [value for value in theirs if value]
            assert ours == theirs, f"frame {fields['frame.number'][0]}: {field}"
            compared += len(ours)
    return compared


def compare_frame(capture: Capture, row: Row, fields: dict[str, list[str]]) -> None:
    seconds, _, fraction = fields["frame.time_epoch"][0].partition(".")
    assert row["time_ns"] == int(seconds) * 1_000_000_000 + int(fraction.ljust(9, "0"))
    assert (row["captured_bytes"], row["wire_bytes"]) == (int(fields["frame.cap_len"][0]), int(fields["frame.len"][0]))
    point = capture.points[row["point"]]
    if point.link_type == SLL2:
        assert point.ifindex == int(fields["sll.ifindex"][0])
    if fields["sll.pkttype"]:
        assert row["direction"] == (2 if fields["sll.pkttype"][0] == "4" else 1)
    elif fields["frame.interface_name"]:
        assert point.interface == fields["frame.interface_name"][0]


@pytest.mark.parametrize("link_type", FRAMES)
def test_generated_packets(link_type: int, tmp_path: Path) -> None:
    @GENERATED
    @given(st.lists(FRAMES[link_type], min_size=40, max_size=120), st.booleans(), st.booleans())
    def check(frames: list[bytes], big: bool, nano: bool) -> None:
        path = tmp_path / "generated.pcap"
        path.write_bytes(pcap(frames, link_type, big=big, nano=nano))
        assert compare(path) > len(frames)

    check()


@GENERATED
@given(st.data())
def test_generated_interfaces(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    """Sections of both byte orders, interfaces of every link type, resolution and time shift."""
    file = PcapNg()
    for _ in range(2):  # Wireshark 4.0 looks names up in the first section alone, so both call theirs alike
        file.section(big=data.draw(st.booleans()))
        link_types = data.draw(st.lists(st.sampled_from(sorted(FRAMES)), min_size=3, max_size=3))
        for place, link_type in enumerate(link_types):
            resolution = data.draw(st.sampled_from((None, 3, 6, 7, 9, -10, -20)))
            file.interface(link_type, f"dev{place}", resolution=resolution, offset_s=data.draw(st.sampled_from((None, 0, 86_400, -5))))
        for place in data.draw(st.lists(st.integers(0, len(link_types) - 1), min_size=10, max_size=40)):
            time_ns = START_NS + data.draw(st.integers(0, 90_000_000))
            file.packet(data.draw(FRAMES[link_types[place]]), time_ns, interface=place)
    path = tmp_path_factory.mktemp("generated") / "generated.pcapng"
    path.write_bytes(bytes(file))
    assert compare(path) > 0


@pytest.mark.parametrize("pattern", RECORDED)
def test_recorded_captures(pattern: str) -> None:
    if not CAPTURES.is_dir():
        pytest.skip(f"no recorded captures at {CAPTURES} (set HOPLINE_CAPTURES)")
    paths = sorted(CAPTURES.glob(pattern))
    assert paths
    for path in paths:
        assert compare(path) > 1000
