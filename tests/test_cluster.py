"""The timeline: whose an address was, which Service a port was, what stood behind it, at a moment."""

from __future__ import annotations

import os
import random
from pathlib import Path
from typing import Any

import pytest

from probes.addresses import parse
from tracer.cluster import Owner, Timeline, read_cluster
from tracer.cluster.history import Claim, History
from tracer.cluster.lives import How, Sighting

SECOND = 1_000_000_000
NOON = 1_795_435_200  # 2026-11-23T12:00:00Z
CAPTURES = Path(os.environ.get("HOPLINE_CAPTURES") or Path(__file__).parents[2] / "shared" / "captures")

needs_captures = pytest.mark.skipif(not CAPTURES.is_dir(), reason="the shared captures are not here (HOPLINE_CAPTURES)")


def at(seconds: float) -> int:
    """Nanoseconds of noon plus `seconds`."""
    return NOON * SECOND + round(seconds * SECOND)


def clock(seconds: int) -> str:
    """RFC 3339 of noon plus `seconds`."""
    return f"2026-11-23T12:{seconds // 60:02}:{seconds % 60:02}Z"


def meta(
    name: str, created: int = 0, namespace: str | None = "shop", version: int = 1, uid: str | None = None, **more: Any
) -> dict[str, Any]:
    found = {"name": name, "uid": uid or f"uid-{name}", "resourceVersion": str(version), "creationTimestamp": clock(created), **more}
    return {**found, "namespace": namespace} if namespace else found


def pod(
    name: str,
    *ips: str,
    created: int = 0,
    started: int | None = None,
    version: int = 1,
    phase: str = "Running",
    node: str = "node-a",
    **spec: Any,
) -> dict[str, Any]:
    status: dict[str, Any] = {"phase": phase, "startTime": clock(created if started is None else started)}
    if ips:
        status |= {"podIP": ips[0], "podIPs": [{"ip": ip} for ip in ips]}
    containers = [{"name": "app", "ports": [{"name": "http", "containerPort": 8080, "protocol": "TCP"}]}]
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": meta(name, created, version=version),
        "spec": {"nodeName": node, "containers": containers, **spec},
        "status": status,
    }


def node(name: str, address: str, cidr: str, **annotations: str) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": meta(name, namespace=None, annotations=annotations),
        "spec": {"podCIDR": cidr, "podCIDRs": [cidr, "fd00:10:244::/64"]},
        "status": {"addresses": [{"type": "InternalIP", "address": address}, {"type": "Hostname", "address": name}]},
    }


def service(name: str, *vips: str, status: dict[str, Any] | None = None, created: int = 0, version: int = 1, **spec: Any) -> dict[str, Any]:
    ports = spec.pop("ports", [{"name": "http", "port": 80, "protocol": "TCP", "targetPort": "http"}])
    addresses = {"clusterIP": vips[0], "clusterIPs": list(vips)} if vips else {}
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": meta(name, created, version=version),
        "spec": {"type": "ClusterIP", "sessionAffinity": "None", **addresses, "ports": ports, **spec},
        "status": status or {"loadBalancer": {}},
    }


def endpoint_slice(service_name: str, *addresses: str, ports: Any = ..., version: int = 1, **conditions: bool) -> dict[str, Any]:
    state = {"ready": True, "serving": True, "terminating": False, **conditions}
    target = {"kind": "Pod", "namespace": "shop", "name": "web-1"}
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": meta(f"{service_name}-slice", version=version, labels={"kubernetes.io/service-name": service_name}),
        "addressType": "IPv4",
        "endpoints": [{"addresses": [a], "conditions": state, "nodeName": "node-a", "targetRef": target} for a in addresses] or None,
        "ports": [{"name": "http", "protocol": "TCP", "port": 8080}] if ports is ... else ports,
    }


NODES = [node("node-a", "172.30.0.11", "10.244.0.0/24"), node("node-b", "172.30.0.12", "10.244.1.0/24")]


def event(seconds: float, how: str, item: dict[str, Any]) -> Sighting:
    return Sighting(How(how), item, at(seconds), at(seconds))


def listed(*items: dict[str, Any], floor: float = 0) -> list[Sighting]:
    return [Sighting(How.LISTED, item, None, at(floor)) for item in items]


def who(timeline: Timeline, address: str, seconds: float, port: int | None = None, protocol: str = "tcp") -> str | None:
    owner = timeline.owner(parse(address), at(seconds), port, protocol)
    return None if owner is None else f"{owner.kind} {owner.name or ''}".strip()


def test_an_empty_timeline_knows_nobody() -> None:
    timeline = Timeline()
    timeline.add_node_address("node-a", parse("10.0.0.1"))
    assert timeline.empty
    assert timeline.owner(parse("10.0.0.1"), at(0)) is None
    assert timeline.service(parse("10.96.0.1"), 443, "tcp", at(0)) is None


SPECIAL = [
    pod("web-1", "10.244.0.7", "fd00:10:244::7", created=5),
    pod("done", "10.244.0.9", phase="Succeeded"),
    pod("agent", "172.30.0.11", "fd00::11", hostNetwork=True),
    service("web", "10.96.1.1", type="LoadBalancer", status={"loadBalancer": {"ingress": [{"ip": "203.0.113.9"}]}}),
]


@pytest.mark.parametrize(
    ("address", "seconds", "port", "expected"),
    [
        ("10.244.0.7", 6, None, "pod web-1"),
        ("fd00:10:244::7", 6, None, "pod web-1"),
        ("10.244.0.7", 4, None, None),  # not created yet
        ("10.244.0.9", 6, None, None),  # Completed pods give their address up
        ("10.244.0.55", 6, None, None),  # in the podCIDR, nobody's: unknown, and certainly not external
        ("fd00:10:244::99", 6, None, None),
        ("172.30.0.11", 6, None, "node node-a"),
        ("172.30.0.11", 6, 8080, "pod agent"),  # hostNetwork, by its port
        ("172.30.0.11", 6, 8081, "node node-a"),
        ("172.30.0.12", 6, 8080, "node node-b"),  # the same port on another node is not the pod's
        ("10.244.0.0", 6, None, "node node-a"),  # flannel.1
        ("10.244.0.1", 6, None, "node node-a"),  # cni0
        ("10.244.0.1", 6, 8080, "pod agent"),  # which listens on every address of its node
        ("10.96.1.1", 6, None, None),  # a Service is no owner
        ("203.0.113.9", 6, None, None),
        ("198.51.100.4", 6, None, "external"),
        ("2001:db8::1", 6, None, "external"),
    ],
)
def test_an_address_has_the_owner_it_had_then(address: str, seconds: float, port: int | None, expected: str | None) -> None:
    assert who(Timeline.of(NODES + SPECIAL), address, seconds, port) == expected


def test_without_nodes_nothing_is_called_external_and_pods_tell_of_their_nodes() -> None:
    web = pod("web-1", "10.244.0.7")
    web["status"]["hostIP"] = "172.30.0.11"
    timeline = Timeline.of([web])
    assert who(timeline, "198.51.100.4", 1) is None
    assert who(timeline, "172.30.0.11", 1) == "node node-a"


def test_a_pod_on_the_first_address_of_its_network_owns_it() -> None:
    timeline = Timeline.of([*NODES, pod("web-1", "10.244.0.1")])
    assert who(timeline, "10.244.0.1", 1) == "pod web-1"
    assert who(timeline, "10.244.1.1", 1) == "node node-b"


def test_addresses_told_of_by_a_node_are_its_own_unless_several_have_them_or_they_are_a_services() -> None:
    timeline = Timeline.of([*NODES, service("web", "10.96.1.1"), pod("web-1", "10.244.0.7")])
    for name in ("node-a", "node-b"):
        timeline.add_node_address(name, parse("172.17.0.1"))
        timeline.add_node_address(name, parse("10.96.1.1"))  # kube-ipvs0
    timeline.add_node_address("node-b", parse("192.0.2.7"))
    timeline.add_node_address("node-b", parse("10.244.0.7"))
    assert who(timeline, "192.0.2.7", 1) == "node node-b"
    assert timeline.owner(parse("172.17.0.1"), at(1)) == Owner("node")
    assert who(timeline, "10.96.1.1", 1) is None
    assert who(timeline, "10.244.0.7", 1) == "pod web-1"


CONTAINERS = [
    {"name": "api", "ports": [{"name": "http", "containerPort": 5000}, {"name": "dns", "containerPort": 53, "protocol": "UDP"}]},
    {"name": "metrics", "ports": [{"name": "prom", "containerPort": 9102, "protocol": "TCP"}, {"containerPort": 7000}]},
    {"name": "other", "ports": [{"containerPort": 7000}]},
    {"name": "none"},
]
SIDECARS = [
    {"name": "proxy", "restartPolicy": "Always", "ports": [{"containerPort": 15001}]},
    {"name": "setup", "ports": [{"containerPort": 1}]},
]


@pytest.mark.parametrize(
    ("port", "protocol", "container", "port_name"),
    [
        (5000, "tcp", "api", "http"),
        (53, "udp", "api", "dns"),
        (53, "tcp", None, None),
        (9102, "tcp", "metrics", "prom"),
        (7000, "tcp", None, None),  # declared twice
        (15001, "tcp", "proxy", None),  # a sidecar is an init container that stays
        (1, "tcp", None, None),
        (41234, "tcp", None, None),
        (None, "tcp", None, None),
    ],
)
def test_the_container_is_the_one_that_declares_the_port(
    port: int | None, protocol: str, container: str | None, port_name: str | None
) -> None:
    timeline = Timeline.of([pod("api-1", "10.244.0.4", containers=CONTAINERS, initContainers=SIDECARS)])
    owner = timeline.owner(parse("10.244.0.4"), at(1), port, protocol)
    assert owner == Owner("pod", "api-1", "shop", "node-a", container, port_name, "uid-api-1")


def test_watched_pods_hold_an_address_from_getting_it_until_deleted() -> None:
    waiting = pod("new", version=11, created=20)
    waiting["status"] = {"phase": "Pending"}
    terminating = pod("old", "10.244.0.7", version=12)
    terminating["metadata"]["deletionTimestamp"] = clock(52)
    timeline = Timeline(
        [
            *listed(*NODES, pod("old", "10.244.0.7", version=10)),
            event(20.5, "ADDED", waiting),
            event(22.25, "MODIFIED", terminating),
            event(24.5, "DELETED", pod("old", "10.244.0.7", version=14)),
            event(24.75, "MODIFIED", {**waiting, "metadata": {**waiting["metadata"], "resourceVersion": "15"}}),
            event(26.125, "MODIFIED", pod("new", "10.244.0.7", version=16, created=20, started=25)),
            event(30, "MODIFIED", pod("new", "10.244.0.7", version=17, created=20, started=25, phase="Failed")),
        ]
    )
    moments = (-1, 0, 22.3, 24.4999, 24.5, 24.7, 24.8, 26.2, 29.9, 30, 99)
    assert [who(timeline, "10.244.0.7", moment) for moment in moments] == [
        *(None, "pod old", "pod old", "pod old"),  # a terminating pod still owns its address
        *(None, None, None),  # on its node, but it has not reported the address yet
        *("pod new", "pod new"),
        *(None, None),  # failed: given up, though the status still shows it
    ]


def test_between_two_dumps_an_address_stays_with_its_owner_until_the_successor_starts() -> None:
    before = listed(*NODES, pod("old", "10.244.0.7", version=10), pod("gone", "10.244.0.8", version=9), floor=30)
    after = listed(*NODES, pod("new", "10.244.0.7", version=20, created=50, started=52), floor=60)
    for sightings in (before + after, after + before):
        timeline = Timeline(sightings)
        assert [who(timeline, "10.244.0.7", moment) for moment in (10, 51.9, 52, 70)] == ["pod old", "pod old", "pod new", "pod new"]
        assert who(timeline, "10.244.0.8", 59) == "pod gone"


def test_a_watch_beats_the_whole_seconds_of_a_dump() -> None:
    # The successor's startTime is cut to 52 s: its predecessor was deleted at 52.4 s, and for certain it has the address from 53 s on.
    after = pod("new", "10.244.0.7", version=20, created=50, started=52)
    after["status"]["conditions"] = [{"type": "PodReadyToStartContainers", "status": "True", "lastTransitionTime": clock(52)}]
    timeline = Timeline(
        [*listed(pod("old", "10.244.0.7", version=10), after, floor=60), event(52.4, "DELETED", pod("old", "10.244.0.7", version=15))]
    )
    assert [who(timeline, "10.244.0.7", moment) for moment in (52.2, 52.5, 53)] == ["pod old", None, "pod new"]


def test_a_pod_that_had_ended_when_seen_had_its_address_until_its_last_container_finished() -> None:
    job = pod("job", "10.244.0.9", created=10, phase="Succeeded")
    job["status"]["containerStatuses"] = [{"state": {"terminated": {"finishedAt": clock(20)}}}]
    timeline = Timeline.of([*NODES, job])
    assert [who(timeline, "10.244.0.9", moment) for moment in (9, 15, 20.5, 21)] == [None, "pod job", "pod job", None]


def test_a_pod_whose_sandbox_was_rebuilt_changes_its_address() -> None:
    first, second = pod("web-1", "10.244.0.7", version=1), pod("web-1", "10.244.0.8", version=2)
    timeline = Timeline([*listed(*NODES, first), event(40, "MODIFIED", second)])
    assert [who(timeline, "10.244.0.7", moment) for moment in (39, 41)] == ["pod web-1", None]
    assert [who(timeline, "10.244.0.8", moment) for moment in (39, 41)] == [None, "pod web-1"]


VARIED = [
    *NODES,
    service("web", "10.96.1.1", "fd00:96::1", internalTrafficPolicy="Local", sessionAffinity="ClientIP"),
    service(
        "lb",
        "10.96.1.2",
        type="LoadBalancer",
        externalTrafficPolicy="Local",
        ports=[{"name": "http", "port": 80, "targetPort": 8080, "nodePort": 30080}, {"name": "dns", "port": 53, "protocol": "UDP"}],
        externalIPs=["192.0.2.50", "172.30.0.12"],
        status={"loadBalancer": {"ingress": [{"ip": "203.0.113.9", "ipMode": "Proxy"}, {"hostname": "lb.example"}]}},
    ),
    service("bare", "None", ports=[{"port": 8080, "targetPort": "http"}]),
    service("alias", type="ExternalName", externalName="db.example"),
    service("broken", "10.96.1.9", ports=[{"name": "x"}, {"port": "80"}, "no", {"port": 81, "targetPort": {"a": 1}, "nodePort": 0}]),
]


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


def test_a_pod_is_controlled_by_its_deployment_through_its_replica_set() -> None:
    def owned(by: str, name: str, uid: str) -> dict[str, Any]:
        return {"ownerReferences": [{"kind": "X", "name": "no"}, {"kind": by, "name": name, "uid": uid, "controller": True}]}

    web, orphan, lone = pod("web-1", "10.244.0.7"), pod("api-1", "10.244.0.8"), pod("lone", "10.244.0.9")
    web["metadata"] |= owned("ReplicaSet", "web-84", "rs")
    orphan["metadata"] |= owned("ReplicaSet", "api-55", "not in the dump")
    middle = {"kind": "ReplicaSet", "metadata": meta("web-84", uid="rs", **owned("Deployment", "web", "d"))}
    timeline = Timeline.of([web, orphan, lone, middle])
    assert timeline.pod_owner_chain("shop", "web-1", at(1)) == (("Pod", "web-1"), ("ReplicaSet", "web-84"), ("Deployment", "web"))
    assert timeline.workload("shop", "api-1", at(1)) == ("ReplicaSet", "api-55")
    assert timeline.workload("shop", "lone", at(1)) == ("Pod", "lone")
    assert timeline.workload("shop", "nobody", at(1)) is None


def test_objects_are_given_as_they_were_and_secrets_are_never_kept() -> None:
    secret = {"kind": "Secret", "metadata": meta("password"), "data": {"a": "b"}}
    first, second = service("web", "10.96.1.1", version=1), service("web", "10.96.1.1", version=2, type="NodePort")
    timeline = Timeline([*listed(first, secret), event(10, "MODIFIED", second)])
    assert timeline.objects("Secret") == []
    assert [item["spec"]["type"] for moment in (9, 11) for item in timeline.objects("Service", at(moment))] == ["ClusterIP", "NodePort"]
    assert [item["spec"]["type"] for item in timeline.objects("Service")] == ["NodePort"]


def damaged(value: Any, chance: random.Random) -> Any:
    """`value` with one thing in twenty replaced by something that does not belong there."""
    if chance.random() < 0.05:
        return chance.choice([None, "", "x", 7, -1, True, [], [None], {}, {"ip": 3}, 1e300])
    if isinstance(value, dict):
        return {key: damaged(item, chance) for key, item in value.items()}
    return [damaged(item, chance) for item in value] if isinstance(value, list) else value


@pytest.mark.parametrize("seed", range(101))
def test_malformed_fields_never_raise(seed: int) -> None:
    chance = random.Random(seed)
    items = [damaged(item, chance) for item in [*NODES, *SPECIAL, *VARIED, endpoint_slice("web", "10.244.0.7"), endpoint_slice("bare")]]
    sightings = [Sighting(How.LISTED, item) for item in items if isinstance(item, dict)]
    sightings += [event(5, "MODIFIED", item) for item in map(lambda i: damaged(i, chance), items) if isinstance(item, dict)]  # noqa: C417
    timeline = Timeline(sightings)
    for address in ("10.244.0.7", "172.30.0.11", "10.96.1.1"):
        timeline.owner(parse(address), at(1), 8080)
        timeline.service(parse(address), 80, "tcp", at(1))
        timeline.services_of_endpoint(parse(address), 8080, "tcp", at(1))
    timeline.endpoints("shop", "web", "http", "tcp", at(1))
    timeline.workload("shop", "web-1", at(1))


@pytest.mark.parametrize(
    ("claims", "expected"),
    [
        ([], [None, None, None, None]),
        ([Claim.certain("a", 10, 30)], [None, "a", "a", None]),
        ([Claim.certain("a", 10, 30), Claim.certain("b", 20, 40)], [None, "a", "b", "b"]),  # the later-started wins
        ([Claim.certain("a", 10, 30), Claim("b", 10, 40, 35, 40)], [None, "a", "a", "b"]),  # the certain one wins
        ([Claim("a", 0, 40, 0, 5), Claim("b", 20, 40, 30, 40)], ["a", "a", None, "b"]),  # b may have begun: nobody can tell
        ([Claim("a", 10, 40, 30, 40)], [None, None, None, "a"]),  # it may not have begun
    ],
)
def test_a_history_is_the_winning_claim_at_each_moment(claims: list[Claim[str]], expected: list[str | None]) -> None:
    for order in (claims, claims[::-1]):
        assert [History(order).at(moment) for moment in (1, 15, 25, 36)] == expected


def test_two_certain_holders_are_none_where_there_can_be_only_one() -> None:
    history = History([Claim.certain("a", 10, 30), Claim.certain("b", 20, 40)], exclusive=True)
    assert [history.at(moment) for moment in (15, 25, 35)] == ["a", None, "b"]


@needs_captures
def test_churn_addresses_change_hands_when_the_pods_did() -> None:
    folder = CAPTURES / "iptables" / "churn"
    timeline, problems = read_cluster([folder / name for name in ("watch.jsonl", "cluster.json", "cluster-start.json")])
    assert problems == []
    began = 1795415110.0
    expected = {
        "10.244.1.2": {0: "web-84bf6fc687-rkd4t", 1.14: "web-84bf6fc687-rkd4t", 1.3: None, 1.97: "api-55ff4cd7-hxm8t"},
        "10.244.1.3": {0: "api-55ff4cd7-zjfpl", 1.82: "api-55ff4cd7-zjfpl", 1.84: None, 1.97: "web-84bf6fc687-qsnxc"},
        "10.244.2.6": {0: "echo-5bfdb5c7f8-vk72h", 7.66: "echo-5bfdb5c7f8-vk72h", 7.7: None, 8.47: "web-84bf6fc687-zkzt2"},
    }
    for address, moments in expected.items():
        found = {moment: timeline.owner(parse(address), round((began + moment) * SECOND)) for moment in moments}
        assert {moment: owner and owner.name for moment, owner in found.items()} == moments, address


@needs_captures
def test_dumps_from_before_and_after_give_the_same_owners_away_from_the_change() -> None:
    folder = CAPTURES / "iptables" / "churn"
    watched, _ = read_cluster([folder / "watch.jsonl", folder / "cluster-start.json"])
    dumped, _ = read_cluster([folder / "cluster-start.json", folder / "cluster.json"])
    for address in ("10.244.1.2", "10.244.1.3", "10.244.2.6", "10.244.0.3", "10.96.10.1", "172.30.0.12", "172.30.0.100"):
        for second in (1795415106, 1795415109, 1795415113, 1795415120):
            assert watched.owner(parse(address), second * SECOND) == dumped.owner(parse(address), second * SECOND)
