"""kube-proxy's IPVS mode, as its generator writes it, and the CNI's masquerade, for the cluster of namespaces."""

from __future__ import annotations

from kernel.lab import Lab
from kernel.rules import FAMILIES, known_to
from kernel.services import CLUSTER_CIDRS, NODES

from probes.live.kube_proxy.ipvs import DUMMY_INTERFACE, ipvs

SYSCTLS: dict[str, int | str] = {  # as kube-proxy sets them (NewProxier in pkg/proxy/ipvs/proxier.go)
    "ipv4/vs/conntrack": 1, "ipv4/vs/conn_reuse_mode": 0, "ipv4/vs/expire_nodest_conn": 1, "ipv4/vs/expire_quiescent_template": 1,
}  # fmt: skip


def _cni(node: str, family: int) -> str:
    """flannel's rules (pkg/trafficmngr/iptables): what leaves the cluster, and what enters a pod's subnet from outside."""
    cidr, own, multicast = CLUSTER_CIDRS[family], NODES[node].pod_cidrs[family], ("224.0.0.0/4", "ff00::/8")[family]
    rules = [
        "-m mark --mark 0x4000/0x4000 -j RETURN", f"-s {own} -d {cidr} -j RETURN", f"-s {cidr} -d {own} -j RETURN",
        f"! -s {cidr} -d {own} -j RETURN", f"-s {cidr} ! -d {multicast} -j MASQUERADE --random-fully",
        f"! -s {cidr} -d {cidr} -j MASQUERADE --random-fully",
    ]  # fmt: skip
    chain = ":FLANNEL-POSTRTG - [0:0]"
    return "\n".join(["*nat", chain, "-A POSTROUTING -j FLANNEL-POSTRTG", *(f"-A FLANNEL-POSTRTG {rule}" for rule in rules), "COMMIT", ""])


def install(lab: Lab) -> None:
    """Give every node its rules, in the order in which each finds what it refers to."""
    for node in NODES:
        lab.run(node, "ip", "link", "add", DUMMY_INTERFACE, "type", "dummy")
        for family in FAMILIES:
            state = ipvs(*known_to(node, family))
            restore = ("iptables-nft-restore", "ip6tables-nft-restore")[family]
            for address in state.addresses:
                lab.run(node, "ip", "addr", "add", address, "dev", DUMMY_INTERFACE, *(["nodad"] if family else []))
            lab.run(node, "ipset", "restore", "-exist", stdin=state.ipsets)
            lab.run(node, restore, stdin=state.iptables)
            lab.run(node, restore, "--noflush", stdin=_cni(node, family))
            lab.run(node, "ipvsadm", "-R", stdin=state.servers)
        lab.sysctl(node, SYSCTLS)
