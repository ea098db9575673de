"""kube-proxy's rules for `SERVICES` in each flavour, with its real structure, and the CNI's masquerade of what leaves the cluster."""

from __future__ import annotations

from probes.live.kube_proxy.iptables import restore
from probes.live.kube_proxy.model import Endpoint, NodeView, ServicePort
from probes.live.kube_proxy.nftables import ruleset

from .lab import Lab
from .services import CLUSTER_CIDRS, NODES, SERVICES, Service, pod_named

FAMILIES = (0, 1)  # IPv4, IPv6: positions in every pair of addresses


def _port(service: Service, node: str, family: int) -> ServicePort:
    pods = map(pod_named, service.endpoints)
    return ServicePort(
        "shop",
        service.name,
        f"{service.proto}-{service.port}",
        service.proto,
        service.vips[family],
        service.port,
        tuple(Endpoint(pod.addresses[family], service.target_port, local=pod.node == node) for pod in pods),
        node_port=service.node_port or None,
        internal_local=service.internal_local,
        external_local=service.external_local,
    )


def known_to(node: str, family: int) -> tuple[NodeView, list[ServicePort]]:
    """What kube-proxy on `node` knows of one family."""
    view = NodeView(CLUSTER_CIDRS[family], (NODES[node].addresses[family],))
    return view, [_port(service, node, family) for service in SERVICES if service.number]


def _masquerade(family: int) -> str:
    """The CNI's table of nftables."""
    ip, cidr = ("ip", "ip6")[family], CLUSTER_CIDRS[family]
    rule = f"{ip} saddr {cidr} {ip} daddr != {cidr} masquerade fully-random"
    return f"table {ip} cni {{\nchain postrouting {{\ntype nat hook postrouting priority srcnat + 1;\n{rule}\n}}\n}}\n"


def install(lab: Lab, flavour: str) -> None:
    """Give every node its rules; `flavour` is nftables, or the suffix of an iptables: iptables-nft, iptables-legacy."""
    for node in NODES:
        for family in FAMILIES:
            known, cidr = known_to(node, family), CLUSTER_CIDRS[family]
            if flavour == "nftables":
                lab.run(node, "nft", "-f", "-", stdin=ruleset(*known) + _masquerade(family))
            else:
                tool = flavour.replace("iptables", ("iptables", "ip6tables")[family])
                lab.run(node, f"{tool}-restore", stdin=restore(*known))
                outbound = ("-t", "nat", "-A", "POSTROUTING", "-s", cidr, "!", "-d", cidr, "-j", "MASQUERADE", "--random-fully")
                lab.run(node, tool, *outbound)
