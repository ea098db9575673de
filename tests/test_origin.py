"""Was the first tuple seen the client's own? What its first packet gives away; how much each kind of evidence is worth."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tracer import evidence
from tracer.origin import FirstPacket, could_be_door, masqueraded

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
