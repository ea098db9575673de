"""What a Service answers on, and the endpoints behind it, over time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from probes.addresses import Address
from tracer.cluster.fields import Object, address, at, dicts, number, string, strings
from tracer.cluster.history import Claim
from tracer.cluster.lives import Life

SERVICE_LABEL = "kubernetes.io/service-name"  # discovery.k8s.io/v1: LabelServiceName
Front = tuple[Address, str, int]  # address, protocol, port


@dataclass(frozen=True, slots=True)
class ServicePort:
    """One port of a Service, as reached by one of its addresses (`via`: ClusterIP, NodePort, LoadBalancer, ExternalIP, Headless).

    `type` is spec.type; `target_port` is as the spec has it, a number or a name; `ip_mode` is a LoadBalancer address's (KEP-1860:
    "VIP" is short-circuited by kube-proxy, "Proxy" goes out to the load balancer).
    """

    namespace: str
    name: str
    type: str
    via: str
    port: int
    port_name: str | None
    protocol: str
    node_port: int | None
    target_port: str | None
    session_affinity: str
    external_traffic_policy: str | None
    internal_traffic_policy: str | None
    headless: bool
    ip_mode: str | None = None


@dataclass(frozen=True, slots=True)
class EndpointAddress:
    """One endpoint of a Service port. Conditions are None where the slice does not tell (nil means unknown; take `ready` as true)."""

    address: Address
    port: int | None
    ready: bool | None
    serving: bool | None
    terminating: bool | None
    node: str | None
    pod: str | None
    namespace: str | None  # of the pod
    port_name: str | None


def service_ports(item: Object) -> list[ServicePort]:
    """The ports of a Service, `via` not yet decided (ClusterIP). ExternalName Services have none: they are DNS names."""
    kind = string(item, "spec", "type") or "ClusterIP"
    name = string(item, "metadata", "name")
    if kind == "ExternalName" or name is None:
        return []
    ports = []
    for entry in dicts(item, "spec", "ports"):
        port = number(entry, "port")
        if port is None:
            continue
        target = entry.get("targetPort", port)
        ports.append(
            ServicePort(
                namespace=string(item, "metadata", "namespace") or "default",
                name=name,
                type=kind,
                via="ClusterIP",
                port=port,
                port_name=string(entry, "name"),
                protocol=(string(entry, "protocol") or "TCP").lower(),
                node_port=number(entry, "nodePort") or None,
                target_port=str(target) if isinstance(target, str | int) and target else None,
                session_affinity=string(item, "spec", "sessionAffinity") or "None",
                external_traffic_policy=string(item, "spec", "externalTrafficPolicy"),
                internal_traffic_policy=string(item, "spec", "internalTrafficPolicy"),
                headless=at(item, "spec", "clusterIP") == "None",
            )
        )
    return ports


def service_addresses(item: Object) -> dict[Address, tuple[str, str | None]]:
    """`{address: (via, ip_mode)}` of a Service; an address it has in two ways counts by the first."""
    kind = string(item, "spec", "type") or "ClusterIP"
    if kind == "ExternalName":
        return {}
    balancers = dicts(item, "status", "loadBalancer", "ingress") if kind == "LoadBalancer" else []
    found: list[tuple[str | None, str, str | None]] = [
        *((text, "ClusterIP", None) for text in [*strings(item, "spec", "clusterIPs"), string(item, "spec", "clusterIP")]),
        *((string(entry, "ip"), "LoadBalancer", string(entry, "ipMode") or "VIP") for entry in balancers),
        *((text, "ExternalIP", None) for text in strings(item, "spec", "externalIPs")),
    ]
    known: dict[Address, tuple[str, str | None]] = {}
    for text, via, mode in found:
        parsed = address(text)  # "None", of headless Services, is no address
        if parsed is not None:
            known.setdefault(parsed, (via, mode))
    return known


def front_claims(life: Life) -> Iterator[tuple[Front, Claim[ServicePort]]]:
    """(address, protocol, port) that the Service's own addresses claim."""
    for start, end, item in life.spans():
        ports = service_ports(item)
        for held, (via, mode) in service_addresses(item).items():
            for port in ports:
                yield (held, port.protocol, port.port), Claim.certain(replace(port, via=via, ip_mode=mode), start, end)


def node_port_claims(life: Life) -> Iterator[tuple[tuple[str, int], Claim[ServicePort]]]:
    """(protocol, nodePort) that the Service claims on every node address."""
    for start, end, item in life.spans():
        for port in service_ports(item):
            if port.node_port is not None and port.type in ("NodePort", "LoadBalancer"):
                yield (port.protocol, port.node_port), Claim.certain(replace(port, via="NodePort"), start, end)


def address_claims(life: Life) -> Iterator[tuple[Address, Claim[Life]]]:
    """Addresses that are the Service's, whatever the port."""
    for start, end, item in life.spans():
        for held in service_addresses(item):
            yield held, Claim.certain(life, start, end)


def slice_service(item: Object) -> tuple[str, str] | None:
    """(namespace, name) of the Service that an EndpointSlice belongs to."""
    name = string(item, "metadata", "labels", SERVICE_LABEL)
    return (string(item, "metadata", "namespace") or "default", name) if name else None


def slice_endpoints(item: Object, port_name: str | None, protocol: str) -> Iterator[EndpointAddress]:
    """The endpoints of an EndpointSlice for one of its ports.

    A slice without ports (`ports: null`) says "no ports": addresses of a headless Service without ports, given with port None where
    no port name is asked for. A port without a number says "all ports".
    """
    written = dicts(item, "ports")
    ports = [
        number(entry, "port")
        for entry in written
        if (string(entry, "name") or "") == (port_name or "") and (string(entry, "protocol") or "TCP").lower() == protocol
    ]
    if not written and not port_name:
        ports = [None]
    for port in ports:
        for endpoint in dicts(item, "endpoints"):
            yield from _endpoint(endpoint, port, port_name)


def _endpoint(endpoint: Object, port: int | None, port_name: str | None) -> Iterator[EndpointAddress]:
    pod = string(endpoint, "targetRef", "name") if string(endpoint, "targetRef", "kind") == "Pod" else None
    ready, serving, terminating = (
        value if isinstance(value := at(endpoint, "conditions", name), bool) else None for name in ("ready", "serving", "terminating")
    )
    # All addresses of one endpoint are the same backend; consumers use the first (discovery.k8s.io/v1, Endpoint.addresses).
    for text in strings(endpoint, "addresses")[:1]:
        parsed = address(text)
        if parsed is not None:
            yield EndpointAddress(
                address=parsed,
                port=port,
                ready=ready,
                serving=serving,
                terminating=terminating,
                node=string(endpoint, "nodeName"),
                pod=pod,
                namespace=string(endpoint, "targetRef", "namespace") if pod else None,
                port_name=port_name,
            )
