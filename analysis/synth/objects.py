"""What the API server and the nodes would say of a made cluster: objects, and `ip -d addr`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from analysis.synth.cluster import (
    CLUSTER_POLICY,
    INGRESS_NAMESPACE,
    LOCAL_POLICY,
    NAMESPACE,
    OUTSIDE_ADDRESS,
    OUTSIDE_SERVICE,
    OUTSIDE_VIP,
    MadeCluster,
)
from analysis.synth.ways import BRIDGE, FLANNEL, IFINDEX, WIRE

Object = dict[str, Any]
POLICIES = {CLUSTER_POLICY: "Cluster", LOCAL_POLICY: "Local"}
CREATED = "2026-11-23T04:00:00Z"  # an hour before the traffic


def dotted(address: int) -> str:
    """An IPv4 address as text."""
    return f"{address >> 24}.{address >> 16 & 255}.{address >> 8 & 255}.{address & 255}"


def host(service: str) -> str:
    """The name that the Ingress has for a Service."""
    return f"{service}.example.test"


def objects(made: MadeCluster) -> Object:
    """A List of everything, as of `kubectl get … -o json`."""
    items = [*_nodes(made), *_pods(made), *_services(made), _ingress(made)]
    return {"kind": "List", "apiVersion": "v1", "metadata": {}, "items": items}


def _object(kind: str, version: str, name: str, namespace: str | None, **fields: Any) -> Object:
    metadata: Object = {"name": name, "uid": f"{kind}-{namespace}-{name}".lower(), "creationTimestamp": CREATED, "resourceVersion": "1"}
    if namespace is not None:
        metadata["namespace"] = namespace
    metadata |= fields.pop("metadata", {})
    return {"apiVersion": version, "kind": kind, "metadata": metadata, **fields}


def _nodes(made: MadeCluster) -> Iterator[Object]:
    for number, (name, address) in enumerate(zip(made.nodes, made.node_address.tolist(), strict=True)):
        status = {"addresses": [{"type": "InternalIP", "address": dotted(address)}, {"type": "Hostname", "address": name}]}
        yield _object("Node", "v1", name, None, spec={"podCIDR": f"10.244.{number}.0/24"}, status=status)


def _pods(made: MadeCluster) -> Iterator[Object]:
    pods = made.pods
    for row, (name, namespace) in enumerate(zip(pods.names, pods.namespaces, strict=True)):
        port, service, address = int(pods.port[row]), int(pods.service[row]), dotted(int(pods.address[row]))
        ports = [{"containerPort": port, "name": "http", "protocol": "TCP"}] if port else []
        node = int(pods.node[row])
        running = {"running": {"startedAt": CREATED}}
        yield _object(
            "Pod", "v1", name, namespace,
            metadata={"labels": {"app": made.services.names[service] if service >= 0 else "client"}},
            spec={"nodeName": made.nodes[node], "containers": [{"name": "app", "image": "example.test/app:1", "ports": ports}]},
            status={
                "phase": "Running", "podIP": address, "podIPs": [{"ip": address}], "hostIP": dotted(int(made.node_address[node])),
                "startTime": CREATED, "conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": CREATED}],
                "containerStatuses": [{"name": "app", "ready": True, "restartCount": 0, "state": running}],
            },
        )  # fmt: skip


def _services(made: MadeCluster) -> Iterator[Object]:
    services, pods = made.services, made.pods
    for row, (name, namespace) in enumerate(zip(services.names, services.namespaces, strict=True)):
        address, port, node_port = dotted(int(services.address[row])), int(services.port[row]), int(services.node_port[row])
        behind = range(int(services.first_pod[row]), int(services.first_pod[row] + services.pods[row]))
        target = int(pods.port[behind[0]])
        yield _object(
            "Service", "v1", name, namespace,
            spec={
                "type": "LoadBalancer", "clusterIP": address, "clusterIPs": [address], "ipFamilies": ["IPv4"], "selector": {"app": name},
                "externalTrafficPolicy": POLICIES[int(services.policy[row])], "internalTrafficPolicy": "Cluster", "sessionAffinity": "None",
                "ports": [{"name": "http", "port": port, "targetPort": target, "nodePort": node_port, "protocol": "TCP"}],
            },
            status={"loadBalancer": {"ingress": [{"ip": dotted(int(services.balancer[row])), "ipMode": "VIP"}]}},
        )  # fmt: skip
        endpoints = [
            {
                "addresses": [dotted(int(pods.address[pod]))],
                "nodeName": made.nodes[int(pods.node[pod])],
                "conditions": {"ready": True, "serving": True, "terminating": False},
                "targetRef": {"kind": "Pod", "name": pods.names[pod], "namespace": pods.namespaces[pod]},
            }
            for pod in behind
        ]
        yield _slice(name, namespace, endpoints, target)
    address = dotted(OUTSIDE_VIP)
    yield _object(
        "Service", "v1", OUTSIDE_SERVICE, NAMESPACE,
        spec={
            "type": "ClusterIP", "clusterIP": address, "clusterIPs": [address], "ipFamilies": ["IPv4"], "sessionAffinity": "None",
            "ports": [{"name": "http", "port": made.outside_ports[0], "targetPort": made.outside_ports[1], "protocol": "TCP"}],
        },
        status={"loadBalancer": {}},
    )  # fmt: skip
    yield _slice(
        OUTSIDE_SERVICE, NAMESPACE, [{"addresses": [dotted(OUTSIDE_ADDRESS)], "conditions": {"ready": True}}], made.outside_ports[1]
    )


def _slice(service: str, namespace: str, endpoints: list[Object], port: int) -> Object:
    return _object(
        "EndpointSlice", "discovery.k8s.io/v1", service, namespace, metadata={"labels": {"kubernetes.io/service-name": service}},
        addressType="IPv4", endpoints=endpoints, ports=[{"name": "http", "port": port, "protocol": "TCP"}],
    )  # fmt: skip


def _ingress(made: MadeCluster) -> Object:
    rules = [
        {
            "host": host(name),
            "http": {"paths": [{"path": "/", "pathType": "Prefix", "backend": {"service": {"name": name, "port": {"name": "http"}}}}]},
        }
        for name in made.services.names[: made.shop]
    ]
    balancer = [{"ip": dotted(address)} for address in made.services.balancer[made.shop :].tolist()]
    return _object(
        "Ingress", "networking.k8s.io/v1", "shop", NAMESPACE,
        metadata={"annotations": {"kubernetes.io/ingress.class": INGRESS_NAMESPACE}},
        spec={"ingressClassName": "nginx", "rules": rules}, status={"loadBalancer": {"ingress": balancer}},
    )  # fmt: skip


def links_text(made: MadeCluster, node: int) -> str:
    """`ip -d addr` of a node."""
    lines = []

    def add(index: int, name: str, kind: str, address: str, mtu: int = 1450) -> None:
        mac = ":".join(f"{byte:02x}" for byte in (0x0A, 0x58, 0, 0, node, index & 255))
        lines.append(f"{index}: {name}: <BROADCAST,MULTICAST,UP,LOWER_UP> mtu {mtu} qdisc noqueue state UP group default qlen 1000")
        lines.append(f"    link/ether {mac} brd ff:ff:ff:ff:ff:ff promiscuity 0 minmtu 68 maxmtu 65535 ")
        lines.append(f"    {kind} numtxqueues 1 numrxqueues 1 ")
        if address:
            lines.append(f"    inet {address} scope global {name}")
            lines.append("       valid_lft forever preferred_lft forever")

    own = dotted(int(made.node_address[node]))
    add(IFINDEX[WIRE], "eth0", "veth", f"{own}/16", 1500)
    vxlan = f"vxlan id 1 local {own} dev eth0 srcport 0 0 dstport 8472 nolearning ttl auto"
    add(IFINDEX[FLANNEL], "flannel.1", vxlan, f"10.244.{node}.0/32")
    add(IFINDEX[BRIDGE], "cni0", "bridge", f"10.244.{node}.1/24")
    for pod in (made.pods.node == node).nonzero()[0].tolist():
        add(int(made.pods.ifindex[pod]), f"veth{node:04x}{int(made.pods.ifindex[pod]):04x}@if2", "veth", "")
    return "\n".join(lines) + "\n"
