"""Which endpoints a node's rules use for a Service port, by its traffic policies (pkg/proxy/topology.go, CategorizeEndpoints).

Topology hints (trafficDistribution) are not modelled: the caller gives the endpoints that are left after them.
"""

from __future__ import annotations

import base64
import hashlib
import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass

from probes.live.kube_proxy.model import Endpoint, NodeView, ServicePort


@dataclass(frozen=True, slots=True)
class Targets:
    """A Service port's endpoints as one node sees them, in kube-proxy's order.

    `cluster` and `local` belong to the two traffic policies and are empty where no policy of the Service asks for them; `reachable` are
    both together. `served` says whether there is an endpoint on any node, `inside` and `outside` whether ClusterIP traffic and external
    traffic have one here.
    """

    cluster: tuple[Endpoint, ...]
    local: tuple[Endpoint, ...]
    reachable: tuple[Endpoint, ...]
    served: bool
    inside: bool
    outside: bool


def targets(service: ServicePort) -> Targets:
    """The endpoints of `service`."""
    usable = tuple(sorted(service.endpoints, key=destination))
    cluster: tuple[Endpoint, ...] = ()
    local: tuple[Endpoint, ...] = ()
    if not service.internal_local or service.external:  # external traffic from this node always goes to all endpoints
        cluster = _ready_first(usable)
    if service.internal_local or (service.external_local and service.external):
        local = _ready_first(endpoint for endpoint in usable if endpoint.local)
    used = {*cluster, *local}
    served = bool(usable)
    return Targets(
        cluster,
        local,
        tuple(endpoint for endpoint in usable if endpoint in used),
        served,
        inside=bool(local) if service.internal_local else served,
        outside=bool(local) if service.external_local else served,
    )


def _ready_first(endpoints: Iterable[Endpoint]) -> tuple[Endpoint, ...]:
    """The ready ones; the terminating ones that still serve where none is ready."""
    given = tuple(endpoints)
    return tuple(endpoint for endpoint in given if not endpoint.terminating) or given


def destination(endpoint: Endpoint) -> str:
    """`address:port`, an IPv6 address in brackets (net.JoinHostPort)."""
    return authority(endpoint.address, endpoint.port)


def authority(address: str, port: int) -> str:
    """`address:port`, an IPv6 address in brackets."""
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


def digest(text: str, length: int) -> str:
    """The first letters of base32(sha256(text)), which kube-proxy makes names of chains unique with."""
    return base64.b32encode(hashlib.sha256(text.encode()).digest())[:length].decode()


def from_node(node: NodeView, service: ServicePort) -> bool:
    """Whether the source ranges of `service` take in the node itself; a packet of its own to the balancer's address is then let through."""
    if not node.addresses:
        return False
    own = ipaddress.ip_address(node.addresses[0])
    return any(own in ipaddress.ip_network(each) for each in service.source_ranges)
