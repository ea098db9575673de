"""Was the first tuple seen the client's own? What its first packet gives away; how much each kind of evidence is worth."""

from __future__ import annotations

from dataclasses import replace

import pytest
from cluster_objects import NOON, endpoint_slice, listed, node, pod, service
from wire import START_NS, packet, traced

from probes.addresses import text
from probes.decode.numbers import IN, OUT
from tracer import evidence
from tracer.cluster import Timeline
from tracer.names import Naming
from tracer.origin import FirstPacket, could_be_door, masqueraded
from tracer.surroundings import Surroundings

OWN = FirstPacket(mss=1460, answer_mss=1460, larger_mss_known=False, port=40000, ttl=64)


@pytest.mark.parametrize(
    ("packet", "verdict", "why"),
    [
        (OWN, None, 0),
        (replace(OWN, ttl=63), True, evidence.TTL),
        (replace(OWN, ttl=128), None, 0),
        (replace(OWN, port=1024), True, evidence.PORT_RANGE),
        (replace(OWN, port=61000), True, evidence.PORT_RANGE),
        (replace(OWN, port=32768), None, 0),
        (replace(OWN, answer_mss=1410), True, evidence.MSS),
        (replace(OWN, mss=1410, answer_mss=1410, larger_mss_known=True), False, evidence.MSS),
        (replace(OWN, mss=0, larger_mss_known=True), None, 0),
        (replace(OWN, answer_mss=0, larger_mss_known=True), None, 0),
        (replace(OWN, ttl=63, mss=1410, answer_mss=1410, larger_mss_known=True), True, evidence.TTL),
    ],
)
def test_what_a_nodes_packet_gives_away(packet: FirstPacket, verdict: bool | None, why: int) -> None:
    assert masqueraded(packet) == (verdict, why)


BRIDGE, PORT, BEYOND = range(3)
GATEWAY, WEB = "10.244.0.1:2862", "10.244.0.3:8080"
NOON_MS = NOON * 1000 - START_NS / 1e6 + 30_000


@pytest.mark.parametrize(
    ("client", "beyond", "told"),
    [
        ("172.30.0.11:44943", BRIDGE, "node-a"),  # the node's own call: br_netfilter shows its answer with SNAT undone
        ("203.0.113.9:44943", BRIDGE, None),
        ("172.30.0.12:44943", BRIDGE, ""),  # another node's address: whose call that was, only that node knows
        ("172.30.0.12:2862", BEYOND, ""),  # a masquerade on the way to the server, not on the way from the client
    ],
)
def test_a_masquerade_s_client_is_whom_its_answer_goes_to(client: str, beyond: int, told: str | None) -> None:
    """`told`: the client's node, None for an address that nobody has, "" where no client may be told."""
    seen = [(BRIDGE, GATEWAY), (PORT, GATEWAY)] if beyond == BRIDGE else [(BRIDGE, GATEWAY)]
    back = [(PORT, GATEWAY), (BRIDGE, client)] if beyond == BRIDGE else [(BEYOND, client), (BRIDGE, GATEWAY)]
    rows = [
        packet(NOON_MS + at / 100, src, WEB, "S", seq=100, point=point, direction=OUT, tsval=5, ip_id=9)
        for at, (point, src) in enumerate(seen)
    ] + [
        packet(NOON_MS + 1 + at / 100, WEB, dst, "SA", seq=900, ack=101, point=point, direction=IN, tsval=6, tsecr=5, ip_id=0)
        for at, (point, dst) in enumerate(back)
    ]  # fmt: skip
    cluster = [
        node("node-a", "172.30.0.11", "10.244.0.0/24"), node("node-b", "172.30.0.12", "10.244.1.0/24"),
        pod("web-1", "10.244.0.3"), service("web", "10.96.0.7"), endpoint_slice("web", "10.244.0.3"),
    ]  # fmt: skip
    found = traced(rows, "node-a/cni0", "node-a/veth1", "node-b/eth0")
    (named,) = Naming(found, Timeline(listed(*cluster)), {}, Surroundings({}, frozenset({"node-a"}))).all()
    assert named.original == -1
    if told == "":
        assert (named.client, named.source) == (None, -1)
        return
    source = named.source
    assert text(int(found.tuples["src_hi"][source]), int(found.tuples["src_lo"][source])) == client.rpartition(":")[0]
    assert found.tuples["sport"][source] == 44943
    assert (named.client and named.client.node) == told


@pytest.mark.parametrize(
    ("interface", "kind", "possible"),
    [
        ("veth1a2b", None, True), ("eth0", None, True), ("cali123", "veth", True), ("lxc99", None, True), ("cni0", None, False),
        ("cni0", "bridge", False), ("flannel.1", None, False), ("mybridge", "bridge", False), ("overlay", "vxlan", False),
        ("tunl0", "ipip", False), ("docker0", None, False), ("br-1234", None, False), ("brief0", None, True), ("any", None, True),
    ],
)  # fmt: skip
def test_where_a_pods_packet_is_as_the_pod_made_it(interface: str, kind: str | None, possible: bool) -> None:
    assert could_be_door(interface, kind) == possible


def test_evidence_is_named_once_and_worth_less_than_certainty() -> None:
    names = [name for name, _ in evidence.EVIDENCE.values()]
    assert len(set(names)) == len(names)
    assert all(bit.bit_count() == 1 and 0.9 <= worth < 1 for bit, (_, worth) in evidence.EVIDENCE.items())
    assert evidence.names(evidence.ISN | evidence.CONNTRACK) == ["isn", "conntrack"]
    assert evidence.names(0) == []


@pytest.mark.parametrize(
    ("bits", "worth"),
    [
        (evidence.ISN, 0.99),
        (evidence.CONNTRACK, 0.98),
        (evidence.ISN | evidence.CONNTRACK, 0.995),
        (evidence.IP_ID, 0.93),
        (evidence.IP_ID | evidence.PAYLOAD, 0.975),
    ],
)
def test_two_kinds_of_evidence_leave_half_the_doubt(bits: int, worth: float) -> None:
    assert evidence.confidence(bits) == pytest.approx(worth)


def test_more_evidence_never_makes_less_confident() -> None:
    for bit in evidence.EVIDENCE:
        for other in evidence.EVIDENCE:
            assert evidence.confidence(bit | other) >= evidence.confidence(bit)
