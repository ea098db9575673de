"""kube-proxy's rules on a node, from the dumps people save: which Services they serve, and what a first packet walks through.

Import `read_rules`, `ProxyRules`, `ServicePath` and `Endpoint` from here. The readers of one mode each (iptables, nftables, ipvs) and the
walk that they share stay behind it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from probes.addresses import Address, is_ipv6
from probes.schema import Problem
from tracer.rules.iptables import Iptables, Tables, read_tables
from tracer.rules.ipvs import Ipvs, read_servers, read_sets
from tracer.rules.model import Backend, Endpoint, Packet, ServicePath
from tracer.rules.nftables import Nftables, read_listing

__all__ = ["DUMPS", "Endpoint", "ProxyRules", "ServicePath", "read_rules"]

DUMPS = ("iptables-save", "ip6tables-save", "nft-ruleset", "ipvsadm-save", "ipset-save")  # the keys that `read_rules` reads


@dataclass(frozen=True, slots=True)
class ProxyRules:
    """kube-proxy's rules on one node.

    `mode` is "iptables", "nftables" or "ipvs", None where the dumps do not tell (nothing of kube-proxy's, or more than one mode's rules).
    `services` counts Service ports (IPVS: ClusterIP ports, or virtual servers where there is no ipset dump), `endpoints` distinct addresses
    and ports behind them, `rules` the rules in kube-proxy's own chains (without the elements of maps and sets).
    """

    mode: str | None
    services: int
    endpoints: int
    rules: int
    backends: tuple[Backend, ...] = ()

    def service_path(
        self,
        address: Address,
        port: int,
        protocol: str,
        endpoint: tuple[Address, int] | None = None,
        *,
        source: Address | None = None,
        or_node_port: bool = False,
    ) -> ServicePath | None:
        """What the first packet to a ClusterIP, external or load balancer address meets; None where no rule knows it.

        With `endpoint`, the path to that one, and None where these rules never lead there. An unknown `source` is taken for a client
        outside the cluster where rules treat those apart (externalTrafficPolicy: Local) and leaves `masquerade` None where it depends on
        it. Where the node's own addresses are needed, use `node_port_path`, or, where `address` may be one, `or_node_port`. `protocol` is
        "tcp", "udp" or "sctp" in either case.
        """
        ipv6 = is_ipv6(address)
        found = self._path(Packet(address, port, protocol.lower(), source, ipv6=ipv6), endpoint)
        if found is None and or_node_port:
            return self.node_port_path(port, protocol, endpoint, source=source, ipv6=ipv6)
        return found

    def node_port_path(
        self,
        port: int,
        protocol: str,
        endpoint: tuple[Address, int] | None = None,
        *,
        source: Address | None = None,
        ipv6: bool = False,
    ) -> ServicePath | None:
        """The same for a nodePort at any of the node's addresses that accept it (in `ipv6` or IPv4)."""
        return self._path(Packet(None, port, protocol.lower(), source, to_node=True, ipv6=ipv6), endpoint)

    def _path(self, packet: Packet, endpoint: tuple[Address, int] | None) -> ServicePath | None:
        return next((path for backend in self.backends if (path := backend.path(packet, endpoint)) is not None), None)


def read_rules(dumps: Mapping[str, str], file: str) -> tuple[ProxyRules, list[Problem]]:
    """The rules in a node's dumps, by kind (see `DUMPS`), and what could not be read of them; never raises on content.

    `file` names the node's dumps in Problems. IPVS is told by its virtual servers (its nodes have KUBE-SERVICES too), nftables by the
    tables named kube-proxy (with iptables-nft, `nft list ruleset` shows iptables' rules as well), iptables by chains of Services.
    """
    problems: list[Problem] = []
    tables = Tables()
    for kind in ("iptables-save", "ip6tables-save"):
        if kind in dumps:
            read, found = read_tables(dumps[kind], f"{file}.{kind}")
            problems += found
            tables.kube_rules += read.kube_rules
            tables.chains |= {key: chains for key, chains in read.chains.items() if chains or key not in tables.chains}
    listing, found = read_listing(dumps.get("nft-ruleset", ""), f"{file}.nft-ruleset")
    problems += found
    servers, found = read_servers(dumps.get("ipvsadm-save", ""), f"{file}.ipvsadm-save")
    problems += found
    sets, found = read_sets(dumps.get("ipset-save", ""), f"{file}.ipset-save")
    problems += found

    backends: list[Backend] = []
    if servers and (tables.has("KUBE-") or "KUBE-CLUSTER-IP" in sets or not tables.chains):
        backends.append(Ipvs(servers, sets, tables))
    if listing.tables:
        nftables = Nftables(listing.tables, f"{file}.nft-ruleset")
        problems += nftables.problems
        backends.append(nftables)
    if tables.has("KUBE-SVC-") or tables.has("KUBE-SEP-") or tables.has("KUBE-SVL-"):
        backends.append(Iptables(tables))
    problems += _missing(backends, tables, listing.iptables_chains, "KUBE-CLUSTER-IP" in sets, file)
    mode = backends[0].mode if len(backends) == 1 else None
    counts = [(backend.services, backend.endpoints, backend.rules) for backend in backends]
    services, endpoints, rules = (sum(column) for column in zip(*counts, strict=True)) if counts else (0, 0, 0)
    return ProxyRules(mode, services, endpoints, rules, tuple(backends)), problems


def _missing(backends: list[Backend], tables: Tables, translated: int, ipsets: bool, file: str) -> list[Problem]:
    """What the dumps show the trace of, without having it."""
    if len(backends) > 1:
        modes = " and ".join(backend.mode for backend in backends)
        what = f"the node has kube-proxy rules of {modes}: which of them act cannot be told"
        return [Problem(file, what, "clean up after a change of mode with `kube-proxy --cleanup`")]
    if backends:
        return []
    if ipsets or tables.has("KUBE-LOAD-BALANCER"):
        return [Problem(file, "kube-proxy runs in ipvs mode, but its virtual servers are missing", "record `ipvsadm-save -n` as well")]
    if translated:
        return [Problem(file, "kube-proxy's rules are iptables', shown by nft", "record `iptables-save` as well")]
    return []
