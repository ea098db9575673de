"""What the cluster consists of: machines, pods, Services; and the same as the API server would tell it (`cluster_objects`)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

Addresses = tuple[str, str]  # IPv4, IPv6

GATEWAY: Addresses = ("172.30.0.100", "fd00:172:30::100")
CLUSTER_CIDRS: Addresses = ("10.244.0.0/16", "fd00:10:244::/48")
NAMESPACE = "shop"
OUTSIDE_PORT = 9000  # the client machine's own server


@dataclass(frozen=True, slots=True)
class Machine:
    name: str
    addresses: Addresses


@dataclass(frozen=True, slots=True)
class Node(Machine):
    number: int

    @property
    def pod_cidrs(self) -> Addresses:
        return f"10.244.{self.number}.0/24", f"fd00:10:244:{self.number}::/64"

    @property
    def bridge(self) -> Addresses:
        return f"10.244.{self.number}.1", f"fd00:10:244:{self.number}::1"

    @property
    def vtep(self) -> Addresses:
        return f"10.244.{self.number}.0", f"fd00:10:244:{self.number}::"

    @property
    def vtep_mac(self) -> str:
        return f"0a:58:0a:f4:{self.number:02x}:00"


@dataclass(frozen=True, slots=True)
class Pod:
    name: str
    node: str
    number: int

    @property
    def mac(self) -> str:
        return f"02:00:0a:f4:{NODES[self.node].number:02x}:{self.number:02x}"

    @property
    def addresses(self) -> Addresses:
        node = NODES[self.node].number
        return f"10.244.{node}.{self.number}", f"fd00:10:244:{node}::{self.number}"


@dataclass(frozen=True, slots=True)
class Service:
    """One port of a Service. `endpoints` are pods by name; `number` is the last part of its ClusterIPs, 0 for a headless one."""

    name: str
    number: int
    port: int
    target_port: int
    endpoints: tuple[str, ...]
    proto: str = "tcp"
    node_port: int = 0
    external_local: bool = False  # externalTrafficPolicy
    internal_local: bool = False  # internalTrafficPolicy

    @property
    def key(self) -> str:
        return f"{self.name}-{self.proto}"

    @property
    def vips(self) -> Addresses:
        return f"10.96.0.{self.number}", f"fd00:10:96::{self.number}"


NODES = {node.name: node for node in (
    Node("node-a", ("172.30.0.11", "fd00:172:30::11"), 1),
    Node("node-b", ("172.30.0.12", "fd00:172:30::12"), 2),
)}  # fmt: skip
MACHINES: dict[str, Machine] = {"client": Machine("client", GATEWAY), **NODES}
PODS = {pod.name: pod for pod in (
    Pod("front", "node-a", 10), Pod("web-a", "node-a", 11), Pod("web-b", "node-b", 12), Pod("lone", "node-b", 13),
    Pod("edge", "node-a", 20), Pod("app", "node-b", 21), Pod("store", "node-a", 22),
)}  # fmt: skip
VANISHED = Pod("vanished", "node-b", 66)  # an endpoint whose pod died a moment ago: nothing has its address

SERVICES = (
    Service("web", 10, 80, 8080, ("web-a", "web-b"), node_port=30080),
    Service("web", 10, 53, 5353, ("web-a", "web-b"), "udp", node_port=30053),
    Service("local", 11, 80, 8080, ("web-b",), node_port=30081, external_local=True),
    Service("self", 12, 80, 8080, ("lone",)),
    Service("self", 12, 53, 5353, ("lone",), "udp"),
    Service("here", 13, 80, 8080, ("lone",), internal_local=True),
    Service("empty", 14, 80, 8080, ()),
    Service("empty", 14, 53, 5353, (), "udp"),
    Service("closed", 15, 80, 9, ("lone",)),
    Service("closed", 15, 53, 9, ("lone",), "udp"),
    Service("ghost", 16, 80, 8080, ("vanished",)),
    Service("base", 0, 5432, 5432, ("lone",)),
    Service("edge", 20, 80, 8080, ("edge",), node_port=30090, external_local=True),
    Service("edge-tls", 21, 443, 8443, ("edge",), node_port=30443, external_local=True),
    Service("edge-behind", 22, 80, 8081, ("edge",), node_port=30091, external_local=True),  # a balancer in front speaks PROXY to it
    Service("app", 23, 80, 8080, ("app",)),
    Service("store", 24, 3306, 3306, ("store",)),
    Service("names", 25, 53, 53, ("store",), "udp"),
)  # fmt: skip


def pod_named(name: str) -> Pod:
    return VANISHED if name == VANISHED.name else PODS[name]


def _meta(kind: str, name: str, *, namespace: str | None = NAMESPACE, **more: Any) -> dict[str, Any]:
    found = {"name": name, "uid": f"{kind}-{name}", "resourceVersion": "7", "creationTimestamp": "2024-11-01T08:00:00Z", **more}
    return {**found, "namespace": namespace} if namespace else found


def _node(node: Node) -> dict[str, Any]:
    addresses = [{"type": "InternalIP", "address": address} for address in node.addresses]
    return {
        "apiVersion": "v1", "kind": "Node", "metadata": _meta("node", node.name, namespace=None),
        "spec": {"podCIDR": node.pod_cidrs[0], "podCIDRs": list(node.pod_cidrs)},
        "status": {"addresses": [*addresses, {"type": "Hostname", "address": node.name}]},
    }  # fmt: skip


def _pod(pod: Pod) -> dict[str, Any]:
    ports = [{"name": "http", "containerPort": 8080, "protocol": "TCP"}, {"name": "dns", "containerPort": 5353, "protocol": "UDP"}]
    status = {
        "phase": "Running", "startTime": "2024-11-01T08:00:00Z", "podIP": pod.addresses[0], "podIPs": [{"ip": ip} for ip in pod.addresses],
        "conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": "2024-11-01T08:00:01Z"}],
    }  # fmt: skip
    spec = {"nodeName": pod.node, "containers": [{"name": "app", "ports": ports}]}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": _meta("pod", pod.name), "spec": spec, "status": status}


def _service(name: str, ports: list[Service]) -> dict[str, Any]:
    first = ports[0]
    vips = list(first.vips) if first.number else ["None"]
    listed = [
        {"name": f"{port.proto}-{port.port}", "port": port.port, "targetPort": port.target_port, "protocol": port.proto.upper()}
        | ({"nodePort": port.node_port} if port.node_port else {})
        for port in ports
    ]
    spec = {
        "type": "NodePort" if first.node_port else "ClusterIP", "clusterIP": vips[0], "clusterIPs": vips, "ports": listed,
        "ipFamilies": ["IPv4", "IPv6"], "ipFamilyPolicy": "RequireDualStack", "sessionAffinity": "None", "selector": {"app": name},
        "internalTrafficPolicy": "Local" if first.internal_local else "Cluster",
    }  # fmt: skip
    if first.node_port:
        spec["externalTrafficPolicy"] = "Local" if first.external_local else "Cluster"
    return {"apiVersion": "v1", "kind": "Service", "metadata": _meta("service", name), "spec": spec, "status": {"loadBalancer": {}}}


def _slice(name: str, ports: list[Service], family: int) -> dict[str, Any]:
    pods = [pod_named(endpoint) for endpoint in ports[0].endpoints]
    endpoints = [
        {"addresses": [pod.addresses[family]], "conditions": {"ready": True, "serving": True, "terminating": False}, "nodeName": pod.node,
         "targetRef": {"kind": "Pod", "namespace": NAMESPACE, "name": pod.name}}
        for pod in pods
    ]  # fmt: skip
    kind = ("IPv4", "IPv6")[family]
    labels = {"kubernetes.io/service-name": name}
    listed = [{"name": f"{port.proto}-{port.port}", "port": port.target_port, "protocol": port.proto.upper()} for port in ports]
    return {
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "metadata": _meta("slice", f"{name}-{kind.lower()}", labels=labels),
        "addressType": kind, "endpoints": endpoints or None, "ports": listed,
    }  # fmt: skip


def cluster_objects() -> dict[str, Any]:
    """What `kubectl get nodes,pods,services,endpointslices -A -o json` would print."""
    by_name: dict[str, list[Service]] = {}
    for service in SERVICES:
        by_name.setdefault(service.name, []).append(service)
    items = [_node(node) for node in NODES.values()] + [_pod(pod) for pod in (*PODS.values(), VANISHED)]
    for name, ports in by_name.items():
        items += [_service(name, ports), _slice(name, ports, 0), _slice(name, ports, 1)]
    return {"apiVersion": "v1", "kind": "List", "items": items}
