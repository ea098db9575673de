"""Joins that no kernel at hand makes, from built packets: SCTP through NAT (RFC 9260), tunnels other than VXLAN between nodes."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import packets as p
import pytest

from analysis.records import Recorder
from tracer.bundle import read_bundle
from tracer.trace import trace

CLIENT, VIP, NODE_A, NODE_B = "172.30.0.100", "172.30.0.240", "172.30.0.11", "172.30.0.12"
MASQUERADE, POD = "10.244.0.0", "10.244.1.7"
ETH0, TUNNEL, VETH = 2, 3, 9
IN, OUT = 0, 4  # SLL2 packet types
MICROSECOND = 1000

Inner = Callable[[int, int], bytes]  # ports to L4


def _records(folder: Path, **captures: list[tuple[int, bytes]]) -> list[dict[str, Any]]:
    for node, frames in captures.items():
        records = [p.Record(frame, time_ns=p.START_NS + at * MICROSECOND) for at, frame in frames]
        (folder / f"{node.replace('_', '-')}.pcap").write_bytes(p.pcap(records, link_type=p.SLL2))
    return list(Recorder(trace(read_bundle([folder]))))


def _through_nat(at: int, request: Inner, *, ttl: int = 64) -> list[tuple[int, bytes]]:
    """A packet to VIP:5000 as node-a sees it come in, and leave for the pod with its source rewritten."""
    before = p.ip4(CLIENT, VIP, request(40000, 5000), ttl=ttl, ip_id=at % 65_521)
    after = p.ip4(MASQUERADE, POD, request(61000, 9000), ttl=ttl - 1, ip_id=at % 65_521)
    return [(at, p.sll2(before, ETH0, IN)), (at + 20, p.sll2(after, VETH, OUT))]


def _back(at: int, answer: Inner) -> list[tuple[int, bytes]]:
    after = p.ip4(POD, MASQUERADE, answer(9000, 61000), ip_id=at % 65_521)
    before = p.ip4(VIP, CLIENT, answer(5000, 40000), ttl=63, ip_id=at % 65_521)
    return [(at, p.sll2(after, VETH, IN)), (at + 20, p.sll2(before, ETH0, OUT))]


def _sctp(tag: int, chunk: bytes) -> Inner:
    return lambda sport, dport: p.sctp(sport, dport, tag, chunk)


ABORT, SHUTDOWN_COMPLETE = 6, 14


def test_an_sctp_association_is_one_connection_before_and_after_nat(tmp_path: Path) -> None:
    client_tag, server_tag = 0x11111111, 0x22222222
    frames = [
        *_through_nat(0, _sctp(0, p.sctp_init(client_tag, tsn=7))),
        *_back(100, _sctp(client_tag, p.sctp_init(server_tag, tsn=9, answer=True))),
        *_through_nat(200, _sctp(server_tag, p.sctp_data(7, b"question"))),
        *_back(300, _sctp(client_tag, p.sctp_data(9, b"answer"))),
        *_through_nat(400, _sctp(server_tag, p.chunk(SHUTDOWN_COMPLETE))),
    ]
    (record,) = _records(tmp_path, node_a=frames)
    assert record["protocol"] == "sctp"
    assert record["original"] == {"proto": "sctp", "src": f"{CLIENT}:40000", "dst": f"{VIP}:5000"}
    assert record["translated"] == {"proto": "sctp", "src": f"{MASQUERADE}:61000", "dst": f"{POD}:9000"}
    assert record["translations"][0]["kinds"] == ["dnat", "snat"]
    assert record["status"] == "closed"
    assert "vtag" in record["evidence"]


@pytest.mark.parametrize(("answer", "status"), [(ABORT, "refused"), (None, "timeout")])
def test_an_sctp_attempt_that_fails_is_called_what_it_is(tmp_path: Path, answer: int | None, status: str) -> None:
    tag = 0x33333333
    frames = [*_through_nat(0, _sctp(0, p.sctp_init(tag))), *_through_nat(3_000_000, _sctp(0, p.sctp_init(tag)))]
    if answer:
        frames += _back(3_000_100, _sctp(tag, p.chunk(answer)))
    (record,) = _records(tmp_path, node_a=frames)
    assert record["status"] == status
    assert record["original"]["src"] == f"{CLIENT}:40000"


TUNNELS: dict[str, Callable[[bytes], bytes]] = {
    "vxlan": lambda inner: p.udp(50000, 4789, p.vxlan(7, p.ethernet(inner))),
    "geneve": lambda inner: p.udp(50000, 6081, p.geneve(7, p.ethernet(inner))),
    "gre": lambda inner: p.gre(inner, key=7),
    "ipip": lambda inner: inner,
}


@pytest.mark.parametrize("kind", TUNNELS)
def test_a_connection_is_followed_through_any_tunnel(tmp_path: Path, kind: str) -> None:
    def tunnelled(inner: bytes, src: str, dst: str) -> bytes:
        return p.sll2(p.ip4(src, dst, TUNNELS[kind](inner)), ETH0, OUT if src == NODE_A else IN)

    def packet(flags: str, seq: int, ack: int, ttl: int, *, reply: bool = False) -> bytes:
        ends = (POD, "10.244.0.5") if reply else ("10.244.0.5", POD)
        ports = (9000, 40000) if reply else (40000, 9000)
        return p.ip4(*ends, p.tcp(*ports, flags, seq=seq, ack=ack), ttl=ttl, ip_id=seq & 0xFFFF)

    syn, syn_ack = ("S", 1000, 0), ("SA", 77777, 1001)
    node_a = [
        (0, p.sll2(packet(*syn, 64), VETH, IN)),
        (20, tunnelled(packet(*syn, 63), NODE_A, NODE_B)),
        (200, tunnelled(packet(*syn_ack, 63, reply=True), NODE_B, NODE_A)),
        (220, p.sll2(packet(*syn_ack, 62, reply=True), VETH, OUT)),
    ]
    node_b = [
        (-5000, tunnelled(packet(*syn, 63), NODE_A, NODE_B)),  # another clock
        (-4980, p.sll2(packet(*syn, 62), VETH, OUT)),
        (-4960, p.sll2(packet(*syn_ack, 64, reply=True), VETH, IN)),
        (-4940, tunnelled(packet(*syn_ack, 63, reply=True), NODE_B, NODE_A)),
    ]
    (record,) = _records(tmp_path, node_a=node_a, node_b=node_b)
    assert record["original"] == record["translated"] == {"proto": "tcp", "src": "10.244.0.5:40000", "dst": f"{POD}:9000"}
    hops = [hop for hop in record["hops"] if hop["path"] == "request"]
    assert [(hop["node"], hop["tunnel"] and hop["tunnel"]["kind"]) for hop in hops] == [
        ("node-a", None), ("node-a", kind), ("node-b", kind), ("node-b", None),
    ]  # fmt: skip
    assert {hop["tunnel"]["src"] for hop in hops if hop["tunnel"]} == {NODE_A}


def _rotated(capture: bytes, files: int) -> list[bytes]:
    """A little-endian pcap as tcpdump -C would have written it: several files, each with the header."""
    cuts, at = [24], 24
    while at < len(capture):
        at += 16 + int.from_bytes(capture[at + 8 : at + 12], "little")
        cuts.append(at)
    parts = [cuts[len(cuts) * number // files] for number in range(files)] + [len(capture)]
    return [capture[:24] + capture[start:end] for start, end in pairwise(parts)]


def test_a_capture_that_rotates_is_one_observation_point(tmp_path: Path) -> None:
    sample = Path(__file__).parent.parent / "sample_pcaps" / "iptables"
    for path in sample.glob("node-*"):
        if path.suffix == ".pcap":
            for number, part in enumerate(_rotated(path.read_bytes(), 7)):
                (tmp_path / f"{path.stem}.{number}.pcap").write_bytes(part)
        else:
            (tmp_path / path.name).write_bytes(path.read_bytes())

    def places(folder: Path) -> list[dict[str, Any]]:
        records = list(Recorder(trace(read_bundle([folder], [sample / "cluster.json.gz"]))))
        for record in records:
            record["hops"] = [{name: value for name, value in hop.items() if name not in ("file", "frame")} for hop in record["hops"]]
        return records

    assert places(tmp_path) == places(sample)


def test_equal_answers_that_cross_are_told_apart_by_where_they_go(tmp_path: Path) -> None:
    """IPv6 has no IP ID, and everybody gets the same answer: each half of a NAT is found by the end that it kept."""
    client, node, pod = "fd00:172:30::100", "fd00:172:30::12", "fd00:10:244:2::12"
    ports = (40001, 40003, 40007)

    def seen(at: int, source: tuple[str, int], to: tuple[str, int], payload: bytes, point: int, way: int) -> tuple[int, bytes]:
        return at, p.sll2(p.ip6(source[0], to[0], p.udp(source[1], to[1], payload)), point, way)

    questions = [
        sighting
        for index, port in enumerate(ports)
        for sighting in (
            seen(10 * index, (client, port), (node, 30053), b"who %d" % index, ETH0, IN),
            seen(10 * index + 3, (node, 50000 + index), (pod, 5353), b"who %d" % index, VETH, OUT),
        )
    ]
    halves = [seen(2000 + index, (pod, 5353), (client, port), b"everybody", VETH, IN) for index, port in enumerate(ports)]
    wholes = [seen(2010 + index, (node, 30053), (client, port), b"everybody", ETH0, OUT) for index, port in enumerate(ports)]
    records = _records(tmp_path, node_b=[*questions, *halves, *wholes])
    assert sorted((record["original"] or {}).get("src", "") for record in records) == [f"[{client}]:{port}" for port in ports]
