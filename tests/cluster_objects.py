"""Objects as the API server has them, and when they were seen."""

from __future__ import annotations

from typing import Any

from probes.addresses import parse
from tracer.cluster import Timeline
from tracer.cluster.lives import How, Sighting

SECOND = 1_000_000_000
NOON = 1_795_435_200  # 2026-11-23T12:00:00Z


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
