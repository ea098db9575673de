"""The timeline: what a Service answers on, and what stood behind it, at a moment."""

from __future__ import annotations

import pytest
from cluster_objects import VARIED, at, endpoint_slice, event, listed, service

from probes.addresses import parse
from tracer.cluster import Timeline


@pytest.mark.parametrize(
    ("address", "port", "protocol", "expected"),
    [
        ("10.96.1.1", 80, "tcp", ("web", "ClusterIP", "http", "http")),
        ("fd00:96::1", 80, "tcp", ("web", "ClusterIP", "http", "http")),
        ("10.96.1.1", 81, "tcp", None),  # unallocated port of a VIP
        ("10.96.1.1", 80, "udp", None),
        ("10.96.1.1", 30080, "tcp", None),  # a nodePort is not one of VIPs
        ("10.96.1.2", 80, "tcp", ("lb", "ClusterIP", "http", "8080")),
        ("10.96.1.2", 53, "udp", ("lb", "ClusterIP", "dns", "53")),  # targetPort defaults to the port
        ("203.0.113.9", 80, "tcp", ("lb", "LoadBalancer", "http", "8080")),
        ("192.0.2.50", 80, "tcp", ("lb", "ExternalIP", "http", "8080")),
        ("172.30.0.12", 80, "tcp", ("lb", "ExternalIP", "http", "8080")),  # an externalIP may be a node's
        ("172.30.0.12", 30080, "tcp", ("lb", "NodePort", "http", "8080")),
        ("172.30.0.11", 30080, "tcp", ("lb", "NodePort", "http", "8080")),
        ("10.244.0.1", 30080, "tcp", ("lb", "NodePort", "http", "8080")),  # on the bridge too
        ("192.0.2.7", 30080, "tcp", ("lb", "NodePort", "http", "8080")),  # told of by `ip addr`
        ("198.51.100.4", 30080, "tcp", None),
        ("10.96.1.9", 81, "tcp", ("broken", "ClusterIP", None, None)),
        ("10.96.1.9", 80, "tcp", None),
    ],
)
def test_a_service_answers_on_its_addresses_and_ports(address: str, port: int, protocol: str, expected: tuple[object, ...] | None) -> None:
    timeline = Timeline.of(VARIED)
    timeline.add_node_address("node-a", parse("192.0.2.7"))
    timeline.add_node_address("node-a", parse("10.96.1.1"))  # kube-ipvs0
    found = timeline.service(parse(address), port, protocol, at(1))
    assert (found and (found.name, found.via, found.port_name, found.target_port)) == expected


def test_a_service_port_carries_what_the_spec_says() -> None:
    timeline = Timeline.of(VARIED)
    web = timeline.service(parse("10.96.1.1"), 80, "tcp", at(1))
    balanced = timeline.service(parse("203.0.113.9"), 80, "tcp", at(1))
    assert web is not None
    assert balanced is not None
    assert (web.internal_traffic_policy, web.session_affinity, web.headless, web.node_port, web.ip_mode) == (
        "Local",
        "ClientIP",
        False,
        None,
        None,
    )
    assert (balanced.external_traffic_policy, balanced.node_port, balanced.type, balanced.ip_mode) == (
        "Local",
        30080,
        "LoadBalancer",
        "Proxy",
    )
    assert timeline.is_service_address(parse("203.0.113.9"), at(1))
    assert not timeline.is_service_address(parse("203.0.113.9"), at(-1))
    assert not timeline.is_service_address(parse("172.30.0.11"), at(1))


def test_a_cluster_ip_used_again_is_the_later_service() -> None:
    first, second = service("one", "10.96.1.1", version=1), service("two", "10.96.1.1", created=30, version=9)
    timeline = Timeline([*listed(first), event(20, "DELETED", first), event(30.5, "ADDED", second)])
    names = [found and found.name for found in (timeline.service(parse("10.96.1.1"), 80, "tcp", at(moment)) for moment in (19, 25, 31))]
    assert names == ["one", None, "two"]


def test_a_service_changed_between_two_dumps_is_the_old_one_while_the_first_dump_saw_it() -> None:
    old, new = service("web", "10.96.1.1", version=1), service("web", "10.96.1.2", version=9)
    timeline = Timeline([*listed(new, floor=60), *listed(old, floor=30)])
    assert [timeline.is_service_address(parse("10.96.1.1"), at(moment)) for moment in (29, 31)] == [True, False]


def test_endpoints_are_those_of_the_moment_with_their_conditions() -> None:
    first = endpoint_slice("web", "10.244.0.7", "10.244.0.8")
    second = endpoint_slice("web", "10.244.0.8", version=2, ready=False, terminating=True)
    six = endpoint_slice("web", "fd00:10:244::8")
    six["metadata"] |= {"name": "web-six", "uid": "six"}
    timeline = Timeline([*listed(first, six), event(20, "MODIFIED", second), event(40, "DELETED", second)])

    def found(moment: float) -> list[tuple[str, int | None, bool | None, bool | None]]:
        endpoints = timeline.endpoints("shop", "web", "http", "tcp", at(moment))
        return [(str(e.address[1] & 255), e.port, e.ready, e.terminating) for e in endpoints]

    both = [("7", 8080, True, False), ("8", 8080, True, False), ("8", 8080, True, False)]
    assert (found(-1), sorted(found(19.9)), found(40)) == ([], sorted(both), both[2:])
    assert sorted(found(20)) == sorted([("8", 8080, False, True), both[2]])
    assert timeline.endpoints("shop", "web", "http", "udp", at(1)) == ()
    assert timeline.endpoints("shop", "web", "admin", "tcp", at(1)) == ()
    assert timeline.endpoints("shop", "no", "http", "tcp", at(1)) == ()
    endpoint = timeline.endpoints("shop", "web", "http", "tcp", at(1))[0]
    assert (endpoint.pod, endpoint.namespace, endpoint.node, endpoint.port_name) == ("web-1", "shop", "node-a", "http")


@pytest.mark.parametrize("ports", [None, []])
def test_slices_without_ports_have_endpoints_for_no_named_port(ports: object) -> None:
    timeline = Timeline.of([endpoint_slice("web", "10.244.0.7", ports=ports), endpoint_slice("empty", ports=ports)])
    assert timeline.endpoints("shop", "web", "http", "tcp", at(1)) == ()
    assert [endpoint.port for endpoint in timeline.endpoints("shop", "web", None, "tcp", at(1))] == [None]
    assert timeline.endpoints("shop", "empty", None, "tcp", at(1)) == ()


def test_services_are_found_by_their_endpoints() -> None:
    unnamed = endpoint_slice("bare", "10.244.0.7", ports=[{"name": "", "protocol": "TCP", "port": 8080}])
    timeline = Timeline.of([*VARIED, unnamed, endpoint_slice("web", "10.244.0.7")])
    found = timeline.services_of_endpoint(parse("10.244.0.7"), 8080, "tcp", at(1))
    assert [(port.name, port.via, port.headless, port.port) for port in found] == [
        ("bare", "Headless", True, 8080),
        ("web", "ClusterIP", False, 80),
    ]
    assert timeline.services_of_endpoint(parse("10.244.0.7"), 8081, "tcp", at(1)) == ()
    assert timeline.services_of_endpoint(parse("10.244.0.7"), 8080, "tcp", at(-1)) == ()


def test_services_of_an_endpoint_are_those_of_the_moment() -> None:
    renamed = service("web", "10.96.1.1", version=3, ports=[{"name": "http", "port": 81, "protocol": "TCP", "targetPort": "http"}])
    timeline = Timeline([
        *listed(service("web", "10.96.1.1"), endpoint_slice("web", "10.244.0.7")),
        event(10, "MODIFIED", endpoint_slice("web", "10.244.0.8", version=2)),
        event(20, "MODIFIED", renamed),
        event(30, "MODIFIED", endpoint_slice("web", "10.244.0.7", version=4)),
    ])  # fmt: skip
    found = [timeline.services_of_endpoint(parse("10.244.0.7"), 8080, "tcp", at(seconds)) for seconds in (9, 10, 29, 30)]
    assert [[port.port for port in ports] for ports in found] == [[80], [], [], [81]]
