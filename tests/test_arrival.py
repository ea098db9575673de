"""Is the last tuple seen what the server's socket has? What a node may still translate, and what answers show half-translated."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from cluster_objects import NOON, endpoint_slice, listed, node, pod, service
from wire import START_NS, Row, packet, traced, tuple_of

from probes.conntrack import read_ledger
from probes.decode.numbers import IN, OUT
from tracer.cluster import Owner, Timeline
from tracer.names import Named, Naming
from tracer.pipeline import Reconstruction
from tracer.surroundings import Surroundings, glimpse, surroundings

POINTS = ("node-a/veth1", "node-a/cni0", "node-a/eth0", "node-b/eth0")
VETH, BRIDGE, WIRE, OTHER = range(4)
NOON_MS = NOON * 1000 - START_NS / 1e6 + 30_000
POD, WEB, OUTSIDE, CLIENT = "10.244.0.3:40000", "10.244.0.4:8080", "203.0.113.9:443", "203.0.113.9:40000"
NODE_PORT, VIP, OWN, NEXT = "172.30.0.11:30080", "10.96.0.7:80", "172.30.0.11:10250", "172.30.0.12:10250"
CLUSTER = [
    node("node-a", "172.30.0.11", "10.244.0.0/24"), node("node-b", "172.30.0.12", "10.244.1.0/24"),
    pod("toolbox", "10.244.0.3"), pod("web-1", "10.244.0.4"),
]  # fmt: skip
SERVICES = [
    service(
        "web", "10.96.0.7", type="NodePort", ports=[{"name": "http", "port": 80, "protocol": "TCP", "targetPort": 8080, "nodePort": 30080}]
    ),
    endpoint_slice("web", "10.244.0.4"),
]
Sighting = tuple[int, int, str, str, str]  # (point, direction, source, destination, flags)
ASKED: list[Sighting] = [(WIRE, IN, CLIENT, NODE_PORT, "S")]
ANSWERED: Sighting = (WIRE, OUT, NODE_PORT, CLIENT, "SA")


def told(*sightings: Sighting, known: Sequence[dict[str, Any]] = SERVICES) -> tuple[Named, Reconstruction]:
    """The names of the one connection that these are packets of."""
    rows: list[Row] = [
        packet(
            NOON_MS + at / 100, src, dst, flags, point=point, direction=way, ip_id=9,
            **({"seq": 900, "ack": 101, "tsval": 6, "tsecr": 5} if flags == "SA" else {"seq": 100, "tsval": 5}),
        )
        for at, (point, way, src, dst, flags) in enumerate(sightings)
    ]  # fmt: skip
    found = traced(rows, *POINTS)
    timeline = Timeline(listed(*CLUSTER, *known))
    (named,) = Naming(found, timeline, {}, Surroundings({}, frozenset({"node-a"}))).all()
    return named, found


@pytest.mark.parametrize(
    ("sightings", "known"),
    [
        pytest.param([(VETH, IN, POD, OUTSIDE, "S")], False, id="may-be-masqueraded"),
        pytest.param([(VETH, IN, POD, OUTSIDE, "S"), (VETH, OUT, OUTSIDE, POD, "SA")], False, id="answered-within-the-node"),
        pytest.param([(VETH, IN, POD, OUTSIDE, "S"), (WIRE, OUT, POD, OUTSIDE, "S")], True, id="left-the-node-as-it-was"),
        pytest.param([(VETH, IN, POD, OUTSIDE, "S"), (WIRE, IN, OUTSIDE, POD, "SA")], True, id="answered-from-outside"),
        pytest.param([(VETH, IN, POD, NEXT, "S")], False, id="to-another-node"),
        pytest.param([(VETH, IN, POD, OWN, "S"), (VETH, OUT, OWN, POD, "SA")], True, id="to-its-own-node"),
        pytest.param([(VETH, IN, POD, WEB, "S")], True, id="to-a-pod"),
        pytest.param([(VETH, IN, POD, VIP, "S"), (BRIDGE, IN, POD, "10.244.0.3:8080", "S")], False, id="to-itself-by-a-service"),
        pytest.param([*ASKED, (BRIDGE, IN, WEB, CLIENT, "SA"), ANSWERED], False, id="an-answer-on-a-bridge"),
        pytest.param([*ASKED, (VETH, IN, WEB, CLIENT, "SA"), ANSWERED], True, id="an-answer-from-its-pod"),
        pytest.param([*ASKED, (BRIDGE, OUT, CLIENT, WEB, "S")], True, id="asked-on-a-bridge"),
    ],
)
def test_what_nothing_could_translate_any_more_is_the_server_s(sightings: list[Sighting], known: bool) -> None:
    named, found = told(*sightings)
    last = next((tuple_of(found, code) for code in [named.target] if code >= 0), None)
    assert last is not None
    assert (named.translated >= 0) == known
    assert named.translated in {named.target, -1}
    assert any("behind every observation point" in problem for problem in named.problems) != known


def test_whose_answer_it_is_is_known_where_its_source_is_in_doubt() -> None:
    named, found = told(*ASKED, (BRIDGE, IN, WEB, CLIENT, "SA"), ANSWERED)
    assert (named.server and named.server.name, tuple_of(found, named.target)) == ("web-1", f"{CLIENT} > {WEB}")


@pytest.mark.parametrize("services", [True, False])
def test_what_was_translated_was_not_asked_for_directly(services: bool) -> None:
    named, _ = told((VETH, IN, POD, VIP, "S"), (BRIDGE, IN, POD, WEB, "S"), known=SERVICES if services else [])
    assert (named.service and named.service.name) == ("web" if services else None)
    assert not named.direct
    assert ("10.96.0.7:80 was translated, and no Service is known that has it" in named.problems) != services


@pytest.mark.parametrize(
    ("asked", "services", "direct"), [(WEB, False, True), (VIP, False, False), (OUTSIDE, False, False), (OUTSIDE, True, True)]
)
def test_without_services_only_a_pod_is_asked_directly(asked: str, services: bool, direct: bool) -> None:
    named, _ = told((VETH, IN, POD, asked, "S"), known=SERVICES if services else [])
    assert named.direct == direct


@pytest.mark.parametrize("known", [SERVICES, SERVICES[:1], SERVICES[1:], []], ids=["both", "Services", "EndpointSlices", "neither"])
def test_where_endpoints_are_not_known_any_pod_may_be_one(known: list[dict[str, Any]]) -> None:
    """A call of a node's own to a pod that no Service has, or, for all that is known, one that was translated and masqueraded."""
    named, _ = told((WIRE, OUT, "10.244.0.1:2862", "10.244.1.9:8080", "S"), known=[*known, pod("web-2", "10.244.1.9", node="node-b")])
    assert (named.original >= 0) == named.direct == (known is SERVICES)


@pytest.mark.parametrize(("called", "client"), [("node-a", "node-a"), ("dump-1", None)])
def test_a_capture_may_be_called_otherwise_than_its_node(called: str, client: str | None) -> None:
    """IPVS makes the VIP the source of a node's own call: it is of the node whose ledger has it, and that is one by its name."""
    line = "tcp 6 9 ESTABLISHED src=10.96.0.7 dst=10.96.0.7 sport=40000 dport=80 src=10.244.0.4 dst=10.244.0.1 sport=8080 dport=2862 mark=0"
    ledger, _ = read_ledger(f"{line}\n".encode(), "conntrack.txt")
    asked = packet(NOON_MS, "10.244.0.1:2862", WEB, "S", seq=100)
    found = traced([asked], f"{called}/cni0", ledgers={called: ledger})
    (named,) = Naming(found, Timeline(listed(*CLUSTER, *SERVICES)), {}, Surroundings({}, frozenset())).all()
    assert tuple_of(found, named.original) == f"10.96.0.7:40000 > {VIP}"
    assert named.client == Owner("node", client, node=client)


def test_nothing_is_translated_to_a_service_s_address() -> None:
    """A bridge shows an answer after the port that it left by: where frames are missing, that is all there is of an order."""
    named, found = told((VETH, OUT, VIP, POD, "SA"), (BRIDGE, IN, WEB, POD, "SA"))
    assert (named.original, named.translated) == (-1, -1)
    assert [tuple_of(found, code) for code in named.candidates] == [f"{POD} > {VIP}"]
    assert any("in an order in which nothing is translated" in problem for problem in named.problems)


@pytest.mark.parametrize(("device", "direct"), [("if6", True), ("if5", False), ("veth5", True)])
def test_a_device_without_a_name_where_several_pods_packets_come_in_is_a_bridge(device: str, direct: bool) -> None:
    """There, br_netfilter may have translated what its pod asked for. A pod's own device shows packets of other pods going out."""
    rows = [
        packet(NOON_MS, POD, WEB, "S", direction=IN, seq=100, ttl=64),
        packet(NOON_MS + 1, "10.244.0.4:41000", POD, "S", direction=OUT if device == "if6" else IN, seq=700, ttl=64),
    ]
    found, timeline = traced(rows, f"node-a/{device}"), Timeline(listed(*CLUSTER, *SERVICES))
    around = surroundings(glimpse(found.observations, 1), found.points, {}, timeline)
    named = next(Naming(found, timeline, {}, around).all())
    assert (named.original >= 0) == named.direct == direct
