"""What kube-proxy knows when it writes rules: Service ports with their endpoints, and the node it writes them for.

One address family at a time, as kube-proxy itself works: a dual-stack node has two views and two lists of Service ports.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import cycle, islice

MASQUERADE_MARK = 0x4000  # --iptables-masquerade-bit=14, the default
SERVICE_CIDR = "10.96.0.0/12"  # kubeadm's default


@dataclass(frozen=True, slots=True)
class Endpoint:
    """An endpoint that may get traffic.

    `terminating` ones are still serving, and are used only where no ready one is left (KEP-1669).
    """

    address: str
    port: int
    local: bool  # on the node the rules are for
    terminating: bool = False


@dataclass(frozen=True, slots=True)
class ServicePort:
    """One port of a Service that has a ClusterIP, with the endpoints of that port."""

    namespace: str
    name: str
    port_name: str  # may be empty
    protocol: str  # tcp, udp or sctp
    cluster_ip: str
    port: int
    endpoints: tuple[Endpoint, ...] = ()
    node_port: int | None = None
    load_balancer_ips: tuple[str, ...] = ()
    external_ips: tuple[str, ...] = ()
    source_ranges: tuple[str, ...] = ()  # loadBalancerSourceRanges, of this family
    health_check_node_port: int | None = None
    internal_local: bool = False  # internalTrafficPolicy: Local
    external_local: bool = False  # externalTrafficPolicy: Local
    affinity_seconds: int | None = None  # sessionAffinity: ClientIP

    @property
    def full_name(self) -> str:
        """namespace/name:port as kube-proxy prints it (ServicePortName.String)."""
        return f"{self.namespace}/{self.name}:{self.port_name}" if self.port_name else f"{self.namespace}/{self.name}"

    @property
    def external(self) -> bool:
        """Whether it has more than a ClusterIP."""
        return bool(self.node_port or self.load_balancer_ips or self.external_ips)


@dataclass(frozen=True, slots=True)
class NodeView:
    """What rules depend on besides Services.

    `addresses` are the node's own, of one family. Node ports are open on the first alone in nftables (the Node object's; on all that is
    local where there is none), on each in IPVS, and on whatever the kernel calls local in iptables. `service_cidrs` come from ServiceCIDR
    objects: nftables drops what goes to an address in them that no Service has. `accounting` says whether the kernel has nfacct objects
    (xt_nfacct), with which kube-proxy's iptables mode counts INVALID packets dropped and node ports used over loopback.
    """

    cluster_cidr: str  # pods' addresses; traffic from elsewhere to a ClusterIP is masqueraded
    addresses: tuple[str, ...] = ()
    service_cidrs: tuple[str, ...] = ()
    mark: int = MASQUERADE_MARK
    accounting: bool = False

    @property
    def ipv6(self) -> bool:
        """Whether this is the IPv6 view."""
        return ":" in self.cluster_cidr


def uniform(services: int, endpoints: int, addresses: Iterable[str], *, port: int = 80, target_port: int = 8080) -> list[ServicePort]:
    """`services` TCP Services with successive ClusterIPs of 10.96.0.0/12, each with the next `endpoints` of `addresses`.

    Addresses are used again from the first when they run out; ValueError when there are fewer than one Service needs.
    """
    pool = list(islice(addresses, services * endpoints))
    if services and len(pool) < endpoints:
        raise ValueError(f"{endpoints} endpoints per Service need as many addresses; got {len(pool)}")
    supply = cycle(pool)
    return [
        ServicePort(
            "bench", f"service-{number:05d}", "http", "tcp", cluster_ip, port,
            tuple(Endpoint(address, target_port, local=False) for address in islice(supply, endpoints)),
        )
        for number, cluster_ip in enumerate(islice(_cluster_ips(), services))
    ]  # fmt: skip


def _cluster_ips() -> Iterator[str]:
    """Addresses of the Service range, without the one that `kubernetes` has."""
    return (str(address) for address in islice(ipaddress.ip_network(SERVICE_CIDR).hosts(), 1, None))
